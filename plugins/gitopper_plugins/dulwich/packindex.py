"""Taking in the index of a pack that somebody else made (gitformat-pack(5), version 2)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from gitopper_plugins.dulwich.failures import GarbledError

__all__ = ["write_checked"]

_MAGIC = b"\xfftOc\x00\x00\x00\x02"
_FAN_OUT_END = 8 + 256 * 4
_TRAILER_BYTES = 40
_ROW_BYTES, _LONG_ROW_BYTES = 28, 36
_PIECE_BYTES = 1024 * 1024


def write_checked(pack: Path, pieces: Iterable[bytes]) -> None:
    """Write the index of `pack` beside it, if it is one: of this pack, for as many objects as it has.

    Where in the pack each object is, is not looked at here: whoever reads it sees whether it has its id.

    Raises:
        GarbledError: it is none.
    """
    with pack.open("rb") as file:
        count = int.from_bytes(file.read(12)[8:], "big")
        file.seek(-20, os.SEEK_END)
        trailer = file.read()
    index = pack.with_suffix(".idx")
    size, most = 0, _FAN_OUT_END + count * _LONG_ROW_BYTES + _TRAILER_BYTES
    with index.open("wb") as file:
        for piece in pieces:
            size += len(piece)
            if size > most:
                break
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    least = _FAN_OUT_END + count * _ROW_BYTES + _TRAILER_BYTES
    if not least <= size <= most or not _is_sound(index, count, trailer):
        raise GarbledError("the index of the pack is not sound")


def _is_sound(index: Path, count: int, trailer: bytes) -> bool:
    digest = hashlib.sha1(usedforsecurity=False)
    with index.open("rb") as file:
        head = file.read(_FAN_OUT_END)
        digest.update(head)
        left = os.fstat(file.fileno()).st_size - _FAN_OUT_END - 20
        while left > 0 and (piece := file.read(min(left, _PIECE_BYTES))):
            digest.update(piece)
            left -= len(piece)
        own = file.read()
        file.seek(-_TRAILER_BYTES, os.SEEK_END)
        of_pack = file.read(20)
    fan_out = [int.from_bytes(head[at : at + 4], "big") for at in range(8, _FAN_OUT_END, 4)]
    return (
        head[:8] == _MAGIC
        and fan_out == sorted(fan_out)
        and fan_out[-1] == count
        and of_pack == trailer
        and own == digest.digest()
    )
