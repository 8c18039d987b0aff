"""Masking: what a log line must not hold."""

from __future__ import annotations

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.logs import configure_logs
from shared.masking import mask
from shared.tokens import mint


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("ann@example.com", "***@example.com"),
        ("topic gmail:ann.b+c@example.com is bad", "topic gmail:***@example.com is bad"),
        ("o'neil@example.com, ben_2@b.c", "***@example.com, ***@b.c"),
        ("/events?topic=gmail%3Aann%40example.com", "/events?topic=gmail%***%40example.com"),
        ("WRONGTYPE of tidemark:dev:log:gmail:ann@b.c", "WRONGTYPE of tidemark:dev:log:gmail:***@b.c"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("GET /events?token=opaque&client=a", "GET /events?token=***&client=a"),
        ("GET /?_token=opaque", "GET /?_token=***"),
        ("3 of 4 @ noon", "3 of 4 @ noon"),
        ("nothing to hide: 1795486379543-1", "nothing to hide: 1795486379543-1"),
    ],
)
def test_addresses_and_tokens_are_masked_and_nothing_else(text: str, masked: str) -> None:
    """The domain stays, and whatever surrounds them."""
    assert mask(text) == masked


def test_a_token_is_masked_wherever_it_stands_and_however_much_of_it() -> None:
    """Also without anything that would announce it, and cut off."""
    token = mint("ann", ["gmail:ann@example.com"], kid="k", key="s" * 32, ttl_s=60, now=0)
    for part in (token, token[:60], token.rpartition(".")[0], f"({token})", f'{{"t":"{token}"}}'):
        assert token[:20] not in mask(part)
        assert token[-20:] not in mask(part)


@given(st.from_regex(r"[a-z0-9._+'-]{1,40}", fullmatch=True), st.text(max_size=20), st.text(max_size=20))
def test_no_local_part_survives(local: str, before: str, after: str) -> None:
    """Whatever stands around the address."""
    assert f"{local}@example.com" not in mask(f"{before} {local}@example.com {after}")


def test_a_log_line_is_masked_whole(capsys: pytest.CaptureFixture[str]) -> None:
    """Message, extras, an exception's text; what the server logs of an exception as well."""
    before = logging.getLogger("uvicorn.error").__dict__.copy()
    try:
        configure_logs("test")
        try:
            int("gmail:ann@example.com, Bearer opaque-secret")
        except ValueError:
            logging.getLogger("tidemark.some").exception(
                "line one\nann@example.com", extra={"who": ["ann@example.com"]}
            )
            logging.getLogger("uvicorn.error").exception("failed for ann@example.com")
    finally:
        logging.getLogger("uvicorn.error").__dict__.update(before)
        logging.getLogger("tidemark").handlers.clear()
        logging.getLogger("tidemark").propagate = True
    out = capsys.readouterr().out
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["message"] for line in lines] == ["line one\n***@example.com", "failed for ***@example.com"]
    assert "ValueError" in lines[0]["exception"]
    assert "ann@" not in out
    assert "opaque-secret" not in out
