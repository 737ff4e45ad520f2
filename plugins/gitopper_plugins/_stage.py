"""The program that runs the commands of a check. `check` starts one for each check.

    python -I -m gitopper_plugins._stage

Its stdin is a file in memory with a `Task`, in whose place it puts a `Report`. What the commands print goes
to its own stdout. It is above everything that they start, and leaves nothing of that behind:

* With a private view (`_view`), the commands are below process 1 of a PID namespace. With that one all
  others in there end, whatever they did to get away. It ends with this program, and that with the daemon.
* Without, what loses its parent becomes a child of this program, which ends it. Only where the daemon is
  killed, something that got away from its own parent may stay.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from gitopper_plugins import _confinement, _view, mountapi
from gitopper_plugins._task import Report, Task, receive, send

GRACE_SECONDS = 2.0

# Python ignores these, and what it executes would, too.
IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)


def main() -> None:
    """Do what stdin says."""
    channel = os.dup(0)  # not inherited by what is executed
    task = Task(**receive(channel, Task))
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    _confinement.die_with(task.parent)
    if task.private:
        _in_private(task, channel)
    else:
        send(channel, _in_the_open(task))


class _NoView(Exception):  # noqa: N818 - it reads as what it is at the raise
    def __init__(self, how: str, reason: str) -> None:
        self.report = Report(how=how, reason=reason)


def _in_private(task: Task, channel: int) -> None:
    """Run the commands below the first process of a PID namespace, which reports."""
    try:
        own_users = _prepare(task)
        first = os.fork()
    except _NoView as exc:
        send(channel, exc.report)
        return
    if first:
        os.waitpid(first, 0)
        return
    try:
        _confinement.die_with(0)  # as a parent is called that is outside of the namespace
        _confinement.hide_from_children()
        _mount_procs(task.procs, own_users=own_users)
        send(channel, _run(task))
    except _NoView as exc:
        send(channel, exc.report)
    except BaseException:  # noqa: BLE001 - it must not return as a second one of its parent
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(0)


def _prepare(task: Task) -> bool:
    """Make the view; tell whether it is in a user namespace of its own."""
    try:
        own_users = _view.enter()
        # Once more: with other credentials it may be forgotten.
        _confinement.die_with(task.parent)
        view = _view.View([Path(path) for path in task.protected])
        view.show((Path(source), Path(local)) for source, local in task.places)
    except _view.Refused as exc:
        raise _NoView(Report.REFUSED, str(exc)) from exc
    except OSError as exc:
        # Where the kernel is older than 5.12 there is nothing wrong with this view.
        how = Report.REFUSED if exc.errno == errno.ENOSYS else Report.UNPREPARED
        raise _NoView(how, f"{exc.filename}: {exc.strerror}" if exc.filename else str(exc)) from exc
    return own_users


def _mount_procs(points: Sequence[str], *, own_users: bool) -> None:
    """Show this namespace's processes, and no others, wherever processes are shown."""
    for point in points:
        try:
            mountapi.mount_proc(point)
        except OSError as exc:
            # A user namespace is no way around a sandbox that hides parts of procfs: it is refused
            # then. The others that the old one shows are out of reach all the same: they are not of
            # this user namespace.
            if not (own_users and exc.errno == errno.EPERM):
                raise _NoView(Report.UNPREPARED, f"{point}: {exc.strerror}") from exc


def _in_the_open(task: Task) -> Report:
    """Run the commands without a view; end what they leave behind."""
    _confinement.adopt_orphans()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        return _run(task)
    finally:
        _end_children()


def _end_children() -> None:
    """End every child, and what becomes a child by that, until there is none."""
    children = Path("/proc/thread-self/children")
    with suppress(ChildProcessError, FileNotFoundError):
        while True:
            for child in children.read_text("ascii").split():
                os.kill(int(child), signal.SIGKILL)  # it is there until it is waited for
            os.waitpid(-1, 0)


def _run(task: Task) -> Report:
    """Run the commands, one after the other, until one does not end with 0."""
    until = time.monotonic() + task.timeout_seconds
    # Where this process is may be below what is read-only now.
    os.chdir("/")
    os.environ["GITOPPER_STAGED"] = "1" if task.private else "0"
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    for index, argv in enumerate(task.commands):
        if index:
            os.write(1, task.separator.encode())
        try:
            child = _start(argv, task.user)
        except OSError as exc:
            return Report(how=Report.UNSTARTABLE, index=index, reason=str(exc))
        code = _wait(child, until)
        if code is None:
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGTERM)
            _wait(child, time.monotonic() + GRACE_SECONDS)
            return Report(how=Report.LATE, index=index)
        if code:
            return Report(how=Report.ENDED, index=index, code=code)
    return Report(how=Report.ACCEPTED)


def _start(argv: Sequence[str], user: _confinement.User | None) -> int:
    """Start a command, in a session of its own, and return its process id once it runs.

    Raises:
        OSError: it can't be started; the text is the reason.
    """
    reading, writing = os.pipe()  # both are closed in what is executed
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            _become_command(argv, user, parent)
        except Exception as exc:  # noqa: BLE001 - told, whatever it is: it must not go on as this program
            reason = exc.strerror if isinstance(exc, OSError) else None
            os.write(writing, (reason or str(exc)).encode())
        finally:
            os._exit(127)
    os.close(writing)
    with os.fdopen(reading) as told:
        reason = told.read()
    if reason:
        os.waitpid(child, 0)
        raise OSError(reason)
    return child


def _become_command(argv: Sequence[str], user: _confinement.User | None, parent: int) -> None:
    """Do what comes between fork and exec; it only returns by raising."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.setsid()
    if user:
        os.fchown(1, *user[:2])  # so that it can open /dev/stderr
        _confinement.become(user)
    _confinement.give_up_rights()
    _confinement.die_with(parent)
    os.execvp(argv[0], list(argv))  # noqa: S606 - no shell is what is wanted


def _wait(child: int, until: float) -> int | None:
    """Return how `child` ended; None when it had not by `until`. Orphans are reaped on the way."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == child:
            return os.waitstatus_to_exitcode(status)
        left = until - time.monotonic()
        if not pid and (left <= 0 or signal.sigtimedwait({signal.SIGCHLD}, left) is None):
            return None


if __name__ == "__main__":
    main()
