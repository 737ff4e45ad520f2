"""A fuzzer: packs, trees, commits and answers of a server, each a sound one with some bytes changed.

Whatever comes of an input is held against the promises of `hostileground`. One that ends in a way in
which none ended before is interesting; a small set of those is kept in ``tests/proof/corpus``, and
tried again with the tests.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import re
import time
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from tests.proof.hostileground import READERS, Ground, Outcome, Repository, ground
from tests.proof.hostiletrees import CONTROLS, IGNORED
from tests.proof.table import Row
from tests.support import rawpack as raw
from tests.support.rawserver import FLUSH, pkt, sent_as_pack

__all__ = ["CORPUS", "Input", "fuzz", "kept"]

CORPUS = Path(__file__).with_name("corpus")
TRIES_ON_ONE_GROUND = 500
"""After so many, a fresh host: what was deployed meanwhile takes room."""
GOOD_EVERY = 25
MAX_KEPT_BYTES = 4000
GREETING = b"".join(map(pkt, (b"version 2\n", b"ls-refs\n", b"fetch\n", b"object-format=sha1\n"))) + FLUSH
# What is put in more often than chance would.
WORDS = (
    b"..", b".git", b"/", b"\0", b"120000 ", b"160000 ", b"40000 ", b"100644 ", b"\x1b[2J", b"\xff" * 8,
    b"0000", b"0001", b"fff0", b"0004", b"parent ", b"tree ", b"\n\n", b"\x9b", *CONTROLS[:4],
    *(chr(code).encode() for code in IGNORED[:4]),
)  # fmt: skip


@frozen
class Input:
    """What is tried, and all that it takes to try it again."""

    kind: str
    """``pack``, or which of the server's answers it is: ``greeting``, ``refs``, ``answer``."""
    tip: str
    """Where upstream's branch is."""
    data: bytes

    @property
    def name(self) -> str:
        """The same for the same input."""
        return f"{self.kind}-{hashlib.sha256(self.data).hexdigest()[:12]}"

    def on(self, here: Ground) -> None:
        """See `Trial`."""
        self.ending(here)

    def ending(self, here: Ground) -> str:
        """Try it, and tell in which way it ended.

        Raises:
            Broken: a promise does not hold.
        """
        # What differs from one try to the next says nothing.
        reason = self.outcome(here).reason
        reason = re.sub(r"git://\S+|/tmp/\S+|'.*'|^.* is refused|symlink to .*,|offset.*", "", reason)
        words = re.findall(r"[A-Za-z]{2,}", re.sub(r"\\\w+|\b[0-9a-f]{6,40}\b", "", reason))
        return f"{self.kind}: {' '.join(words[:12])}"

    def outcome(self, here: Ground) -> Outcome:
        """Try it.

        Raises:
            Broken: a promise does not hold.
        """
        answers = here.answers
        answers.sound()
        here.serve(self.tip, self.data if self.kind == "pack" else b"")
        answers.greeting = self.data if self.kind == "greeting" else None
        answers.ls_refs = self.data if self.kind == "refs" else None
        answers.fetch = self.data if self.kind == "answer" else None
        # A client that waits for more of what has no end is told that there is none.
        answers.patience_seconds = 30.0 if self.kind == "pack" else 0.05
        try:
            return here.attempt()
        finally:
            answers.patience_seconds = 30.0

    def write(self) -> None:
        """Keep it."""
        CORPUS.mkdir(exist_ok=True)
        (CORPUS / self.name).write_bytes(self.tip.encode() + b"\n" + self.data)


def kept() -> Sequence[Input]:
    """The corpus."""
    parts = (
        (path.name.partition("-")[0], path.read_bytes().partition(b"\n"))
        for path in sorted(CORPUS.iterdir())
    )
    return [Input(kind, tip.decode(), data) for kind, (tip, _, data) in parts]


def fuzz(seconds: float, seed: int, *, keep: bool) -> Row:
    """Try inputs for `seconds`; with `keep`, the interesting ones join the corpus."""
    chance, until = random.Random(seed), time.monotonic() + seconds
    endings, failures, points, promises = _endings() if keep else set[str](), list[str](), 0, 0
    while time.monotonic() < until:
        # Whoever reads: one ground after the other.
        reader = READERS[points // TRIES_ON_ONE_GROUND % len(READERS)]
        with ground(timeout_seconds=5.0, reader=reader) as here:
            for point in itertools.islice(itertools.count(1), TRIES_ON_ONE_GROUND):
                points += 1
                made = _input(chance)
                try:
                    ending = made.ending(here)
                    if point % GOOD_EVERY == 0:
                        here.aftermath()
                except Exception as exc:  # noqa: BLE001 - it is told in the table
                    made.write()
                    failures.append(f"fuzzer, seed {seed}: {made.name}: {type(exc).__name__}: {exc}")
                    break  # on a fresh ground: this one may be spoilt
                if ending not in endings and len(made.data) < MAX_KEPT_BYTES:
                    endings.add(ending)
                    if keep:
                        made.write()
                if time.monotonic() > until:
                    break
            promises += here.promises
    what = f"fuzzer ({len(endings)} ways to end)"
    return Row(part="hostile", case=what, points=points, promises=promises, failures=failures)


def _endings() -> set[str]:
    """The ways in which the inputs of the corpus end."""
    with ground(timeout_seconds=5.0) as here:
        return {made.ending(here) for made in kept()}


def _input(chance: random.Random) -> Input:
    """One input."""
    entries, tip = _sound(chance)
    match chance.randrange(8):
        case 0:
            return Input("pack", tip, _changed(chance, raw.build(entries)))
        case 1 | 2:
            return Input("pack", tip, raw.sealed(_changed(chance, raw.build(entries)[:-20])))
        case 3 | 4:
            it = Repository()
            tip = it.of_web(it.add(raw.TREE, _changed(chance, _tree(chance, it))))
            return Input("pack", tip, it.pack())
        case 5:
            it = Repository()
            root = it.tree(("40000", b"web", it.tree(("100644", b"it", it.blob(chance.randbytes(8))))))
            tip = it.add(raw.COMMIT, _changed(chance, raw.commit(root)))
            return Input("pack", tip, it.pack())
        case 6:
            return Input("answer", tip, _changed(chance, sent_as_pack(raw.build(entries))))
        case _:
            line = pkt(tip.encode() + b" refs/heads/main\n") + FLUSH
            kind, said = chance.choice([("greeting", GREETING), ("refs", line)])
            return Input(kind, tip, _changed(chance, said))


def _sound(chance: random.Random) -> tuple[list[bytes], str]:
    """The entries of a sound pack with each kind of delta, and the commit that it brings."""
    base = chance.randbytes(16) + bytes(range(200)) * 3
    change = raw.delta(len(base), 300, raw.copy(0, 200), raw.copy(300, 90), raw.insert(b"0123456789"))
    result = base[:200] + base[300:390] + b"0123456789"
    first = raw.whole(raw.BLOB, base)
    how = chance.randrange(3)
    oid = raw.object_id(raw.BLOB, base if how == 0 else result)
    it = Repository([first])
    if how == 1:
        it.entries.append(raw.ofs_delta(len(first), change))
    elif how == 2:
        it.entries.insert(0, raw.ref_delta(raw.object_id(raw.BLOB, base), change))
    tip = it.of_web(it.tree(("100644", b"it", oid), ("120000", b"link", it.blob(b"it"))))
    return it.entries, tip


def _tree(chance: random.Random, it: Repository) -> bytes:
    blob = it.blob(
        chance.choice([b"x", b"../x", b"/etc", b"a/..", b"it", b"sub/../../x"]) + chance.randbytes(4)
    )
    below = it.tree(("100644", b"x", blob))
    names = sorted(
        {chance.choice([b"a", b"b", b"it", b".x", b"z" * 30]) for _ in range(chance.randrange(1, 5))}
    )
    kinds = {"100644": blob, "100755": blob, "120000": blob, "40000": below, "160000": "1" * 40}
    return raw.tree(*((mode, name, kinds[mode]) for name in names for mode in [chance.choice(list(kinds))]))


def _changed(chance: random.Random, data: bytes) -> bytes:
    """`data` with one to four changes."""
    changed = bytearray(data)
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        at = chance.randrange(len(changed) + 1)
        end = min(len(changed), at + chance.choice([1, 1, 2, 8, 40]))
        changed[at:end] = _instead(chance, bytes(changed), at, end)
    return bytes(changed)


def _instead(chance: random.Random, data: bytes, at: int, end: int) -> bytes:
    """What to put in the place of ``data[at:end]``."""
    match chance.randrange(7):
        case 0:
            return b""
        case 1:
            return chance.choice(WORDS)
        case 2:
            return data[at:end] * 2
        case 3:
            return chance.randbytes(end - at)
        case 4:
            return data[at:end] + chance.choice(WORDS)
        case 5:
            return bytes(byte ^ 1 << chance.randrange(8) for byte in data[at:end])
        case _:
            start = chance.randrange(len(data) + 1)
            return data[start : start + end - at]
