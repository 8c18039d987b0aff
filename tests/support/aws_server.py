"""The control plane of Lambda and CloudFormation, as far as commands ask it; it answers as AWS documents it.

moto is not asked: it knows neither the account's settings nor a refusal.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from infra.local.loopback import HOST

_NAMESPACE = "http://cloudformation.amazonaws.com/doc/2010-05-15/"


class AwsServer:
    """One account in one region. What it has, and what it refuses, is set by its attributes."""

    def __init__(self) -> None:
        self.environments: dict[str, dict[str, Any]] = {}
        """By the name of the function: its ``Environment``, as GetFunctionConfiguration gives it."""
        self.reserved: dict[str, int] = {}
        self.stacks: dict[str, dict[str, str]] = {}
        """Outputs by the name of the stack."""
        self.status = "UPDATE_COMPLETE"
        self.quota = (1000, 1000)
        """What may run at the same time, and what of it is not reserved."""
        self.denied: set[str] = set()
        """Actions for which the permission is missing."""
        self.strange = False
        """It does not take the credentials."""
        self.url = ""

    @classmethod
    @contextlib.contextmanager
    def running(cls) -> Iterator[AwsServer]:
        """Serve, and stop for sure."""
        account = cls()

        class Handler(BaseHTTPRequestHandler):
            """Hands requests to the account."""

            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._send(*account.rest(self.path))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                self._send(*account.query({name: values[0] for name, values in parse_qs(body).items()}))

            def log_message(self, *_: object) -> None:
                pass

            def _send(self, status: int, headers: Mapping[str, str], body: str) -> None:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body.encode()))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body.encode())

        with ThreadingHTTPServer((HOST, 0), Handler) as server:
            server.daemon_threads = True
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            account.url = f"http://{HOST}:{server.server_address[1]}"
            try:
                yield account
            finally:
                server.shutdown()
                thread.join()

    @property
    def settings(self) -> dict[str, str]:
        """What a command needs to be somebody here."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": "eu-west-1",
            "AWS_ACCESS_KEY_ID": "AKIA",
            "AWS_SECRET_ACCESS_KEY": "very-secret",
        }

    def deploy(self, stage: str, settings: Mapping[str, Mapping[str, str]], outputs: Mapping[str, str]) -> None:
        """Have a stack, and functions with these settings."""
        self.stacks[f"tidemark-{stage}"] = dict(outputs)
        for function, variables in settings.items():
            self.environments[f"tidemark-{stage}-{function}"] = {"Variables": dict(variables)}

    def rest(self, path: str) -> tuple[int, Mapping[str, str], str]:
        """Answer a request to Lambda."""
        parts = path.strip("/").split("/")
        if self.strange:
            return self._refuse(403, "UnrecognizedClientException", "The security token included is invalid.")
        if parts[1] == "account-settings":
            return self._told("GetAccountSettings", self._account())
        name = parts[2]
        action = {"configuration": "GetFunctionConfiguration", "concurrency": "GetFunctionConcurrency"}[parts[3]]
        if name not in self.environments and action not in self.denied:
            return self._refuse(404, "ResourceNotFoundException", f"Function not found: arn:aws:lambda:…:{name}")
        if parts[3] == "configuration":
            return self._told(action, {"FunctionName": name, "Environment": self.environments.get(name, {})})
        kept = self.reserved.get(name)
        return self._told(action, {} if kept is None else {"ReservedConcurrentExecutions": kept})

    def query(self, asked: Mapping[str, str]) -> tuple[int, Mapping[str, str], str]:
        """Answer a request to CloudFormation."""
        name, action = asked["StackName"], asked["Action"]
        assert action == "DescribeStacks"
        if self.strange:
            return _xml_refusal(403, "InvalidClientTokenId", "The security token included in the request is invalid.")
        if action in self.denied:
            return _xml_refusal(403, "AccessDenied", f"User is not authorized to perform: cloudformation:{action}")
        if name not in self.stacks:
            return _xml_refusal(400, "ValidationError", f"Stack with id {name} does not exist")
        outputs = "".join(
            f"<member><OutputKey>{key}</OutputKey><OutputValue>{escape(value)}</OutputValue></member>"
            for key, value in self.stacks[name].items()
        )
        stack = (
            f"<StackName>{name}</StackName><StackStatus>{self.status}</StackStatus>"
            f"<CreationTime>2026-11-25T00:00:00Z</CreationTime><Outputs>{outputs}</Outputs>"
        )
        result = f"<DescribeStacksResult><Stacks><member>{stack}</member></Stacks></DescribeStacksResult>"
        body = f'<DescribeStacksResponse xmlns="{_NAMESPACE}">{result}</DescribeStacksResponse>'
        return 200, {"Content-Type": "text/xml"}, body

    def _account(self) -> dict[str, Any]:
        total, unreserved = self.quota
        limit = {"ConcurrentExecutions": total, "UnreservedConcurrentExecutions": unreserved, "TotalCodeSize": 1}
        return {"AccountLimit": limit, "AccountUsage": {"FunctionCount": 1, "TotalCodeSize": 1}}

    def _told(self, action: str, answer: Mapping[str, Any]) -> tuple[int, Mapping[str, str], str]:
        if action in self.denied:
            text = f"User: arn:aws:iam::1:user/a is not authorized to perform: lambda:{action}"
            return self._refuse(403, "AccessDeniedException", text)
        return 200, {"Content-Type": "application/json"}, json.dumps(answer)

    @staticmethod
    def _refuse(status: int, code: str, text: str) -> tuple[int, Mapping[str, str], str]:
        headers = {"Content-Type": "application/json", "x-amzn-ErrorType": code}
        return status, headers, json.dumps({"Type": "User", "Message": text})


def _xml_refusal(status: int, code: str, text: str) -> tuple[int, Mapping[str, str], str]:
    error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{text}</Message></Error>"
    body = f'<ErrorResponse xmlns="{_NAMESPACE}">{error}<RequestId>1</RequestId></ErrorResponse>'
    return status, {"Content-Type": "text/xml"}, body
