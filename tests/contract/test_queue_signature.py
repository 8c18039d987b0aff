"""Who may use our queue server: whoever signs with its key, as AWS's clients sign, and nobody else."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import httpx
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.support.gateway import NO_TLS
from tests.support.queue_server import QueueServerProcess, sqs_client
from tests.support.sqs import refused

LIST = b"{}"
HEADERS = {"X-Amz-Target": "AmazonSQS.ListQueues", "Content-Type": "application/x-amz-json-1.0"}


def signed(
    server: QueueServerProcess,
    *,
    path: str = "/",
    secret: str | None = None,
    region: str = "us-east-1",
    service: str = "sqs",
    token: str | None = None,
    headers: dict[str, str] | None = None,
) -> dict[str, str]:
    """Sign a ListQueues as botocore does; give its headers."""
    request = AWSRequest("POST", server.url + path, {**HEADERS, **(headers or {})}, LIST)
    credentials = Credentials(server.access_key, secret or server.secret_key, token)
    SigV4Auth(credentials, service, region).add_auth(request)
    return dict(request.headers)


def ask(
    server: QueueServerProcess, headers: dict[str, str], *, path: str = "/", body: bytes = LIST
) -> httpx.Response:
    return httpx.post(server.url + path, content=body, headers=headers, verify=NO_TLS)


def code(response: httpx.Response) -> str:
    """Give the code of a refusal, which is in AWS's form."""
    assert response.status_code == 403, response.text
    assert response.headers["content-type"] == "application/x-amz-json-1.0"
    assert response.headers["x-amzn-requestid"]
    assert response.json().keys() == {"__type", "message"}
    found, _, fault = response.headers["x-amzn-query-error"].partition(";")
    assert fault == "Sender"
    return found


@pytest.mark.parametrize("path", ["/", "/000000000000/q.fifo", "/a%20b/%C3%A9~", "/?", "/?b=2&a=1&c"])
def test_what_botocore_signs_is_taken(queue_server: QueueServerProcess, path: str) -> None:
    assert ask(queue_server, signed(queue_server, path=path), path=path).status_code == 200


def test_a_session_token_and_further_headers_may_be_signed(queue_server: QueueServerProcess) -> None:
    headers = signed(queue_server, token="session", headers={"X-Amz-Note": "three   spaces"})
    assert "x-amz-note" in headers["Authorization"]
    assert ask(queue_server, headers).status_code == 200


def test_a_request_that_is_not_signed_is_refused(queue_server: QueueServerProcess) -> None:
    assert code(ask(queue_server, HEADERS)) == "MissingAuthenticationToken"
    assert code(httpx.get(f"{queue_server.url}/", verify=NO_TLS)) == "MissingAuthenticationToken"


def test_another_key_is_refused(queue_server: QueueServerProcess) -> None:
    client = sqs_client(queue_server.url, "AKIAUNKNOWN", queue_server.secret_key)
    with refused("InvalidClientTokenId", status=403):
        client.list_queues()
    client.close()


def test_another_secret_is_refused(queue_server: QueueServerProcess) -> None:
    client = sqs_client(queue_server.url, queue_server.access_key, "another secret")
    with refused("SignatureDoesNotMatch", status=403):
        client.list_queues()
    client.close()


@pytest.mark.parametrize("where", [{"region": "eu-west-1"}, {"service": "sns"}, {"secret": "other"}])
def test_a_signature_is_for_one_region_and_service(queue_server: QueueServerProcess, where: Any) -> None:
    assert code(ask(queue_server, signed(queue_server, **where))) == "SignatureDoesNotMatch"


def test_nothing_that_is_signed_can_be_changed(queue_server: QueueServerProcess) -> None:
    sound = signed(queue_server)
    mismatch = "SignatureDoesNotMatch"
    assert code(ask(queue_server, sound, body=b'{"QueueNamePrefix":"x"}')) == mismatch
    assert code(ask(queue_server, sound, path="/other")) == mismatch
    assert code(ask(queue_server, sound, path="/?a=1")) == mismatch
    assert code(ask(queue_server, {**sound, "X-Amz-Target": "AmazonSQS.PurgeQueue"})) == mismatch
    assert code(ask(queue_server, {**sound, "Host": "elsewhere"})) == mismatch
    response = httpx.request("PUT", queue_server.url, content=LIST, headers=sound, verify=NO_TLS)
    assert code(response) == mismatch


@pytest.mark.parametrize("minutes", [-16, 16])
def test_a_signature_holds_for_a_quarter_of_an_hour(
    queue_server: QueueServerProcess, monkeypatch: pytest.MonkeyPatch, minutes: int
) -> None:
    def signed_at(shift: int) -> dict[str, str]:
        then = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=shift)
        monkeypatch.setattr("botocore.auth.get_current_datetime", lambda *_, **__: then)
        return signed(queue_server)

    assert ask(queue_server, signed_at(minutes - 2 if minutes > 0 else minutes + 2)).status_code == 200
    assert code(ask(queue_server, signed_at(minutes))) == "SignatureDoesNotMatch"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("AWS4-HMAC-SHA256", "Bearer"),
        ("Credential=", "Nothing="),
        ("SignedHeaders=", "Nothing="),
        ("Signature=", "Nothing="),
        ("/aws4_request", ""),
        ("/aws4_request", "/aws5_request"),
        (", ", ""),
    ],
)
def test_an_authorization_that_lacks_something_is_refused(
    queue_server: QueueServerProcess, old: str, new: str
) -> None:
    headers = signed(queue_server)
    headers["Authorization"] = headers["Authorization"].replace(old, new)
    assert code(ask(queue_server, headers)) == "IncompleteSignature"


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("", "IncompleteSignature"),
        ("tomorrow", "IncompleteSignature"),
        ("20261399T000000Z", "SignatureDoesNotMatch"),  # not the day of the credential
        ("20000101T000000Z", "SignatureDoesNotMatch"),
    ],
)
def test_a_date_that_is_none_is_refused(queue_server: QueueServerProcess, date: str, expected: str) -> None:
    assert code(ask(queue_server, {**signed(queue_server), "X-Amz-Date": date})) == expected


def test_a_day_that_does_not_exist_is_refused(queue_server: QueueServerProcess) -> None:
    headers = signed(queue_server)
    day = headers["X-Amz-Date"][:8]
    headers["Authorization"] = headers["Authorization"].replace(day, "20261399")
    assert code(ask(queue_server, {**headers, "X-Amz-Date": "20261399T000000Z"})) == "IncompleteSignature"


def test_the_host_must_be_signed(queue_server: QueueServerProcess) -> None:
    headers = signed(queue_server)
    headers["Authorization"] = headers["Authorization"].replace("host;", "")
    assert code(ask(queue_server, headers)) == "SignatureDoesNotMatch"


def test_health_needs_no_signature_and_nothing_else_goes_without(queue_server: QueueServerProcess) -> None:
    health = httpx.get(f"{queue_server.url}/healthz", verify=NO_TLS)
    assert (health.status_code, health.json()) == (200, {"status": "ok"})
    assert code(httpx.post(f"{queue_server.url}/healthz", verify=NO_TLS)) == "MissingAuthenticationToken"


def test_no_secret_is_logged(queue_server: QueueServerProcess) -> None:
    ask(queue_server, {**signed(queue_server), "X-Amz-Target": "AmazonSQS.Nonsense"})
    assert queue_server.secret_key not in queue_server.log()
    assert json.dumps(queue_server.access_key) not in queue_server.log()
