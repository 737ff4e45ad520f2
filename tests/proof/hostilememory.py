"""How much memory a hostile repository takes: of the process that deploys, and of those that it starts.

Upstream is served by this process, so that the other one has nothing but what a daemon has. That one
deploys a good commit; then the peak of its memory is set back, and it deploys the hostile one.
"""

from __future__ import annotations

import json
import logging
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import cast

from attrs import frozen

from gitopper_plugins.dulwich import DulwichPlugin
from gitopper_plugins.dulwich.indexing import FILES_IN_MEMORY, INDEX_MEMORY_BYTES, UNPACKED_BYTES
from libgitopper import Hooks
from tests.proof.hostileground import LIMITS, MIB, Ground, Repository, Trial
from tests.proof.table import Row
from tests.support.rawserver import Answers, raw_server

__all__ = ["DEPLOYING_BYTES", "INDEXING_BYTES", "Taken", "measure", "weigh_all"]

DEPLOYING_BYTES = 96 * MIB + 3 * UNPACKED_BYTES + 5 * LIMITS.file_bytes
"""What a deploy may take in the daemon beyond what it has: for a directory of as many entries as are read,
a small pack that is unpacked, and a file with its deltas."""
INDEXING_BYTES = INDEX_MEMORY_BYTES + FILES_IN_MEMORY * LIMITS.file_bytes + 64 * MIB
"""What another process may take for a pack, with its program and the pages of the pack itself."""


@frozen(kw_only=True)
class Taken:
    """What was taken."""

    growth_bytes: int
    """Of the process that deploys, at its peak."""
    child_bytes: int
    """Of the largest process that it started."""
    reason: str


def measure(trial: Trial, reader: str | None = None) -> Taken:
    """Deploy what `trial` has, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as directory, raw_server() as answers:
        root = Path(directory)
        served = Ground(root, answers, Hooks(), DulwichPlugin())
        argv = [
            sys.executable,
            "-m",
            "tests.proof.hostilememory",
            str(root),
            str(answers.port),
            *([reader] if reader else []),
        ]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin
            assert process.stdout
            _tip(served, _good())
            process.stdin.write(b"good\n")
            process.stdin.flush()
            process.stdout.readline()
            trial.on(cast("Ground", _Served(served)))
            out, _ = process.communicate(b"hostile\n", timeout=120)
        return Taken(**json.loads(out))


def weigh_all(name: str, trials: Iterable[Trial], reader: str | None = None) -> Row:
    """Measure each of `trials`, and hold it against the bounds; for `reader`, see `Ground`."""
    failures, points = [], 0
    for trial in trials:
        points += 1
        taken = measure(trial, reader)
        here, elsewhere = taken.growth_bytes / MIB, taken.child_bytes / MIB
        told = f"{name}: {trial.name}: {here:.0f} MiB, {elsewhere:.0f} MiB elsewhere"
        print(told, file=sys.stderr)
        if taken.growth_bytes > DEPLOYING_BYTES or taken.child_bytes > INDEXING_BYTES:
            failures.append(told)
    return Row(part="hostile", case=name, points=points, promises=2 * points, failures=failures)


class _Served:
    """A ground where nothing is tried: it only serves."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self.serve = ground.serve

    def attempt(self) -> None:
        """Leave it to the other process."""

    def hold(self, outcome: object, reason: str) -> None:
        """Nothing was tried here."""


def _good() -> Repository:
    it = Repository()
    it.of_web(it.tree(("100644", b"index", it.blob(b"good"))))
    return it


def _tip(served: Ground, it: Repository) -> None:
    copy = Repository()
    served.serve(copy.of_web(copy.tree(("100644", b"index", copy.blob(b"good")))), it.pack())


def _field(name: str) -> int:
    """A line of /proc/self/status, in bytes."""
    text = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith(name))) * 1024


def _deploy(here: Ground) -> str:
    try:
        here.deploy()
    except Exception as exc:  # noqa: BLE001 - which it is says the ground; here it is about memory
        return f"{type(exc).__name__}: {exc}"
    return ""


def main(root: Path, port: int, reader: str | None = None) -> None:
    """Be the process that deploys."""
    logging.disable(logging.CRITICAL)
    plugin, hooks = DulwichPlugin(), Hooks()
    hooks.register(plugin, name="dulwich")
    here = Ground(root, Answers(port=port), hooks, plugin, reader=reader)
    sys.stdin.readline()
    assert not _deploy(here)
    print("deployed", flush=True)
    sys.stdin.readline()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what it is now: proc(5)
    before = _field("VmRSS")
    reason = _deploy(here)
    growth = _field("VmHWM") - before
    plugin.close()  # who reads for it ends with it, and can be told of
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(json.dumps({"growth_bytes": growth, "child_bytes": children, "reason": reason}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
