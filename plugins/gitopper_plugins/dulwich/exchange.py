"""One exchange with an upstream, wherever it is carried out: in this process, or in one without rights."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from attrs import frozen

from gitopper_plugins.dulwich import indexing
from gitopper_plugins.dulwich.channel import Deadline
from gitopper_plugins.dulwich.credentials import access
from gitopper_plugins.dulwich.protocol import Haves, Session, ls_refs, pack_of
from gitopper_plugins.dulwich.transport import Transport
from libgitopper import Credentials, Limits

if TYPE_CHECKING:
    from dulwich.objects import ObjectID

__all__ = ["Exchange", "InProcess", "Offer", "Reader"]


@frozen(kw_only=True)
class Offer:
    """What an upstream has for us."""

    tips: Mapping[str, ObjectID]
    """Branch to commit, for those of the branches that were asked for which it has."""
    filters: bool
    """It leaves out blobs on request."""


class Exchange(Protocol):
    """A few requests to an upstream in a row."""

    def offer(self, branches: Collection[str], known: Mapping[str, ObjectID]) -> Offer:
        """Return the tips of `branches`; raises as `Reader.exchange` does.

        Where they are those that are `known`, nothing else will be asked for.
        """

    def pack(
        self, wants: Collection[ObjectID], haves: Haves, *, without: str = "", last: bool = False
    ) -> Iterator[bytes]:
        """The pack with `wants` and what they need beyond `haves`; raises as `Reader.exchange` does.

        `without` is a filter, as `pack_of` takes it.
        `last`: nothing else will be asked for.
        """


class Reader(Protocol):
    """Who reads what an upstream sends."""

    def exchange(
        self, credentials: Credentials, deadline: Deadline
    ) -> contextlib.AbstractContextManager[Exchange]:
        """Begin an exchange.

        Raises:
            UnusableError: the server can't be reached, or is none; also DeniedError.
            AuthError: the credentials can't be read.
            OSError: the network failed; TimeoutError when the deadline passed.
            GarbledError: what it says is not git's protocol.
            RefusedError: it said no.
        """

    def index(self, pack: Path, limits: Limits, timeout_seconds: float) -> None:
        """Check `pack`, and write its index beside it, with no more memory than `limits` allow.

        Raises:
            GarbledError: it is damaged, needs objects that it does not have, or takes too much.
        """


@frozen
class InProcess:
    """This process reads by itself; what takes much memory is indexed by another one."""

    transport: Transport

    @contextlib.contextmanager
    def exchange(self, credentials: Credentials, deadline: Deadline) -> Iterator[Exchange]:
        """See `Reader`."""
        with self.transport.session(access(credentials), deadline) as session:
            yield _Own(session)

    def index(self, pack: Path, limits: Limits, timeout_seconds: float) -> None:
        """See `Reader`."""
        indexing.index(pack, limits, timeout_seconds)


@frozen
class _Own:
    session: Session

    def offer(self, branches: Collection[str], known: Mapping[str, ObjectID]) -> Offer:  # noqa: ARG002
        tips = ls_refs(self.session, branches)
        return Offer(tips=tips, filters=self.session.advertisement.filters)

    def pack(
        self,
        wants: Collection[ObjectID],
        haves: Haves,
        *,
        without: str = "",
        last: bool = False,  # noqa: ARG002
    ) -> Iterator[bytes]:
        return pack_of(self.session, wants, haves, without=without)
