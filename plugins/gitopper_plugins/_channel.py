"""Connections on which every operation ends by a deadline, however slowly the other side drips."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import queue
import select
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, Literal, TypeAlias, cast

from attrs import define, frozen

__all__ = ["Channel", "Deadline", "dial", "reason"]

AddressInfo: TypeAlias = tuple[Any, ...]
"""As `socket.getaddrinfo` has it."""


@frozen
class Deadline:
    """A moment by which something must be done."""

    at: float
    """On the monotonic clock."""

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """The moment that is `seconds` from now."""
        return cls(time.monotonic() + seconds)

    def remaining(self) -> float:
        """Seconds that are left, more than 0.

        Raises:
            TimeoutError: none are.
        """
        left = self.at - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


def dial(host: str, port: int, deadline: Deadline) -> socket.socket:
    """Connect to the first address of `host` that answers; each gets its share of the time.

    Raises:
        OSError: none does; also TimeoutError.
    """
    addresses = _look_up(host, port, deadline)
    failure: OSError | None = None
    for left, (family, kind, proto, _, address) in zip(
        range(len(addresses), 0, -1), addresses, strict=True
    ):
        try:
            return _connected(socket.socket(family, kind, proto), address, deadline.remaining() / left)
        except OSError as exc:
            # An address that can't even be tried here tells nothing of the other side.
            if failure is None or exc.errno != errno.EAFNOSUPPORT:
                failure = exc
    raise failure or OSError(f"{host} has no address")


def _connected(sock: socket.socket, address: Any, seconds: float) -> socket.socket:
    try:
        sock.settimeout(seconds)
        sock.connect(address)
        _refuse_ourselves(sock)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock


def reason(error: Exception, seconds: float) -> str:
    """Return in a few words why nothing came of a connection that had `seconds`."""
    if isinstance(error, TimeoutError):
        return f"no answer within {seconds:.1f}s"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def _look_up(host: str, port: int, deadline: Deadline) -> Sequence[AddressInfo]:
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass  # a name: to be asked for
    answers: queue.SimpleQueue[Sequence[AddressInfo] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as exc:
            answers.put(exc)

    # The resolver has deadlines of its own, and they are long: when ours is over, it is left alone with it.
    try:
        threading.Thread(target=ask, name=f"look up {host}", daemon=True).start()
    except RuntimeError as exc:  # this host has no more threads to give
        raise OSError(errno.EAGAIN, f"the name {host} can't be looked up: {exc}") from exc
    try:
        answer = answers.get(timeout=deadline.remaining())
    except queue.Empty:
        raise TimeoutError(f"the name {host} was not looked up in time") from None
    if isinstance(answer, OSError):
        raise answer
    return answer


def _refuse_ourselves(sock: socket.socket) -> None:
    """Refuse a connection that met itself: on loopback the kernel may pick that very port as its source."""
    if sock.getsockname() == sock.getpeername():
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))


@define(eq=False)
class Channel:
    """A connected socket with a deadline that moves on with each exchange.

    It has just what `http.client` asks of a socket, so that it can stand in for one.
    """

    sock: socket.socket
    deadline: Deadline
    _held: bytearray | None = None
    _beyond: bool = False
    """More came than a reader was read for: what comes next is no answer to what is asked next."""

    def sendall(self, data: Any) -> None:
        """Send all of `data`."""
        if self._held is not None:
            self._held += data
            return
        self.sock.settimeout(self.deadline.remaining())
        self.sock.sendall(data)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Send what is sent within the block at its end, in one piece: the other side wakes up once."""
        self._held = held = bytearray()
        try:
            yield
        finally:
            self._held = None
        self.sendall(held)

    def makefile(self, mode: Literal["rb"] = "rb", _buffering: int = -1) -> BinaryIO:
        """A buffered reader; the socket stays open until this, too, is closed."""
        raw = cast(io.RawIOBase, self.sock.makefile(mode, buffering=0))
        return _Reader(_BoundedReader(self, raw), 64 * 1024)

    def close(self) -> None:
        """Close; readers that are open may still read what came."""
        self.sock.close()

    def wait(self) -> None:
        """Wait until the other side sends something or hangs up, however long that takes."""
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        poll.poll()

    def idle(self) -> bool:
        """True when the other side neither sent anything unasked nor hung up."""
        poll = select.poll()
        poll.register(self.sock, select.POLLIN | select.POLLHUP | select.POLLERR)
        return not self._beyond and not poll.poll(0)

    def note_beyond(self) -> None:
        """Note that something came which nobody has read, and nobody will."""
        self._beyond = True


class _BoundedReader(io.RawIOBase):
    def __init__(self, channel: Channel, raw: io.RawIOBase) -> None:
        super().__init__()
        self.channel = channel
        self.over = False
        """True: it is at its end, whatever comes."""
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self.over:
            return 0
        self.channel.sock.settimeout(self.channel.deadline.remaining())
        return cast("int | None", self._raw.readinto(buffer))

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Reader(io.BufferedReader):
    """Takes more from the connection than it is asked for, and tells at its end if there was more."""

    raw: _BoundedReader

    def close(self) -> None:
        if not self.closed:
            self.raw.over = True
            if self.peek(1):
                self.raw.channel.note_beyond()
        super().close()
