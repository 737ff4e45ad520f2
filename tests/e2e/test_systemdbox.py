"""The box that other tests rely on: a real systemd, isolated, and gone without a trace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.support.systemdbox import PREFIX, REPOSITORY, BoxError, SystemdBox, _own_cgroup

pytestmark = pytest.mark.systemd


def traces(owner: int) -> list[str]:
    """What the boxes of process `owner` have left on the host."""
    places = (_own_cgroup(), Path(tempfile.gettempdir()))
    found = [str(path) for place in places for path in place.glob(f"{PREFIX}{owner}-*")]
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if PREFIX in line]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace")
            cgroup = (process / "cgroup").read_text()
        except OSError:
            continue
        if f"{PREFIX}{owner}-" in cgroup:
            found.append(f"{process.name}: {words}")
    return found


@pytest.fixture
def needs_root(systemd_box: SystemdBox) -> None:
    """The skip of the shared box, and its failure in CI, hold for boxes of one's own too."""


def test_units_run_and_their_journal_can_be_read(systemd_box: SystemdBox) -> None:
    unit = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/echo hello from the box\n"
    systemd_box.add_unit("hello.service", unit, start=True)
    assert systemd_box.property("hello", "ActiveState") == "active"
    assert "hello from the box" in systemd_box.journal("hello")


def test_nothing_of_the_host_runs_in_it(systemd_box: SystemdBox) -> None:
    shown = systemd_box.systemctl(
        "list-units", "--type=service", "--state=running", "--plain", "--no-legend"
    )
    assert {line.split()[0] for line in shown.splitlines()} <= {"systemd-journald.service", "hello.service"}
    assert systemd_box.run(["systemctl", "is-system-running"]).stdout.strip() == "running"


def test_files_written_in_it_are_not_on_the_host(systemd_box: SystemdBox) -> None:
    for path in ("/etc/gitopper-box-test", "/var/gitopper-box-test", "/tmp/gitopper-box-test"):
        systemd_box.write(path, "inside\n", mode=0o640)
        assert systemd_box.read(path) == "inside\n"
        assert not Path(path).exists()
    mode = systemd_box.run(["stat", "--format=%a", "/etc/gitopper-box-test"]).stdout.strip()
    assert mode == "640"


def test_a_mount_made_in_it_reaches_its_services_and_not_the_host(systemd_box: SystemdBox) -> None:
    unit = "[Service]\nPrivateTmp=yes\nExecStart=/bin/sleep inf\n"
    systemd_box.add_unit("private.service", unit, start=True)
    systemd_box.write("/srv/release/file", "mounted\n")
    systemd_box.run(["mkdir", "-p", "/etc/shown"], check=True)
    systemd_box.run(["mount", "--bind", "/srv/release", "/etc/shown"], check=True)
    main = systemd_box.property("private", "MainPID")
    seen = systemd_box.run(["nsenter", f"--target={main}", "--mount", "cat", "/etc/shown/file"], check=True)
    assert seen.stdout == "mounted\n"
    assert "/etc/shown" not in Path("/proc/mounts").read_text()


def test_the_repositorys_python_runs_in_it(systemd_box: SystemdBox) -> None:
    code = (
        "import json, libgitopper as l, gitopper_plugins as p; print(json.dumps([l.__file__, p.__file__]))"
    )
    assert all(path.startswith(f"{REPOSITORY}/") for path in systemd_box.python(code))
    with pytest.raises(BoxError, match="ZeroDivisionError"):
        systemd_box.python("1 / 0")


SERVE = """
import socket
server = socket.create_server(("127.0.0.1", 47811))
print("up", flush=True)
server.accept()
"""
CONNECT = "import socket; socket.create_connection(('127.0.0.1', 47811), 5)"


def test_loopback_is_up_and_its_own(systemd_box: SystemdBox) -> None:
    server = systemd_box.popen([sys.executable, "-c", SERVE], stdout=subprocess.PIPE)
    with server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"up\n"
        assert subprocess.run([sys.executable, "-c", CONNECT], stderr=subprocess.DEVNULL).returncode == 1
        systemd_box.run([sys.executable, "-c", CONNECT], check=True)
        assert server.wait(10) == 0


def test_a_signal_reaches_the_process_and_its_exit_code_comes_back(systemd_box: SystemdBox) -> None:
    script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done"
    process = systemd_box.popen(["sh", "-c", script], stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.terminate()
        assert process.wait(10) == 7


def test_a_command_that_hangs_is_ended(systemd_box: SystemdBox) -> None:
    systemd_box.run(["ln", "-s", "/bin/sleep", "/run/dawdle"], check=True)
    with pytest.raises(subprocess.TimeoutExpired):
        systemd_box.run(["/run/dawdle", "60"], timeout=0.3)
    assert "dawdle" not in systemd_box.run(["ps", "-e", "-o", "args"], check=True).stdout


@pytest.mark.usefixtures("needs_root")
def test_it_is_gone_without_a_trace_when_a_test_fails_or_is_interrupted() -> None:
    before = traces(os.getpid())
    for failure in (AssertionError, KeyboardInterrupt):
        with pytest.raises(failure):
            use_and_fail(failure)
        assert traces(os.getpid()) == before


def use_and_fail(failure: type[BaseException]) -> None:
    with SystemdBox() as box:
        box.add_unit("left.service", "[Service]\nExecStart=/bin/sleep inf\n", start=True)
        box.popen(["sleep", "inf"], stdout=subprocess.PIPE)
        assert len(traces(os.getpid())) > 2
        raise failure


KILLED = """
import sys, time
from tests.support.systemdbox import SystemdBox
with SystemdBox() as box:
    print(box.pid, flush=True)
    time.sleep(60)
"""


@pytest.mark.usefixtures("needs_root")
def test_a_killed_test_takes_its_box_with_it() -> None:
    killed = subprocess.Popen([sys.executable, "-c", KILLED], cwd=REPOSITORY, stdout=subprocess.PIPE)
    with killed:
        assert killed.stdout is not None
        systemd = Path("/proc", killed.stdout.readline().decode().strip())
        assert (systemd / "cmdline").read_bytes().startswith(b"/lib/systemd/systemd")
        killed.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 5
    while systemd.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    # Its empty cgroup and directory are swept by the next box.
    with SystemdBox():
        assert traces(killed.pid) == []
