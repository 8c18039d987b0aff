"""Settings: the contract's defaults, and faults told all at once without a secret in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import SettingsError
from shared.retention import Retention
from shared.settings import AwsAccess, Function, PushAuth, Queues, Settings
from shared.slot_limit import Policy, SlotLimit

KEY = "k" * 32
GOOD = {
    "UPSTASH_REDIS_REST_URL": "https://db.upstash.io",
    "UPSTASH_REDIS_REST_TOKEN": "rest-token",
    "TIDEMARK_TOKEN_KEYS": f"a:{KEY}",
    "TIDEMARK_PUSH_AUTH": "off",
}

GENUINE = {
    "TIDEMARK_PUSH_AUDIENCE": "https://hook.example.com/push",
    "TIDEMARK_PUSH_SERVICE_ACCOUNT": "push@project.iam.gserviceaccount.com",
}


QUEUES = {
    "AWS_REGION": "eu-west-1",
    "AWS_ACCESS_KEY_ID": "AKID",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "TIDEMARK_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/1/tidemark.fifo",
    "TIDEMARK_DEAD_LETTER_URL": "https://sqs.eu-west-1.amazonaws.com/1/tidemark-dead",
}


def of(function: Function = Function.LOCAL, /, **changed: str | None) -> Settings:
    """Read good settings with changes; None takes a variable away."""
    environ = {name: value for name, value in (GOOD | changed).items() if value is not None}
    return Settings.of(environ, function)


def fault(function: Function = Function.LOCAL, /, **changed: str | None) -> str:
    with pytest.raises(SettingsError) as caught:
        of(function, **changed)
    return str(caught.value)


def test_the_defaults_are_the_contracts() -> None:
    """Everything that is not required."""
    assert of() == Settings(
        redis_url="https://db.upstash.io",
        redis_token="rest-token",
        stage="dev",
        retention_s=86_400,
        topic_max_events=1000,
        dedupe_s=86_400,
        push_auth=None,
        queues=None,
        breaker_s=30,
        push_limit=100,
        verified_limit=60_000,
        client_limit=1200,
        bypass_secret=None,
        trusted_proxies=(),
        token_keys={"a": KEY},
        token_jwks_url=None,
        slot_limit=SlotLimit(3, Policy.EVICT_OLDEST),
        max_streams=10_000,
        stream_max_s=840,
        reconcile_s=20,
        cors_origins=(),
        sentry_dsn=None,
    )


def test_an_empty_variable_is_one_that_is_not_set() -> None:
    """Templates leave empty ones behind."""
    optional = (
        "STAGE",
        "RETENTION_S",
        "DEDUPE_S",
        "MAX_STREAMS",
        "CORS_ORIGINS",
        "TOPIC_MAX_EVENTS",
        "STREAM_POLICY",
    )
    assert of(**{f"TIDEMARK_{name}": "" for name in optional}) == of()
    assert "UPSTASH_REDIS_REST_URL is missing" in fault(UPSTASH_REDIS_REST_URL="")


def test_every_setting_is_read() -> None:
    """From its documented name."""
    settings = of(
        TIDEMARK_STAGE="prod-eu",
        TIDEMARK_RETENTION_S="7200",
        TIDEMARK_TOPIC_MAX_EVENTS="5",
        TIDEMARK_DEDUPE_S="3600",
        TIDEMARK_MAX_STREAMS_PER_USER="7",
        TIDEMARK_STREAM_POLICY="reject",
        TIDEMARK_MAX_STREAMS="1",
        TIDEMARK_STREAM_MAX_S="60",
        TIDEMARK_RECONCILE_S="2",
        TIDEMARK_CORS_ORIGINS="https://a.example, http://localhost:3000 ,",
    )
    assert (settings.stage, settings.max_streams, settings.stream_max_s, settings.reconcile_s) == (
        "prod-eu",
        1,
        60,
        2,
    )
    assert settings.cors_origins == ("https://a.example", "http://localhost:3000")
    assert settings.slot_limit == SlotLimit(7, Policy.REJECT)
    assert settings.retention == Retention(keep_s=7200, topic_max_events=5, dedupe_s=3600)


@pytest.mark.parametrize(
    ("retention", "dedupe"), [("1", 3600), ("3600", 3600), ("86400", 86_400), ("604800", 604_800)]
)
def test_a_message_is_known_again_for_as_long_as_it_is_kept_and_an_hour_at_least(retention: str, dedupe: int) -> None:
    """The default of the dedupe time follows the retention."""
    assert of(TIDEMARK_RETENTION_S=retention).dedupe_s == dedupe


def test_settings_do_not_change_once_they_are_read() -> None:
    """They are read at cold start, and whoever holds them holds the truth."""
    with pytest.raises(AttributeError):
        of().stage = "x"  # type: ignore[misc]  # the point of the test


def test_settings_are_read_from_the_environment_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one place only, so that every other one can be tested with a mapping."""
    monkeypatch.delenv("AWS_LAMBDA_FUNCTION_NAME", raising=False)
    for name, value in {**GOOD, "TIDEMARK_STAGE": "from-environ"}.items():
        monkeypatch.setenv(name, value)
    assert Settings.load(Function.LOCAL).stage == "from-environ"


# -- what each function needs


@pytest.mark.parametrize("function", [Function.STREAM, Function.REPLAY, Function.LOCAL])
def test_who_serves_clients_needs_their_keys(function: Function) -> None:
    """They verify tokens."""
    assert "TIDEMARK_TOKEN_KEYS is missing" in fault(function, TIDEMARK_TOKEN_KEYS=None)


def test_the_webhook_is_given_no_client_keys() -> None:
    """It does not verify client tokens, and so it does not hold what could sign them, even when it is set."""
    assert of(Function.WEBHOOK, TIDEMARK_TOKEN_KEYS=None).token_keys == {}
    assert of(Function.WEBHOOK).token_keys == {}


@pytest.mark.parametrize("function", [Function.STREAM, Function.REPLAY])
def test_who_takes_no_pushes_does_not_look_at_push_auth(function: Function) -> None:
    """The setting is the webhook's."""
    assert of(function, TIDEMARK_PUSH_AUTH="nonsense", AWS_LAMBDA_FUNCTION_NAME="f").stage == "dev"


@pytest.mark.parametrize("function", [Function.WEBHOOK, Function.LOCAL])
def test_unverified_pushes_are_refused_inside_lambda(function: Function) -> None:
    """There the webhook stands in the open."""
    text = fault(function, AWS_LAMBDA_FUNCTION_NAME="tidemark-webhook", **QUEUES)
    assert text == "settings: TIDEMARK_PUSH_AUTH must not be off inside Lambda"


@pytest.mark.parametrize("value", ["on", "", None])
def test_pushes_are_verified_unless_told_otherwise(value: str | None) -> None:
    """On is the default; Google's keys are."""
    assert of(TIDEMARK_PUSH_AUTH=value, **GENUINE).push_auth == PushAuth(
        audience="https://hook.example.com/push",
        service_account="push@project.iam.gserviceaccount.com",
        jwks_url="https://www.googleapis.com/oauth2/v3/certs",
    )


def test_what_a_genuine_push_must_say_is_required() -> None:
    """Without it anybody's token of Google's would do."""
    text = fault(Function.WEBHOOK, TIDEMARK_PUSH_AUTH="on")
    assert text == (
        "settings: TIDEMARK_PUSH_AUDIENCE is missing: must be the audience of the push subscription; "
        "TIDEMARK_PUSH_SERVICE_ACCOUNT is missing: must be the e-mail address of the push subscription's service "
        "account"
    )
    assert of(Function.STREAM, TIDEMARK_PUSH_AUTH="on").push_auth is None


@pytest.mark.parametrize("name", ["TIDEMARK_PUSH_JWKS_URL", "TIDEMARK_TOKEN_JWKS_URL"])
@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://keys.example.com/jwks", True),
        ("https://keys.example.com/jwks?tenant=1", True),
        ("http://127.0.0.1:8787/dev/push-keys", True),
        ("http://localhost/keys", True),
        ("http://keys.example.com/jwks", False),
        ("http://127.0.0.1.example.com/jwks", False),
        ("http://127.0.0.1@example.com/jwks", False),
        ("file:///etc/keys.json", False),
        ("keys.example.com", False),
        ("https://", False),
    ],
)
def test_keys_come_over_https(name: str, url: str, good: bool) -> None:  # noqa: FBT001 - a table's column
    """Whoever can answer in the key server's place can sign anything."""
    changed = {"TIDEMARK_PUSH_AUTH": "on", **GENUINE, name: url}
    if good:
        settings = of(**changed)
        assert settings.push_auth is not None
        assert url in (settings.push_auth.jwks_url, settings.token_jwks_url)
    else:
        assert fault(**changed) == f"settings: {name} must be an https URL (http only on this machine)"


@pytest.mark.parametrize("account", ["push", "@", "a@b c", "a@b@c", "a b@c"])
def test_a_service_account_is_an_address(account: str) -> None:
    """A slip here would refuse every push."""
    text = fault(TIDEMARK_PUSH_AUTH="on", **{**GENUINE, "TIDEMARK_PUSH_SERVICE_ACCOUNT": account})
    assert text.startswith("settings: TIDEMARK_PUSH_SERVICE_ACCOUNT must be the e-mail address")


@pytest.mark.parametrize("value", ["Off", "0", "false", "no", "offf"])
def test_push_auth_is_on_or_off(value: str) -> None:
    """No other word is guessed at: a typo must not open the door."""
    assert fault(TIDEMARK_PUSH_AUTH=value) == "settings: TIDEMARK_PUSH_AUTH must be on or off"


# -- faults


def test_all_faults_are_told_at_once_in_one_line_that_names_every_variable() -> None:
    """Nobody fixes settings one deployment at a time."""
    bad = {
        "UPSTASH_REDIS_REST_URL": "redis://db",
        "UPSTASH_REDIS_REST_TOKEN": "a b",
        "TIDEMARK_STAGE": "Prod!",
        "TIDEMARK_RETENTION_S": "0",
        "TIDEMARK_TOPIC_MAX_EVENTS": "1.5",
        "TIDEMARK_DEDUPE_S": "3599",
        "TIDEMARK_TOKEN_KEYS": "a:short",
        "TIDEMARK_MAX_STREAMS": "many",
        "TIDEMARK_STREAM_POLICY": "evict",
        "TIDEMARK_STREAM_MAX_S": "-1",
        "TIDEMARK_RECONCILE_S": "3601",
        "TIDEMARK_CORS_ORIGINS": "*",
        "TIDEMARK_PUSH_AUTH": "maybe",
    }
    text = fault(**bad)
    assert text.startswith("settings: ")
    assert "\n" not in text
    assert [name for name in bad if f"{name} " not in text] == []
    assert text.count("; ") == len(bad) - 1


def test_a_missing_variable_is_told_with_what_it_should_hold() -> None:
    """Whoever reads the line knows what to write."""
    text = fault(UPSTASH_REDIS_REST_URL=None, UPSTASH_REDIS_REST_TOKEN=None, TIDEMARK_TOKEN_KEYS=None)
    assert "UPSTASH_REDIS_REST_URL is missing: must be an http(s) URL" in text
    assert "UPSTASH_REDIS_REST_TOKEN is missing: must be the database's REST token" in text
    assert "TIDEMARK_TOKEN_KEYS is missing: must be kid:secret[,kid:secret...], each secret 32 bytes or more" in text


@given(
    st.dictionaries(
        st.sampled_from([*GOOD, "TIDEMARK_STAGE", "TIDEMARK_RETENTION_S", "TIDEMARK_CORS_ORIGINS"]),
        # Marked, so that it can be looked for.
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1).map("sEcReT{}".format),
        min_size=1,
    )
)
def test_no_value_is_ever_told(environ: dict[str, str]) -> None:
    """It may be a secret in the wrong place. The line stays one line whatever stands in the values."""
    try:
        Settings.of(environ, Function.LOCAL)
    except SettingsError as error:
        told = str(error)
    else:
        told = ""
    assert "sEcReT" not in told
    assert told.isprintable()


@pytest.mark.parametrize(
    "url",
    [
        "db.upstash.io",
        "//db",
        "ftp://db",
        "redis://db:6379",
        "http://",
        "https:///x",
        "http://[",
        "http://[::1",
        "http://h:0",
        "http://h:65536",
        "http://h:x",
        "http://h?token=1",
        "http://h\n",
        "http://a\r\nb",
        "http://a b",
    ],
)
def test_the_redis_url_is_an_http_url(url: str) -> None:
    """A line end at its end is a mistake in a file, and would fail every request."""
    assert fault(UPSTASH_REDIS_REST_URL=url) == "settings: UPSTASH_REDIS_REST_URL must be an http(s) URL"


@pytest.mark.parametrize(
    "url", ["https://eu1-x-1.upstash.io", "http://127.0.0.1:8079", "http://[::1]:8079/", "HTTPS://h"]
)
def test_the_redis_url_may_be_any_http_origin(url: str) -> None:
    """The local gateway's too."""
    assert of(UPSTASH_REDIS_REST_URL=url).redis_url == url


@pytest.mark.parametrize("token", ["a b", "tök", "a\n", " a", "\t"])
def test_the_rest_token_is_plain_printable_text(token: str) -> None:
    """It goes into a header as it is."""
    assert "UPSTASH_REDIS_REST_TOKEN must be" in fault(UPSTASH_REDIS_REST_TOKEN=token)


@pytest.mark.parametrize("stage", ["Prod", "a_b", "-a", "a" * 33, "a:b", "a*", "ä", " a", "a\n"])
def test_a_stage_is_a_short_plain_word(stage: str) -> None:
    """It is part of every key: no colon that would reach another stage, no star that would match one."""
    assert fault(TIDEMARK_STAGE=stage) == "settings: TIDEMARK_STAGE must be 1-32 characters of a-z 0-9 -"


NUMBERS = {
    "TIDEMARK_RETENTION_S": (1, 31_536_000),
    "TIDEMARK_TOPIC_MAX_EVENTS": (1, 1_000_000),
    "TIDEMARK_DEDUPE_S": (3600, 31_536_000),
    "TIDEMARK_MAX_STREAMS": (1, 1_000_000),
    "TIDEMARK_MAX_STREAMS_PER_USER": (1, 1000),
    "TIDEMARK_STREAM_MAX_S": (1, 86_400),
    "TIDEMARK_RECONCILE_S": (1, 3600),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_lies_within_its_range(name: str) -> None:
    """Both ends are allowed, their neighbours are not."""
    least, most = NUMBERS[name]
    assert of(**{name: str(least)})
    assert of(**{name: str(most)})
    for value in (least - 1, most + 1):
        assert fault(**{name: str(value)}) == f"settings: {name} must be a whole number from {least} to {most}"


@pytest.mark.parametrize("value", ["x", "1.0", "1e3", "-1", "+1", " 1", "1 ", "1_000", "٣", "0x10", "9" * 5000])
def test_a_number_is_digits_only(value: str) -> None:
    """Python would read more than that."""
    assert "TIDEMARK_MAX_STREAMS must be" in fault(TIDEMARK_MAX_STREAMS=value)


def test_the_policy_is_one_of_two_words() -> None:
    """Nothing else, in no other spelling; the fault says which there are."""
    assert of(TIDEMARK_STREAM_POLICY="reject").slot_limit.policy is Policy.REJECT
    assert of(TIDEMARK_STREAM_POLICY="evict_oldest").slot_limit.policy is Policy.EVICT_OLDEST
    for value in ("Reject", "evict", "evict_oldest "):
        assert fault(TIDEMARK_STREAM_POLICY=value) == (
            "settings: TIDEMARK_STREAM_POLICY must be evict_oldest or reject"
        )


def test_token_keys_are_named_and_may_be_several() -> None:
    """So that they can be rotated. A secret may hold colons, but no commas."""
    keys = of(TIDEMARK_TOKEN_KEYS=f"old:{KEY}, new:{'n' * 30}:x").token_keys
    assert keys == {"old": KEY, "new": "n" * 30 + ":x"}


@pytest.mark.parametrize(
    "keys",
    [
        KEY,
        f":{KEY}",
        "a:",
        "a",
        f"a:{KEY[1:]}",
        f"a:{KEY},",
        f"a:{KEY},,b:{KEY}",
        f"a:{KEY},a:{KEY}",
        f"a:{KEY},b:short",
        ",",
    ],
)
def test_token_keys_are_refused_whole_when_one_is_bad(keys: str) -> None:
    """Too short, without a name, or with a name twice."""
    text = fault(TIDEMARK_TOKEN_KEYS=keys)
    assert text.startswith("settings: TIDEMARK_TOKEN_KEYS must be kid:secret")
    assert KEY not in text


def test_a_secret_is_measured_in_bytes() -> None:
    """16 characters of two bytes each are 32 bytes."""
    assert of(TIDEMARK_TOKEN_KEYS="a:" + "ü" * 16).token_keys == {"a": "ü" * 16}


@pytest.mark.parametrize(
    "origins",
    [
        "*",
        "null",
        "app.example.com",
        "https://a.example/",
        "https://a.example/x",
        "https://",
        "http://[::1",
        "ftp://a",
        "https://a.example,*",
        "https://a.example https://b.example",
        "https://a.example:99999",
        "https://a?x",
        "https://a#x",
    ],
)
def test_cors_origins_are_origins(origins: str) -> None:
    """As a browser sends them; one with a path would never match. A star is refused: tokens are at stake."""
    text = fault(TIDEMARK_CORS_ORIGINS=origins)
    assert text == "settings: TIDEMARK_CORS_ORIGINS must be a comma list of origins such as https://app.example.com"


def test_the_queues_are_read_where_they_are_used() -> None:
    """With the session token that Lambda adds, and the confirmation only when it is wanted."""
    queues = of(Function.WEBHOOK, **QUEUES, AWS_SESSION_TOKEN="t").queues
    assert queues == Queues(
        AwsAccess("eu-west-1", "AKID", "secret", "t"),
        QUEUES["TIDEMARK_QUEUE_URL"],
        QUEUES["TIDEMARK_DEAD_LETTER_URL"],
        None,
        None,
    )
    confirmation = "https://sqs.eu-west-1.amazonaws.com/1/tidemark-confirmation"
    queues = of(Function.DELIVER, **QUEUES, TIDEMARK_CONFIRM_S="60", TIDEMARK_CONFIRM_QUEUE_URL=confirmation).queues
    assert queues is not None
    assert (queues.confirmation, queues.confirm_s) == (confirmation, 60)
    assert of(Function.STREAM, **QUEUES).queues is None
    assert of(Function.WEBHOOK).queues is None


@pytest.mark.parametrize(
    ("function", "changed", "names"),
    [
        (Function.DELIVER, {}, [*QUEUES]),
        (Function.WEBHOOK, {"AWS_LAMBDA_FUNCTION_NAME": "f", "TIDEMARK_PUSH_AUTH": "on"}, [*QUEUES]),
        (Function.WEBHOOK, {"TIDEMARK_QUEUE_URL": QUEUES["TIDEMARK_QUEUE_URL"]}, ["TIDEMARK_DEAD_LETTER_URL"]),
        (Function.WEBHOOK, {**QUEUES, "TIDEMARK_CONFIRM_S": "60"}, ["TIDEMARK_CONFIRM_QUEUE_URL"]),
        (Function.WEBHOOK, {**QUEUES, "TIDEMARK_CONFIRM_S": "901"}, ["TIDEMARK_CONFIRM_S"]),
        (Function.WEBHOOK, {**QUEUES, "TIDEMARK_QUEUE_URL": "https://sqs/1/standard"}, ["TIDEMARK_QUEUE_URL"]),
        (
            Function.WEBHOOK,
            {**QUEUES, "TIDEMARK_DEAD_LETTER_URL": "https://sqs/1/d.fifo"},
            ["TIDEMARK_DEAD_LETTER_URL"],
        ),
        (Function.WEBHOOK, {**QUEUES, "TIDEMARK_QUEUE_URL": "arn:aws:sqs:x:1:q.fifo"}, ["TIDEMARK_QUEUE_URL"]),
    ],
)
def test_queues_that_are_missing_or_of_the_wrong_kind_are_named(
    function: Function, changed: dict[str, str], names: list[str]
) -> None:
    """FIFO for the pushes that wait; standard for the others, since only those take a delay a message."""
    text = fault(function, **changed)
    assert all(name in text for name in names)


def test_the_breaker_of_a_function_that_nobody_waits_for_tries_sooner() -> None:
    """Unless it is said how long it waits at most."""
    assert of(Function.WEBHOOK).breaker_s == 30
    assert of(Function.DELIVER, **QUEUES).breaker_s == 5
    assert of(Function.DELIVER, **QUEUES, TIDEMARK_BREAKER_S="2").breaker_s == 2
