"""How the daemon and its fetcher talk: frames on a socket, and failures as values.

A frame is a letter, a length, and so many bytes: ``J`` a JSON object, ``D`` data, ``E`` a failure, ``Z``
the end of an answer. Either side takes frames of bounded size only, and the daemon believes nothing of what
is in them: whoever took over the fetcher may send anything.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

from attrs import define, field

from gitopper_plugins.dulwich.channel import Channel
from gitopper_plugins.dulwich.failures import (
    DeniedError,
    GarbledError,
    RefusedError,
    UnusableError,
    cut_short,
)

__all__ = ["Conversation", "GoneError", "failure_of", "told"]

_HEAD = struct.Struct("!cI")
MOST_BYTES = 16 * 1024 * 1024
"""Of one frame: the ids of the files of a first checkout are a few megabytes."""
PIECE_BYTES = 64 * 1024
_WORDS = 2000


class GoneError(Exception):
    """The other side has ended, or says what makes no sense."""


@define(eq=False)
class Conversation:
    """One end of it."""

    channel: Channel
    _reader: BinaryIO = field(init=False)
    _later: bytes = b""

    def __attrs_post_init__(self) -> None:
        self._reader = self.channel.makefile("rb")

    def close(self) -> None:
        """End it; the other side meets the end of the stream."""
        self._reader.close()
        self.channel.close()

    def tell(self, **message: Any) -> None:
        """Send a message."""
        self._send(b"J", json.dumps(message).encode())

    def tell_later(self, **message: Any) -> None:
        """Send a message together with what is sent next: whoever hears it is woken up once for both."""
        content = json.dumps(message).encode()
        self._later += _HEAD.pack(b"J", len(content)) + content

    def give(self, piece: bytes | memoryview) -> None:
        """Send a piece of data."""
        self._send(b"D", piece)

    def end(self) -> None:
        """Send word that this was all."""
        self._send(b"Z", b"")

    def fail(self, failure: BaseException) -> None:
        """Send what went wrong."""
        self._send(b"E", json.dumps(told(failure)).encode())

    def _send(self, kind: bytes, content: bytes | memoryview) -> None:
        head, self._later = self._later + _HEAD.pack(kind, len(content)), b""
        try:
            with _ours():
                if len(content) < PIECE_BYTES:
                    self.channel.sendall(head + bytes(content))
                else:
                    self.channel.sendall(head)
                    self.channel.sendall(content)
        except GoneError:
            # Who failed says why, and hangs up: perhaps before it was asked for more.
            for _ in self.listen():
                pass
            raise

    @property
    def silent(self) -> bool:
        """True when the other side neither hung up nor says anything now."""
        return self.channel.idle()

    def hear(self) -> dict[str, Any]:
        """Wait for a message.

        Raises:
            GoneError: none comes.
            Exception: the other side failed, with this.
        """
        frame = self._frame()
        if not isinstance(frame, dict):
            raise GoneError("it gives no answer")
        return frame

    def listen(self) -> Iterator[bytes | dict[str, Any]]:
        """Yield pieces of data, and messages that come between them, until the end of the answer.

        Raises:
            GoneError: it breaks off.
            Exception: the other side failed, with this.
        """
        while (frame := self._frame()) is not None:
            yield frame

    def _frame(self) -> bytes | dict[str, Any] | None:
        kind, size = _HEAD.unpack(self._exactly(_HEAD.size))
        if size > MOST_BYTES:
            raise GoneError("it sends too much at a time")
        content = self._exactly(size)
        if kind == b"D":
            return content
        if kind == b"Z":
            return None
        message = _message(content)
        if kind == b"E":
            raise failure_of(message)
        return message

    def _exactly(self, size: int) -> bytes:
        with _ours():
            content = self._reader.read(size)
        if len(content) < size:
            raise GoneError("it has ended")
        return content


@contextlib.contextmanager
def _ours() -> Iterator[None]:
    """Tell a failure of this very connection from one of a connection that is spoken of."""
    try:
        yield
    except ConnectionError as exc:
        raise GoneError("it has ended") from exc


def _message(content: bytes) -> dict[str, Any]:
    try:
        message = json.loads(content)
    except (ValueError, RecursionError) as exc:
        raise GoneError("it makes no sense") from exc
    if not isinstance(message, dict):
        raise GoneError("it makes no sense")
    return message


_KINDS: dict[str, type[Exception]] = {
    "timeout": TimeoutError,
    "refused": RefusedError,
    "garbled": GarbledError,
    "denied": DeniedError,
    "unusable": UnusableError,
}


def told(failure: BaseException) -> dict[str, Any]:
    """A failure as it is sent."""
    if isinstance(failure, http.client.HTTPException):
        return {"kind": "garbled", "text": cut_short(failure)}
    retryable = getattr(failure, "retryable", True)
    for name, kind in reversed(_KINDS.items()):
        if type(failure) is kind or (name == "timeout" and isinstance(failure, kind)):
            return {"kind": name, "text": str(failure), "retryable": retryable}
    if isinstance(failure, OSError):
        return {"kind": "os", "text": failure.strerror or str(failure), "number": failure.errno or 0}
    text = f"{type(failure).__name__}: {failure}" if str(failure) else type(failure).__name__
    return {"kind": "other", "text": text, "retryable": retryable}


def failure_of(message: dict[str, Any]) -> Exception:
    """The failure that was sent; with words fit for a log, whoever chose them."""
    text, retryable = str(message.get("text", ""))[:_WORDS], message.get("retryable") is not False
    text = "".join(character if character.isprintable() else " " for character in text)
    number = message.get("number")
    match message.get("kind"):
        case "timeout":
            return TimeoutError(text)
        case "refused":
            return RefusedError(text)
        case "garbled":
            return GarbledError(text)
        case "denied":
            return DeniedError(text, retryable=retryable)
        case "unusable":
            return UnusableError(text, retryable=retryable)
        case "os":
            return OSError(number if isinstance(number, int) else 0, text)
    return GoneError(text)
