"""Killed at every system call: one daemon, and a SIGKILL before each call of its that changes something.

    restore the host -> run the daemon, killed before call N -> look -> run it again -> look -> once more

for N = 1, 2, 3 … until the daemon comes to its end. The start after the kill is looked at before each call
of its, and gets no help; the last one has to find nothing left to do.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from attrs import evolve, frozen

from tests.proof.apart import apart, apart_in_turns
from tests.proof.heldup import Run, Whom, adopt_orphans
from tests.proof.oracle import Findings, age_half_packs, differences, look, torn, unsound
from tests.proof.scenes import SCENES, Scene
from tests.proof.table import Row
from tests.proof.victim import Host, plugins
from tests.proof.visitor import Visitor
from tests.support.gitserver import http_server
from tests.support.namespace import enter_mount_namespace, fork

__all__ = ["Trial", "prove", "run", "spread"]

Choose = Callable[[int], Iterable[int]]
"""Picks points, given how many there are about."""

MEMORY = Path("/dev/shm")
BEYOND = 50
"""How many points more than in a run before there may be: threads and children have no fixed order."""
TOLD_EVERY = 100
RAW = ("Traceback (most recent call last)", "internal error", "nobody foresaw")
"""What a daemon may not say when a child of its was killed."""


@frozen(kw_only=True)
class Trial:
    """What came of one point."""

    killed: bool
    """False: the daemon ended before it came that far."""
    promises: int
    failures: tuple[str, ...]


@frozen(kw_only=True)
class Expected:
    """How it ends when nobody is killed."""

    done: Findings
    undone: Findings | None
    """When what was asked for was lost; None where that must not be."""
    points: int


def run(arguments: Sequence[str]) -> list[Row]:
    """Run the part, as the command line asks for."""
    options = _options(arguments)
    whom = Whom(options.kill)

    def choose(count: int) -> Sequence[int]:
        if options.point:
            return [options.point]
        return spread(options.spread, count) if options.spread else range(1, count + BEYOND)

    cases = [
        partial(_prove_and_tell, scene, publish, choose, whom)
        for scene in SCENES
        for publish in scene.publishers
        if options.scene in (None, scene.name) and options.publish in (None, publish)
    ]
    return apart_in_turns(cases, options.jobs)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    cores = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(
        prog="python -m tests.proof killed", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="A point takes a third of a second to a second, and there are about 150 in each case: all of"
        " them take half an hour on two cores, `--spread 20` takes three minutes.",
    )  # fmt: skip
    parser.add_argument("--scene", choices=[scene.name for scene in SCENES], help="only this scene")
    parser.add_argument("--publish", choices=("symlink", "bind"))
    parser.add_argument(
        "--spread", type=int, metavar="N", help="only N points, evenly spread; default: all"
    )
    parser.add_argument("--point", type=int, help="only this point")
    parser.add_argument(
        "--kill", choices=[whom.value for whom in Whom], default=Whom.ALL.value,
        help="the daemon and all that it started; the daemon alone; or just the child that makes the call",
    )  # fmt: skip
    parser.add_argument(
        "--jobs", type=int, default=cores, help="how many cases at a time; default: %(default)s"
    )
    return parser.parse_args(arguments)


def _prove_and_tell(scene: Scene, publish: str, choose: Choose, whom: Whom) -> Row:
    row = prove(scene, publish, choose, whom=whom, tell=partial(print, file=sys.stderr, flush=True))
    print(f"{row.case}: {row.points} points, {len(row.failures)} failures", file=sys.stderr, flush=True)
    return row


def spread(number: int, count: int) -> Sequence[int]:
    """Return `number` of the points 1 to `count`, evenly spread, and the same ones each time."""
    return sorted({1 + (2 * at + 1) * count // (2 * number) for at in range(number)})


def prove(
    scene: Scene,
    publish: str,
    choose: Choose,
    *,
    whom: Whom = Whom.ALL,
    tell: Callable[[str], object] = lambda _: None,
) -> Row:
    """Try the points of `scene` that `choose` picks; `tell` hears how far it is."""
    plugins()  # every child finds them loaded
    # What is here by now is no garbage of any child: who looks for some need not touch, and copy, it.
    gc.collect()
    gc.freeze()
    case = f"{scene.name}, {publish}" + ("" if whom is Whom.ALL else f", {whom.value} alone")
    # In memory, where there is such a place: a kill takes nothing from it, and a sync costs nothing.
    top = Path(tempfile.mkdtemp(prefix="killed-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None))
    top.chmod(0o755)  # as any place that services have their files in
    with contextlib.ExitStack() as servers:
        servers.callback(shutil.rmtree, top)
        host = Host(home=top / "host", publish=publish, bootstrap=scene.bootstrap)
        if scene.http:
            host = evolve(host, address=servers.enter_context(_served(host.upstream.path.parent)))
        stage = _Stage(scene=scene, host=host, whom=whom)
        expected = apart(stage.set)
        trials = []
        for point in choose(expected.points):
            trials.append(apart(partial(stage.attempt, expected, point)))
            if not trials[-1].killed:
                break
            if trials[-1].failures or len(trials) % TOLD_EVERY == 0:
                tell("\n".join([f"{case}: {len(trials)} of {expected.points}", *trials[-1].failures]))
        return Row(
            part="killed", case=case, points=sum(t.killed for t in trials),
            promises=sum(t.promises for t in trials),
            failures=[f"{case}: {failure}" for trial in trials for failure in trial.failures],
        )  # fmt: skip


@frozen(kw_only=True)
class _Stage:
    """A scene on a host, and who is killed there. Each method is called in a process of its own."""

    scene: Scene
    host: Host
    whom: Whom

    def set(self) -> Expected:
        """Set the scene, keep it; return what is found after runs that nobody kills."""
        scene, host = self.scene, self.host
        _enter(host)
        scene.prepare(host)
        host.take_down()
        host.save()
        self._begin()
        ended, visitor = self._run(watch=self._torn)
        assert not visitor.trouble, f"{visitor.trouble}\n{host.log.read_text()}"
        assert not ended.seen, ended.seen
        scene.settle(host)
        assert ended.code == (0 if scene.errand else scene.code), host.log.read_text()
        done = look(host, self._start().code if scene.errand else ended.code)
        wrong = [*torn(host, [scene.ends], scene.places[-1:]), *unsound(done)]
        assert not wrong, wrong
        return Expected(done=done, undone=self._undone() if scene.lost else None, points=len(ended.points))

    def attempt(self, expected: Expected, point: int) -> Trial:
        """Kill at `point`; return what was found then, and afterwards."""
        scene, host = self.scene, self.host
        _enter(host)
        host.restore()
        self._begin()
        ended, visitor = self._run(kill_at=point)
        failures = [f"torn: {what}" for what in self._torn()]
        failures += [f"outlived it: {command}" for command in ended.left]
        failures += [f"visited: {visitor.trouble}"] if visitor.trouble else []
        if self.whom is Whom.CHILD:
            failures += [f"its log has {words!r}" for words in RAW if words in host.log.read_text()]
        now = self._settled(visitor)
        scene.settle(host)
        second = self._start(watch=partial(self._torn, now))
        failures += [f"then torn: {what}" for what in second.seen]
        found = look(host, second.code)
        lost = None if visitor.acknowledged else expected.undone
        failures += [f"after the next start: {what}" for what in self._wrong(expected.done, lost, found)]
        reloads = len(host.reloads())
        age_half_packs(host)
        calm = {**found, "half packs": []}
        failures += [f"not quiet: {what}" for what in differences(calm, look(host, self._start().code))]
        if len(host.reloads()) != reloads:
            failures.append("not quiet: it was reloaded once more")
        where = ended.points[point - 1] if ended.killed else "not killed"
        return Trial(
            killed=ended.killed, promises=4 + len(second.points) + 2 * len(expected.done),
            failures=tuple(f"{where}: {failure}" for failure in failures),
        )  # fmt: skip

    def _settled(self, visitor: Visitor) -> Sequence[str | None]:
        """Return the versions that there may be from now on; empty: those of the scene."""
        scene = self.scene
        if visitor.acknowledged and scene.promised:
            return scene.promised
        # Forward: who has seen the new one does not get the old one back for a while.
        arrived = not torn(self.host, [scene.ends], scene.places[-1:])
        if not arrived or scene.code or scene.lost:
            return ()
        return (scene.ends, *(version for version in scene.versions if version is None))

    def _undone(self) -> Findings:
        """Return what is found where nobody ever asked for anything."""
        self.host.take_down()
        self.host.restore()
        self._begin()
        self._start()
        self.scene.settle(self.host)
        return look(self.host, self._start().code)

    def _wrong(self, done: Findings, undone: Findings | None, found: Findings) -> Sequence[str]:
        """Return how `found` differs from what there may be; from that which is closer to it."""
        apart = frozenset(
            {"deploys"} if self.whom is Whom.CHILD else ()
        )  # it tells of the failure, rightly
        wrong = [differences(one, found, apart) for one in (done, undone) if one]
        return min(wrong, key=len)

    def _torn(self, versions: Sequence[str | None] = ()) -> Sequence[str]:
        return torn(self.host, versions or self.scene.versions, self.scene.places, self.scene.beside)

    def _begin(self) -> None:
        """Let the scene begin: as it was set, mounts included, which no copy has."""
        host = self.host
        if host.publish == "bind" and (host.home / "state").exists() and not self.scene.rebooted:
            host.put_up()
        self.scene.happens(host)

    def _run(
        self, *, kill_at: int = 0, watch: Callable[[], Sequence[str]] | None = None
    ) -> tuple[Run, Visitor]:
        """Run the daemon as the scene has it, visitor included."""
        visitor = Visitor(host=self.host, errand=self.scene.errand or _no_errand)
        if self.scene.errand:
            return self.host.serve(visitor.receive, kill_at=kill_at, whom=self.whom, watch=watch), visitor
        return self.host.once(kill_at=kill_at, whom=self.whom, watch=watch), visitor

    def _start(self, *, watch: Callable[[], Sequence[str]] | None = None) -> Run:
        """Start the daemon again, as it was started before; nobody asks it for anything."""
        if not self.scene.errand:
            return self.host.once(watch=watch)
        visitor = Visitor(host=self.host, errand=_no_errand)
        run = self.host.serve(visitor.receive, watch=watch)
        return evolve(run, seen=(*run.seen, *([visitor.trouble] if visitor.trouble else [])))


def _no_errand(_: Visitor) -> None:
    """To see that it is there is enough."""


@contextlib.contextmanager
def _served(root: Path) -> Iterator[str]:
    """Serve the repositories below `root` from a process of its own: whoever forks has no threads."""
    reading, writing = os.pipe()

    def serve() -> None:
        with http_server(root) as server:
            os.write(writing, server.url().encode())
            os.close(writing)
            signal.pause()

    process = fork(serve)
    os.close(writing)
    try:
        with os.fdopen(reading) as told:
            yield told.read()
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def _enter(host: Host) -> None:
    adopt_orphans()
    if host.publish == "bind":
        enter_mount_namespace()
