"""A server of git:// (protocol 2) that answers whatever it is told, sound or not."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import BinaryIO

from attrs import define, field

__all__ = ["FLUSH", "Answers", "pkt", "raw_server", "sent_as_pack"]

FLUSH = b"0000"
HOST = "127.0.0.1"


def pkt(data: bytes) -> bytes:
    """One packet."""
    return b"%04x" % (len(data) + 4) + data


def sent_as_pack(pack: bytes) -> bytes:
    """The answer to ``fetch`` that brings `pack`."""
    pieces = [pkt(b"\x01" + pack[at : at + 60_000]) for at in range(0, len(pack), 60_000)]
    return pkt(b"packfile\n") + b"".join(pieces) + FLUSH


@define(eq=False)
class Answers:
    """What the server says; may change while it runs."""

    refs: Mapping[bytes, str] = field(factory=dict)
    """Full name to id."""
    pack: Callable[[Sequence[str]], bytes] = lambda _: b""
    """Takes the ids that are wanted."""
    filters: bool = False
    """Whether it says that it can leave out blobs."""
    greeting: bytes | None = None
    ls_refs: bytes | None = None
    fetch: bytes | Iterator[bytes] | None = None
    """These three are sent as they are, where they are set."""
    asked: list[str] = field(factory=list)
    """The commands that came."""
    wanted: list[str] = field(factory=list)
    patience_seconds: float = 30.0
    """How long it waits for a request before it hangs up."""
    port: int = 0

    @property
    def url(self) -> str:
        """Where it is."""
        return f"git://{HOST}:{self.port}/fleet.git"

    def sound(self) -> None:
        """Be honest again."""
        self.greeting = self.ls_refs = self.fetch = None


@contextlib.contextmanager
def raw_server() -> Iterator[Answers]:
    """Serve on loopback until the block ends."""
    answers = Answers()
    with socket.create_server((HOST, 0)) as listener:
        answers.port = listener.getsockname()[1]
        thread = threading.Thread(target=_accept, args=(listener, answers))
        thread.start()
        try:
            yield answers
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _accept(listener: socket.socket, answers: Answers) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        # A client that hangs up in the middle is what many tests are about.
        with client, client.makefile("rb") as stream, contextlib.suppress(OSError, ValueError):
            client.settimeout(answers.patience_seconds)
            _serve(client, stream, answers)


def _serve(client: socket.socket, stream: BinaryIO, answers: Answers) -> None:
    _packet(stream)
    fetch = b"fetch=filter\n" if answers.filters else b"fetch\n"
    capabilities = (b"version 2\n", b"ls-refs\n", fetch, b"object-format=sha1\n")
    client.sendall(answers.greeting or b"".join(map(pkt, capabilities)) + FLUSH)
    while request := _request(stream):
        command = request[0].strip()
        answers.asked.append(command.decode())
        for piece in _answer(command, request, answers):
            client.sendall(piece)


def _answer(command: bytes, request: Sequence[bytes], answers: Answers) -> Iterator[bytes]:
    if command == b"command=ls-refs":
        lines = (pkt(oid.encode() + b" " + name + b"\n") for name, oid in answers.refs.items())
        yield answers.ls_refs or b"".join(lines) + FLUSH
        return
    wants = [line[5:].strip().decode() for line in request if line.startswith(b"want ")]
    answers.wanted += wants
    if not any(line.startswith(b"done") for line in request):
        yield pkt(b"acknowledgments\n") + pkt(b"ready\n") + b"0001"
    if answers.fetch is None:
        yield sent_as_pack(answers.pack(wants))
    elif isinstance(answers.fetch, bytes):
        yield answers.fetch
    else:
        yield from answers.fetch


def _request(stream: BinaryIO) -> list[bytes]:
    """The lines up to the flush; none when the client said goodbye."""
    lines = []
    while (line := _packet(stream)) is not None:
        lines.append(line)
    return lines


def _packet(stream: BinaryIO) -> bytes | None:
    size = int(stream.read(4) or b"0", 16)
    if size == 1:
        return b""
    return stream.read(size - 4) if size else None
