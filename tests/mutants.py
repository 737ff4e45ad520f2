"""Mutation testing of the planner and the state store: ``make mutation``.

mutmut changes them in a thousand small ways, one at a time, and runs the tests that come that way. A change
that no test notices is a survivor. Here each survivor is held against those that are known to change
nothing that matters, with the reason; any other one fails the run. What is changed, and which tests judge,
is in ``[tool.mutmut]`` of pyproject.toml. mutmut leaves functions with a decorator alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

MUTANTS = Path("mutants")

EQUIVALENT = {
    "former=None if (view.deployed) and False else self._former(service),": (
        "what a service last took is asked for only where nothing is deployed; else it is not looked at"
    ),
    "return next((revision for _, revision in self._state.releases(service.name, 2)), None)": (
        "the first of one is the first of two"
    ),
    'which, values = ("WHERE service = ?", (service, limit)) if service else ("XXXX", (limit,))': (
        "to SQLite this is another name for the table"
    ),
    "connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)": (
        "SQLite itself waits for as long"
    ),
    "connection = sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False)": (
        "each write begins its transaction by name, so the library has none to begin"
    ),
    "return _connected(path, alone=None)": "None is as little as False",
    "os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, ))": (
        "it is closed to others right after, before anything is in it"
    ),
    "if exc.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= until:": (
        "no clock is read at that very instant"
    ),
    "time.sleep(1.01)": "how often it is tried says nothing of what comes of it",
    "migrate(connection, None)": "the version was asked for before, and told with the path",
    "migrate(connection, str(None))": "the version was asked for before, and told with the path",
    "version = version_of(connection, None, len(steps))": (
        "it was asked for before, and told with the path; only a program that is newer, and faster, differs"
    ),
    "return cursor.lastrowid or 1": "after an INSERT there is one; the type of it says less",
}
"""What a mutant made of a line, stripped, and why that does not matter."""

_QUERIES = (
    "SELECT ", " OVER ", "INSERT ", "UPDATE ", "DELETE ", "WHERE ", "BY ", "VALUES ", "PRAGMA ", '"BEGIN ',
    '"COMMIT"', '"ROLLBACK"',
)  # fmt: skip


def main() -> int:
    """Make and try all mutants; return the exit code."""
    MUTANTS.mkdir(exist_ok=True)  # before anything looks for modules in it
    tried = subprocess.run([*_mutmut(), "run", *sys.argv[1:]], env=_environment(), check=False)
    if tried.returncode:
        return tried.returncode
    unexplained, excused = [], 0
    for name, fate in _not_killed():
        before, after = _change(name)
        if fate == "survived" and (_only_case(before, after) or after in EQUIVALENT):
            excused += 1
        elif fate != "timeout":  # that is a test which noticed
            unexplained.append(f"{name}: {fate}\n  - {before}\n  + {after}")
    print("\n".join(unexplained))
    print(f"{excused} survivors change nothing, {len(unexplained)} matter or are not explained")
    return 1 if unexplained else 0


def _mutmut() -> list[str]:
    return [str(Path(sys.executable).with_name("mutmut"))]


def _environment() -> dict[str, str]:
    """The mutants come first: before the package that is installed."""
    path = [str(MUTANTS.resolve()), *filter(None, [os.environ.get("PYTHONPATH")])]
    memory = {"TMPDIR": "/dev/shm"} if os.access("/dev/shm", os.W_OK) else {}
    return os.environ | {"PYTHONPATH": os.pathsep.join(path)} | memory


def _not_killed() -> Iterator[tuple[str, str]]:
    """Yield each mutant that no test killed, and its fate."""
    told = subprocess.run(
        [*_mutmut(), "results"], env=_environment(), capture_output=True, text=True, check=True
    )
    for line in told.stdout.splitlines():
        name, separator, fate = line.strip().rpartition(": ")
        if separator:
            yield name, fate


def _change(name: str) -> tuple[str, str]:
    """Return what a mutant took away, and what it put there."""
    shown = subprocess.run(
        [*_mutmut(), "show", name], env=_environment(), capture_output=True, text=True, check=True
    )
    lines = [line for line in shown.stdout.splitlines() if not line.startswith(("---", "+++"))]
    before, after = (
        " ".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in ("-", "+")
    )
    return before, after


def _only_case(before: str, after: str) -> bool:
    """Tell whether a change is one of small and capital letters in a query: to SQLite they are the same.

    No value is ever written into a query.
    """
    return any(word in before for word in _QUERIES) and before.lower() == after.lower()


if __name__ == "__main__":
    sys.exit(main())
