"""HTTP/1.1 as far as git needs it of a client: a request, and an answer that ends where it says.

Written after RFC 9112. The standard library's client takes the head of an answer for mail, a quarter of
what a poll that brings nothing would cost here. What a server sends is bounded, or ends by the deadline of
the channel.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any, BinaryIO, cast

from attrs import define, field, frozen

from gitopper_plugins.dulwich.channel import Channel
from gitopper_plugins.dulwich.failures import GarbledError, UnusableError
from gitopper_plugins.dulwich.pkt import readable

__all__ = ["Head", "Response", "read_head", "send_request"]

MOST_LINE_BYTES = 64 * 1024
MOST_FIELDS = 100
_BUFFER_BYTES = 64 * 1024
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: (.*))?", re.DOTALL)
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*", re.DOTALL)
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?", re.DOTALL)
_LENGTH = re.compile(r"[0-9]{1,18}")
_TARGET = re.compile(r"[\x21-\x7e]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


def send_request(
    channel: Channel, method: str, target: str, fields: Mapping[str, str], body: bytes | None = None
) -> None:
    """Send a request whose `fields` have all but the length of its body.

    Raises:
        UnusableError: `target` or a value can't be sent: it would be another request.
        OSError: the connection failed; also TimeoutError.
    """
    if not _TARGET.fullmatch(target):
        what = "it has a character that an http address can't have; write it as %20 and the like"
        raise UnusableError(f"{readable(target)}: {what}", retryable=False)
    if not all(map(_VALUE.fullmatch, fields.values())):
        raise UnusableError("the credentials have a character that http can't send", retryable=False)
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    # In one go: the server would be woken up for the head, and again for the body.
    channel.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b""))


@frozen(kw_only=True)
class Head:
    """What stands before the body of an answer."""

    status: int
    reason: str
    fields: Mapping[str, str]
    """By name in lower case; of several of one name, the first."""
    persistent: bool
    """False where the server ends the connection with this answer."""


def read_head(reader: BinaryIO) -> Head:
    """Read the head of an answer; those that only tell of one that will follow are left out.

    Raises:
        GarbledError: it is no answer in HTTP.
        ConnectionError: the server hung up before it began.
        OSError: the connection failed; also TimeoutError.
    """
    while True:
        status = reader.readline(MOST_LINE_BYTES)
        if not status:
            raise ConnectionResetError("the server hung up without an answer")
        found = _STATUS.fullmatch(_whole(status))
        if not found:
            raise GarbledError("it does not answer in HTTP")
        fields = _read_fields(reader)
        minor, code, reason = found.groups()
        if int(code) >= 200:
            break
    words = {word.strip() for word in fields.get("connection", "").lower().split(",")}
    persistent = "close" not in words and (minor == b"1" or "keep-alive" in words)
    text = (reason or b"").decode("latin-1")
    return Head(status=int(code), reason=text, fields=fields, persistent=persistent)


def _read_fields(reader: BinaryIO) -> Mapping[str, str]:
    """Read lines up to an empty one. Also what follows the last chunk of a body."""
    fields: dict[str, str] = {}
    for _ in range(MOST_FIELDS + 1):
        line = _line(reader)
        if not line:
            return fields
        found = _FIELD.fullmatch(line)
        if not found:
            raise GarbledError("the head of its answer is not HTTP")
        name, value = found[1].decode().lower(), found[2].decode("latin-1")
        if name == "content-length" and fields.get(name, value) != value:
            raise GarbledError("it tells of two lengths for one answer")
        fields.setdefault(name, value)
    raise GarbledError(f"the head of its answer has more than {MOST_FIELDS} fields")


def _line(reader: BinaryIO) -> bytes:
    return _whole(reader.readline(MOST_LINE_BYTES))


def _whole(line: bytes) -> bytes:
    if not line.endswith(b"\n"):
        long = len(line) >= MOST_LINE_BYTES
        raise GarbledError("a line of its answer is too long" if long else "the answer is cut short")
    return line[:-1].removesuffix(b"\r")


@define(eq=False)
class Response:
    """An answer: its head, and its body as a stream."""

    head: Head
    body: BinaryIO
    """Ends with the answer; `GarbledError` where that is cut short."""
    persistent: bool
    """True where the connection can be used again once `body` was read to its end."""
    _reader: BinaryIO = field(repr=False)

    @classmethod
    def read(cls, channel: Channel) -> Response:
        """Read the head of an answer.

        Raises:
            GarbledError, OSError: as `read_head`; or nobody can tell where the body ends.
        """
        reader = channel.makefile()
        try:
            head = read_head(reader)
            raw = _body(reader, head)
        except BaseException:
            reader.close()
            raise
        body = cast(BinaryIO, io.BufferedReader(raw, _BUFFER_BYTES))
        return cls(head, body, head.persistent and not isinstance(raw, _Endless), reader)

    def close(self) -> None:
        """Let go of the connection; the body can't be read any more."""
        self._reader.close()


def _body(reader: BinaryIO, head: Head) -> io.RawIOBase:
    coding = head.fields.get("transfer-encoding", "").strip().lower()
    length = head.fields.get("content-length")
    if coding == "chunked":
        return _Chunked(reader)
    if coding:
        raise GarbledError(f"its answer comes in a coding that nobody asked for: {readable(coding)}")
    if head.status in (204, 304):
        return _Sized(reader, 0)
    if length is None:
        return _Endless(reader)
    if not _LENGTH.fullmatch(length):
        raise GarbledError("the length of its answer is no number")
    return _Sized(reader, int(length))


class _Body(io.RawIOBase):
    """A body; `_left` bytes follow in the stream."""

    def __init__(self, reader: BinaryIO) -> None:
        super().__init__()
        self._reader = cast(io.BufferedReader, reader)

    def readable(self) -> bool:
        return True

    def _read_some(self, buffer: Any, most: int) -> int:
        return self._reader.readinto1(memoryview(buffer)[:most])


class _Endless(_Body):
    """It ends with the connection."""

    def readinto(self, buffer: Any) -> int:
        return self._read_some(buffer, len(buffer))


class _Sized(_Body):
    """It has so many bytes."""

    def __init__(self, reader: BinaryIO, size: int) -> None:
        super().__init__(reader)
        self._left = size

    def readinto(self, buffer: Any) -> int:
        if not self._left:
            return 0
        count = self._read_some(buffer, self._left)
        if not count:
            raise GarbledError("the answer is cut short")
        self._left -= count
        return count


class _Chunked(_Body):
    """It comes in chunks, each with its size before it, and one of no size at the end."""

    _left = 0
    _begun = False
    _ended = False

    def readinto(self, buffer: Any) -> int:
        if not self._left and not self._ended:
            self._next()
        if self._ended:
            return 0
        count = self._read_some(buffer, self._left)
        if not count:
            raise GarbledError("the answer is cut short")
        self._left -= count
        return count

    def _next(self) -> None:
        if self._begun and _line(self._reader):
            raise GarbledError("the chunks of its answer are not what they say")
        self._begun = True
        found = _CHUNK.fullmatch(_line(self._reader))
        if not found:
            raise GarbledError("the chunks of its answer are not what they say")
        self._left = int(found[1], 16)
        if not self._left:
            _read_fields(self._reader)
            self._ended = True
