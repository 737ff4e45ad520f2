"""The daemon's side of the fetcher: a process as another account that reads what upstreams send.

It gives us ids and packs, and we look at them as at what a stranger says. It has no way into our store, and
gets no secret but the one that a session needs. See `unprivileged` for its own side.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pwd
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen

from gitopper_plugins.dulwich.channel import Channel, Deadline
from gitopper_plugins.dulwich.credentials import access
from gitopper_plugins.dulwich.exchange import Exchange, InProcess, Offer, Reader
from gitopper_plugins.dulwich.failures import GarbledError, UnusableError
from gitopper_plugins.dulwich.frames import Conversation, GoneError
from gitopper_plugins.dulwich.indexing import memory_of, too_slow
from gitopper_plugins.dulwich.packindex import write_checked
from gitopper_plugins.dulwich.pkt import readable
from gitopper_plugins.dulwich.protocol import Haves
from gitopper_plugins.dulwich.transport import CommandTransport, Transport
from libgitopper import Credentials, Limits, spawn

if TYPE_CHECKING:
    from dulwich.objects import ObjectID

__all__ = ["Fetcher", "Fetchers"]

log = logging.getLogger(__name__)

MEMORY_BYTES = 512 * 1024 * 1024
START_SECONDS = 30.0
GRACE_SECONDS = 5.0
"""How much later than the deadline an answer may come; it is at most to say that the time is over."""
MOST_HELLO_BYTES = 4096
MOST_LINES = 4
"""So many are kept for the next conversation; each is a thread of the fetcher."""
_ID = re.compile(r"[0-9a-f]{40}")
# What it needs to find its way. No more: our environment may hold what is not for it.
_ENVIRONMENT = re.compile(
    r"PATH|LANG|LC_\w+|TZ|(?:https?|no|all)_proxy|SSL_CERT_(?:FILE|DIR)|GIT_SSH_COMMAND|RES_OPTIONS|LOCALDOMAIN",
    re.IGNORECASE,
)


@define(eq=False)
class _Process:
    """A fetcher that runs."""

    account: str
    pid: int
    control: socket.socket
    _process: subprocess.Popen[bytes]
    _stack: contextlib.ExitStack
    _lines: list[Conversation] = field(factory=list)
    """To where it waits for the next conversation."""

    @classmethod
    def start(cls, account: str, memory_bytes: int, told: set[str], *, programs: bool) -> _Process:
        """Start one, and wait until it has given up its rights.

        Raises:
            UnusableError: it can't.
        """
        with contextlib.ExitStack() as stack:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.enter_context(ours)
            argv = [sys.executable, "-I", "-m", "gitopper_plugins.dulwich.unprivileged"]
            environment = {k: v for k, v in os.environ.items() if _ENVIRONMENT.fullmatch(k)}
            # In memory: what it complains of must not fill a disk; its limits hold for this, too.
            with theirs, os.fdopen(os.memfd_create("said"), "w+b") as said:
                process = stack.enter_context(
                    spawn(
                        [*argv, account, str(memory_bytes), *(["programs"] if programs else [])],
                        stdin=theirs.fileno(),
                        stdout=subprocess.DEVNULL,
                        stderr=said,
                        env=environment | {"MALLOC_ARENA_MAX": "1"},
                    )
                )
                theirs.close()
                hello = _hello(ours, account)
                if hello is None:
                    stack.close()
                    said.seek(0)
                    words = said.read(64 * 1024).decode(errors="replace").strip().rpartition("\n")[2]
                    why = readable(words) or f"exit code {process.returncode}"
                    raise _cant(account, f"its process does not start: {why}")
            if "refused" in hello:
                raise _cant(account, readable(str(hello["refused"])))
            _tell_missing(account, hello.get("missing"), told)
            return cls(account, process.pid, ours, process, stack.pop_all())

    @property
    def alive(self) -> bool:
        """True as long as it runs."""
        return self._process.poll() is None

    def end(self) -> None:
        """End it, and all that it runs."""
        with contextlib.suppress(OSError):
            self.control.shutdown(socket.SHUT_RDWR)
        while self._lines:
            self._lines.pop().close()
        self._stack.close()

    def keep(self, line: Conversation) -> None:
        """Take back a line whose conversation ended well, for the next one."""
        if len(self._lines) < MOST_LINES and self.alive:
            self._lines.append(line)
        else:
            line.close()

    def converse(self, deadline: Deadline, files: Sequence[int]) -> Conversation:
        """Begin a conversation, about the open `files`.

        Raises:
            OSError: it is gone.
        """
        while self._lines and not files:
            line = self._lines.pop()
            if line.silent:
                line.channel.deadline = Deadline(deadline.at + GRACE_SECONDS)
                return line
            line.close()
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self.control, [b"."], [theirs.fileno(), *files])
            except BaseException:
                ours.close()
                raise
        return Conversation(Channel(ours, Deadline(deadline.at + GRACE_SECONDS)))


def _hello(control: socket.socket, account: str) -> dict[str, Any] | None:
    control.settimeout(START_SECONDS)
    try:
        hello = json.loads(control.recv(MOST_HELLO_BYTES) or "null")
    except TimeoutError:
        raise _cant(account, f"its process is not ready within {START_SECONDS:g} s") from None
    except (OSError, ValueError):
        return None
    return hello if isinstance(hello, dict) else None


def _cant(account: str, why: str) -> UnusableError:
    remedy = (
        "see `fetch_user`; with root there, nothing stands between a hole in what fetches and this host"
    )
    return UnusableError(f"can't fetch as {account}: {why}; {remedy}")


def _tell_missing(account: str, missing: object, told: set[str]) -> None:
    for part in missing if isinstance(missing, list) else []:
        if (what := readable(str(part))) not in told:
            told.add(what)
            log.warning("what fetches as %s has to do without %s", account, what)


@define(eq=False)
class Fetcher:
    """One account's fetcher: started at first need, and again when it ended."""

    account: str
    programs: bool = False
    """It is to run ssh or git."""
    memory_bytes: int = MEMORY_BYTES
    _told: set[str] = field(factory=set)
    """What of its sandbox was told to be missing."""
    _process: _Process | None = None
    _lock: threading.Lock = field(factory=threading.Lock)

    @property
    def pid(self) -> int | None:
        """Of its process; None when there is none."""
        return self._process.pid if self._process else None

    def close(self) -> None:
        """End its process; the next conversation starts another one."""
        with self._lock:
            process, self._process = self._process, None
        if process:
            process.end()

    @contextlib.contextmanager
    def conversation(self, deadline: Deadline, *files: int) -> Iterator[Conversation]:
        """Talk, until the block ends.

        Raises:
            UnusableError: its process can't be started, or ended.
            TimeoutError: it does not answer in time, and was ended.
        """
        process, line = self._begin(deadline, files)
        well = False
        try:
            yield line
            well = not files
        except TimeoutError:
            # Its own deadline was before ours: had it met that, it would have said so.
            if deadline.at + GRACE_SECONDS <= _now():
                self._drop(process)
            raise
        except GoneError as exc:
            self._drop(process)
            raise UnusableError(
                f"the process that fetches as {self.account} failed: {exc}; the next try starts another one"
            ) from exc
        finally:
            self._end(process, line, well=well)

    def _end(self, process: _Process, line: Conversation, *, well: bool) -> None:
        with self._lock:
            if well and self._process is process:
                process.keep(line)
                return
        line.close()

    def _begin(self, deadline: Deadline, files: Sequence[int]) -> tuple[_Process, Conversation]:
        with self._lock:
            for _ in range(2):
                process = self._process
                if process is None or not process.alive:
                    if process:
                        process.end()
                    process = self._process = _Process.start(
                        self.account, self.memory_bytes, self._told, programs=self.programs
                    )
                # It may end at any moment: then there is another one to be started.
                with contextlib.suppress(OSError):
                    return process, process.converse(deadline, files)
                process.end()
                self._process = None
        raise UnusableError(f"the process that fetches as {self.account} ends at once")

    def _drop(self, process: _Process) -> None:
        with self._lock:
            if self._process is process:
                self._process = None
        process.end()


def _now() -> float:
    return Deadline.after(0).at


@define(eq=False)
class Fetchers:
    """The fetchers of this process, by account."""

    _fetchers: dict[tuple[str, bool], Fetcher] = field(factory=dict)
    _lock: threading.Lock = field(factory=threading.Lock)

    def reader(self, account: str | None, upstream: str, transport: Transport) -> Reader:
        """Who reads what `upstream` sends: this process when `account` is its own, or None.

        Raises:
            UnusableError: there is no such account.
        """
        if account is None or os.geteuid() != 0:
            return InProcess(transport)
        # Those who need no other program don't pay for what starts one.
        key = account, isinstance(transport, CommandTransport) and transport.ssh is not None
        with self._lock:
            fetcher = self._fetchers.get(key)
            if fetcher is None:
                if _is_ourselves(account):
                    return InProcess(transport)
                fetcher = self._fetchers[key] = Fetcher(*key)
        return _Aside(fetcher=fetcher, upstream=upstream, transport=transport)

    def close(self) -> None:
        """End them; they can be used again."""
        with self._lock:
            fetchers = list(self._fetchers.values())
        for fetcher in fetchers:
            fetcher.close()


def _is_ourselves(account: str) -> bool:
    try:
        return pwd.getpwnam(account).pw_uid == os.geteuid()
    except KeyError:
        raise _cant(account, "there is no such account on this host") from None


@frozen(kw_only=True)
class _Aside:
    """A `Reader`: the fetcher reads."""

    fetcher: Fetcher
    upstream: str
    transport: Transport

    @contextlib.contextmanager
    def exchange(self, credentials: Credentials, deadline: Deadline) -> Iterator[Exchange]:
        """See `Reader`. A repository of this host is read by git, as who has a right to it."""
        if isinstance(self.transport, CommandTransport) and self.transport.ssh is None:
            with InProcess(self.transport).exchange(credentials, deadline) as exchange:
                yield exchange
            return
        shown = _shown(credentials, self.transport)
        with self.fetcher.conversation(deadline) as line:
            line.tell_later(do="open", upstream=self.upstream, seconds=deadline.remaining(), **shown)
            theirs = _Theirs(line)
            yield theirs
            theirs.end()

    def index(self, pack: Path, limits: Limits, timeout_seconds: float) -> None:
        """See `Reader`. A large pack is for a process of its own, which goes with all its memory."""
        pack.chmod(0o644)  # it lies where nobody else gets; but this one gets it handed in
        if not self._index(self.fetcher, pack, limits, timeout_seconds, alone=False):
            large = Fetcher(self.fetcher.account, programs=True, memory_bytes=memory_of(limits))
            with contextlib.closing(large):
                try:
                    self._index(large, pack, limits, timeout_seconds, alone=True)
                except TimeoutError as exc:
                    raise GarbledError(f"the pack can't be indexed: {too_slow(timeout_seconds)}") from exc

    def _index(
        self, fetcher: Fetcher, pack: Path, limits: Limits, timeout_seconds: float, *, alone: bool
    ) -> bool:
        with (
            pack.open("rb") as file,
            fetcher.conversation(Deadline.after(timeout_seconds), file.fileno()) as line,
        ):
            line.tell(do="index", alone=alone, seconds=timeout_seconds, memory=memory_of(limits))
            answer = line.listen()
            first = next(answer, b"")
            if isinstance(first, dict):
                return False
            write_checked(pack, _pieces(first, answer))
        return True


def _pieces(first: bytes, others: Iterator[bytes | dict[str, Any]]) -> Iterator[bytes]:
    yield first
    for piece in others:
        if isinstance(piece, dict):
            raise GoneError("it makes no sense")
        yield piece


def _shown(credentials: Credentials, transport: Transport) -> dict[str, str | None]:
    """What the fetcher may know: of files that only root can read, what is in them."""
    ours = access(credentials)
    shown = {"authorization": ours.authorization, "user": ours.user}
    if isinstance(transport, CommandTransport):
        home = Path(pwd.getpwuid(os.geteuid()).pw_dir)
        known = home / ".ssh" / "known_hosts"
        shown["ssh_key"] = _text(Path(ours.ssh_key)) if ours.ssh_key else None
        with contextlib.suppress(OSError):
            shown["known_hosts"] = _text(known)
    return shown


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="surrogateescape")


@define
class _Theirs:
    """An `Exchange` that the fetcher carries out."""

    line: Conversation
    _over: bool = False

    def end(self) -> None:
        """End it, where its last answer was not the end of it.

        Raises:
            GoneError: there is more to it.
        """
        if self._over:
            return
        self.line.tell(do="end")
        self._hear_the_end()

    def _hear_the_end(self) -> None:
        for _ in self.line.listen():
            raise GoneError("it says more than it was asked")
        self._over = True

    def offer(self, branches: Collection[str], known: Mapping[str, ObjectID]) -> Offer:
        shown = {branch: oid.decode() for branch, oid in known.items()}
        self.line.tell(do="offer", branches=sorted(branches), known=shown)
        answer = self.line.hear()
        tips, filters = answer.get("tips"), answer.get("filters")
        if not isinstance(tips, dict) or not isinstance(filters, bool):
            raise GoneError("it makes no sense")
        for branch, oid in tips.items():
            if branch not in branches or not isinstance(oid, str) or not _ID.fullmatch(oid):
                raise GoneError("it tells of what it was not asked for")
        if answer.get("over") is not (tips == shown):
            raise GoneError("it makes no sense")
        if tips == shown:
            self._hear_the_end()
        return Offer(tips={branch: oid.encode() for branch, oid in tips.items()}, filters=filters)

    def pack(
        self, wants: Collection[ObjectID], haves: Haves, *, without: str = "", last: bool = False
    ) -> Iterator[bytes]:
        asked = {"wants": _joined(wants), "haves": _joined(haves.near), "without": without}
        self.line.tell(do="pack", last=last, **asked)
        for piece in self.line.listen():
            if isinstance(piece, bytes):
                yield piece
            else:
                self.line.tell(haves=_joined(haves.far()))
        self._over = last


def _joined(oids: Collection[ObjectID]) -> str:
    return b" ".join(oids).decode()
