"""Client tokens: what verifies, what it allows, and every way of being refused."""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import respx
from hypothesis import given
from hypothesis import strategies as st

from shared.counts import Counts
from shared.errors import (
    BadTopicError,
    TokenError,
    TokenExpiredError,
    TokenMissingError,
    TooManyTopicsError,
    TopicForbiddenError,
    TopicRequiredError,
    UnknownKeyError,
)
from shared.jwks import KeySet
from shared.tokens import MAX_LIFE_S, PROVIDER_ALGORITHMS, Grant, TokenVerifier, mint
from tests.support.published_keys import published
from tests.support.signing import Issuer, b64

NOW = 1_795_426_696
OLD_KEY, NEW_KEY = "o" * 32, "n" * 32
HOUR = 3600
RSA, EC, STRANGER = Issuer.rsa(), Issuer.ec(), Issuer.rsa("stranger")
JWKS_URL = "https://idp.example/jwks"


def verifier(now: float = NOW, **keys: str) -> TokenVerifier:
    return TokenVerifier(keys or {"old": OLD_KEY, "new": NEW_KEY}, now=lambda: now)


def claims(**changed: Any) -> dict[str, Any]:
    """Give claims that verify, with changes; ``...`` leaves a claim out."""
    good = {"sub": "ann", "topics": ["gmail:a@b.c"], "aud": "tidemark", "iat": NOW, "exp": NOW + HOUR}
    return {name: value for name, value in (good | changed).items() if value is not ...}


def signed(payload: Any, *, key: str = NEW_KEY, digest: str = "sha256", **header: Any) -> str:
    """Sign by hand: the library itself refuses to write most of what a forger would."""
    head = {"alg": "HS256", "typ": "JWT", "kid": "new"} | header
    head = {name: value for name, value in head.items() if value is not ...}
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    text = f"{b64(json.dumps(head).encode())}.{b64(body)}"
    return f"{text}.{b64(hmac.new(key.encode(), text.encode(), digest).digest())}"


async def refused(token: str, now: float = NOW, **keys: str) -> str:
    """Return the message of a refusal that is a plain 401 `token_invalid`."""
    with pytest.raises(TokenError) as caught:
        await verifier(now, **keys).verify(token)
    assert (caught.value.status, caught.value.code) == (401, "token_invalid")
    return str(caught.value)


async def grant(*topics: str) -> Grant:
    return await verifier().verify(signed(claims(topics=list(topics))))


# -- what verifies


async def test_a_token_grants_its_user_its_topics_until_it_expires() -> None:
    """Exact names and prefixes are told apart by the star, which is not part of the prefix."""
    token = signed(claims(topics=["gmail:a@b.c", "gmail:team-*", "x"]))
    assert await verifier().verify(token) == Grant("ann", ("gmail:a@b.c", "x"), ("gmail:team-",), NOW, NOW + HOUR)


async def test_a_minted_token_verifies() -> None:
    """What `tidemark token` prints is what an application should sign."""
    token = mint("ann", ["a", "b*"], kid="new", key=NEW_KEY, ttl_s=60, now=NOW + 0.9)
    assert await verifier(NOW + 59.9).verify(token) == Grant("ann", ("a",), ("b",), NOW, NOW + 60)
    with pytest.raises(TokenExpiredError):
        await verifier(NOW + 60).verify(token)


async def test_a_token_of_the_longest_life_verifies() -> None:
    """24 hours, and ten seconds for clocks that differ."""
    assert (await verifier().verify(signed(claims(exp=NOW + MAX_LIFE_S)))).expires_at == NOW + MAX_LIFE_S
    assert await verifier().verify(signed(claims(exp=NOW + MAX_LIFE_S + 10)))


@pytest.mark.parametrize("moment", [{"iat": NOW + 10}, {"nbf": NOW + 10}, {"nbf": NOW - HOUR}, {"exp": NOW + 0.5}])
async def test_clocks_may_differ_by_ten_seconds(moment: dict[str, Any]) -> None:
    """An application's clock may be a little ahead of ours; fractions of a second are legal."""
    assert (await verifier().verify(signed(claims(**moment)))).user == "ann"


async def test_claims_and_header_fields_that_mean_nothing_here_are_ignored() -> None:
    """Keys that a token brings along are never used."""
    token = signed(claims(name="Ann", scope="x"), jku="https://evil.example", jwk={"kty": "oct", "k": "AA"}, x5u="y")
    assert (await verifier().verify(token)).user == "ann"


# -- keys


async def test_the_kid_selects_the_key() -> None:
    """Each key verifies its own tokens and no others."""
    assert (await verifier().verify(signed(claims(), key=OLD_KEY, kid="old"))).user == "ann"
    assert (await verifier().verify(signed(claims(), key=NEW_KEY, kid="new"))).user == "ann"
    assert "signed with another key" in await refused(signed(claims(), key=OLD_KEY, kid="new"))


async def test_keys_rotate_without_a_moment_at_which_a_token_fails() -> None:
    """First both are configured, then only the new one: tokens of the old one end there, and not before."""
    old, new = signed(claims(), key=OLD_KEY, kid="old"), signed(claims(), key=NEW_KEY, kid="new")
    both, after = verifier(old=OLD_KEY, new=NEW_KEY), verifier(new=NEW_KEY)
    assert (
        await verifier(old=OLD_KEY).verify(old)
        == await both.verify(old)
        == await both.verify(new)
        == await after.verify(new)
    )
    assert "kid" in await refused(old, new=NEW_KEY)


async def test_a_token_without_a_kid_is_taken_when_there_is_one_key() -> None:
    """There is nothing to select."""
    assert (await verifier(only=NEW_KEY).verify(signed(claims(), kid=...))).user == "ann"


async def test_a_token_without_a_kid_is_refused_when_there_are_several_keys() -> None:
    """They are not tried one after the other."""
    assert "kid" in await refused(signed(claims(), kid=...))


@pytest.mark.parametrize("kid", ["", "other", "NEW", "new ", "../new", 1, None, ["new"], {"a": 1}, True])
async def test_an_unknown_kid_is_refused_even_when_there_is_one_key(kid: Any) -> None:
    """A kid of another kind than text counts as unknown."""
    token = signed(claims(), kid=kid)
    assert await refused(token)
    if kid is not None:
        assert await refused(token, new=NEW_KEY)


# -- algorithms


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", None])
@pytest.mark.parametrize("signature", ["", "AA"])
async def test_a_token_that_says_it_needs_no_signature_is_refused(alg: str | None, signature: str) -> None:
    """RFC 8725, section 2.1, in every spelling."""
    unsigned = signed(claims(), alg=alg).rpartition(".")[0]
    assert await refused(f"{unsigned}.{signature}")


async def test_a_signature_that_was_taken_off_is_missed() -> None:
    """With the right algorithm in the header, and a right or a wrong number of parts."""
    unsigned = signed(claims()).rpartition(".")[0]
    assert await refused(unsigned)
    assert await refused(f"{unsigned}.")


@pytest.mark.parametrize(("alg", "digest"), [("HS384", "sha384"), ("HS512", "sha512"), ("hs256", "sha256")])
async def test_only_hs256_is_taken_of_the_hmac_family(alg: str, digest: str) -> None:
    """Even with the right key: the algorithm is ours to choose, not the token's."""
    assert "must be signed with HS256." in await refused(signed(claims(), alg=alg, digest=digest))


async def test_a_token_signed_with_a_private_key_is_refused() -> None:
    """RS256 and ES256 belong to a JWKS, and none is configured."""
    for issuer in (RSA, EC):
        assert "must be signed with HS256." in await refused(issuer.sign(claims(), kid="new"))


async def test_a_public_key_is_no_hmac_secret() -> None:
    """RFC 8725, section 2.1: HS256 over a public key's text, and the header saying RS256."""
    pem = RSA.pem()
    assert await refused(signed(claims(), key=pem))
    assert await refused(signed(claims(), key=NEW_KEY, alg="RS256"))
    # Should somebody configure a public key as a secret, whoever reads it could sign: that is refused as well.
    assert await refused(signed(claims(), key=pem, kid="pem"), pem=pem)


async def test_an_extension_that_must_be_understood_is_refused() -> None:
    """RFC 7515, section 4.1.11."""
    assert await refused(signed(claims(), crit=["exp"], exp=1))
    assert await refused(signed(claims(), crit=["b64"], b64=False))


# -- an identity provider's keys


def provided(**keys: str) -> TokenVerifier:
    """Give a verifier with the secrets and the provider's two keys."""
    key_set = KeySet(JWKS_URL, name="token_keys", algorithms=PROVIDER_ALGORITHMS, counts=Counts())
    return TokenVerifier(keys or {"old": OLD_KEY, "new": NEW_KEY}, key_set=key_set, now=lambda: NOW)


@pytest.fixture
def provider() -> Iterator[respx.Route]:
    """Publish the provider's keys; how they are fetched is `tests.contract.test_jwks`'s."""
    with published() as router:
        yield router.get(JWKS_URL).respond(json={"keys": [RSA.jwk(), EC.jwk()]})


async def turned_down(token: str, **keys: str) -> str:
    """Return the message of a refusal where a provider is configured."""
    with pytest.raises(TokenError) as caught:
        await provided(**keys).verify(token)
    assert (type(caught.value), caught.value.status, caught.value.code) == (TokenError, 401, "token_invalid")
    return str(caught.value)


@pytest.mark.usefixtures("provider")
@pytest.mark.parametrize("issuer", [RSA, EC], ids=lambda issuer: issuer.algorithm)
async def test_a_providers_token_verifies(issuer: Issuer) -> None:
    """RS256 and ES256, whether or not the published key names its algorithm."""
    assert await provided().verify(issuer.sign(claims())) == Grant("ann", ("gmail:a@b.c",), (), NOW, NOW + HOUR)


async def test_secrets_are_good_beside_a_provider(provider: respx.Route) -> None:
    """And need nothing fetched."""
    assert (await provided().verify(signed(claims()))).user == "ann"
    assert not provider.called


@pytest.mark.usefixtures("provider")
@pytest.mark.parametrize("issuer", [RSA, EC], ids=lambda issuer: issuer.algorithm)
async def test_a_providers_token_is_checked_like_any_other(issuer: Issuer) -> None:
    """Audience, life time, topics and user."""
    faults: list[dict[str, Any]] = [
        {"aud": "x"},
        {"exp": NOW + 2 * MAX_LIFE_S},
        {"topics": []},
        {"sub": ""},
        {"iat": ...},
    ]
    for changed in faults:
        assert await turned_down(issuer.sign(claims(**changed)))
    with pytest.raises(TokenExpiredError):
        await provided().verify(issuer.sign(claims(exp=NOW)))


@pytest.mark.usefixtures("provider")
@pytest.mark.parametrize("issuer", [RSA, EC], ids=lambda issuer: issuer.algorithm)
async def test_a_public_key_is_no_secret_of_ours(issuer: Issuer) -> None:
    """RFC 8725, section 2.1: HS256 over the public key's text in any form, under any kid."""
    jwk = issuer.jwk()
    texts = [issuer.pem(), issuer.pem().strip(), json.dumps(jwk), json.dumps(jwk, separators=(",", ":"))]
    for text in [*texts, jwk.get("n", ""), jwk.get("x", ""), ""]:
        for kid in (issuer.kid, "new", ...):
            assert await turned_down(signed(claims(), key=text, kid=kid))
            assert await turned_down(signed(claims(), key=text, kid=kid), new=NEW_KEY)


@pytest.mark.usefixtures("provider")
@pytest.mark.parametrize("alg", ["RS256", "ES256"])
async def test_a_secret_of_ours_is_no_public_key(alg: str) -> None:
    """The provider's algorithm in the header, and a MAC below: the secrets are not even looked at."""
    for kid in (RSA.kid, EC.kid):
        assert await turned_down(signed(claims(), alg=alg, kid=kid))
    with pytest.raises(UnknownKeyError) as caught:
        await provided().verify(signed(claims(), alg=alg))
    assert (caught.value.status, caught.value.code) == (401, "token_key_unknown")


@pytest.mark.usefixtures("provider")
async def test_a_provider_cannot_sign_with_the_name_of_a_secret() -> None:
    """HS256 in the header with a signature of the private key, and the kid of either."""
    for kid in ("new", RSA.kid):
        assert await turned_down(RSA.sign(claims(), alg="HS256", kid=kid))


@pytest.mark.usefixtures("provider")
async def test_a_key_is_good_for_its_own_algorithm_only() -> None:
    """A token that says ES256 and names the RSA key, whoever signed it, and the other way round."""
    assert "InvalidAlgorithmError" in await turned_down(EC.sign(claims(), kid=RSA.kid))
    assert "InvalidAlgorithmError" in await turned_down(RSA.sign(claims(), kid=EC.kid))
    assert "InvalidAlgorithmError" in await turned_down(RSA.sign(claims(), alg="ES256"))
    assert "InvalidAlgorithmError" in await turned_down(EC.sign(claims(), alg="RS256"))


@pytest.mark.usefixtures("provider")
@pytest.mark.parametrize(
    "alg",
    ["none", "None", "nOnE", "", None, "RS384", "RS512", "PS256", "ES384", "EdDSA", "rs256", "RS256 ", ["RS256"], 1],
)
async def test_no_other_algorithm_is_taken_from_a_provider(alg: Any) -> None:
    """Signed, or without a signature."""
    token = RSA.sign(claims(), alg=alg)
    assert await turned_down(token)
    assert await turned_down(token.rpartition(".")[0] + ".")
    assert await turned_down(RSA.sign(claims(), alg=...))


@pytest.mark.usefixtures("provider")
async def test_a_key_that_the_token_brings_along_is_never_used() -> None:
    """RFC 8725, section 3.10: neither inside it, nor at an address, nor as a certificate."""
    brought = {"jwk": STRANGER.jwk(kid=RSA.kid), "jku": "https://evil.example/jwks", "x5u": "https://evil.example/x"}
    for name, value in {**brought, "x5c": [b64(STRANGER.pem().encode())]}.items():
        assert "signed with another key" in await turned_down(STRANGER.sign(claims(), kid=RSA.kid, **{name: value}))
        # Of a good token they are ignored; respx would refuse to go to another address.
        assert (await provided().verify(RSA.sign(claims(), **{name: value}))).user == "ann"


@pytest.mark.usefixtures("provider")
@pytest.mark.parametrize("kid", [..., None, 1, True, ["rsa-1"], {"kid": "rsa-1"}])
async def test_a_providers_token_must_name_its_key(kid: Any) -> None:
    """Also when there is one secret, which a token without kid may use: that is another algorithm's."""
    assert await turned_down(RSA.sign(claims(), kid=kid), only=NEW_KEY)


@pytest.mark.usefixtures("provider")
@pytest.mark.parametrize("kid", ["", "RSA-1", "rsa-1 ", " rsa-1", "rsa-1\0", "../rsa-1", "new", "\ud800", "'--", "0"])
async def test_a_kid_names_a_key_exactly(kid: str) -> None:
    """It is compared, and nothing else is done with it."""
    with pytest.raises(UnknownKeyError) as caught:
        await provided().verify(RSA.sign(claims(), kid=kid))
    assert (caught.value.status, caught.value.code) == (401, "token_key_unknown")
    if kid.strip():
        assert kid not in str(caught.value).replace("names", "")


async def test_a_provider_that_is_away_does_not_harm_tokens_of_ours(provider: respx.Route) -> None:
    """And its own are refused, not failed."""
    provider.side_effect = httpx.ConnectError("away")
    both = provided()
    with pytest.raises(UnknownKeyError):
        await both.verify(RSA.sign(claims()))
    assert (await both.verify(signed(claims()))).user == "ann"
    await both.settle()


async def test_nothing_is_to_be_waited_for_without_a_provider() -> None:
    """Settling is for the key set."""
    await verifier().settle()


# -- claims


@pytest.mark.parametrize("name", ["sub", "topics", "aud", "exp", "iat"])
@pytest.mark.parametrize("value", [..., None])
async def test_every_claim_must_be_there(name: str, value: Any) -> None:
    """``null`` counts as absent."""
    assert await refused(signed(claims(**{name: value})))


@pytest.mark.parametrize("aud", ["", "Tidemark", "tidemark ", "other", ["tidemark"], ["tidemark", "x"], 1, {}, True])
async def test_the_audience_is_exactly_tidemark(aud: Any) -> None:
    """A token that is good for others too is not ours: no list."""
    assert await refused(signed(claims(aud=aud)))


@pytest.mark.parametrize("sub", ["", 1, ["ann"], {}, True, "u" * 257, "\ud800", "a\udc00", "a\0", "a\r\nb", "\x7f"])
async def test_the_user_is_text_of_some_length(sub: Any) -> None:
    """Half a surrogate pair has no bytes of which a key could be made; control characters name nobody."""
    assert await refused(signed(claims(sub=sub)))


@pytest.mark.parametrize(
    "topics", [[], {}, "gmail:a@b.c", [1], [None], [""], ["a", ""], [["a"]], {"a": 1}, 7, True, ["a", None]]
)
async def test_the_topics_are_a_list_of_names(topics: Any) -> None:
    """An empty list allows nothing, and is a mistake."""
    assert "topics" in await refused(signed(claims(topics=topics)))


@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("value", ["1795430296", True, [1], {}, "", 10**400, -(10**400)])
async def test_times_are_numbers(name: str, value: Any) -> None:
    """RFC 7519, section 2 (NumericDate); a number beyond any float is none."""
    assert await refused(signed(claims(**{name: value})))


@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("value", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
async def test_numbers_that_are_none_are_refused(name: str, value: bytes) -> None:
    """NaN is neither before nor after any moment: a token with it would never expire."""
    whole = json.dumps(claims(**{name: 4242424242})).encode()
    assert await refused(signed(whole.replace(b"4242424242", value)))


@pytest.mark.parametrize("exp", [NOW, NOW - 1, NOW - 0.5, 0, -1])
async def test_an_expired_token_is_refused_as_such(exp: float) -> None:
    """A client can tell: it needs a new token, not another key. There is no leeway: its stream ends then, too."""
    with pytest.raises(TokenExpiredError) as caught:
        await verifier().verify(signed(claims(exp=exp, iat=NOW - HOUR)))
    assert (caught.value.status, caught.value.code) == (401, "token_expired")


@pytest.mark.parametrize("exp", [NOW + MAX_LIFE_S + 11, NOW + 30 * 86_400, 2**53])
async def test_a_token_that_lives_too_long_is_refused(exp: int) -> None:
    """24 hours from now, whenever it was issued: a leaked token must not be good for ever."""
    assert "24 hours" in await refused(signed(claims(exp=exp)))


@pytest.mark.parametrize("moment", [{"iat": NOW + 11}, {"nbf": NOW + 11}, {"iat": NOW + HOUR}, {"nbf": 2**53}])
async def test_a_token_of_the_future_is_refused(moment: dict[str, Any]) -> None:
    """Not valid yet."""
    assert "yet" in await refused(signed(claims(**moment)))


async def test_the_signature_is_checked_before_the_claims() -> None:
    """Whoever cannot sign does not learn whether a token would have been expired or early."""
    for changed in (claims(exp=NOW - 1), claims(iat=NOW + HOUR), claims(topics=[])):
        assert "signed with another key" in await refused(signed(changed, key="x" * 32))


# -- garbage


@pytest.mark.parametrize(
    "token",
    [
        "x",
        ".",
        "..",
        "...",
        "a.b.c",
        "e30.e30.",
        "e30.e30.AA",
        "W10.e30.AA",
        "bnVsbA.e30.AA",
        "ü.ü.ü",
        "\0",
        "\udcff.a.b",
        " ",
    ],
)
async def test_garbage_is_refused(token: str) -> None:
    """Bad base64, a header that is no object, half characters: all of it is 401, nothing is a defect of ours."""
    assert await refused(token)
    assert await refused(token, only=NEW_KEY)


@given(st.text(max_size=60) | st.from_regex(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*", fullmatch=True))
async def test_no_text_does_anything_but_be_refused(token: str) -> None:
    """No other error leaves the verifier."""
    with pytest.raises(TokenError):
        await verifier(only=NEW_KEY).verify(token)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5), st.data())
async def test_no_claim_does_anything_but_verify_or_be_refused(value: Any, data: st.DataObject) -> None:
    """Properly signed, by an application that has made a mistake."""
    name = data.draw(st.sampled_from(["sub", "topics", "aud", "exp", "iat", "nbf", "jti", "iss"]))
    try:
        allowed = await verifier().verify(signed(claims(**{name: value})))
    except TokenError:
        return
    assert allowed.expires_at > NOW
    assert allowed.user


@pytest.mark.parametrize("payload", [b"", b"[]", b"null", b"7", b"{", b"\xff", b'"text"'])
async def test_a_payload_that_is_no_object_is_refused(payload: bytes) -> None:
    """Though its signature is right."""
    assert await refused(signed(payload))


@pytest.mark.parametrize("part", ["header", "payload"])
async def test_deep_json_is_refused(part: str) -> None:
    """As deep as the longest token allows: the parser gives up, and so do we, without a defect."""
    deep = b'{"a":' + b"[" * 3000 + b"]" * 3000 + b"}"
    token = signed(deep[:5900]) if part == "payload" else f"{b64(deep[:5900])}.e30.AA"
    assert len(token) <= 8192
    assert await refused(token)


async def test_a_huge_token_is_refused_unread() -> None:
    """8 KiB is more than any header may hold."""
    assert await refused("a" * 8193) == "The token is too long."
    assert await refused(signed(claims(padding="x" * 8192))) == "The token is too long."
    assert await refused("." * 10_000_000) == "The token is too long."


@pytest.mark.parametrize("token", [None, ""])
async def test_a_missing_token_says_how_to_send_one(token: str | None) -> None:
    """Its code differs from a bad token's."""
    with pytest.raises(TokenMissingError) as caught:
        await verifier().verify(token)
    assert (caught.value.status, caught.value.code) == (401, "token_missing")
    assert "Authorization: Bearer" in str(caught.value)


REFUSED = {
    "signature": signed(claims(), key="x" * 32),
    "sub": signed(claims(sub="secret-user" * 30)),
    "aud": signed(claims(aud="secret-audience")),
    "topics": signed(claims(topics=[7, "secret-topic"])),
    "expired": signed(claims(exp=NOW - 1, sub="secret-user")),
    "exp": signed(claims(exp="secret-exp")),
    "kid": signed(claims(), kid="secret-kid"),
    "alg": signed(claims(), alg="secret-alg"),
    "garbage": "secret.secret.secret",
}


@pytest.mark.parametrize("token", REFUSED.values(), ids=REFUSED)
async def test_no_refusal_quotes_the_token(token: str) -> None:
    """Its text goes into an error body."""
    with pytest.raises(TokenError) as caught:
        await verifier().verify(token)
    assert "secret" not in str(caught.value)
    assert token not in str(caught.value)


# -- topics


async def test_the_topics_asked_for_must_be_allowed() -> None:
    """By their exact name, or by a prefix."""
    allowed = await grant("gmail:a@b.c", "gmail:team-*")
    assert allowed.topics(["gmail:team-1@b.c", "gmail:a@b.c"]) == ("gmail:team-1@b.c", "gmail:a@b.c")
    assert allowed.topics(["gmail:team-"]) == ("gmail:team-",)
    for other in ("gmail:a@b.cd", "gmail:a@b", "gmail:A@b.c", "gmail:team", "x", "xgmail:team-1"):
        with pytest.raises(TopicForbiddenError) as caught:
            allowed.topics(["gmail:a@b.c", other])
        assert other not in str(caught.value)


async def test_a_star_inside_a_name_is_no_pattern() -> None:
    """Only the last character counts, and a topic holds no star: such a name allows nothing."""
    with pytest.raises(TopicForbiddenError):
        (await grant("gmail:*@b.c")).topics(["gmail:ann@b.c"])


async def test_two_stars_are_a_prefix_that_ends_in_a_star() -> None:
    """Not "everything": no topic begins so."""
    with pytest.raises(TopicForbiddenError):
        (await grant("gmail:**")).topics(["gmail:ann@b.c"])


async def test_a_lone_star_allows_every_topic() -> None:
    """The empty prefix, for a back end of one's own."""
    assert (await grant("*")).topics(["gmail:ann@b.c", "x"]) == ("gmail:ann@b.c", "x")


async def test_without_topics_in_the_request_all_of_the_token_are_meant() -> None:
    """Each once, in the token's order."""
    assert (await grant("b", "a", "b")).topics([]) == ("b", "a")


async def test_a_prefix_names_no_topic() -> None:
    """So the request has to, even when the token has exact names as well."""
    for topics in (["a*"], ["a", "b*"]):
        with pytest.raises(TopicRequiredError):
            (await grant(*topics)).topics([])


@pytest.mark.parametrize("topic", ["", "a b", "a,b", "*", "a\n"])
async def test_a_bad_topic_is_bad_before_it_is_forbidden(topic: str) -> None:
    """400 and not 403: nothing could be allowed under that name."""
    with pytest.raises(BadTopicError):
        (await grant("*")).topics([topic])


async def test_more_than_fifty_topics_are_too_many_whoever_names_them() -> None:
    """The request, or a token of sixty names without a request for some of them."""
    names = [f"t{number}" for number in range(60)]
    allowed = await grant(*names)
    assert len(allowed.topics(names[:50])) == 50
    with pytest.raises(TooManyTopicsError):
        allowed.topics(names[:51])
    with pytest.raises(TooManyTopicsError):
        allowed.topics([])
