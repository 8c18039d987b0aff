"""Asking AWS about a deployment, through botocore; what goes wrong is told in one line, with what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from infra.cli import CommandError

_TIMEOUT_S: Final = 5
#: Codes by which AWS refuses whoever asks, and not what is asked. Services spell them differently.
_STRANGER: Final = (
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
)


class AwsRefusedError(CommandError):
    """AWS has answered, and not with what was asked for. ``code`` is AWS's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def forbidden(self) -> bool:
        """Whether it is the permission that is missing."""
        return self.code.startswith("AccessDenied")


class Aws:
    """AWS in one region, as whoever the environment says: variables, a profile, single sign-on, an instance."""

    def __init__(self, environ: Mapping[str, str], region: str | None = None) -> None:
        """``region``, else AWS_REGION or AWS_DEFAULT_REGION, else the profile's. Raises CommandError without one."""
        # Here, for it takes a third of a second to load.
        import botocore.session  # noqa: PLC0415
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415

        self._session = botocore.session.Session()
        try:
            told = region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
            self.region = str(told or self._session.get_config_variable("region") or "")
        except BotoCoreError as error:
            raise CommandError(f"no access to AWS: {error}") from None
        if not self.region:
            raise CommandError("no region for AWS: say --region, or set AWS_REGION")
        self._clients: dict[str, Any] = {}

    def ask(self, service: str, operation: str, **parameters: Any) -> Mapping[str, Any]:
        """Carry out an operation, named as botocore names its methods. Raises AwsRefusedError, or CommandError."""
        from botocore import exceptions  # noqa: PLC0415

        try:
            answer: Mapping[str, Any] = getattr(self._client(service), operation)(**parameters)
        except exceptions.ClientError as error:
            raise self._refusal(service, operation, error.response.get("Error", {})) from None
        except exceptions.NoCredentialsError:
            raise CommandError(
                "no credentials for AWS: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE (after aws "
                "sso login, if it signs in so)"
            ) from None
        except (exceptions.ConnectionError, exceptions.HTTPClientError) as error:
            raise CommandError(f"AWS does not answer in {self.region}: {error}") from None
        except exceptions.BotoCoreError as error:
            # Of a profile, or single sign-on, and says what to do.
            raise CommandError(f"no access to AWS: {error}") from None
        return answer

    def _client(self, service: str) -> Any:
        from botocore.config import Config  # noqa: PLC0415

        if service not in self._clients:
            config = Config(connect_timeout=_TIMEOUT_S, read_timeout=_TIMEOUT_S, retries={"total_max_attempts": 2})
            self._clients[service] = self._session.create_client(service, region_name=self.region, config=config)
        return self._clients[service]

    def _refusal(self, service: str, operation: str, told: Mapping[str, Any]) -> AwsRefusedError:
        code = str(told.get("Code", ""))
        if code in _STRANGER:
            why = f"AWS does not take the credentials ({code}): are they current, and is the clock right?"
        elif code.startswith("AccessDenied"):
            action = f"{service}:{''.join(word.capitalize() for word in operation.split('_'))}"
            why = f"the permission {action} is missing: {told.get('Message', code)}"
        else:
            # Of somebody between, it may be a page.
            why = f"AWS: {code}: {' '.join(str(told.get('Message', '')).split())[:200]}"
        return AwsRefusedError(code, why)
