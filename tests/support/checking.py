"""Releases to be checked, and who watches what a check does to the host."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve, field

from gitopper_plugins import check
from libgitopper import Accepted, Check, CheckRequest, Content, Hooks, Mapping, Release, Service
from libgitopper.testing.reload import service_for_tests

MARKER = "GITOPPER_TEST_MARKER"
PATIENCE_SECONDS = 20.0

Files = dict[str, str]


@define
class Site:
    """A service below a directory of the test's own, with its releases."""

    home: Path
    service: Service
    marker: str = field(factory=lambda: secrets.token_hex(8))

    @property
    def out(self) -> Path:
        """Where commands may leave something to be looked at."""
        return self.home / "out"

    def release(self, id_: str, files: Files) -> Release:
        """Make a release; the keys of `files` are paths below it."""
        path = self.service.releases / id_
        for name, text in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_text(text)
        return Release(
            service=self.service.name, id=id_, path=path, content=Content(revision="c" * 40, entries=())
        )

    def mapped(self, *mappings: tuple[str, str | Path], files: Sequence[str] = ()) -> None:
        """Map pairs of link and local; locals are below the home; `files` are the links that are files."""
        made = tuple(
            Mapping(link=link, local=self.home / local, file=link in files) for link, local in mappings
        )
        self.service = evolve(self.service, mappings=made)

    def request(self, release: Release, *commands: Sequence[str], **more: Any) -> CheckRequest:
        """Ask for `release` to be checked by `commands`; `more` is for the `Check`."""
        asked = Check(commands=tuple(map(tuple, commands)), **{"timeout_seconds": 20.0, **more})
        return CheckRequest(service=evolve(self.service, check=asked), release=release)

    def check(self, release: Release, *scripts: str, **more: Any) -> Accepted:
        """Check `release` by shell scripts, as the daemon would, through the hook."""
        request = self.request(release, *(("sh", "-eu", "-c", script) for script in scripts), **more)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(MARKER, self.marker)
            patch.setenv("HERE", str(self.home))
            patch.setenv("OUT", str(self.out))
            (accepted,) = hooks().check(request)
        return accepted

    def seen(self, release: Release, script: str, **more: Any) -> str:
        """Return what a script prints in the view of a check of `release`."""
        told = self.out / "seen"
        note = self.check(release, f'exec >"$OUT/seen"; {script}', **more).note
        assert note == "", "there was no private view"
        return told.read_text()

    def processes(self) -> list[int]:
        """Return the processes that checks of this site started, and that still run."""
        wanted = f"{MARKER}={self.marker}".encode()
        pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
        return [pid for pid in pids if _has(pid, wanted)]

    def running(self, program: str) -> int:
        """Return how many of them are `program` by now."""
        return sum(_name(pid) == program for pid in self.processes())

    def assert_nothing_runs(self) -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while (left := self.processes()) and time.monotonic() < until:
            time.sleep(0.02)
        assert not left, [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in left]


def make_site(home: Path, *, publish: str = "bind") -> Site:
    """Return a site in the directory `home`, with nothing mapped yet."""
    (home / "out").mkdir(parents=True)
    (home / "out").chmod(0o777)
    service = service_for_tests(
        "app", mappings=(), mount=home / "data", publish=publish, user=None, reload="command"
    )
    return Site(home, service)


def hooks() -> Hooks:
    made = Hooks()
    made.register(check, name="check")
    return made


def tree(path: Path) -> dict[str, object]:
    """Return all that there is to know of everything below `path`."""
    found: dict[str, object] = {}
    for entry in sorted([path, *path.rglob("*")]):
        about = entry.lstat()
        data = entry.read_bytes() if entry.is_file() and not entry.is_symlink() else None
        found[str(entry.relative_to(path))] = (
            about.st_mode,
            about.st_uid,
            about.st_gid,
            about.st_ino,
            data,
        )
    return found


def mounts() -> bytes:
    return Path("/proc/self/mountinfo").read_bytes()


@contextmanager
def watching(look: Callable[[], object]) -> Iterator[list[object]]:
    """Look again and again, as somebody else on the host, while the block runs; list each change."""
    seen: list[object] = [look()]
    over = threading.Event()

    def body() -> None:
        while not over.is_set():
            try:
                now = look()
            except OSError as exc:
                now = str(exc)
            if now != seen[-1]:
                seen.append(now)

    thread = threading.Thread(target=body)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def _has(pid: int, wanted: bytes) -> bool:
    try:
        return wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") and pid != os.getpid()
    except OSError:
        return False


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:  # it has ended
        return ""
