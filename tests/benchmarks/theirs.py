"""The other side: the git command line, as a script in cron calls it, or an agent for each service.

Each service has a clone of its own, partial and sparse. Five git processes for each service and poll:
fetch, rev-parse, diff, merge, status. Where there is a choice, the kinder one is taken: the names of what
differs and not a stat (which would fetch file contents), and as many services at a time as processors.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.measure import Spent, run_and_measure
from tests.benchmarks.ours import Followed, Stamp, read_stamps
from tests.support.upstream import ENVIRONMENT

__all__ = ["GIT_ENVIRONMENT", "Theirs"]

CLONE = """\
set -e
git clone --quiet --filter=blob:none --sparse --branch main "$3" "$1"
cd "$1"
git sparse-checkout set "$2"
"""
POLL = """\
set -e
cd "$1"
git fetch --quiet origin main
old=$(git rev-parse HEAD)
changed=$(git diff --name-only "$old" FETCH_HEAD)
git merge --quiet --ff-only FETCH_HEAD
dirty=$(git status --porcelain)
case "$changed" in
*"$2/"*) echo "$1" $(date +%s%N) >> ../reloads ;;
esac
"""
GIT_ENVIRONMENT = ENVIRONMENT | {
    # What git does in the background counts, too.
    "GIT_CONFIG_COUNT": "2",
    "GIT_CONFIG_KEY_0": "gc.autoDetach",
    "GIT_CONFIG_VALUE_0": "false",
    "GIT_CONFIG_KEY_1": "maintenance.autoDetach",
    "GIT_CONFIG_VALUE_1": "false",
}
PASSED_ON = ("GIT_SSH_COMMAND",)
"""What else of our own environment git gets, where it is set."""


class Theirs:
    """One clone for each service below `home`, and a script that looks after them."""

    def __init__(self, home: Path, services: Sequence[Followed]) -> None:
        self._environment = GIT_ENVIRONMENT | {n: os.environ[n] for n in PASSED_ON if n in os.environ}
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.services = services
        (home / "clone.sh").write_text(CLONE)
        (home / "poll.sh").write_text(POLL)

    def clone(self, *, watch_memory: bool = False) -> Spent:
        """Make every clone."""
        return self._each("clone.sh", self.services, watch_memory=watch_memory)

    def poll(self, services: Sequence[Followed] | None = None) -> Spent:
        """Look after every service once, or after `services`."""
        return self._each("poll.sh", self.services if services is None else services)

    def ls_remote(self) -> Spent:
        """Ask the upstream of the first service for its branch: the least that a script can do."""
        command = ["git", "ls-remote", self.services[0].upstream, "refs/heads/main"]
        return run_and_measure(command, env=self._environment, cwd=self.home)

    def stamps(self) -> list[Stamp]:
        """Return every reload so far, in order."""
        return read_stamps(self.home / "reloads")

    def _each(self, script: str, services: Sequence[Followed], *, watch_memory: bool = False) -> Spent:
        lines = "".join(f"{one.name} {one.link} {one.upstream}\n" for one in services)
        command = ["xargs", "-L1", f"-P{os.cpu_count()}", "sh", script]
        return run_and_measure(
            command, env=self._environment, cwd=self.home, stdin=lines, watch_memory=watch_memory
        )
