"""Every call fails once: an error in the place of each call that changes something, and what comes of it.

A scene is run without a fault first, which tells its calls. Then, for each call and each error that it can
meet in the field, the scene is set again and run with that fault, once more without, and judged: nothing
torn is ever published, a service that had files has them, the reason is told in plain words, the next
run mends everything by itself, and nothing is left behind.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence

from attrs import define, field

from tests.proof.calls import ERRORS
from tests.proof.stand import ABSENT, VERSIONS, Fault, Run, Scene, Stand, stand
from tests.proof.table import Row

__all__ = ["SCENES", "faults", "run", "sweep", "tried"]

HEALTH = """
health = {{ command = ["sh", "-c", "! grep -q ill {home}/etc/web/conf"], within = "1s", interval = "1s" }}
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
LASTING = ("ENOSPC", "EROFS", "EMFILE", "EIO")


@define
class _Judge:
    """Collects what is broken."""

    where: str
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


def tried(host: Stand, scene: Scene, fault: Fault) -> _Judge:
    """Run `scene` with `fault`, and then without; return what was found."""
    judge = _Judge(f"{scene.name}, {fault}")
    host.set_up(scene)
    run = host.run(fault)
    if run.failed:
        judge.where += f" ({run.failed[0]})"
    _judge_run(judge, scene, run, host)
    _judge_recovery(judge, scene, host)
    return judge


def _judge_run(judge: _Judge, scene: Scene, run: Run, host: Stand) -> None:
    seen = [*run.seen, host.published()]
    whole = {*VERSIONS, *(() if scene.before else (ABSENT,))}
    judge.expect(set(seen) <= whole, f"published was {seen}")
    judge.expect(not run.wedged, "it came to no end")
    judge.expect(not run.left, f"left running: {run.left}")
    unread = run.failed and run.failed[0].what.endswith("gitopper.toml")
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
    run = host.run()
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


def sweep(host: Stand, scene: Scene, *, every: int = 1, first: int = 0, tell: bool = False) -> Row:
    """Try every fault of `scene`, or each `every`-th of them from number `first` on."""
    host.set_up(scene)
    plain = host.run()
    assert plain.code == scene.code, plain.log
    points, promises, failures = 0, 0, []
    for fault in list(faults([call.kind for call in plain.calls]))[first::every]:
        judge = tried(host, scene, fault)
        points += 1
        promises += judge.promises
        failures += judge.broken
        if tell and judge.broken:
            sys.stderr.write("\n".join([*judge.broken, ""]))
    return Row(
        part="failing",
        case=f"{scene.name} ({host.publish})",
        points=points,
        promises=promises,
        failures=failures,
    )


def run(arguments: Sequence[str]) -> list[Row]:
    """Try them all."""
    parser = argparse.ArgumentParser("python -m tests.proof failing", description=__doc__)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="each N-th fault only")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="begin with fault N")
    parser.add_argument("--scene", action="append", choices=[scene.name for scene in SCENES])
    parser.add_argument("--publish", action="append", choices=["symlink", "bind"])
    chosen = parser.parse_args(arguments)
    scenes = [scene for scene in SCENES if not chosen.scene or scene.name in chosen.scene]
    rows = []
    for publish in chosen.publish or ("symlink", *(["bind"] if os.geteuid() == 0 else [])):
        with stand(publish) as host:
            rows += [sweep(host, s, every=chosen.every, first=chosen.first, tell=True) for s in scenes]
    return rows
