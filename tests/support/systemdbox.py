"""A real systemd in namespaces of its own: the host's files below, a throw-away layer above.

Everything that a test does in the box (files, mounts, units, processes, sockets on loopback) is gone
when the box is closed, and nothing of it was ever to be seen on the host. It needs root, a cgroup2
mount somewhere, and the packages systemd, util-linux and iproute2. It boots in under a second.

    with SystemdBox() as box:
        box.write("/etc/systemd/system/hello.service", "[Service]\nExecStart=/bin/sleep inf\n")
        box.run(["systemctl", "start", "hello"], check=True)

Python code of the repository runs in it too, with the very interpreter that runs the test.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self, TypeVar

__all__ = ["BoxError", "BoxProcess", "SystemdBox"]

REPOSITORY = Path(__file__).resolve().parents[2]
PREFIX = "gitopper-box-"
BOOT_SECONDS = 30.0
NAMESPACES = ("--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup")
T = TypeVar("T")

# Becomes systemd. Read now: it runs while the file system that it is on is being replaced.
SETUP = Path(__file__).with_suffix(".sh").read_text()


class BoxError(Exception):
    """The box can't be booted here, or what ran in it failed; the text says why."""


class BoxProcess(subprocess.Popen[bytes]):
    """A process in the box. Signals go to it, not to the `nsenter` that waits for it outside."""

    def send_signal(self, sig: int) -> None:
        """Signal the process itself; without effect once it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(_only_child(self.pid) or self.pid, sig)


class SystemdBox:
    """A booted systemd. A context manager; each box is used once."""

    def __init__(self) -> None:
        self._teardown = contextlib.ExitStack()
        self._processes: list[BoxProcess] = []
        self.pid = 0
        """PID, on the host, of the systemd in the box."""

    def __enter__(self) -> Self:
        # Each step's undoing is registered before the next is tried: an interrupted boot leaves nothing.
        with contextlib.ExitStack() as teardown:
            cgroup = teardown.enter_context(_fresh_cgroup())
            place = teardown.enter_context(_fresh_directory())
            log = teardown.enter_context(tempfile.TemporaryFile())
            teardown.callback(self._reap)
            outer = teardown.enter_context(_namespaces(cgroup, place, log))
            self.pid = _when(lambda: _only_child(outer.pid), outer, log, "start")
            _when(lambda: _is_up(self), outer, log, "boot")
            # It is started by the first message for it, and until then nobody can ask it anything.
            self.run(["systemctl", "start", "systemd-journald.service"], check=True)
            # A process in the root of systemd's cgroups that it can't see makes `status` answer EIO.
            (cgroup.parent / "cgroup.procs").write_text(str(outer.pid))
            self._teardown = teardown.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._teardown.close()

    def _reap(self) -> None:
        """Collect what was started with `popen`; it ended with the namespaces."""
        for process in self._processes:
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with contextlib.suppress(OSError):  # unflushed input of a process that is gone
                        stream.close()

    def run(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        check: bool = False,
        input: str | None = None,  # noqa: A002 - the name that subprocess gave it
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] = "/",
        timeout: float = 60.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run `argv` in the box to its end; `env` is added to a plain environment.

        Raises:
            BoxError: with `check`, when it ended with another code than 0; holds what it printed.
            subprocess.TimeoutExpired: it had not ended after `timeout` seconds; it is killed.
        """
        with self.popen(
            argv, env=env, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            try:
                out, err = process.communicate((input or "").encode(), timeout)
            except BaseException:
                process.kill()
                raise
        done = subprocess.CompletedProcess(
            [str(word) for word in argv], process.returncode, out.decode(), err.decode()
        )
        if check and done.returncode:
            raise BoxError(f"{done.args} in the box: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def popen(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] = "/",
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        stdout: int | IO[bytes] | None = None,
        stderr: int | IO[bytes] | None = None,
    ) -> BoxProcess:
        """Start `argv` in the box, for what runs on. It ends with the box at the latest."""
        enter = [
            "nsenter",
            f"--target={self.pid}",
            "--mount",
            "--pid",
            "--uts",
            "--ipc",
            "--net",
            "--cgroup",
        ]
        inner = ["env", "-i", "-C", os.fspath(cwd), *(f"{k}={v}" for k, v in _environment(env).items())]
        process = BoxProcess(
            [*enter, *inner, *(os.fspath(word) for word in argv)],
            stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True,
        )  # fmt: skip
        self._processes.append(process)
        return process

    def python(self, code: str, *args: str, timeout: float = 60.0) -> Any:
        """Run `code` in the box with the test's own interpreter; return what it printed, as JSON.

        Raises:
            BoxError: it raised; holds the traceback.
        """
        done = self.run([sys.executable, "-c", code, *args], check=True, timeout=timeout)
        return json.loads(done.stdout)

    def write(self, path: str | os.PathLike[str], text: str, *, mode: int = 0o644) -> None:
        """Write a file in the box; missing directories are made."""
        # Through a process in the box, not /proc/PID/root: there an absolute symlink leads to the host.
        script = 'mkdir -p "$(dirname "$1")" && cat > "$1" && chmod "$2" "$1"'
        self.run(["sh", "-c", script, "sh", path, f"{mode:o}"], input=text, check=True)

    def read(self, path: str | os.PathLike[str]) -> str:
        """Return the text of a file in the box."""
        return self.run(["cat", path], check=True).stdout

    def exists(self, path: str | os.PathLike[str]) -> bool:
        """Tell whether `path` is there in the box."""
        return self.run(["test", "-e", path]).returncode == 0

    def add_unit(self, name: str, text: str, *, start: bool = False) -> None:
        """Install a unit (`name` with its suffix), make systemd read it, and `start` it if asked."""
        self.write(f"/etc/systemd/system/{name}", text)
        self.systemctl("daemon-reload")
        if start:
            self.systemctl("start", name)

    def systemctl(self, *words: str) -> str:
        """Run `systemctl` in the box and return what it printed.

        Raises:
            BoxError: it failed.
        """
        return self.run(["systemctl", *words], check=True).stdout

    def property(self, unit: str, name: str) -> str:
        """Return one property of a unit, as ``ActiveState`` or ``MainPID``."""
        return self.systemctl("show", "--property", name, "--value", unit).strip()

    def journal(self, unit: str) -> str:
        """Return all that the journal has of a unit, for the message of a failed assertion."""
        self.run(["journalctl", "--sync"])
        return self.run(["journalctl", "--unit", unit, "--output=short-precise", "--no-pager"]).stdout


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    scripts = Path(sys.executable).parent
    return {
        "PATH": f"{scripts}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'plugins'}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        **(extra or {}),
    }


@contextlib.contextmanager
def _namespaces(cgroup: Path, place: Path, log: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Start the process that holds the namespaces; on leaving, kill everything in them."""
    join = 'echo $$ > "$1/cgroup.procs" && shift && exec "$@"'
    unshare = [
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--cgroup",
        "--uts",
        "--ipc",
        "--net",
    ]
    outer = subprocess.Popen(
        # Should the test be killed outright, its death ends the box.
        ["setpriv", "--pdeathsig", "KILL", "sh", "-c", join, "sh", cgroup, *unshare,
         "sh", "-c", SETUP, "sh", place, *_shown()],
        stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
    )  # fmt: skip
    try:
        yield outer
    finally:
        # The end of a namespace's first process is the end of every process in it.
        first = _only_child(outer.pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(first or outer.pid, signal.SIGKILL)
        outer.wait()


def _shown() -> list[str]:
    """Directories that the box needs and that / does not hold: on another file system, or in /tmp."""
    needed = {str(REPOSITORY), sys.prefix, sys.base_prefix}
    root = Path("/").stat().st_dev
    return sorted(p for p in needed if p.startswith("/tmp/") or Path(p).stat().st_dev != root)


@contextlib.contextmanager
def _fresh_directory() -> Iterator[Path]:
    for left in _left_over(Path(tempfile.gettempdir())):
        # Only ever a mount point; what was mounted went with its namespace.
        with contextlib.suppress(OSError):
            left.rmdir()
    place = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    try:
        yield place
    finally:
        place.rmdir()


@contextlib.contextmanager
def _fresh_cgroup() -> Iterator[Path]:
    parent = _own_cgroup()
    for left in _left_over(parent):
        with contextlib.suppress(OSError):
            _remove_cgroup(left)
    cgroup = parent / f"{PREFIX}{os.getpid()}-{time.monotonic_ns()}"
    try:
        cgroup.mkdir()
    except OSError as exc:
        raise BoxError(f"no cgroup can be made in {parent}: {exc.strerror}; the box needs root") from exc
    try:
        yield cgroup
    finally:
        _remove_cgroup(cgroup)


def _left_over(parent: Path) -> list[Path]:
    """What the boxes of tests that were killed have left in `parent`; their processes died with them."""
    found = parent.glob(f"{PREFIX}*")
    return [p for p in found if not Path("/proc", p.name.removeprefix(PREFIX).partition("-")[0]).exists()]


def _own_cgroup() -> Path:
    """The directory of this process's cgroup, wherever the cgroup2 hierarchy is mounted."""
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    found = next((Path(words[1]) for words in mounts if words[2] == "cgroup2"), None)
    if found is None:
        raise BoxError("no cgroup2 file system is mounted; mount one: mount -t cgroup2 none /sys/fs/cgroup")
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    place = found / own.lstrip("/")
    return place if place.is_dir() else found


def _remove_cgroup(cgroup: Path) -> None:
    deadline = time.monotonic() + 5
    for directory, _, _ in os.walk(cgroup, topdown=False):
        while True:
            try:
                Path(directory).rmdir()
                break
            except OSError:  # busy until the last of the killed processes is gone
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)


def _when(ready: Callable[[], T | None], outer: subprocess.Popen[bytes], log: IO[bytes], what: str) -> T:
    deadline = time.monotonic() + BOOT_SECONDS
    while outer.poll() is None and time.monotonic() < deadline:
        if answer := ready():
            return answer
        time.sleep(0.01)
    log.seek(0)
    said = log.read().decode(errors="replace").strip()
    raise BoxError(f"the box did not {what}: {said or 'it said nothing'}")


def _is_up(box: SystemdBox) -> bool:
    # The socket first: systemctl would otherwise wait for a bus that is never there.
    if not Path(f"/proc/{box.pid}/root/run/systemd/private").exists():
        return False
    state = box.run(["systemctl", "is-system-running"]).stdout.strip()
    return state in {"running", "degraded"}


def _only_child(pid: int) -> int | None:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return None
    return int(children[0]) if children else None
