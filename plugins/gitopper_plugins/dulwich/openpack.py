"""A pack of which objects are read: where each is, how large, and what it holds."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

from attrs import frozen
from dulwich.objects import ObjectID, RawObjectID, hex_to_sha
from dulwich.pack import Pack, apply_delta

from gitopper_plugins.dulwich.packentry import Link, chain, unpacked

__all__ = ["OpenPack"]


@frozen(eq=False)
class OpenPack:
    """A pack with a descriptor of its own: opening it for each object would cost as much as reading it."""

    pack: Pack
    descriptor: int

    @classmethod
    def of(cls, pack: Pack) -> OpenPack:
        """Open `pack`.

        Raises:
            FileNotFoundError: it is gone.
        """
        return cls(pack, os.open(pack.data.path, os.O_RDONLY | os.O_CLOEXEC))

    @classmethod
    @contextlib.contextmanager
    def reading(cls, pack: Pack) -> Iterator[OpenPack]:
        """Have `pack` open for the time of the block."""
        opened = cls.of(pack)
        try:
            yield opened
        finally:
            opened.close()

    def close(self) -> None:
        """Let go of the descriptor; the pack stays open as it was."""
        os.close(self.descriptor)

    def links(self, offset: int) -> Sequence[Link]:
        """The entries that it takes to read the one at `offset`: that one first.

        Raises:
            DamagedError: the pack is not sound.
        """
        return chain(self.descriptor, offset, lambda base: self.pack.index.object_offset(RawObjectID(base)))

    def size(self, oid: ObjectID) -> int:
        """How many bytes an object has, without reading it.

        Raises:
            DamagedError: the pack is not sound.
            KeyError: it does not have the object.
        """
        return self.links(self.pack.index.object_offset(hex_to_sha(oid)))[0].size

    def resolved(self, links: Sequence[Link]) -> bytes:
        """Read the base, and apply the deltas: never more than one of them is in memory.

        Raises:
            DamagedError, zlib.error: the pack is not sound.
        """
        *deltas, base = links
        data = unpacked(self.descriptor, base)
        for delta in reversed(deltas):
            data = b"".join(apply_delta(data, unpacked(self.descriptor, delta)))
        return data
