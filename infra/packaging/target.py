"""What an artifact is to run on."""

from __future__ import annotations

import sys
from enum import Enum

#: The runtime of the functions, and its Python.
LAMBDA_RUNTIME = "python3.14"
_LAMBDA_PYTHON = LAMBDA_RUNTIME.removeprefix("python")
# Amazon Linux 2023 has glibc 2.34; what is built for an older one runs there, and in any current container image.
_LAMBDA_PLATFORM = "aarch64-manylinux_2_28"


class Target(Enum):
    """A platform and its Python."""

    #: AWS Lambda on arm64.
    LAMBDA = "lambda"
    #: This machine and the Python that runs here: for tests, and for images that are built here.
    HOST = "host"

    @property
    def python(self) -> str:
        """The version of its Python, as ``3.14``."""
        return _LAMBDA_PYTHON if self is Target.LAMBDA else ".".join(map(str, sys.version_info[:2]))

    def options(self) -> list[str]:
        """Return what makes ``uv pip install`` choose the wheels for it."""
        if self is Target.HOST:
            return ["--python", sys.executable]
        # Which Python runs uv is of no account then; it wants to have one all the same.
        platform = ["--python-platform", _LAMBDA_PLATFORM, "--python-version", _LAMBDA_PYTHON]
        return ["--python", sys.executable, *platform]
