"""The error classes: what each promises on the wire."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus

import pytest

from shared import errors
from shared.errors import TidemarkError


def _classes(root: type[TidemarkError]) -> Iterator[type[TidemarkError]]:
    yield root
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _classes(child)


CLASSES = sorted(set(_classes(TidemarkError)), key=lambda cls: cls.__name__)
IDS = [cls.__name__ for cls in CLASSES]


@pytest.mark.parametrize("cls", CLASSES, ids=IDS)
def test_each_class_says_in_its_first_line_when_it_is_raised(cls: type[TidemarkError]) -> None:
    """For 5xx that line is what a client is told, so it is one sentence and stands by itself."""
    first = (cls.__doc__ or "").splitlines()[0]
    assert first.endswith(".")
    assert len(first) < 120


@pytest.mark.parametrize("cls", CLASSES, ids=IDS)
def test_each_class_has_a_status_and_a_code_of_its_own(cls: type[TidemarkError]) -> None:
    """The code is a stable word; no two classes that are raised share one."""
    assert HTTPStatus(cls.status)
    assert cls.code.replace("_", "").isalpha()
    assert cls.code == cls.code.lower()
    assert [other for other in CLASSES if other.code == cls.code] == [cls]


@pytest.mark.parametrize("cls", CLASSES, ids=IDS)
def test_what_may_succeed_later_says_when_to_try_again(cls: type[TidemarkError]) -> None:
    """A 503 is what we call temporary, and carries a Retry-After."""
    assert cls.temporary == (cls.status == 503)
    if cls.status == 503:
        assert cls.retry_after_s is not None
        assert cls.retry_after_s >= 1


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("bad_topic", 400),
        ("topic_required", 400),
        ("too_many_topics", 400),
        ("bad_cursor", 400),
        ("bad_client", 400),
        ("bad_number", 400),
        ("bad_body", 400),
        ("body_too_large", 413),
        ("cursor_ahead", 409),
        ("token_invalid", 401),
        ("token_missing", 401),
        ("token_expired", 401),
        ("topic_forbidden", 403),
        ("log_unavailable", 503),
        ("process_full", 503),
    ],
)
def test_the_codes_on_the_wire_are_stable(code: str, status: int) -> None:
    """Clients hold on to these words: a change here is a breaking change."""
    assert {cls.code: cls.status for cls in CLASSES}[code] == status
