"""The fetcher: reads what upstreams send, as an account that can do nothing else. Run by `fetcher`.

``python -I -m gitopper_plugins.dulwich.unprivileged ACCOUNT MEMORY [programs]``, with a socket as its
standard input: over it come sockets, one for each conversation, held in a thread of its own. It begins as
root to give that up, before it hears anything. It ends when that socket does, and all that it runs with it.

What is imported here stays in memory for as long as the daemon runs, so it is little. And all that it will
ever need it has to import at once: the account may not be able to read where Python is installed.
"""

# ruff: noqa: PTH102, PTH108, PTH123, PTH208 - names and descriptors of the moment

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from attrs import define, field

from gitopper_plugins.dulwich import indexing, sandbox
from gitopper_plugins.dulwich.access import Access
from gitopper_plugins.dulwich.channel import Channel, Deadline
from gitopper_plugins.dulwich.failures import GarbledError, UnusableError
from gitopper_plugins.dulwich.frames import PIECE_BYTES, Conversation, GoneError
from gitopper_plugins.dulwich.protocol import Haves, Session, ls_refs, pack_of
from gitopper_plugins.dulwich.transport import Transport
from gitopper_plugins.dulwich.ways import transport_for

__all__ = ["Servant"]

STACK_BYTES = 512 * 1024
LEISURE_SECONDS = 3600.0
"""How long the daemon may take for something, as writing to a disk that is busy."""


@define(eq=False)
class Servant:
    """Answers the daemon."""

    _transports: dict[str, Transport] = field(factory=dict)
    _lock: threading.Lock = field(factory=threading.Lock)

    def converse(self, descriptors: list[int]) -> None:
        """Hold conversations over the first of `descriptors`, about the file that is the second.

        They follow each other until the daemon hangs up, or one of them fails: making the way anew for each
        poll costs as much as the poll.
        """
        sock, *files = descriptors
        line = Conversation(Channel(socket.socket(fileno=sock), Deadline.after(LEISURE_SECONDS)))
        with contextlib.ExitStack() as stack:
            stack.callback(line.close)
            opened = [stack.enter_context(os.fdopen(file, "rb")) for file in files]
            try:
                while True:
                    line.channel.wait()
                    line.channel.deadline = Deadline.after(LEISURE_SECONDS)
                    self._answer(line, opened)
            except GoneError:
                pass  # the daemon has no interest any more
            except Exception as exc:  # noqa: BLE001 - the daemon is told, whatever it is
                if type(exc).__module__ == "builtins" and not isinstance(exc, OSError):
                    traceback.print_exc()  # a mistake of ours; the daemon shows it when we end
                with contextlib.suppress(GoneError, OSError):
                    line.fail(exc)

    def _answer(self, line: Conversation, files: Sequence[BinaryIO]) -> None:
        asked = line.hear()
        if asked["do"] == "index":
            _index(line, files[0], asked)
            return
        deadline = Deadline.after(asked["seconds"])
        with (
            _access(asked) as access,
            self._transport(asked["upstream"]).session(access, deadline) as session,
        ):
            while (asked := line.hear())["do"] != "end":
                if _is_last(line, session, asked):
                    break
        line.end()

    def _transport(self, upstream: str) -> Transport:
        with self._lock:
            if upstream not in self._transports:
                transport = transport_for(upstream)
                if transport is None:
                    raise UnusableError(f"{upstream}: there is no way to it", retryable=False)
                self._transports[upstream] = transport
            return self._transports[upstream]


@contextlib.contextmanager
def _access(asked: dict[str, Any]) -> Iterator[Access]:
    """What is to be shown; keys become files for ssh to read, until the block ends."""
    files = {name: asked[name] for name in ("ssh_key", "known_hosts") if asked.get(name)}
    directory = f"{sandbox.HOME}/{os.urandom(8).hex()}"
    paths = {}
    with contextlib.ExitStack() as stack:
        if files:
            os.mkdir(directory, 0o700)
            stack.callback(os.rmdir, directory)
        for name, text in files.items():
            paths[name] = path = f"{directory}/{name}"
            # The bytes that the daemon read, whatever they are: a comment may be in another encoding.
            with open(path, "x", opener=_opener, encoding="utf-8", errors="surrogateescape") as file:
                stack.callback(os.unlink, path)
                file.write(text)
        yield Access(authorization=asked.get("authorization"), user=asked.get("user"), **paths)


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _is_last(line: Conversation, session: Session, asked: dict[str, Any]) -> bool:
    """Answer one question; True where the answer is the last one, and ends with the conversation."""
    if asked["do"] == "offer":
        tips = ls_refs(session, asked["branches"])
        found = {branch: oid.decode() for branch, oid in tips.items()}
        over: bool = found == asked["known"]
        tell = line.tell_later if over else line.tell
        tell(tips=found, filters=session.advertisement.filters, over=over)
        return over

    def far() -> list[Any]:
        line.tell(need="far")
        return _ids(line.hear()["haves"])

    haves = Haves(near=_ids(asked["haves"]), far=far)
    for chunk in pack_of(session, _ids(asked["wants"]), haves, without=asked["without"]):
        line.give(chunk)
    if not asked["last"]:
        line.end()
    return bool(asked["last"])


def _ids(text: str) -> list[Any]:
    return [one.encode() for one in text.split()]


def _index(line: Conversation, pack: BinaryIO, asked: dict[str, Any]) -> None:
    """Answer with the index of a pack; or, when it is large, that another one should do it."""
    target = f"{sandbox.HOME}/{os.urandom(8).hex()}.idx"
    own = f"/proc/self/fd/{pack.fileno()}"
    try:
        if not asked["alone"] and not indexing.is_light(pack):
            line.tell(heavy=True)
            return
        if asked["alone"] and (argv := indexing.by_git("/proc/self/fd/0", target)):
            indexing.run_indexer(argv, asked["memory"], asked["seconds"], pack, limited=True)
        else:
            try:
                indexing.index_pack(own, target)
            except MemoryError:
                why = indexing.too_little(asked["memory"])
                raise GarbledError(f"the pack can't be indexed: {why}") from None
        with open(target, "rb") as file:
            while piece := file.read(PIECE_BYTES):
                line.give(piece)
        line.end()
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(target)


def main() -> None:
    """Give up all rights, and serve."""
    account, memory, *programs = sys.argv[1:]
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir("/")
    control = socket.socket(fileno=os.dup(0))
    _preload(bool(programs))
    try:
        missing = sandbox.enter(account, sandbox.Bounds(memory_bytes=int(memory)))
    except (sandbox.SandboxError, OSError) as exc:
        control.send(json.dumps({"refused": str(exc)}).encode())
        return
    os.environ["HOME"] = sandbox.HOME
    signal.signal(signal.SIGTERM, lambda *_: _leave())
    threading.stack_size(STACK_BYTES)
    control.send(json.dumps({"missing": missing}).encode())
    servant = Servant()
    while True:
        said, descriptors, _, _ = socket.recv_fds(control, 1, 2)
        if not said:
            _leave()
        threading.Thread(target=servant.converse, args=(descriptors,), daemon=True).start()


def _preload(programs: bool) -> None:
    """Import what others import only when they need it."""
    modules = [
        "array",
        "encodings.ascii",
        "encodings.idna",
        "encodings.latin_1",
        "encodings.unicode_escape",
    ]
    if programs:
        modules.append("libgitopper")
    if any(name.lower().endswith("_proxy") for name in os.environ):
        modules.append("urllib.request")
    for module in modules:
        importlib.import_module(module)


def _leave() -> None:
    """End at once, with all that we run: each leads a group of its own."""
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError), open(f"/proc/self/task/{task}/children") as file:
            for child in file.read().split():
                with contextlib.suppress(OSError):
                    os.killpg(int(child), signal.SIGKILL)
    os._exit(0)


if __name__ == "__main__":
    main()
