"""A pack that is cut, or has a bit flipped, at each of its bytes; and an answer of a server likewise.

Once as it is, when its checksum tells; and once with a checksum that is right again, as whoever makes a
pack on purpose would have it. Where it is deployed all the same, then because it brings the very files.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from attrs import frozen

from tests.proof.hostilefuzz import Input
from tests.proof.hostileground import Ground, Repository
from tests.support import rawpack as raw
from tests.support.rawserver import sent_as_pack

__all__ = ["Damaged", "byte_cases"]

HARMLESS = ("flipped, sealed", "answer cut", "answer flipped")
"""What may have been harmless, as the change of a bit that nobody reads."""


@frozen
class Damaged:
    """One commit, and how the pack that brings it is damaged."""

    number: int
    """Another commit for each."""
    how: str
    at: int

    @property
    def name(self) -> str:
        """What is done to it."""
        return f"{self.how} at {self.at}"

    def on(self, here: Ground) -> None:
        """See `Trial`."""
        data = b"%06d" % self.number * 20
        outcome = self._input(*_sound(data)).outcome(here)
        harmless = self.how in HARMLESS
        here.expect(bool(outcome.reason) or harmless, "it is deployed, and is not what was sent")
        if outcome.deployed:
            right = (outcome.deployed.path / "web/it").read_bytes() == data
            here.expect(right, "other files are deployed than the commit has")

    def _input(self, tip: str, pack: bytes) -> Input:
        answer, at = sent_as_pack(pack), self.at
        match self.how:
            case "cut":
                return Input("pack", tip, pack[:at])
            case "flipped":
                return Input("pack", tip, _flipped(pack, at))
            case "cut, sealed":
                return Input("pack", tip, raw.sealed(pack[: min(at, len(pack) - 21)]))
            case "flipped, sealed":
                return Input("pack", tip, raw.sealed(_flipped(pack[:-20], at)))
            case "answer cut":
                return Input("answer", tip, answer[:at])
            case _:
                return Input("answer", tip, _flipped(answer, at))


def byte_cases() -> Iterator[Damaged]:
    """Each byte."""
    _, pack = _sound(b"%06d" % 0 * 20)
    lengths = dict.fromkeys(("cut", "flipped"), len(pack))
    lengths |= dict.fromkeys(("cut, sealed", "flipped, sealed"), len(pack) - 20)
    lengths |= dict.fromkeys(("answer cut", "answer flipped"), len(sent_as_pack(pack)))
    number = itertools.count(1)
    for how, length in lengths.items():
        for at in range(length):
            yield Damaged(next(number), how, at)


def _flipped(data: bytes, at: int) -> bytes:
    at %= len(data)
    return data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]


def _sound(data: bytes) -> tuple[str, bytes]:
    """A commit with the file `data`, and the pack that brings it: whole objects, both kinds of delta."""
    base = data[:100] + b"base"
    change = raw.delta(len(base), len(data), raw.copy(0, 100), raw.insert(data[100:]))
    first = raw.whole(raw.BLOB, base)
    it = Repository([first, raw.ofs_delta(len(first), change)])
    other = raw.delta(len(base), len(base) + 1, raw.copy(0, len(base)), raw.insert(b"s"))
    it.entries.append(raw.ref_delta(raw.object_id(raw.BLOB, base), other))
    file, more = raw.object_id(raw.BLOB, data), raw.object_id(raw.BLOB, base + b"s")
    tip = it.of_web(it.tree(("100644", b"it", file), ("100644", b"more", more)))
    return tip, it.pack()
