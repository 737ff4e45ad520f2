"""Who reads what an upstream sends: this process, or the fetcher.

What the fetcher gives us are ids and packs, and we look at them as at what a stranger says.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import threading
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen

from gitopper_plugins.dulwich.channel import Deadline
from gitopper_plugins.dulwich.credentials import access
from gitopper_plugins.dulwich.exchange import Exchange, InProcess, Offer, Reader
from gitopper_plugins.dulwich.failures import GarbledError
from gitopper_plugins.dulwich.fetcher import Fetcher, cant
from gitopper_plugins.dulwich.frames import Conversation, GoneError
from gitopper_plugins.dulwich.indexing import memory_of, too_slow
from gitopper_plugins.dulwich.packindex import write_checked
from gitopper_plugins.dulwich.protocol import Haves
from gitopper_plugins.dulwich.transport import CommandTransport, Transport
from libgitopper import Credentials, Limits

if TYPE_CHECKING:
    from dulwich.objects import ObjectID

__all__ = ["Aside", "Fetchers", "Theirs"]

_ID = re.compile(r"[0-9a-f]{40}")


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
        return Aside(fetcher=fetcher, upstream=upstream, transport=transport)

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
        raise cant(account, "there is no such account on this host") from None


@frozen(kw_only=True)
class Aside:
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
            theirs = Theirs(line)
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
class Theirs:
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
        """See `Exchange`."""
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
        """See `Exchange`."""
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
