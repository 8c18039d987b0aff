"""Pushes are Google's, for us, by our subscription: with a real key server, and every way of not being so."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.counts import Counts
from shared.errors import (
    PushForbiddenError,
    RequestError,
    TokenError,
    TokenExpiredError,
    TokenMissingError,
    UnknownKeyError,
)
from shared.jwks import KeySet
from shared.push_auth import PushVerifier
from tests.support.key_server import KeyServer
from tests.support.published_keys import published
from tests.support.signing import GOOGLE, PUSH_ACCOUNT, PUSH_AUDIENCE, Issuer, push_claims, push_token
from tests.support.waiting import until

NOW = 1_795_426_696.5
KEY, OTHER, EC = Issuer.rsa(), Issuer.rsa("rsa-2"), Issuer.ec()
STATUS = {
    TokenMissingError: (401, "token_missing"),
    TokenExpiredError: (401, "token_expired"),
    TokenError: (401, "token_invalid"),
    UnknownKeyError: (401, "token_key_unknown"),
    PushForbiddenError: (403, "push_forbidden"),
}


def verifier_at(url: str, now: float = NOW) -> PushVerifier:
    keys = KeySet(url, name="push_keys", algorithms=("RS256",), counts=Counts())
    return PushVerifier(keys, audience=PUSH_AUDIENCE, service_account=PUSH_ACCOUNT, now=lambda: now)


@pytest.fixture
async def server() -> AsyncIterator[KeyServer]:
    async with KeyServer.running(KEY.jwk(), EC.jwk()) as running:
        yield running


@pytest.fixture
def verifier(server: KeyServer) -> PushVerifier:
    return verifier_at(server.url)


async def verified(verifier: PushVerifier, authorization: str) -> bool:
    """Tell whether the header is let pass."""
    try:
        await verifier.verify(authorization)
    except RequestError:
        return False
    return True


async def refused(verifier: PushVerifier, authorization: str | None, kind: type[RequestError]) -> str:
    """Return what the refusal says, once it is exactly of this class."""
    with pytest.raises(RequestError) as caught:
        await verifier.verify(authorization)
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.code) == STATUS[kind]
    return str(caught.value)


async def refused_claims(verifier: PushVerifier, kind: type[RequestError], **changed: Any) -> str:
    return await refused(verifier, f"Bearer {push_token(KEY, NOW, **changed)}", kind)


# -- what verifies


@pytest.mark.parametrize("issuer", [GOOGLE, "accounts.google.com"])
async def test_googles_token_verifies_under_both_of_its_names(
    verifier: PushVerifier, server: KeyServer, issuer: str
) -> None:
    """With and without the scheme; by a key that was fetched for it."""
    assert await verified(verifier, f"Bearer {push_token(KEY, NOW, iss=issuer)}")
    assert server.requests == 1


async def test_the_keys_are_fetched_once(verifier: PushVerifier, server: KeyServer) -> None:
    """For all pushes; settling waits for nothing then."""
    await asyncio.gather(*(verifier.verify(f"Bearer {push_token(KEY, NOW)}") for _ in range(20)))
    await verifier.settle()
    assert server.requests == 1


async def test_settling_waits_for_the_fetch(verifier: PushVerifier, server: KeyServer) -> None:
    """On Lambda nothing may be under way when the handler answers."""
    server.open.clear()
    push = asyncio.ensure_future(verifier.verify(f"Bearer {push_token(KEY, NOW)}"))
    await until(lambda: server.requests == 1, "the keys are asked for")
    settling = asyncio.ensure_future(verifier.settle())
    await asyncio.sleep(0)  # it begins
    assert not settling.done()
    server.open.set()
    await settling
    await push


# -- the header


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER {}", "Bearer   {}", "Bearer {} ", "Bearer \t{}"])
async def test_the_scheme_is_read_in_any_case(verifier: PushVerifier, form: str) -> None:
    """RFC 9110, section 11.1; spaces around a value mean nothing."""
    assert await verified(verifier, form.format(push_token(KEY, NOW)))


@pytest.mark.parametrize(
    "form",
    [None, "", " ", "Bearer", "Bearer ", "Bearer  \t", "{}", " Bearer {}", "Basic {}", "Bearer:{}", "BearerX {}"],
)
async def test_without_a_bearer_token_one_is_missing(
    verifier: PushVerifier, server: KeyServer, form: str | None
) -> None:
    """And no key is fetched."""
    header = form and form.format(push_token(KEY, NOW))
    assert "Authorization: Bearer" in await refused(verifier, header, TokenMissingError)
    assert server.requests == 0


@pytest.mark.parametrize(
    "form", ["Bearer {0} {0}", "Bearer {0},{0}", "Bearer Bearer {0}", 'Bearer "{0}"', "Bearer x{0}"]
)
async def test_a_header_of_more_than_a_token_is_refused(verifier: PushVerifier, form: str) -> None:
    """It is not taken apart."""
    assert "does not verify" in await refused(verifier, form.format(push_token(KEY, NOW)), TokenError)


# -- the signature


async def test_another_key_under_googles_kid_is_refused(verifier: PushVerifier) -> None:
    """Before any claim is looked at: whoever cannot sign learns nothing."""
    for changed in ({}, {"aud": "x"}, {"exp": 1}, {"email": "x"}):
        token = OTHER.sign(push_claims(NOW, **changed), kid=KEY.kid)
        assert "signed with another key" in await refused(verifier, f"Bearer {token}", TokenError)


async def test_a_key_that_google_has_not_published_is_unknown(verifier: PushVerifier) -> None:
    """Nor is one of the set that is not RSA."""
    for token in (push_token(OTHER, NOW), EC.sign(push_claims(NOW), alg="RS256")):
        assert "no key" in await refused(verifier, f"Bearer {token}", UnknownKeyError)


@pytest.mark.parametrize(
    "alg", ["none", "None", "nOnE", "HS256", "ES256", "RS512", "PS256", "rs256", "", None, ["RS256"]]
)
async def test_only_rs256_is_taken(verifier: PushVerifier, server: KeyServer, alg: Any) -> None:
    """Signed or not; without asking for a key."""
    token = KEY.sign(push_claims(NOW), alg=alg)
    await refused(verifier, f"Bearer {token}", TokenError)
    await refused(verifier, f"Bearer {token.rpartition('.')[0]}.", TokenError)
    assert server.requests == 0


@pytest.mark.parametrize("kid", [..., None, 1, ["rsa-1"], {}, True])
async def test_a_token_must_name_its_key(verifier: PushVerifier, server: KeyServer, kid: Any) -> None:
    """By text."""
    await refused(verifier, f"Bearer {KEY.sign(push_claims(NOW), kid=kid)}", TokenError)
    assert server.requests == 0


async def test_a_key_that_the_token_brings_along_is_never_used(verifier: PushVerifier, server: KeyServer) -> None:
    """RFC 8725, section 3.10."""
    for brought in ({"jwk": OTHER.jwk(kid=KEY.kid)}, {"jku": f"{server.url}/evil"}, {"x5c": ["AA"]}):
        token = OTHER.sign(push_claims(NOW), kid=KEY.kid, **brought)
        await refused(verifier, f"Bearer {token}", TokenError)
    assert server.requests == 1


async def test_without_the_key_server_a_push_is_refused_and_not_failed(server: KeyServer) -> None:
    """Google sends it again."""
    await server.stop()
    verifier = verifier_at(server.url)
    assert "no key" in await refused(verifier, f"Bearer {push_token(KEY, NOW)}", UnknownKeyError)
    assert server.requests == 0


# -- who made it, and for whom


@pytest.mark.parametrize(
    "iss", ["http://accounts.google.com", GOOGLE + "/", "Accounts.google.com", "", "x", 1, [GOOGLE], {}, True]
)
async def test_any_other_issuer_is_refused(verifier: PushVerifier, iss: Any) -> None:
    """401: it is not Google's."""
    assert await refused_claims(verifier, TokenError, iss=iss) == "The token was not issued by Google."


@pytest.mark.parametrize("name", ["iss", "aud", "exp", "iat"])
@pytest.mark.parametrize("value", [..., None])
async def test_a_claim_that_google_always_makes_must_be_there(verifier: PushVerifier, name: str, value: Any) -> None:
    """``null`` counts as absent."""
    assert await refused_claims(verifier, TokenError, **{name: value}) == f"The token has no {name}."


@pytest.mark.parametrize(
    "aud",
    [
        PUSH_AUDIENCE[:-1],
        PUSH_AUDIENCE + "/",
        PUSH_AUDIENCE + "x",
        PUSH_AUDIENCE + " ",
        PUSH_AUDIENCE.upper(),
        [PUSH_AUDIENCE],
        [PUSH_AUDIENCE, "x"],
        {PUSH_AUDIENCE: 1},
        "",
        [],
        1,
        True,
    ],
)
async def test_the_audience_is_compared_exactly(verifier: PushVerifier, aud: Any) -> None:
    """403: Google's, and made for somebody else."""
    assert "audience" in await refused_claims(verifier, PushForbiddenError, aud=aud)


@pytest.mark.parametrize(
    "email", [..., None, "", "x@y.z", PUSH_ACCOUNT.upper(), PUSH_ACCOUNT + " ", [PUSH_ACCOUNT], 1]
)
async def test_the_service_account_is_compared_exactly(verifier: PushVerifier, email: Any) -> None:
    """Any service account of Google's can make a token with our audience."""
    assert "service account" in await refused_claims(verifier, PushForbiddenError, email=email)


@pytest.mark.parametrize("verified", [..., None, False, "true", "True", 1, 1.0, [True], {}])
async def test_the_address_must_be_verified(verifier: PushVerifier, verified: Any) -> None:
    """By the value true and nothing like it."""
    await refused_claims(verifier, PushForbiddenError, email_verified=verified)


# -- when


@pytest.mark.parametrize(
    "changed", [{"exp": NOW - 9.99}, {"iat": NOW + 10}, {"nbf": NOW + 10}, {"nbf": 0}, {"iat": 0}]
)
async def test_clocks_may_differ_by_ten_seconds(verifier: PushVerifier, changed: dict[str, float]) -> None:
    """Either way."""
    await verifier.verify(f"Bearer {push_token(KEY, NOW, **changed)}")


@pytest.mark.parametrize("exp", [NOW - 10, NOW - 10.01, 0, -1, -(2**53)])
async def test_an_expired_token_says_so(verifier: PushVerifier, exp: float) -> None:
    """Ten seconds after its time."""
    await refused_claims(verifier, TokenExpiredError, exp=exp)


@pytest.mark.parametrize("changed", [{"iat": NOW + 10.01}, {"nbf": NOW + 10.01}, {"nbf": 2**53}])
async def test_a_token_of_the_future_is_refused(verifier: PushVerifier, changed: dict[str, float]) -> None:
    """Ten seconds before its time."""
    assert "yet" in await refused_claims(verifier, TokenError, **changed)


@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("value", [True, False, "1795430296", "", [1], {}, 2**53 + 2, 10**400, -(10**400)])
async def test_moments_are_numbers(verifier: PushVerifier, name: str, value: Any) -> None:
    """RFC 7519, section 2."""
    assert name in await refused_claims(verifier, TokenError, **{name: value})


@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("value", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"9" * 5000])
async def test_numbers_that_are_none_are_refused(verifier: PushVerifier, name: str, value: bytes) -> None:
    """A token with NaN would never expire."""
    whole = json.dumps(push_claims(NOW, **{name: 4242424242})).encode()
    await refused(verifier, f"Bearer {KEY.sign(whole.replace(b'4242424242', value))}", TokenError)


# -- anything at all

TEXT = st.text(max_size=60) | st.from_regex(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*", fullmatch=True)
JSON = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.lists(st.none(), max_size=2)


def outcome(authorization: str) -> RequestError | None:
    """Verify with Google's keys at hand; any other error than a refusal comes out."""

    async def verify() -> None:
        with published() as router:
            router.get("https://keys.example/").respond(json={"keys": [KEY.jwk()]})
            await verifier_at("https://keys.example/").verify(authorization)

    try:
        asyncio.run(verify())
    except RequestError as error:
        return error
    return None


@settings(max_examples=60, deadline=None)
@given(TEXT, st.sampled_from(["", "Bearer ", "bearer  "]))
def test_no_header_does_anything_but_be_refused(text: str, scheme: str) -> None:
    """Whatever a stranger sends."""
    assert isinstance(outcome(scheme + text), TokenError)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk"]), JSON)
def test_no_field_of_the_header_does_anything_but_be_refused_or_ignored(name: str, value: Any) -> None:
    """Signed by Google's key."""
    error = outcome(f"Bearer {KEY.sign(push_claims(NOW), **{name: value})}")
    assert error is None or isinstance(error, TokenError)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["iss", "aud", "exp", "iat", "nbf", "email", "email_verified", "sub", "jti"]), JSON)
def test_no_claim_does_anything_but_verify_or_be_refused(name: str, value: Any) -> None:
    """Signed by Google's key."""
    error = outcome(f"Bearer {push_token(KEY, NOW, **{name: value})}")
    assert error is None or isinstance(error, TokenError | PushForbiddenError)


async def test_neither_a_refusal_nor_a_log_line_holds_the_token(
    verifier: PushVerifier, server: KeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor what it says."""
    caplog.set_level(logging.DEBUG)
    server.status = 500
    tokens = [push_token(KEY, NOW), "secret.secret.secret", KEY.sign(push_claims(NOW), alg="secret"), "secret"]
    for token in [*tokens, push_token(OTHER, NOW, email="secret"), OTHER.sign({}, kid="secret")]:
        with pytest.raises(TokenError) as caught:
            await verifier.verify(f"Bearer {token}")
        assert token not in str(caught.value)
        assert "secret" not in str(caught.value)
        assert not any(token in str(vars(record)) or "secret" in str(vars(record)) for record in caplog.records)
    assert any(record.name == "tidemark.jwks" for record in caplog.records)
