"""Hostile servers: what they say of themselves, of their branches, and around a pack."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

from attrs import frozen

from tests.proof.hostileground import Ground, Repository
from tests.support.rawserver import FLUSH, Answers, pkt, sent_as_pack

__all__ = ["WireCase", "wire_cases"]

MEGABYTE = b"x" * (1 << 20)
GREETING = b"".join(map(pkt, (b"version 2\n", b"ls-refs\n", b"fetch\n", b"object-format=sha1\n"))) + FLUSH


@frozen
class WireCase:
    """A server that misbehaves once its branch has moved."""

    name: str
    spoil: Callable[[Answers, str, bytes], None]
    """Takes what the server says, the new tip, and its pack."""
    reason: str = ""
    """A part of the reason for which it is refused; empty where the commit is deployed nevertheless."""
    timeout_seconds: float = 20.0

    def on(self, here: Ground) -> None:
        """See `Trial`. The same commit is deployed once its server is honest."""
        it, patience = Repository(), here.timeout_seconds
        tip = it.of_web(it.tree(("100644", b"it", it.blob(self.name.encode()))))
        here.serve(tip, it.pack())
        self.spoil(here.answers, tip, it.pack())
        here.timeout_seconds = self.timeout_seconds
        try:
            here.hold(here.attempt(), self.reason)
        finally:
            here.timeout_seconds = patience
            here.answers.sound()
        here.hold(here.attempt(), "")


def refs(name: str, spoil: Callable[[bytes], bytes], reason: str = "") -> WireCase:
    """A case whose list of branches is made by `spoil` of the sound line."""

    def change(answers: Answers, tip: str, _: bytes) -> None:
        answers.ls_refs = spoil(tip.encode() + b" refs/heads/main\n")

    return WireCase(f"branches: {name}", change, reason)


def greets(name: str, greeting: bytes, reason: str = "") -> WireCase:
    """A case with another greeting."""

    def change(answers: Answers, _: str, __: bytes) -> None:
        answers.greeting = greeting

    return WireCase(f"greeting: {name}", change, reason)


def sends(
    name: str,
    answer: Callable[[bytes], bytes | Iterator[bytes]],
    reason: str = "",
    timeout_seconds: float = 20.0,
) -> WireCase:
    """A case whose answer to ``fetch`` is made by `answer` of the sound pack."""

    def change(answers: Answers, _: str, pack: bytes) -> None:
        answers.fetch = answer(pack)

    return WireCase(f"pack: {name}", change, reason, timeout_seconds)


def wire_cases() -> Iterator[WireCase]:
    """All cases."""
    yield from greeting_cases()
    yield from branch_cases()
    yield from answer_cases()


def greeting_cases() -> Iterator[WireCase]:
    """What stands at the beginning."""
    yield greets("sound", GREETING)
    yield greets("a length of 1 MiB", b"fffff" + MEGABYTE, "not git's protocol")
    yield greets("a length of 3", b"0003", "not git's protocol")
    yield greets("a length of -4", b"-004", "not git's protocol")
    yield greets("no packet", b"HTTP/1.1 200 OK\r\n\r\n", "not git's protocol")
    yield greets("zeros", bytes(1000), "not git's protocol")
    yield greets(
        "an error with tricks",
        pkt(b"ERR \x1b]0;owned\x07\x9b2J\xe2\x80\xae" + b"x" * 60_000),
        "it refuses:",
    )
    many = b"".join(pkt(b"c%d" % at) for at in range(200_000))
    yield greets("200,000 capabilities", pkt(b"version 2\n") + many + FLUSH, "more than 100000")
    yield greets("SHA-256", pkt(b"version 2\n") + pkt(b"object-format=sha256\n") + FLUSH, "SHA-256")
    zero = b"1" * 40 + b" refs/heads/main\0side-band-64k\n"
    many = b"".join(pkt(b"2" * 40 + b" refs/heads/%d\n" % at) for at in range(150_000))
    yield greets("version 0 with 150,000 branches", pkt(zero) + many + FLUSH, "more than 100000")
    yield greets(
        "version 0, a tip that is none", pkt(b"xyz refs/heads/main\0\n") + FLUSH, "not git's protocol"
    )


def before_main(other: bytes) -> WireCase:
    """A case in which the branch `other` is told before the one that is followed."""
    return refs(repr(other[:40]), lambda line: pkt(b"3" * 40 + b" " + other + b"\n") + pkt(line) + FLUSH)


def branch_cases() -> Iterator[WireCase]:
    """Names and ids of branches."""
    for other in (
        b"refs/heads/../../x", b"refs/heads/main\n0000 x", b"refs/heads/main/../main", b"../../packed-refs",
        b"refs/heads/main\0", b"refs/heads/\x1b[2J", b"refs/heads/" + b"x" * 65_000, b"HEAD", b"",
        b"refs/heads/main/x", "refs/heads/\u202egpj".encode(), b"refs/heads/\xff", b"refs/heads/main.lock",
        b"refs/heads/-x",
    ):  # fmt: skip
        yield before_main(other)
    yield refs(
        "a megabyte", lambda line: b"%04x" % 0xFFFF + b"3" * 40 + b" " + MEGABYTE, "not git's protocol"
    )
    yield refs("no id", lambda line: pkt(b" refs/heads/main\n") + FLUSH, "not git's protocol")
    yield refs("a short id", lambda line: pkt(line[5:]) + FLUSH, "not git's protocol")
    yield refs(
        "an id with a path", lambda line: pkt(b"../" * 13 + b"x refs/heads/main\n") + FLUSH, "not git's"
    )
    yield refs("twice", lambda line: pkt(b"4" * 40 + line[40:]) + pkt(line) + FLUSH)
    yield refs(
        "200,000 of them", lambda line: pkt(b"3" * 40 + b" refs/heads/x\n") * 200_000 + pkt(line) + FLUSH
    )
    yield refs("a delimiter for an end", lambda line: pkt(line) + b"0001")
    yield refs(
        "an unborn one",
        lambda line: pkt(b"unborn HEAD symref-target:refs/heads/main\n") + pkt(line) + FLUSH,
    )
    yield refs("a commit that is nowhere", lambda line: pkt(b"5" * 40 + line[40:]) + FLUSH, "lacks commit")


def answer_cases() -> Iterator[WireCase]:
    """What comes for a ``fetch``."""
    garbled = "not git's protocol"
    ready = pkt(b"acknowledgments\n") + pkt(b"ready\n") + b"0001"
    yield sends("sound", lambda pack: sent_as_pack(pack))
    yield sends("nothing but an end", lambda _: FLUSH, garbled)
    yield sends("another section", lambda pack: pkt(b"shallow-info\n") + FLUSH, "shallow")
    yield sends("an unknown section", lambda pack: pkt(b"wanted-refs\n") + FLUSH, garbled)
    yield sends("an unknown band", lambda pack: pkt(b"packfile\n") + pkt(b"\x04" + pack) + FLUSH, garbled)
    yield sends("an empty packet", lambda pack: pkt(b"packfile\n") + b"0004" + FLUSH, garbled)
    yield sends("no band", lambda pack: pkt(b"packfile\n") + pkt(pack) + FLUSH, garbled)
    yield sends(
        "the band of errors",
        lambda _: pkt(b"packfile\n") + pkt(b"\x03\x1b[2J\xc2\x9b" + b"x" * 9999),
        "it refuses:",
    )
    yield sends(
        "a length without its data",
        lambda pack: pkt(b"packfile\n") + b"fff0\x01" + pack + b"0" * 70_000,
        "damaged",
    )
    yield sends("a length of 65525", lambda pack: pkt(b"packfile\n") + b"fff5\x01" + pack, garbled)
    yield sends(
        "progress with tricks", lambda it: pkt(b"packfile\n") + pkt(b"\x02\x1b[2J") + sent_as_pack(it)[13:]
    )
    yield sends("byte by byte", lambda it: _by_bytes(it))
    yield sends(
        "progress without an end",
        lambda _: itertools.chain([pkt(b"packfile\n")], itertools.repeat(pkt(b"\x02wait"))),
        "no complete answer within 2 s",
        2.0,
    )
    yield sends(
        "a pack without an end",
        lambda _: itertools.chain([pkt(b"packfile\n")], itertools.repeat(pkt(b"\x01" + bytes(60_000)))),
        "more than 8388608 bytes at a time",
    )
    yield sends(
        "acknowledgments without an end",
        lambda _: itertools.repeat(pkt(b"ACK " + b"1" * 40 + b"\n")),
        garbled,
        2.0,
    )
    yield sends("ready, and then another section", lambda _: ready + pkt(b"ready\n") + FLUSH, garbled)


def _by_bytes(pack: bytes) -> bytes:
    return pkt(b"packfile\n") + b"".join(pkt(b"\x01" + bytes([byte])) for byte in pack) + FLUSH
