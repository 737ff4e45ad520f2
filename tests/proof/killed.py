"""Killed at every system call: one daemon, and a SIGKILL before each call of its that changes something.

    restore the host -> run the daemon, killed before call N -> look -> run it again -> look -> once more

for N = 1, 2, 3 … until the daemon comes to its end. The last run has to find nothing left to do.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pickle
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

from attrs import evolve, frozen

from libgitopper import load_plugins
from tests.proof.oracle import Findings, differences, look, torn
from tests.proof.points import adopt_orphans
from tests.proof.scenes import SCENES, Scene
from tests.proof.table import Row
from tests.proof.victim import Host
from tests.support.gitserver import http_server
from tests.support.namespace import enter_mount_namespace, fork

__all__ = ["Trial", "run"]

T = TypeVar("T")

MEMORY = Path("/dev/shm")
BEYOND = 50
"""How many points more than in a run before there may be: threads and children have no fixed order."""


@frozen(kw_only=True)
class Trial:
    """What came of one point."""

    killed: bool
    """False: the daemon ended before it came that far."""
    promises: int
    failures: tuple[str, ...]


def run(arguments: Sequence[str]) -> list[Row]:
    """Run the part, as the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof killed", description=__doc__)
    parser.add_argument("--scene", help="only the scene of this name")
    parser.add_argument("--publish", choices=("symlink", "bind"))
    parser.add_argument(
        "--spread", type=int, metavar="N", help="only N points, evenly spread; default: all"
    )
    parser.add_argument("--point", type=int, help="only this point")
    parser.add_argument("--alone", action="store_true", help="kill the daemon, and not what it started")
    options = parser.parse_args(arguments)

    def choose(count: int) -> Sequence[int]:
        if options.point:
            return [options.point]
        return spread(options.spread, count) if options.spread else range(1, count + BEYOND)

    rows = []
    for scene in SCENES:
        for publish in scene.publishers:
            if options.scene in (None, scene.name) and options.publish in (None, publish):
                row = prove(scene, publish, choose, alone=options.alone)
                print(f"{row.case}: {row.points} points, {len(row.failures)} failures", file=sys.stderr)
                rows.append(row)
    return rows


def spread(number: int, count: int) -> Sequence[int]:
    """Return `number` of the points 1 to `count`, evenly spread, and the same ones each time."""
    return sorted({1 + (2 * at + 1) * count // (2 * number) for at in range(number)})


def prove(
    scene: Scene, publish: str, choose: Callable[[int], Iterable[int]], *, alone: bool = False
) -> Row:
    """Try the points of `scene` that `choose` picks, given how many there are about."""
    load_plugins()  # every child finds them imported
    case = f"{scene.name}, {publish}" + (", alone" if alone else "")
    # In memory, where there is such a place: a kill takes nothing from it, and a sync costs nothing.
    top = Path(tempfile.mkdtemp(prefix="killed-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None))
    with contextlib.ExitStack() as servers:
        servers.callback(shutil.rmtree, top)
        host = Host(home=top / "host", publish=publish)
        if scene.http:
            host = evolve(host, address=servers.enter_context(_served(host.upstream.path.parent)))
        expected, count = _apart(partial(_set, scene, host))
        trials = []
        for point in choose(count):
            trials.append(_apart(partial(_try, scene, host, expected, point, alone=alone)))
            if not trials[-1].killed:
                break
        return Row(
            part="killed", case=case, points=sum(t.killed for t in trials),
            promises=sum(t.promises for t in trials),
            failures=[failure for trial in trials for failure in trial.failures],
        )  # fmt: skip


def _set(scene: Scene, host: Host) -> tuple[Findings, int]:
    """Set the scene, keep it; return what is found after a run that nobody kills, and its points."""
    _enter(host)
    scene.prepare(host)
    host.take_down()
    host.save()
    _begin(scene, host)
    ended = host.once()
    expected = look(host, ended.code)
    assert ended.code == scene.code, host.log.read_text()
    assert not (wrong := torn(host, [scene.ends], scene.places[-1:])), wrong
    return expected, len(ended.points)


def _try(scene: Scene, host: Host, expected: Findings, point: int, *, alone: bool) -> Trial:
    _enter(host)
    host.restore()
    _begin(scene, host)
    ended = host.once(kill_at=point, alone=alone)
    failures = [f"torn: {what}" for what in torn(host, scene.versions, scene.places)]
    failures += [f"outlived it: {command}" for command in ended.left]
    found = look(host, host.freely()) if ended.killed else look(host, ended.code)
    failures += [f"after the next start: {what}" for what in differences(expected, found)]
    reloads = len(host.reloads())
    again = look(host, host.freely())
    failures += [f"not quiet: {what}" for what in differences(found, again)]
    if len(host.reloads()) != reloads:
        failures.append("not quiet: it was reloaded once more")
    where = ended.points[point - 1] if ended.killed else "not killed"
    told = tuple(f"{where}: {failure}" for failure in failures)
    return Trial(killed=ended.killed, promises=3 + 2 * len(expected), failures=told)


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


def _begin(scene: Scene, host: Host) -> None:
    """Let the scene begin: as it was set, mounts included, which no copy has."""
    if host.publish == "bind" and (host.home / "state").exists() and not scene.rebooted:
        assert host.freely() == 0, host.log.read_text()
    scene.happens(host)


def _apart(what: Callable[[], T]) -> T:
    """Do `what` in a process of its own, with no children but those of the daemon; return the result."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            outcome: tuple[bool, object] = (True, what())
        except BaseException:  # noqa: BLE001 - it is raised again, by the other side
            outcome = (False, traceback.format_exc())
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump(outcome, pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    good, result = pickle.loads(told)
    assert good, result
    return cast("T", result)
