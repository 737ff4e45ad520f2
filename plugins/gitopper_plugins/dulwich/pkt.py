"""Packet lines, the framing of git's protocol (gitprotocol-common(5), gitprotocol-v2(5))."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import BinaryIO

from gitopper_plugins.dulwich.failures import GarbledError, RefusedError

__all__ = [
    "GarbledError",
    "Mark",
    "RefusedError",
    "framed",
    "read_packet",
    "readable",
    "sideband",
    "visible",
]


_MAX_WORDS = 400


def readable(said: bytes | str) -> str:
    """What a server said, fit for a log and a terminal: no control characters, and not without end."""
    text = said.decode(errors="replace") if isinstance(said, bytes) else said
    return "".join(c if c.isprintable() else " " for c in text.strip()[:_MAX_WORDS])


def visible(name: bytes) -> str:
    r"""A name from a repository, whole, fit for a log and a terminal: ESC becomes ``\x1b``."""
    text = name.decode(errors="backslashreplace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Mark(enum.Enum):
    """The packets that carry no data."""

    FLUSH = b"0000"
    DELIM = b"0001"
    END = b"0002"


_MARKS = {mark.value: mark for mark in Mark}
_MAX_PACKET_BYTES = 65520


def framed(*packets: bytes | Mark) -> bytes:
    """The packets as they go over the wire."""
    return b"".join(p.value if isinstance(p, Mark) else b"%04x%b" % (len(p) + 4, p) for p in packets)


def read_packet(stream: BinaryIO) -> bytes | Mark:
    """The next packet, without its length; text still ends with its newline.

    Raises:
        GarbledError: the stream ends here, or this is no packet.
        RefusedError: it is the server's ``ERR``.
    """
    head = stream.read(4)
    if mark := _MARKS.get(head):
        return mark
    size = _length(head) - 4
    data = stream.read(size)
    if len(data) != size:
        raise GarbledError("the answer ends in the middle")
    if data.startswith(b"ERR "):
        raise RefusedError(readable(data[4:]))
    return data


def _length(head: bytes) -> int:
    if len(head) != 4:
        raise GarbledError("the connection ended before the answer was complete")
    # int() alone would take "+123" and " 12 ", and a negative length with them.
    if not all(digit in b"0123456789abcdefABCDEF" for digit in head):
        raise GarbledError("the answer is not git's protocol")
    size = int(head, 16)
    if not 4 <= size <= _MAX_PACKET_BYTES:
        raise GarbledError("the answer is not git's protocol")
    return size


def sideband(stream: BinaryIO, first: bytes | Mark | None = None) -> Iterator[bytes]:
    """The data of a multiplexed answer, up to its flush; progress is dropped.

    `first` is a packet that was already read.

    Raises:
        GarbledError: it ends early.
        RefusedError: the server reports a failure.
    """
    packet = read_packet(stream) if first is None else first
    while packet is not Mark.FLUSH:
        if isinstance(packet, Mark) or not packet or packet[0] not in (1, 2, 3):
            raise GarbledError("the answer is not git's protocol")
        if packet[0] == 3:
            raise RefusedError(readable(packet[1:]))
        if packet[0] == 1:
            yield packet[1:]
        packet = read_packet(stream)
