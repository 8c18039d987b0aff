"""The artifacts: what AWS Lambda unpacks to ``/var/task``, one for each function, with only what it imports.

    build(Function.WEBHOOK, Path("tree"), Target.LAMBDA)
    pack(Path("tree"), Path("webhook.zip"))

`build` lays out our own modules that the function reaches, and the distributions that those need, at the versions and
with the hashes of ``requirements.txt``. What it needs is ``uv`` and the standard library.
"""

from infra.packaging.archive import pack
from infra.packaging.build import DEPLOYED, build
from infra.packaging.errors import PackagingError
from infra.packaging.target import Target

__all__ = ["DEPLOYED", "PackagingError", "Target", "build", "pack"]
