"""Every call fails once: an error in the place of each call that changes something, and what comes of it.

A scene is run without a fault first, which tells its calls. Then, for each call and each error that it can
meet in the field, the scene is set again and run with that fault, once more without, and judged: nothing
torn is ever published, a service that had files has them, the reason is told in plain words, the next
run mends everything by itself, and nothing is left behind. Of hosts that faults have left alike (see
`disks`), the next run is tried once. Last come the answers of upstream (`spoilt`).
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

from attrs import define, evolve, field

from tests.proof import spoilt
from tests.proof.calls import ERRORS, SHOWING
from tests.proof.disks import digest
from tests.proof.stand import ABSENT, VERSIONS, Fault, Run, Scene, Stand, stand
from tests.proof.table import Row

__all__ = ["SCENES", "faults", "run", "share", "spread", "sweep", "tried"]

HEALTH = """
[services.health]
command  = ["sh", "-c", "! grep -q ill {home}/etc/web/conf"]
within   = "200ms"
interval = "200ms"
"""
CHECK = """
check = ["grep", "-q", ".", "{home}/etc/web/conf"]
"""

SCENES = (
    Scene(name="first", target="one", after="one"),
    Scene(name="deploy", before="one", target="two", after="two"),
    Scene(name="unhealthy", before="one", target="ill", after="one", code=1, more=HEALTH),
    Scene(name="checked", before="one", target="two", after="two", more=CHECK),
)

# What nobody but the author of a program can do anything with.
RAW = ("Traceback (most recent call last)", "internal error", "nobody foresaw")
# An event loop that could not be made; Python tells this of it, whatever the program does.
_PYTHONS_OWN = r"Exception ignored in: <function BaseEventLoop.__del__.*?AttributeError[^\n]*"
TOLD_EVERY = 200
LASTING = ("ENOSPC", "EROFS", "EMFILE", "EIO")


@define
class _Judge:
    """Collects what is broken."""

    where: str
    struck: bool
    """False: this time the call was not made, as threads have no fixed order."""
    promises: int = 0
    broken: list[str] = field(factory=list)

    def expect(self, holds: bool, otherwise: str) -> None:
        """Note `otherwise` unless it holds."""
        self.promises += 1
        if not holds:
            self.broken.append(f"{self.where}: {otherwise}")


def faults(calls: Sequence[str], *, lasting: bool = True) -> Iterator[Fault]:
    """Every fault that can befall the calls, of which the kinds are given, in their order."""
    counts: dict[str, int] = {}
    for kind in calls:
        counts[kind] = counts.get(kind, 0) + 1
        for error in ERRORS[kind]:
            yield Fault(kind=kind, nth=counts[kind], error=error)
            if lasting and error in LASTING:
                yield Fault(kind=kind, nth=counts[kind], error=error, lasting=True)


def tried(host: Stand, scene: Scene, fault: Fault, mended: set[str] | None = None) -> _Judge:
    """Run `scene` with `fault`, and then without; return what was found.

    The hosts in `mended` were already seen to recover, or not to; this one is one of them afterwards.
    """
    host.set_up(scene)
    run = host.run(fault)
    judge = _Judge(f"{scene.name}, {host.publish}, {fault}", struck=bool(run.failed))
    if run.failed:
        judge.where += f" ({run.failed[0]})"
    _judge_run(judge, scene, run, host)
    left = digest(host.home, host.published(), host.mounts(), host.reloads.read_text())
    if mended is None or left not in mended:
        _judge_recovery(judge, scene, host)
    if mended is not None:
        mended.add(left)
    return judge


def _judge_run(judge: _Judge, scene: Scene, run: Run, host: Stand) -> None:
    seen = [*run.seen, host.published()]
    whole = {*VERSIONS, *(() if scene.before else (ABSENT,))}
    judge.expect(set(seen) <= whole, f"published was {seen}")
    judge.expect(not run.wedged, "it came to no end")
    judge.expect(not run.left, f"left running: {run.left}")
    unread = any(call.what.endswith("gitopper.toml") for call in run.failed)
    judge.expect(run.code in ((2,) if unread else (0, 1)), f"exit code {run.code}\n{run.log}")
    log = re.sub(_PYTHONS_OWN, "", run.log, flags=re.DOTALL)
    for words in RAW:
        judge.expect(words not in log, f"{words!r} in its log\n{run.log}")
    told = any(" ERROR " in line or line.startswith("gitopperd: ") for line in run.log.splitlines())
    judge.expect(run.code == 0 or told, f"no reason in its log\n{run.log}")
    if scene.before:
        judge.expect(host.has(scene.before), "the history that was there is not there any more")
    if run.code == 0:
        judge.expect(host.published() == scene.after, f"it said well, and published is {host.published()}")


def _judge_recovery(judge: _Judge, scene: Scene, host: Stand) -> None:
    run = host.run(watched=SHOWING)
    _judge_run(judge, scene, run, host)
    judge.expect(run.code == scene.code, f"then: exit code {run.code}\n{run.log}")
    judge.expect(host.published() == scene.after, f"then: published is {host.published()}\n{run.log}")
    deployed, attempt = host.deployed()
    judge.expect((deployed, attempt) == (scene.after, False), f"then: deployed is {deployed}, {attempt=}")
    taken = host.reloads.read_text().split()
    judge.expect(taken[-1:] == [host.commits[scene.after]], "then: it was not reloaded for what it shows")
    judge.expect(not (complaint := host.complaints_of_git()), f"then: git says {complaint}")
    if host.leftovers():
        host.push("last")
        host.run()
        judge.expect(host.published() == "last", f"the next deploy: published is {host.published()}")
        judge.expect(not (left := host.leftovers()), f"left on the disk: {left}")


def spread(number: int, count: int, first: int = 0) -> Sequence[int]:
    """Return `number` of the numbers below `count`, evenly spread from `first` on; all of them for 0."""
    if not number:
        return range(count)
    return sorted({(first + at * count // number) % count for at in range(number)})


def share(numbers: Sequence[int], at: int, of: int) -> Sequence[int]:
    """Return one of `of` equal shares; in one piece, as faults at the same call leave hosts alike."""
    return numbers[len(numbers) * at // of : len(numbers) * (at + 1) // of]


def sweep(host: Stand, scene: Scene, choose: Callable[[int], Sequence[int]], *, tell: bool = False) -> Row:
    """Try the faults of `scene` that `choose` picks, given how many there are."""
    host.set_up(scene)
    plain = host.run()
    assert plain.code == scene.code, plain.log
    points, promises, failures = 0, 0, []
    every = list(faults([call.kind for call in plain.calls]))
    case = f"{scene.name} ({host.publish})"
    chosen = choose(len(every))
    mended: set[str] = set()
    for at, number in enumerate(chosen):
        if tell and at and at % TOLD_EVERY == 0:
            print(f"{case}: {at} of {len(chosen)}", file=sys.stderr, flush=True)
        judge = tried(host, scene, every[number], mended)
        points += judge.struck
        promises += judge.promises
        failures += judge.broken
        if tell and judge.broken:
            sys.stderr.write("\n".join([*judge.broken, ""]))
    if tell:
        print(f"{case}: {points} points, {len(failures)} failures", file=sys.stderr, flush=True)
    return Row(part="failing", case=case, points=points, promises=promises, failures=failures)


def run(arguments: Sequence[str]) -> list[Row]:
    """Try them all."""
    parser = argparse.ArgumentParser("python -m tests.proof failing", description=__doc__)
    parser.add_argument(
        "--spread", type=int, default=0, metavar="N", help="only N faults of each scene, evenly spread"
    )
    parser.add_argument("--first", type=int, default=0, metavar="K", help="begin the spread with fault K")
    cores = os.cpu_count() or 1
    parser.add_argument("--jobs", type=int, default=cores + 1, metavar="N", help="how many at a time")
    parser.add_argument("--scene", action="append", choices=[scene.name for scene in SCENES])
    parser.add_argument("--publish", action="append", choices=["symlink", "bind"])
    chosen = parser.parse_args(arguments)
    scenes = [scene.name for scene in SCENES if not chosen.scene or scene.name in chosen.scene]
    publishers = chosen.publish or ("symlink", *(["bind"] if os.geteuid() == 0 else []))
    # Processes of their own, begun afresh: the stand and its servers have threads.
    with ProcessPoolExecutor(chosen.jobs, mp_context=get_context("spawn")) as pool:
        work: list[Future[list[Row]]] = [
            pool.submit(
                _share, publish, scenes, partial(spread, chosen.spread, first=chosen.first), at, chosen.jobs
            )
            for publish in publishers
            for at in range(chosen.jobs)
        ]
        if not chosen.scene:
            work.append(pool.submit(_spoilt))
        return _together([row for done in work for row in done.result()])


def _share(
    publish: str, scenes: Sequence[str], choose: Callable[[int], Sequence[int]], at: int, of: int
) -> list[Row]:
    """Try one of `of` equal shares of the faults of `scenes`."""

    def mine(count: int) -> Sequence[int]:
        return share(choose(count), at, of)

    with stand(publish) as host:
        return [sweep(host, scene, mine, tell=True) for scene in SCENES if scene.name in scenes]


def _spoilt() -> list[Row]:
    return spoilt.sweep(spoilt.SPOILT)


def _together(rows: Sequence[Row]) -> list[Row]:
    """Add up the rows of the same case."""
    sums: dict[str, Row] = {}
    for row in rows:
        former = sums.get(row.case)
        sums[row.case] = row if former is None else evolve(
            former, points=former.points + row.points, promises=former.promises + row.promises,
            failures=[*former.failures, *row.failures],
        )  # fmt: skip
    return list(sums.values())
