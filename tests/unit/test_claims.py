"""Reading tokens: headers, claims once the signature is good, and moments."""

from __future__ import annotations

import json
import math
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.claims import MAX_TOKEN_LENGTH, claims_of, header_of, seconds
from shared.errors import TokenError
from tests.support.signing import Issuer, b64

RSA = Issuer.rsa()
KEY = jwt.PyJWK(RSA.jwk())
DEEP = b'{"a":' + b"[" * 2000 + b"]" * 2000 + b"}"


def refused(token: str, *required: str) -> str:
    with pytest.raises(TokenError) as caught:
        claims_of(token, KEY, "RS256", required=required)
    assert (type(caught.value), caught.value.status, caught.value.code) == (TokenError, 401, "token_invalid")
    return str(caught.value)


def test_a_header_is_read_unverified() -> None:
    """It says which key to look for."""
    assert header_of(RSA.sign({}, kid="k").rpartition(".")[0] + ".AA") == {"alg": "RS256", "kid": "k", "typ": "JWT"}


def test_a_token_may_be_so_long_and_no_longer() -> None:
    """The limit itself is allowed."""
    heads = (b64(json.dumps({"alg": "RS256", "a": "x" * more}).encode()) for more in range(3))
    # Base64 has no text whose length is one more than a multiple of four.
    head = next(head for head in heads if (MAX_TOKEN_LENGTH - len(head) - 4) % 4 != 1)
    longest = f"{head}.{'A' * (MAX_TOKEN_LENGTH - len(head) - 4)}.AA"
    assert len(longest) == MAX_TOKEN_LENGTH
    assert header_of(longest)["alg"] == "RS256"
    with pytest.raises(TokenError, match="too long"):
        header_of(longest + "A")


@pytest.mark.parametrize(
    "header", [b"", b"[]", b"null", b"7", b"{", b"\xff", b'"x"', DEEP, b'{"a":' + b"9" * 5000 + b"}"]
)
def test_a_header_that_is_no_object_is_refused(header: bytes) -> None:
    """Whatever Python's parser makes of it."""
    with pytest.raises(TokenError) as caught:
        header_of(f"{b64(header)}.e30.AA")
    assert caught.value.code == "token_invalid"


def test_claims_come_out_as_they_were_signed() -> None:
    """None of them is judged here: not even an expired token."""
    signed: dict[str, Any] = {"exp": 1, "nbf": 2**60, "iat": "x", "aud": ["a"], "iss": 5, "sub": 7, "jti": 8}
    assert claims_of(RSA.sign(signed), KEY, "RS256", required=()) == signed


def test_another_keys_signature_is_refused() -> None:
    """By a sentence that says so."""
    assert "another key" in refused(Issuer.rsa("stranger").sign({}))
    assert "another key" in refused(RSA.sign({})[:-8] + "AAAAAAAA")


def test_the_algorithm_is_the_callers() -> None:
    """And not the token's."""
    with pytest.raises(TokenError, match="InvalidAlgorithmError"):
        claims_of(RSA.sign({}, alg="RS512"), KEY, "RS256", required=())
    with pytest.raises(TokenError, match="InvalidAlgorithmError"):
        claims_of(RSA.sign({}), KEY, "ES256", required=())


@pytest.mark.parametrize("claims", [{}, {"exp": None}])
def test_a_claim_that_is_required_must_be_there(claims: dict[str, Any]) -> None:
    """``null`` counts as absent; the signature is looked at first."""
    assert refused(RSA.sign(claims), "exp") == "The token has no exp."
    assert "another key" in refused(Issuer.rsa("stranger").sign(claims), "exp")


@pytest.mark.parametrize("payload", [b"", b"[]", b"null", b"{", b"\xff", DEEP, b'{"a":' + b"9" * 5000 + b"}"])
def test_a_payload_that_is_no_object_is_refused(payload: bytes) -> None:
    """Though it was signed well."""
    refused(RSA.sign(payload))


@pytest.mark.parametrize("value", [0, -1, 0.5, 1_795_426_696, 2**53, -(2**53)])
def test_moments_are_numbers(value: float) -> None:
    """RFC 7519, section 2 (NumericDate): whole or not."""
    assert seconds({"exp": value}, "exp") == value
    assert isinstance(seconds({"exp": value}, "exp"), float)


@pytest.mark.parametrize(
    "value",
    [True, False, None, "1", "", [1], {}, math.nan, math.inf, -math.inf, 2**53 + 1, -(2**53) - 1, 10**400, 1e300],
)
def test_anything_else_is_no_moment(value: object) -> None:
    """NaN would be neither before nor after any other."""
    with pytest.raises(TokenError, match="exp must be a number of seconds") as caught:
        seconds({"exp": value}, "exp")
    assert caught.value.code == "token_invalid"


@given(st.text(max_size=80) | st.from_regex(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*", fullmatch=True))
def test_no_text_is_a_token(text: str) -> None:
    """One kind of error leaves, and it does not quote the text."""
    with pytest.raises(TokenError):
        header_of(text)
    with pytest.raises(TokenError):
        claims_of(text, KEY, "RS256", required=("exp",))


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.lists(st.none(), max_size=2)))
def test_any_header_is_read_or_refused(header: dict[str, Any]) -> None:
    """No other error leaves."""
    try:
        read = header_of(f"{b64(json.dumps(header).encode())}.e30.AA")
    except TokenError:
        return
    assert read == header
