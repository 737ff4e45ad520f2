"""What is asked of a git server: its refs, and packs. Protocol version 2, and 0 for servers that lack it.

Written after gitprotocol-v2(5) and gitprotocol-pack(5). No transport is known here: a `Session`
sends a request and returns the stream of the answer.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

from attrs import field, frozen

from gitopper_plugins.dulwich.pkt import GarbledError, Mark, RefusedError, framed, read_packet, sideband

if TYPE_CHECKING:  # a name for bytes; what is imported here, the fetcher has to carry
    from dulwich.objects import ObjectID

__all__ = ["Advertisement", "Haves", "Session", "ls_refs", "pack_of", "read_advertisement"]

AGENT = b"agent=gitopper"
HEADS = b"refs/heads/"
# With more branches than this, asking for all of them is the smaller request.
MANY_BRANCHES = 64
MOST_NAMES = 100_000
"""How many branches, or capabilities, a server may tell of."""
_ID = re.compile(rb"[0-9a-f]{40}")
_SHALLOW = "it is a shallow clone; releases show the full history, so name a full one as upstream"


@frozen(kw_only=True)
class Advertisement:
    """What a server says of itself when a connection begins."""

    version: int
    """2, or 0."""
    capabilities: dict[bytes, bytes]
    """Name to value, which is empty for most."""
    refs: dict[bytes, ObjectID] = field(factory=dict)
    """Version 0 only: every branch, as ``refs/heads/main``."""
    shallow: bool = False

    @property
    def filters(self) -> bool:
        """True when the server leaves out blobs on request, and hands them out one by one later."""
        if self.version == 2:
            return b"filter" in self.capabilities.get(b"fetch", b"").split(b" ")
        later = {b"allow-any-sha1-in-want", b"allow-reachable-sha1-in-want"}
        return b"filter" in self.capabilities and not later.isdisjoint(self.capabilities)


class Session(Protocol):
    """One connection to a server, used for a few requests in a row."""

    @property
    def advertisement(self) -> Advertisement:
        """What the server said of itself."""

    def ask(self, request: bytes) -> contextlib.AbstractContextManager[BinaryIO]:
        """Send `request`; the answer is to be read within the block."""


def read_advertisement(stream: BinaryIO) -> Advertisement:
    """What the server sends first, up to its flush.

    Raises:
        GarbledError: it is not git's protocol.
        RefusedError: the server said no.
    """
    packet = read_packet(stream)
    if isinstance(packet, bytes) and packet.startswith(b"# service="):
        read_packet(stream)  # the flush that ends the header of smart http
        packet = read_packet(stream)
    if packet == b"version 2\n":
        return Advertisement(version=2, capabilities=_capabilities_2(stream))
    if packet == b"version 1\n":
        packet = read_packet(stream)
    return _advertisement_0(stream, packet)


def _capabilities_2(stream: BinaryIO) -> dict[bytes, bytes]:
    capabilities = {}
    while isinstance(packet := read_packet(stream), bytes):
        name, _, value = packet.rstrip(b"\n").partition(b"=")
        capabilities[name] = value
        _check_number(capabilities)
    _check_format(capabilities)
    return capabilities


def _advertisement_0(stream: BinaryIO, packet: bytes | Mark) -> Advertisement:
    capabilities: dict[bytes, bytes] = {}
    refs = {}
    shallow = False
    while isinstance(packet, bytes):
        line, _, extra = packet.rstrip(b"\n").partition(b"\0")
        for word in extra.split():
            name, _, value = word.partition(b"=")
            capabilities[name] = value
        if line.startswith(b"shallow "):
            shallow = True
        else:
            oid, _, ref = line.partition(b" ")
            tip = _oid(oid) if ref != b"capabilities^{}" else None
            if tip and ref.startswith(HEADS):  # of the others, servers have hundreds of thousands
                refs[ref] = tip
                _check_number(refs)
        packet = read_packet(stream)
    _check_format(capabilities)
    return Advertisement(version=0, capabilities=capabilities, refs=refs, shallow=shallow)


def _check_number(names: Collection[bytes]) -> None:
    if len(names) > MOST_NAMES:
        raise GarbledError(f"it tells of more than {MOST_NAMES} branches or capabilities")


def _check_format(capabilities: dict[bytes, bytes]) -> None:
    if capabilities.get(b"object-format", b"sha1") != b"sha1":
        raise RefusedError("the repository uses SHA-256, which is not supported")


def _oid(text: bytes) -> ObjectID:
    if not _ID.fullmatch(text):
        raise GarbledError("the answer is not git's protocol")
    return cast("ObjectID", text)


def ls_refs(session: Session, branches: Collection[str]) -> dict[str, ObjectID]:
    """The tips of those of `branches` that the server has.

    Raises:
        GarbledError: the answer is no answer.
        RefusedError: the server said no.
    """
    wanted = {HEADS + branch.encode(): branch for branch in branches}
    if session.advertisement.version == 0:
        refs: Mapping[bytes, ObjectID] = session.advertisement.refs
    else:
        refs = _ls_refs_2(session, wanted)
    # A prefix asks for more than it says: refs/heads/main brings main2 too.
    return {wanted[ref]: oid for ref, oid in refs.items() if ref in wanted}


def _ls_refs_2(session: Session, wanted: Collection[bytes]) -> Mapping[bytes, ObjectID]:
    prefixes = sorted(wanted) if len(wanted) <= MANY_BRANCHES else [HEADS]
    request = framed(
        b"command=ls-refs", AGENT, b"object-format=sha1", Mark.DELIM,
        *(b"ref-prefix " + prefix for prefix in prefixes), Mark.FLUSH,
    )  # fmt: skip
    refs = {}
    with session.ask(request) as answer:
        while isinstance(packet := read_packet(answer), bytes):
            oid, _, rest = packet.rstrip(b"\n").partition(b" ")
            ref = rest.partition(b" ")[0]
            if ref in wanted:  # a server may tell of any number of others, whatever it was asked
                refs[ref] = _oid(oid)
    return refs


@frozen(kw_only=True)
class Haves:
    """Commits that we have, for the server to find what it need not send."""

    near: Sequence[ObjectID] = ()
    """The newest: enough unless history was rewritten."""
    far: Callable[[], Sequence[ObjectID]] = tuple
    """Some from further back; asked for only when the near ones are not enough."""


def pack_of(
    session: Session, wants: Collection[ObjectID], haves: Haves, *, without: str = ""
) -> Iterator[bytes]:
    """The pack with `wants` and all that they need beyond what we have, as it comes in.

    `without` is a filter: what is to be left out. See git-rev-list(1), ``--filter``.

    Raises:
        GarbledError: the answer is no answer.
        RefusedError: the server said no.
    """
    if session.advertisement.version == 0:
        return _pack_0(session, wants, haves, without=without)
    return _pack_2(session, wants, haves, without=without)


def _pack_2(
    session: Session, wants: Collection[ObjectID], haves: Haves, *, without: str = ""
) -> Iterator[bytes]:
    head: list[bytes | Mark] = [
        b"command=fetch",
        AGENT,
        b"object-format=sha1",
        Mark.DELIM,
        b"ofs-delta",
        b"no-progress",
    ]
    if without:
        head.append(b"filter " + without.encode())
    head += [b"want " + want for want in wants]
    near = [b"have " + have for have in haves.near]
    if near:
        # Without "done" the server may ask for more; when these are enough, its pack follows at once.
        with session.ask(framed(*head, *near, Mark.FLUSH)) as answer:
            if _enough(answer):
                yield from _packfile(answer)
                return
    far = [b"have " + have for have in haves.far()] if near else []
    with session.ask(framed(*head, *near, *far, b"done", Mark.FLUSH)) as answer:
        yield from _packfile(answer)


def _packfile(answer: BinaryIO) -> Iterator[bytes]:
    section = read_packet(answer)
    if section == b"shallow-info\n":
        raise RefusedError(_SHALLOW)
    if section != b"packfile\n":
        raise GarbledError("the answer is not git's protocol")
    yield from sideband(answer)


def _enough(answer: BinaryIO) -> bool:
    """Read the acknowledgments; True when the pack follows them."""
    packet = read_packet(answer)
    if packet != b"acknowledgments\n":
        raise GarbledError("the answer is not git's protocol")
    while isinstance(packet, bytes):
        packet = read_packet(answer)
    return packet is Mark.DELIM


def _pack_0(
    session: Session, wants: Collection[ObjectID], haves: Haves, *, without: str = ""
) -> Iterator[bytes]:
    """One round: everything is offered at once, and the server picks."""
    if session.advertisement.shallow:
        raise RefusedError(_SHALLOW)
    if b"side-band-64k" not in session.advertisement.capabilities:
        raise RefusedError("its server is too old: it lacks the capability side-band-64k")
    options = b" side-band-64k ofs-delta no-progress " + AGENT + (b" filter" if without else b"")
    first, *others = wants
    lines: list[bytes | Mark] = [b"want " + first + options + b"\n"]
    lines += [b"want " + want + b"\n" for want in others]
    if without:
        lines.append(b"filter " + without.encode() + b"\n")
    lines.append(Mark.FLUSH)
    if haves.near:
        lines += [b"have " + have + b"\n" for have in (*haves.near, *haves.far())]
    with session.ask(framed(*lines, b"done\n")) as answer:
        packet = read_packet(answer)
        while isinstance(packet, bytes) and packet[:3] in (b"ACK", b"NAK"):
            packet = read_packet(answer)
        yield from sideband(answer, packet)
