"""The program that runs the commands of a check, seen from inside: what it reports for each way it can end.

`test_check` and the like start it as the daemon does. Here its `main` is called in a forked child.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from gitopper_plugins import _confinement, _stage, _view, mountapi
from gitopper_plugins._task import Report, Task, receive, send
from tests.support.checking import PATIENCE_SECONDS
from tests.support.namespace import fork, in_mount_namespace
from tests.support.ordinary import NOBODY, as_ordinary_user, without_namespaces

SEPARATOR = "\n--8<--\n"


def a_task(*scripts: str, **more: Any) -> Task:
    """What is to be done: shell scripts, or what `more` says."""
    commands: Sequence[Sequence[str]] = [("sh", "-euc", script) for script in scripts]
    usual = {
        "commands": commands, "timeout_seconds": PATIENCE_SECONDS, "private": True, "places": [],
        "protected": [], "procs": ["/proc"], "user": None, "separator": SEPARATOR, "parent": os.getpid(),
    }  # fmt: skip
    return Task(**{**usual, **more})


@frozen
class Staging:
    """The program at work."""

    pid: int
    channel: int
    output: int

    def end(self) -> tuple[int, Report | None, str]:
        """Wait for its end; return its exit code, its report if there is one, and what was printed."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        told = receive(self.channel, Report)
        return code, Report(**told) if told else None, self.said

    @property
    def said(self) -> str:
        """What was printed up to now."""
        return os.pread(self.output, 100_000, 0).decode()


@contextlib.contextmanager
def staging(task: Task) -> Iterator[Staging]:
    """Let a child do as the program does."""
    with contextlib.ExitStack() as stack:
        channel, output = os.memfd_create("channel"), os.memfd_create("output")
        stack.callback(os.close, channel)
        stack.callback(os.close, output)
        send(channel, task)

        def body() -> None:
            os.dup2(channel, 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - what pytest catches is not asked
            _stage.main()

        yield Staging(fork(body), channel, output)


def staged(task: Task) -> tuple[Report | None, str]:
    with staging(task) as program:
        code, report, said = program.end()
    assert code == 0, said
    return report, said


def reported(task: Task) -> Report:
    report, said = staged(task)
    assert report is not None, said
    return report


class Cases:
    """Each test runs as root, as an ordinary user, and as one without a private view."""

    private = True

    def task(self, *scripts: str, **more: Any) -> Task:
        return a_task(*scripts, **{"private": self.private, **more})

    def test_commands_run_in_their_order_with_a_line_between_what_they_print(self, place: Path) -> None:
        report, said = staged(self.task("echo $GITOPPER_STAGED; pwd", "echo two"))
        assert report is not None
        assert report.how == Report.ACCEPTED
        assert said == f"{self.private:d}\n/\n{SEPARATOR}two\n"

    def test_the_first_that_refuses_is_the_last(self, place: Path) -> None:
        report, said = staged(self.task("true", "exit 3", "echo never"))
        assert report is not None
        assert (report.how, report.index, report.code) == (Report.ENDED, 1, 3)
        assert "never" not in said
        killed = reported(self.task("kill -9 $$"))
        assert (killed.how, killed.code) == (Report.ENDED, -9)

    def test_one_that_hangs_is_late(self, place: Path) -> None:
        report = reported(self.task("sleep 600 & wait", timeout_seconds=0.2))
        assert (report.how, report.index) == (Report.LATE, 0)

    @pytest.mark.parametrize(
        ("argv", "reason"),
        [
            (("/no/such/program",), "No such file or directory"),
            (("/",), "Permission denied"),
            (("tr\0ue",), "embedded null"),
        ],
    )
    def test_one_that_can_not_be_started_says_why(
        self, place: Path, argv: Sequence[str], reason: str
    ) -> None:
        report = reported(self.task(commands=[("true",), argv]))
        assert (report.how, report.index) == (Report.UNSTARTABLE, 1)
        assert reason in report.reason

    def test_what_a_command_leaves_behind_is_ended_before_there_is_a_report(self, place: Path) -> None:
        script = "(setsid sleep 600 & sleep 600 & :); (setsid sh -c 'sleep 0.1' &); sleep 0.2"
        report = reported(self.task(script))
        assert report.how == Report.ACCEPTED
        with pytest.raises(ChildProcessError):  # or else it would be a child of ours by now
            os.waitpid(-1, os.WNOHANG)

    def test_the_one_that_asked_is_gone(self, place: Path) -> None:
        with staging(self.task("echo never", parent=1)) as program:
            code, report, said = program.end()
        assert (code, report, said) == (1, None, "")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path


class View(Cases):
    """What only those meet who get a view of their own."""

    def test_a_release_is_shown_at_its_place(self, place: Path) -> None:
        (place / "release").mkdir()
        (place / "release/conf").write_text("new\n")
        missing = place / "etc/app"
        report, said = staged(
            self.task(
                f"cat {missing}/conf; ! touch {missing}/x {place}/release/x 2>/dev/null",
                places=[(str(place / "release"), str(missing))],
                protected=[str(place / "release")],
            )
        )
        assert report is not None
        assert (report.how, said) == (Report.ACCEPTED, "new\n")
        assert not missing.parent.exists()

    def test_a_place_that_leads_nowhere_is_named(self, place: Path) -> None:
        (place / "release").mkdir()
        (place / "loop").symlink_to("loop")
        report = reported(self.task("true", places=[(str(place / "release"), str(place / "loop"))]))
        assert report.how == Report.UNPREPARED
        assert report.reason == f"{place}/loop: Too many levels of symbolic links"

    def test_a_procfs_that_can_not_be_mounted_is_named(self, place: Path) -> None:
        report = reported(self.task("true", procs=["/proc", str(place / "missing")]))
        assert report.how == Report.UNPREPARED
        assert report.reason == f"{place}/missing: No such file or directory"

    def test_a_kernel_without_the_calls_leaves_no_view_and_that_is_no_fault_of_this_one(
        self, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The old kernel is simulated: it knows no open_tree."""
        monkeypatch.setattr(mountapi, "OPEN_TREE", 9999)
        report = reported(self.task("true", places=[(str(place), str(place))]))
        assert (report.how, report.reason) == (Report.REFUSED, f"{place}: Function not implemented")

    def test_an_error_without_a_path_is_told_all_the_same(
        self, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The scarcity is simulated."""

        def refuse(*_: object) -> None:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

        monkeypatch.setattr(_view.View, "show", refuse)
        report = reported(self.task("true"))
        assert (report.how, report.reason) == (Report.UNPREPARED, "[Errno 12] Cannot allocate memory")

    def test_a_mistake_of_ours_in_the_first_process_is_no_verdict_and_has_a_traceback(
        self, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stumble() -> None:
            raise ZeroDivisionError("a mistake")

        monkeypatch.setattr(_confinement, "hide_from_children", stumble)
        report, said = staged(self.task("echo never"))
        assert report is None
        assert said.endswith("ZeroDivisionError: a mistake\n")
        assert "never" not in said.splitlines()


@in_mount_namespace
class TestAsRoot(View):
    """With the rights of the daemon."""

    @pytest.mark.root
    @pytest.mark.parametrize("private", [True, False])
    def test_commands_run_as_the_user_that_was_named(self, place: Path, private: bool) -> None:
        user = (NOBODY, NOBODY, (NOBODY,))
        report, said = staged(a_task("id -u; id -G; echo x >>/dev/stdout", user=user, private=private))
        assert report is not None
        assert (report.how, said) == (Report.ACCEPTED, f"{NOBODY}\n{NOBODY}\nx\n")
        report = reported(a_task(commands=[("/no/such/program",)], user=user, private=private))
        assert report.how == Report.UNSTARTABLE

    @pytest.mark.root
    def test_a_user_that_can_not_be_taken_on_is_no_verdict(self, place: Path) -> None:
        report = reported(a_task("true", user=(-2, -2, ())))
        assert report.how == Report.UNSTARTABLE
        assert report.reason


@as_ordinary_user
class TestAsOrdinaryUser(View):
    """In a user namespace."""

    def test_a_procfs_that_is_refused_there_is_no_hindrance(
        self, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Simulated here; `test_check` has it for real, in a program of its own."""

        def refuse(point: str) -> None:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), point)

        monkeypatch.setattr(mountapi, "mount_proc", refuse)
        assert reported(self.task("true")).how == Report.ACCEPTED


@without_namespaces
class TestWithoutView(Cases):
    """Where the kernel allows no user namespace."""

    private = False

    def test_a_view_is_refused_with_the_reason(self, place: Path) -> None:
        _confinement.give_up_rights()  # as an exec would, in the user namespace that this test is in
        report = reported(a_task("echo never"))
        assert (report.how, report.reason) == (Report.REFUSED, "No space left on device")

    def test_told_to_end_it_ends_all_that_it_started(self, place: Path) -> None:
        with staging(self.task("(setsid sleep 600 &); echo ready; sleep 600")) as program:
            until = time.monotonic() + PATIENCE_SECONDS
            while "ready" not in program.said and time.monotonic() < until:
                time.sleep(0.01)
            os.kill(program.pid, signal.SIGTERM)
            code, report, _ = program.end()
        assert (code, report) == (1, None)
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)


@pytest.mark.root
@in_mount_namespace
def test_in_a_namespace_of_root_a_procfs_that_is_refused_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no sandbox around root to blame; the refusal is simulated."""

    def refuse(point: str) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), point)

    monkeypatch.setattr(mountapi, "mount_proc", refuse)
    report = reported(a_task("true"))
    assert (report.how, report.reason) == (Report.UNPREPARED, "/proc: Operation not permitted")
