"""Thousands of fetches into one store: the last cost what the first did, and the store stays small.

One real daemon with one service; each commit changes what the service does not map, so that a fetch and
an advance are all that there is to do. Its CPU time is taken from outside, with that of all that it starts.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.proof.longfleet import Fleet, Repository, fleet
from tests.proof.longwatch import cpu_seconds, on_disk, taken
from tests.proof.table import Row

__all__ = ["FETCHES", "prove"]

FETCHES = 2000
CHUNK = 100
SLOWER = 1.2
"""How much more CPU time the last `CHUNK` may take than the first."""
DESCRIPTORS_MORE = 8
DESCRIPTORS_OF_A_PACK = 8
MEMORY_MORE_MB = 2.2
"""From the middle on: the interpreter takes memory by the MiB where what is free is in pieces; two such."""
PACKS_MOST = 30
FILES_MOST = 120
WAIT_SECONDS = 30.0


def prove(fetches: int, *, timed: bool = True) -> Row:
    """Fetch so many commits, one by one; `timed` holds the last against the first."""
    with (
        tempfile.TemporaryDirectory(prefix="gitopper-long-") as home,
        fleet(Path(home), services=1, upstreams=1, interval_seconds=3600) as one,
    ):
        [repository] = one.repositories
        one.daemon.start().wait_for("s000", "OK", repository.tip())
        chunks = [_fetch(one, repository, min(CHUNK, fetches // 4)) for _ in range(_chunks(fetches))]
        return _row(chunks, on_disk(one.mount, Path(home) / "state"), fetches, timed=timed)


def _chunks(fetches: int) -> int:
    return fetches // min(CHUNK, fetches // 4)


def _fetch(one: Fleet, repository: Repository, count: int) -> dict[str, float]:
    """Fetch `count` commits; return what that took, and what is taken after it."""
    before, packs = cpu_seconds(one.pid), 0.0
    head = _head(one)
    for _ in range(count):
        repository.commit({"elsewhere": f"{repository.commits}"})
        tip = repository.tip()
        one.daemon.post("/do/pull/s000")
        _wait_for(head, tip)
        packs = max(packs, _packs(one))
    one.forget_requests()
    now = taken(one.pid, one.mount)
    return {
        "cpu": (cpu_seconds(one.pid) - before) / count,
        "packs": packs,
        "descriptors": now["descriptors"],
        "descriptors of each pack": now["descriptors of each pack"],
        "memory": now["memory"] / 1e6,
    }


def _packs(one: Fleet) -> int:
    """Return how many packs the store has."""
    return len(list((one.mount / ".gitopper/stores").glob("*.git/objects/pack/*.pack")))


def _head(one: Fleet) -> Path:
    """Return the file in which git has the commit of the live release."""
    pointer = (one.mount / "s000" / ".git").read_text()
    return Path(pointer.removeprefix("gitdir: ").strip()) / "HEAD"


def _wait_for(head: Path, tip: str) -> None:
    """Wait without asking the daemon, which would cost it time."""
    until = time.monotonic() + WAIT_SECONDS
    while head.read_text().strip() != tip:
        assert time.monotonic() < until, f"{head} is not at {tip} after {WAIT_SECONDS:g} s"
        time.sleep(0.002)


def _row(chunks: Sequence[dict[str, float]], disk: dict[str, float], fetches: int, *, timed: bool) -> Row:
    # The first chunk begins with an empty store: what is taken after the second is what is usual. Memory is
    # by the middle: until there, what keeps trees, and SQLite its pages, fills up.
    first, usual, middle, last = chunks[0], chunks[1], chunks[len(chunks) // 2], chunks[-1]
    packs, files = max(chunk["packs"] for chunk in chunks), disk["files of one store"]
    cpu = f"{first['cpu'] * 1000:.1f} then {last['cpu'] * 1000:.1f} ms of CPU"
    open_files = f"{usual['descriptors']:.0f} then {last['descriptors']:.0f} descriptors"
    of_a_pack = max(chunk["descriptors of each pack"] for chunk in chunks)
    memory = f"{middle['memory']:.1f} then {last['memory']:.1f} MB"
    broken = {
        f"the last fetches take more than the first: {cpu}": timed and last["cpu"] > SLOWER * first["cpu"],
        open_files: last["descriptors"] > usual["descriptors"] + DESCRIPTORS_MORE,
        f"{of_a_pack:.1f} descriptors of each pack; at most {DESCRIPTORS_OF_A_PACK} are right": (
            of_a_pack > DESCRIPTORS_OF_A_PACK
        ),
        memory: last["memory"] > middle["memory"] + MEMORY_MORE_MB,
        f"{packs:.0f} packs in the store; at most {PACKS_MOST} are right": packs > PACKS_MOST,
        f"{files:.0f} files in the store; at most {FILES_MOST} are right": files > FILES_MOST,
    }
    return Row(
        part="long", case=f"fetches into one store: {cpu}, {open_files}, {memory}, {packs:.0f} packs",
        points=fetches, promises=len(broken) - (not timed),
        failures=[f"fetches into one store: {what}" for what, holds in broken.items() if holds],
    )  # fmt: skip
