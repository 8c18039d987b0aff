"""Holds the gateway to Upstash's REST documentation with a plain HTTP client: forms, statuses, encodings.

https://upstash.com/docs/redis/features/restapi
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest

from tests.support.gateway import NO_TLS, Gateway

LIMIT = 10 * 1024 * 1024


@pytest.fixture
def rest(gateway: Gateway) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.url, headers=gateway.headers, verify=NO_TLS) as client:
        yield client


def result(response: httpx.Response) -> object:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("application/json")
    body = response.json()
    assert list(body) == ["result"]
    return body["result"]


def error(response: httpx.Response, status: int = 400) -> str:
    assert response.status_code == status, response.text
    body = response.json()
    assert list(body) == ["error"]
    text: str = body["error"]
    return text


# -- one command in the body


def test_a_command_in_the_body_is_a_json_array(rest: httpx.Client, key_prefix: str) -> None:
    key = f"{key_prefix}a"
    assert result(rest.post("/", json=["SET", key, "bar", "EX", 100])) == "OK"
    assert result(rest.post("/", json=["get", key])) == "bar"
    assert result(rest.put("/", json=["TTL", key])) in {99, 100}


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("100", "100"),
        ("-0", "-0"),
        ("1.10", "1.10"),
        ("1e3", "1e3"),
        ("12345678901234567890123", "12345678901234567890123"),
        ("true", "true"),
        ("false", "false"),
        (r'"gr\u00fc\u00df \ud83d\ude00"', "grüß 😀"),
        (r'"half a pair: \ud83d"', "half a pair: \ufffd"),
        (r'"a\u0000b"', "a\0b"),
    ],
)
def test_a_json_scalar_becomes_the_text_it_was_written_as(
    rest: httpx.Client, key_prefix: str, value: str, stored: str
) -> None:
    key = f"{key_prefix}a"
    assert result(rest.post("/", content=f'["SET","{key}",{value}]')) == "OK"
    assert result(rest.post("/", json=["GET", key])) == stored


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("", "EOF"),
        ("   ", "EOF"),
        ("nonsense", "ERR invalid JSON"),
        ('["GET"', "ERR invalid JSON"),
        ('["GET", NaN]', "ERR invalid JSON"),
        ("[" * 100_000, "ERR invalid JSON"),
        ("{}", "expected JSON array"),
        ('"GET"', "expected JSON array"),
        ("7", "expected JSON array"),
        ("null", "expected JSON array"),
        ("[]", "ERR empty command"),
        ('["SET", "k", null]', "ERR null args are not supported"),
        ('["SET", "k", ["v"]]', 'ERR unsupported arg type: "[": json.Delim'),
        ('["SET", "k", {"v": 1}]', 'ERR unsupported arg type: "{": json.Delim'),
        ('[["SET", "k", "v"]]', 'ERR unsupported arg type: "[": json.Delim'),
        ('[""]', "ERR Command is not available: ''."),
        ("[7]", "ERR Command is not available: '7'."),
    ],
)
def test_a_body_that_is_no_command_is_refused(rest: httpx.Client, body: str, text: str) -> None:
    assert error(rest.post("/", content=body)).startswith(text)


def test_bytes_that_are_not_utf8_are_replaced_not_fatal(rest: httpx.Client, key_prefix: str) -> None:
    body = b'["SET","' + key_prefix.encode() + b'k","\xff\xfe"]'
    assert result(rest.post("/", content=body)) == "OK"
    assert result(rest.post("/", json=["GET", f"{key_prefix}k"])) == "\ufffd\ufffd"


# -- one command in the path


def test_a_command_in_the_path_has_its_arguments_as_segments(rest: httpx.Client, key_prefix: str) -> None:
    assert result(rest.get(f"/set/{key_prefix}a/bar/EX/100")) == "OK"
    assert result(rest.get(f"/get/{key_prefix}a")) == "bar"
    assert result(rest.get(f"/mget/{key_prefix}a/{key_prefix}none")) == ["bar", None]


def test_query_parameters_follow_the_body_which_follows_the_path(rest: httpx.Client, key_prefix: str) -> None:
    value = b'{"json": [1, "\xc3\xbc"]}'
    assert result(rest.post(f"/set/{key_prefix}a?EX=100&NX", content=value)) == "OK"
    assert result(rest.get(f"/get/{key_prefix}a")) == value.decode()
    assert result(rest.get(f"/ttl/{key_prefix}a")) in {99, 100}
    assert result(rest.put(f"/set/{key_prefix}a?NX", content="other")) is None


@pytest.mark.parametrize("argument", ["a/b", "100%", "ü ö", "a+b", "?x=1&y", "#", "a%2Fb", " "])
def test_a_percent_encoded_segment_is_one_argument(rest: httpx.Client, key_prefix: str, argument: str) -> None:
    key = quote(f"{key_prefix}{argument}", safe="")
    assert result(rest.get(f"/set/{key}/{quote(argument, safe='')}")) == "OK"
    assert result(rest.post("/", json=["GET", f"{key_prefix}{argument}"])) == argument


def test_a_query_value_is_decoded_as_a_form_is(rest: httpx.Client, key_prefix: str) -> None:
    assert result(rest.get(f"/hset/{key_prefix}h?a+b=c%2Bd&e=")) == 2
    assert result(rest.get(f"/hgetall/{key_prefix}h")) == ["a b", "c+d", "e", ""]


def test_a_binary_body_is_stored_byte_for_byte(rest: httpx.Client, key_prefix: str) -> None:
    value = bytes(range(256))
    assert result(rest.post(f"/set/{key_prefix}a", content=value)) == "OK"
    encoded = result(rest.get(f"/get/{key_prefix}a", headers={"upstash-encoding": "base64"}))
    assert base64.b64decode(str(encoded)) == value


def test_an_escape_that_is_none_is_refused(gateway: Gateway) -> None:
    # httpx would repair it, so the path goes out as raw bytes.
    url = httpx.URL(gateway.url, raw_path=b"/get/%zz")
    response = httpx.get(url, headers=gateway.headers, verify=NO_TLS)
    assert error(response).startswith("ERR")


def test_a_get_without_a_path_has_no_command(rest: httpx.Client) -> None:
    assert error(rest.get("/")) == "EOF"


def test_a_path_is_read_before_it_is_decoded(rest: httpx.Client) -> None:
    assert error(rest.get("/pipeline%2Fa")).startswith("ERR Command is not available: 'PIPELINE/A'.")
    assert result(rest.get("/echo/one%0Atwo")) == "one\ntwo"


def test_head_answers_the_status_without_a_body(rest: httpx.Client, key_prefix: str) -> None:
    response = rest.head(f"/set/{key_prefix}a/b")
    assert (response.status_code, response.content) == (200, b"")
    assert result(rest.get(f"/get/{key_prefix}a")) == "b"
    assert rest.head("/nosuchcommand").status_code == 400


@pytest.mark.parametrize("method", ["DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/get/a", "/pipeline", "/multi-exec", "/subscribe/a"])
def test_another_method_is_405(rest: httpx.Client, method: str, path: str) -> None:
    assert rest.request(method, path).status_code == 405


# -- results


def test_every_shape_of_reply_has_its_json(rest: httpx.Client, key_prefix: str) -> None:
    script = "return {1, 'two', false, {3, {ok='FINE'}, {}}, 9223372036854775807}"
    got = result(rest.post("/", json=["EVAL", script, 0]))
    # Lua numbers are doubles: the largest integer of Redis is not one of them, so it comes from a command.
    assert got[:4] == [1, "two", None, [3, "FINE", []]]  # type: ignore[index]
    rest.post("/", json=["SET", f"{key_prefix}n", "9223372036854775806"])
    assert result(rest.post("/", json=["INCR", f"{key_prefix}n"])) == 9223372036854775807


def test_base64_leaves_the_status_ok_alone_and_nothing_else(rest: httpx.Client, key_prefix: str) -> None:
    header = {"upstash-encoding": "base64"}
    key = f"{key_prefix}a"
    ok = base64.b64encode(b"OK").decode()
    assert result(rest.post("/", json=["SET", key, "OK"], headers=header)) == "OK"
    assert result(rest.post("/", json=["GET", key], headers=header)) == ok
    assert result(rest.post("/", json=["PING"], headers=header)) == base64.b64encode(b"PONG").decode()
    nested = result(rest.post("/", json=["EVAL", "return {{ok='OK'}, 'OK', 1, false}", 0], headers=header))
    assert nested == ["OK", ok, 1, None]
    many = rest.post("/pipeline", json=[["SET", key, "OK"], ["GET", key], ["NOPE"]], headers=header).json()
    assert many[:2] == [{"result": "OK"}, {"result": ok}]
    assert many[2]["error"].startswith("ERR ")
    atomic = rest.post("/multi-exec", json=[["GET", key], ["SET", key, "OK"]], headers=header).json()
    assert atomic == [{"result": ok}, {"result": "OK"}]


def test_another_response_format_is_refused(rest: httpx.Client) -> None:
    assert error(rest.get("/ping", headers={"upstash-response-format": "resp2"})).startswith("ERR ")


def test_an_error_of_redis_is_400_with_its_whole_text(rest: httpx.Client, key_prefix: str) -> None:
    assert error(rest.get("/get")) == "ERR wrong number of arguments for 'get' command"
    rest.get(f"/set/{key_prefix}a/b")
    assert error(rest.get(f"/lpush/{key_prefix}a/b")).startswith("WRONGTYPE ")
    assert error(rest.post("/", json=["EVALSHA", "0" * 40, 0])).startswith("NOSCRIPT ")


def test_an_error_that_is_not_utf8_is_still_json(rest: httpx.Client) -> None:
    script = "return {redis.error_reply('inner \\255'), ARGV[1]}"
    assert result(rest.post("/", json=["EVAL", script, 0, "x"]))[1] == "x"  # type: ignore[index]
    assert "\ufffd" in error(rest.post("/", json=["EVAL", "return redis.error_reply('bad \\255')", 0]))
    assert error(rest.get("/nosuch%FFcommand")).startswith("ERR ")


def test_every_answer_carries_a_sync_token_and_any_is_accepted_back(rest: httpx.Client, key_prefix: str) -> None:
    first = rest.get(f"/set/{key_prefix}a/b")
    second = rest.get(f"/get/{key_prefix}a", headers={"upstash-sync-token": first.headers["upstash-sync-token"]})
    assert result(second) == "b"
    assert second.headers["upstash-sync-token"] != first.headers["upstash-sync-token"]
    assert result(rest.get(f"/get/{key_prefix}a", headers={"upstash-sync-token": "what is this"})) == "b"
    assert rest.post("/pipeline", json=[["PING"]]).headers["upstash-sync-token"]
    assert rest.get("/nosuchcommand").headers["upstash-sync-token"]


# -- several commands


def test_a_pipeline_answers_each_command_with_its_own_result_or_error(rest: httpx.Client, key_prefix: str) -> None:
    key = f"{key_prefix}a"
    commands = [["SET", key, "x"], ["INCR", key], ["BLPOP", key, 0], ["GET", key], ["GET"]]
    response = rest.post("/pipeline", json=commands)
    assert response.status_code == 200
    ok, not_a_number, refused, value, arity = response.json()
    assert ok == {"result": "OK"}
    assert not_a_number == {"error": "ERR value is not an integer or out of range"}
    assert list(refused) == ["error"]
    assert value == {"result": "x"}
    assert arity == {"error": "ERR wrong number of arguments for 'get' command"}


def test_a_transaction_answers_each_command_too(rest: httpx.Client, key_prefix: str) -> None:
    key = f"{key_prefix}a"
    response = rest.post("/multi-exec", json=[["SET", key, "x"], ["INCR", key], ["GET", key]])
    assert response.status_code == 200
    assert response.json() == [
        {"result": "OK"},
        {"error": "ERR value is not an integer or out of range"},
        {"result": "x"},
    ]


@pytest.mark.parametrize("wrong", [["GET"], ["NOSUCHCOMMAND"], ["BLPOP", "q", 0], ["MULTI"], ["EXEC"]])
def test_a_transaction_with_a_command_that_cannot_run_is_discarded_whole(
    rest: httpx.Client, key_prefix: str, wrong: list[object]
) -> None:
    key = f"{key_prefix}a"
    assert error(rest.post("/multi-exec", json=[["SET", key, "x"], wrong])).startswith("ERR ")
    assert result(rest.get(f"/get/{key}")) is None


@pytest.mark.parametrize("path", ["/pipeline", "/multi-exec"])
@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("", "EOF"),
        ("nonsense", "ERR invalid JSON"),
        ("{}", "expected JSON array"),
        ("[]", "ERR empty command"),
        ("[[]]", "ERR empty command"),
        ('["GET", "k"]', "expected JSON array"),
        ("[7]", "expected JSON array"),
        ('[["SET", "k", null]]', "ERR null args"),
        ('[[["SET"]]]', "ERR unsupported arg type"),
    ],
)
def test_several_commands_come_as_an_array_of_arrays(rest: httpx.Client, path: str, body: str, text: str) -> None:
    assert error(rest.post(path, content=body)).startswith(text)


def test_nothing_comes_between_the_commands_of_a_transaction(rest: httpx.Client, key_prefix: str) -> None:
    key = f"{key_prefix}n"
    for _ in range(20):
        batch = [["INCR", key] for _ in range(50)]
        values = [answer["result"] for answer in rest.post("/multi-exec", json=batch).json()]
        assert values == list(range(values[0], values[0] + 50))


# -- token


@pytest.mark.parametrize("path", ["/", "/get/a", "/pipeline", "/multi-exec", "/subscribe/a", "/_gateway/stats"])
@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer wrong", "Basic dXNlcjpw", "Bearer ünicode"])
def test_without_the_token_there_is_only_401(gateway: Gateway, path: str, authorization: str | None) -> None:
    headers = {} if authorization is None else {"authorization": authorization.encode()}
    response = httpx.get(gateway.url + path, headers=headers, verify=NO_TLS)  # type: ignore[arg-type] # bytes are fine
    assert error(response, 401) == "WRONGPASS invalid or missing auth token"


def test_the_token_may_come_as_a_parameter_and_is_no_argument(gateway: Gateway, key_prefix: str) -> None:
    url = f"{gateway.url}/set/{key_prefix}a/b?_token={quote(gateway.token)}&EX=100"
    assert result(httpx.get(url, verify=NO_TLS)) == "OK"
    wrong = f"{gateway.url}/get/{key_prefix}a?_token=wrong"
    assert error(httpx.get(wrong, headers=gateway.headers, verify=NO_TLS), 401).startswith("WRONGPASS")


# -- scripts


FLAGGED = "#!lua flags=allow-key-locking\nreturn {ARGV[1], KEYS[1]}"


def test_a_script_with_upstashs_flag_runs_on_stock_redis(rest: httpx.Client) -> None:
    assert result(rest.post("/", json=["EVAL", FLAGGED, 1, "k", "v"])) == ["v", "k"]
    assert rest.post("/pipeline", json=[["EVAL", FLAGGED, 1, "k", "v"]]).json() == [{"result": ["v", "k"]}]
    assert rest.post("/multi-exec", json=[["EVAL", FLAGGED, 1, "k", "v"]]).json() == [{"result": ["v", "k"]}]
    assert result(rest.post(f"/eval/{quote(FLAGGED, safe='')}/1/k/v")) == ["v", "k"]


def test_a_script_with_upstashs_flag_is_known_by_the_sha1_of_its_own_text(
    rest: httpx.Client, key_prefix: str
) -> None:
    script = f"{FLAGGED} -- {key_prefix}"
    sha = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
    call = ["EVALSHA", sha, 1, "k", "v"]
    assert error(rest.post("/", json=call)).startswith("NOSCRIPT ")
    assert result(rest.post("/", json=["SCRIPT", "EXISTS", sha])) == [0]
    assert result(rest.post("/", json=["SCRIPT", "LOAD", script])) == sha
    assert result(rest.post("/", json=["SCRIPT", "EXISTS", sha, "0" * 40])) == [1, 0]
    assert result(rest.post("/", json=call)) == ["v", "k"]
    assert result(rest.post("/", json=["EVALSHA", sha.upper(), 1, "k", "v"])) == ["v", "k"]
    assert rest.post("/multi-exec", json=[call]).json() == [{"result": ["v", "k"]}]


def test_a_script_run_by_eval_is_found_by_evalsha(rest: httpx.Client, key_prefix: str) -> None:
    script = f"{FLAGGED} -- {key_prefix} eval"
    assert result(rest.post("/", json=["EVAL", script, 1, "k", "v"])) == ["v", "k"]
    sha = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
    assert result(rest.post("/", json=["EVALSHA", sha, 1, "k", "v"])) == ["v", "k"]


def test_the_line_of_a_script_error_is_the_line_of_the_clients_text(rest: httpx.Client) -> None:
    script = "#!lua flags=allow-key-locking\n\nreturn nonsense.x"
    assert "user_script:3:" in error(rest.post("/", json=["EVAL", script, 0]))


# -- sizes


def test_a_body_above_the_limit_is_refused_with_upstashs_text(rest: httpx.Client, key_prefix: str) -> None:
    body = json.dumps(["SET", f"{key_prefix}a", "x" * LIMIT])
    text = error(rest.post("/", content=body))
    assert text.startswith(f"ERR max request size exceeded. Limit: {LIMIT} bytes, Actual: {len(body)} bytes")
    assert error(rest.post(f"/set/{key_prefix}a", content=iter([b"x" * LIMIT, b"x"]))).startswith(
        "ERR max request size exceeded."
    )
    assert result(rest.get(f"/get/{key_prefix}a")) is None


def test_a_body_just_below_the_limit_is_stored_and_read_back(rest: httpx.Client, key_prefix: str) -> None:
    value = "x" * (LIMIT - 1024)
    assert result(rest.post("/", json=["SET", f"{key_prefix}a", value])) == "OK"
    assert result(rest.post("/", json=["GET", f"{key_prefix}a"])) == value
    assert result(rest.post("/", json=["DEL", f"{key_prefix}a"])) == 1


def test_a_reply_above_the_limit_is_refused_with_the_same_text(rest: httpx.Client, key_prefix: str) -> None:
    key = f"{key_prefix}a"
    rest.post("/", json=["SET", key, "x" * (LIMIT // 2 + 1)])
    text = error(rest.post("/", json=["MGET", key, key]))
    assert text.startswith("ERR max request size exceeded.")
    rest.post("/", json=["DEL", key])
