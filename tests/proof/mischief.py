"""A network that does not do what it should: a relay before a server, which spoils what comes back."""

from __future__ import annotations

import contextlib
import enum
import socket
import struct
import threading
import time
from collections.abc import Iterator

from attrs import define, field

__all__ = ["Mischief", "Relay", "relay"]

HOST = "127.0.0.1"


class Mischief(enum.Enum):
    """What is done to an answer."""

    NONE = "none"
    SLOW = "slow"
    """From some byte on, one byte comes at a time, and a deadline is not reset by it."""
    STALLED = "stalled"
    """From some byte on, nothing comes, and nobody hangs up."""
    CUT = "cut"
    """After some bytes, the connection is reset."""
    TRUNCATED = "truncated"
    """After some bytes, the connection ends as connections do."""
    GARBLED = "garbled"
    """From some byte on, every bit is turned round."""
    ENDLESS = "endless"
    """From some byte on, what came last comes again and again."""


@define(eq=False)
class Relay:
    """What may be changed while it runs; it holds for all that comes back from then on."""

    target: int
    port: int = 0
    mischief: Mischief = Mischief.NONE
    after_bytes: int = 0
    over: threading.Event = field(factory=threading.Event)

    def serve(self, listener: socket.socket) -> None:
        """Take connections until the listener is closed."""
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._attend, args=(client,), daemon=True).start()

    def _attend(self, client: socket.socket) -> None:
        mischief, left = self.mischief, self.after_bytes
        with (
            client,
            contextlib.suppress(OSError),
            socket.create_connection((HOST, self.target), 10) as server,
        ):
            up = threading.Thread(target=_copy, args=(client, server), daemon=True)
            up.start()
            while data := server.recv(65536):
                mischief = self.mischief
                if mischief is Mischief.NONE:
                    client.sendall(data)
                    continue
                whole, rest = data[:left], data[left:]
                client.sendall(whole)
                left -= len(whole)
                if rest and not self._spoil(client, mischief, rest):
                    break
            # Of a connection that is cut nothing is said: it is reset as soon as nobody reads from it.
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RD if mischief is Mischief.CUT else socket.SHUT_RDWR)
            up.join(5)

    def _spoil(self, client: socket.socket, mischief: Mischief, rest: bytes) -> bool:
        """Do to `rest` what is to be done; False where nothing may follow."""
        match mischief:
            case Mischief.GARBLED:
                client.sendall(bytes(byte ^ 0xFF for byte in rest))
            case Mischief.SLOW:
                self._drip(client, rest)
            case Mischief.ENDLESS:
                while not self.over.is_set():
                    client.sendall(rest)
                    time.sleep(0.001)
            case Mischief.STALLED:
                self.over.wait()
            case Mischief.CUT:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return mischief is Mischief.GARBLED

    def _drip(self, client: socket.socket, data: bytes) -> None:
        for byte in data:
            client.sendall(bytes([byte]))
            if self.over.wait(0.05):
                break


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def relay(target: int) -> Iterator[Relay]:
    """A relay before the server at port `target` of this host."""
    made = Relay(target)
    with socket.create_server((HOST, 0)) as listener:
        made.port = listener.getsockname()[1]
        thread = threading.Thread(target=made.serve, args=(listener,))
        thread.start()
        try:
            yield made
        finally:
            made.over.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
