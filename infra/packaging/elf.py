"""Compiled modules without what only debuggers read: most of uvloop's wheel is that.

What a loader needs of a file are its segments ("System V Application Binary Interface", program loading). Sections
with names and for debuggers lie behind them, and a table at the end says where: both go.
"""

from __future__ import annotations

import struct
from pathlib import Path

_MAGIC = b"\x7fELF"
_64_BIT_LITTLE_ENDIAN = b"\x02\x01"
_E_PHOFF, _E_SHOFF, _E_PHENTSIZE, _E_SHENTSIZE = 32, 40, 54, 58
_P_OFFSET, _P_FILESZ = 8, 32


def slim(file: Path) -> None:
    """Cut a file that Linux loads on arm64 or x86-64 behind its last segment; leave any other as it is."""
    data = bytearray(file.read_bytes())
    if not data.startswith(_MAGIC + _64_BIT_LITTLE_ENDIAN):
        return
    (first,) = struct.unpack_from("<Q", data, _E_PHOFF)
    size, count = struct.unpack_from("<HH", data, _E_PHENTSIZE)
    headers = [first + size * n for n in range(count)]
    ends = [
        struct.unpack_from("<Q", data, header + _P_OFFSET)[0] + struct.unpack_from("<Q", data, header + _P_FILESZ)[0]
        for header in headers
    ]
    struct.pack_into("<Q", data, _E_SHOFF, 0)
    # As many sections of any size as there are now, and the number of the one with their names: none.
    struct.pack_into("<HHH", data, _E_SHENTSIZE, 0, 0, 0)
    file.write_bytes(data[: max([first + size * count, *ends])])
