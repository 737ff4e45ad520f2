"""Nothing left: of the disk, of inodes, of descriptors, of the network's good will; with deadlines."""

from __future__ import annotations

import contextlib
import os
import resource
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gitopper_plugins.dulwich import DulwichPlugin
from libgitopper import SourceError
from tests.proof.mischief import Mischief, Relay
from tests.proof.spoilt import LATEST_SECONDS, SPOILT, TIMEOUT_SECONDS, Spoilt, Way, broken_by, fetch, ways
from tests.support.namespace import in_mount_namespace
from tests.support.site import site


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Way]]:
    with ways(tmp_path_factory.mktemp("proof") / "ways") as known:
        yield known


@pytest.fixture
def plugin() -> Iterator[DulwichPlugin]:
    plugin = DulwichPlugin()
    yield plugin
    plugin.close()


# One place of each kind of answer; `python -m tests.proof failing` tries the others.
@pytest.mark.parametrize("spoilt", [SPOILT[at + at // 3 % 3] for at in range(0, len(SPOILT), 3)], ids=str)
def test_an_answer_that_is_spoilt_is_given_up_in_time_and_leaves_no_trace(
    known: Mapping[str, Way], tmp_path: Path, spoilt: Spoilt
) -> None:
    assert not broken_by(spoilt, known[spoilt.way], tmp_path / "stores")


def test_a_breach_by_a_spoilt_answer_is_seen(known: Mapping[str, Way], tmp_path: Path) -> None:
    way = known["http"]
    stranded = tmp_path / "stores/scratch-of-nobody"
    stranded.mkdir(parents=True)
    # Nothing is spoilt, so that no reason is told; and what is left is not of this process.
    [reason, left] = broken_by(Spoilt("http", Mischief.NONE, 0), way, tmp_path / "stores")
    assert "no reason was told" in reason
    assert stranded.name in left


def as_ssh(monkeypatch: pytest.MonkeyPatch, program: str) -> Way:
    """A server behind ssh that is no git."""
    argv = shlex.join([sys.executable, "-c", program])
    monkeypatch.setenv("GIT_SSH_COMMAND", argv)
    return Way(relay=Relay(0), url="ssh://127.0.0.1/fleet.git")


@pytest.mark.parametrize("packet", ["000bkey=abc", "000ekey%07d", "0006#!"])
def test_a_server_that_never_stops_to_tell_of_itself_is_given_up(
    plugin: DulwichPlugin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packet: str
) -> None:
    text = f"({packet!r} % n if '%' in {packet!r} else {packet!r})"
    program = (
        "import sys, itertools\n"
        "sys.stdout.write('000eversion 2\\n')\n"
        f"for n in itertools.count(): sys.stdout.write({text})"
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    with pytest.raises(SourceError):
        fetch(plugin, as_ssh(monkeypatch, program), tmp_path / "stores", TIMEOUT_SECONDS)
    assert time.monotonic() - started < LATEST_SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "KiB more than before"


def test_a_server_that_never_stops_to_complain_fills_no_disk(
    plugin: DulwichPlugin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "told"
    program = (
        "import os, pathlib, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "written = 0\n"
        "try:\n"
        "    while True: written += os.write(2, b'no such repository ' * 1000)\n"
        f"except OSError: pathlib.Path({str(told)!r}).write_text(str(written))"
    )
    with pytest.raises(SourceError, match="no such repository"):
        fetch(plugin, as_ssh(monkeypatch, program), tmp_path / "stores", 10.0)
    assert int(told.read_text()) <= 1024 * 1024


def test_a_name_that_nobody_looks_up_is_given_up_in_time(
    plugin: DulwichPlugin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    real: Callable[..., object] = socket.getaddrinfo

    def slow(host: str, *args: Any, flags: int = 0, **more: Any) -> object:
        if not flags:
            over.wait(20)
        return real(host, *args, flags=flags, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    try:
        for scheme in ("http", "git"):
            started = time.monotonic()
            way = Way(relay=Relay(0), url=f"{scheme}://git.invalid/fleet.git")
            with pytest.raises(SourceError, match=r"within 0\.5 s"):
                fetch(plugin, way, tmp_path / "stores", TIMEOUT_SECONDS)
            assert time.monotonic() - started < LATEST_SECONDS
    finally:
        over.set()


@contextlib.contextmanager
def small(disk: Path, options: str) -> Iterator[None]:
    disk.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], check=True)
    yield
    subprocess.run(["umount", "--lazy", disk], check=True)


def fill(disk: Path, leave_bytes: int) -> None:
    free = os.statvfs(disk)
    (disk / "ballast").write_bytes(b"\0" * max(0, free.f_bavail * free.f_frsize - leave_bytes))


def take_inodes(disk: Path, leave: int) -> None:
    (disk / "ballast").mkdir()
    for number in range(max(0, os.statvfs(disk).f_favail - leave)):
        (disk / f"ballast/{number}").touch()


def release_ballast(disk: Path) -> None:
    subprocess.run(["rm", "-rf", disk / "ballast"], check=True)


def assert_told(run: subprocess.CompletedProcess[str], *words: str) -> None:
    assert run.returncode == 1, run.stderr
    assert any(word in run.stderr for word in words), run.stderr
    assert "Traceback" not in run.stderr
    assert "internal error" not in run.stderr


@in_mount_namespace
@pytest.mark.parametrize("what", ["bytes", "inodes"])
def test_a_full_disk_under_everything_leaves_what_is_there_and_heals(tmp_path: Path, what: str) -> None:
    with site(tmp_path / "site") as here, small(tmp_path / "disk", "size=4m,nr_inodes=600"):
        disk = tmp_path / "disk"
        here.daemon.home = disk
        here.configure("web")
        text = here.daemon.config.read_text().replace(f"{here.home}/mount", f"{disk}/mount")
        here.daemon.config.write_text(text)
        here.commit(text="old", **{"web/etc/large": "x" * 200_000})
        assert here.daemon.once().returncode == 0
        new = here.commit(text="new", **{"web/etc/large": "y" * 200_000})
        for left in (0, 65536) if what == "bytes" else (0, 5):
            fill(disk, left) if what == "bytes" else take_inodes(disk, left)
            run = here.daemon.once()
            if run.returncode:
                assert_told(run, "No space left", "disk is full", "disk I/O error", "unable to open")
                assert here.shown() in ("old", "new")
            release_ballast(disk)
        assert here.daemon.once().returncode == 0
        assert (here.shown(), here.reloads()[-1]) == ("new", new)


@in_mount_namespace
def test_a_state_directory_that_is_read_only_is_told_and_the_service_keeps_its_files(
    tmp_path: Path,
) -> None:
    with site(tmp_path / "site") as here:
        here.configure("web")
        here.commit(text="old")
        assert here.daemon.once().returncode == 0
        here.commit(text="new")
        state = here.home / "state"
        subprocess.run(["mount", "--bind", state, state], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", state], check=True)
        assert_told(
            here.daemon.once(), f"gitopperd: {state}: Read-only file system; name another --state-dir"
        )
        assert here.shown() == "old"
        subprocess.run(["umount", state], check=True)
        assert here.daemon.once().returncode == 0
        assert here.shown() == "new"


def test_a_daemon_without_descriptors_tells_so_and_goes_on_when_there_are_some(tmp_path: Path) -> None:
    with site(tmp_path / "site") as here:
        here.configure("web")
        here.commit(text="old")
        with here.daemon as daemon:
            daemon.wait_for("web", "OK")
            assert daemon.process is not None
            pid, before = daemon.process.pid, daemon.service("web")["hash"]
            usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            new = here.commit(text="new")
            for spare in (0, 2, 5):
                used = len(list(Path(f"/proc/{pid}/fd").iterdir()))
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + spare, usual[1]))
                time.sleep(1.2)
                assert here.shown() in ("old", "new")
            resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)
            daemon.wait_for("web", "OK", new)
            assert before != new
            assert here.shown() == "new"
            assert "Traceback" not in daemon.text()
            assert "Too many open files" in daemon.text()


def test_a_check_whose_own_program_lacks_descriptors_refuses_and_says_how_to_have_it_tried_again(
    tmp_path: Path,
) -> None:
    with site(tmp_path / "site") as here:
        enough = here.home / "enough"
        check = f"test -e {enough} || ulimit -n 0; : < /dev/null"
        here.configure(f'web: check = ["sh", "-c", "{check}"]')
        enough.touch()
        old = here.commit(text="old")
        with here.daemon as daemon:
            daemon.wait_for("web", "OK", old)
            enough.unlink()
            new = here.commit(text="new")
            info = daemon.wait_for("web", "BROKEN", old, "Too many open files")["stateinfo"]
            assert info.endswith("; not tried again before a change, or `do retry`")
            assert here.shown() == "old"
            enough.touch()
            daemon.post("/do/retry/web")
            daemon.wait_for("web", "OK", new)
            assert here.shown() == "new"
