"""Check a release by running programs that know its files: ``nginx -t``, ``promtool check config``.

They run in a private view of the host, in which the release stands at the service's real paths already,
read-only. Nobody else sees it, and nothing that they do reaches it. `_stage` makes the view and runs
them: a program of its own, because a process with threads can't leave for other namespaces, and because
what it has started ends with it.

A release is *refused* where a program said so: by its exit code, by dying, by not coming to an end. Where
the question could not even be asked (no such program, no such user), it is asked again; so it is where a
program was killed, which none does to itself: the kernel does, for want of memory, or an operator.
"""

from __future__ import annotations

import os
import pwd
import secrets
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gitopper_plugins._confinement import User
from gitopper_plugins._mountinfo import MountTable
from gitopper_plugins._programs import environment, last_words, shown
from gitopper_plugins._task import Report, Task, receive, send
from libgitopper import Accepted, Check, CheckError, CheckRequest, CommandError, Completed, hookimpl, run

__all__ = ["gitopper_check"]

PROGRAM = (sys.executable, "-I", "-m", "gitopper_plugins._stage")

# The program keeps the deadline by itself. This much later it is ended, should it hang, as on a file system
# that does not answer.
MARGIN_SECONDS = 15.0


@hookimpl
def gitopper_check(request: CheckRequest) -> Accepted | None:
    """Run the commands of the service's check, in their order, until one does not end with 0.

    Raises:
        CheckError: not retryable where a command refused the release; else it could not be judged.
    """
    check = request.service.check
    if check is None:
        return None
    user = _user_of(check)
    report, said = _carry_out(request, check, user, private=True)
    note = ""
    if report.how == Report.REFUSED:
        _refuse_root(report.reason)
        note = (
            f"checked without a private view ({report.reason}): the release was not at its real paths,"
            " only where GITOPPER_RELEASE says"
        )
        report, said = _carry_out(request, check, user, private=False)
    _judge(check, report, said)
    return Accepted(judged=("check",), note=note)


def _refuse_root(reason: str) -> None:
    """Root has a private view or no check: programs would judge, and accept, the files of yesterday."""
    if os.geteuid() == 0:
        message = (
            f"no private view can be made for the check: {reason}; allow this daemon mount and PID"
            " namespaces (in its unit: RestrictNamespaces=mnt pid)"
        )
        raise CheckError(message, retryable=True)


def _user_of(check: Check) -> pwd.struct_passwd | None:
    """Return whom the commands are to run as; None for whom the daemon runs as."""
    if check.user is None:
        return None
    try:
        user = pwd.getpwnam(check.user)
    except KeyError:
        message = f'check: user {check.user!r} does not exist on this host; create it, or change "user"'
        raise CheckError(message, retryable=True) from None
    if user.pw_uid == os.geteuid():
        return None
    if os.geteuid() != 0:
        message = f'check: only root can run commands as {check.user!r}; remove "user" from it'
        raise CheckError(message, retryable=True)
    return user


@contextmanager
def _possible() -> Iterator[None]:
    """Tell what the system refuses, as memory or a descriptor: some other time it may not."""
    try:
        yield
    except OSError as exc:
        where = f"{os.fsdecode(exc.filename)}: " if exc.filename else ""
        message = f"the check can't be carried out: {where}{exc.strerror or exc}"
        raise CheckError(message, retryable=True) from exc


@_possible()
def _carry_out(
    request: CheckRequest, check: Check, user: pwd.struct_passwd | None, *, private: bool
) -> tuple[Report, str]:
    """Have the commands run; return how that went, and what the last one of them printed."""
    service, release = request.service, request.release
    table = MountTable.read()
    task = Task(
        commands=check.commands,
        timeout_seconds=check.timeout_seconds,
        private=private,
        places=[(str(release.path / m.link), str(m.local)) for m in service.mappings],
        protected=_protected(table, service.mount, release.path),
        procs=table.procs(),
        user=_ids(user),
        separator=f"\n{secrets.token_hex(16)}\n",
        parent=os.getpid(),
    )
    home = {"HOME": user.pw_dir, "LOGNAME": user.pw_name, "USER": user.pw_name} if user else {}
    env = environment(service, release, **home)
    with _file_in_memory() as file:
        send(file, task)
        try:
            done = run(PROGRAM, timeout_seconds=check.timeout_seconds + MARGIN_SECONDS, env=env, stdin=file)
        except CommandError as exc:
            raise CheckError(f"the check can't be carried out: {exc}", retryable=True) from exc
        told = receive(file, Report)
    if not told:
        raise CheckError(f"the check can't be carried out: {_ending(done)}", retryable=True)
    return Report(**told), done.output.rpartition(task.separator)[2]


def _protected(table: MountTable, *directories: Path) -> list[str]:
    """Return every path by which the files of a release could be reached, those below another left out."""
    points = {
        point for directory in directories if directory.is_dir() for point in table.showing(directory)
    }
    return [p for p in sorted(points) if not any(p.startswith(f"{o}/") for o in points)]


def _ids(user: pwd.struct_passwd | None) -> User | None:
    """Numbers: where the commands run, /etc/passwd may be another one."""
    if user is None:
        return None
    groups = os.getgrouplist(user.pw_name, user.pw_gid)
    return user.pw_uid, user.pw_gid, tuple(groups)


@contextmanager
def _file_in_memory() -> Iterator[int]:
    file = os.memfd_create("gitopper-check")
    try:
        yield file
    finally:
        os.close(file)


def _judge(check: Check, report: Report, said: str) -> None:
    """Return if the release was accepted; raise what was found else."""
    if report.how == Report.ACCEPTED:
        return
    if report.how == Report.UNPREPARED:
        raise CheckError(f"no private view can be made for the check: {report.reason}", retryable=True)
    command = shown(check.commands[report.index])
    if report.how == Report.UNSTARTABLE:
        message = f'{command}: can\'t be started: {report.reason}; install it, or change "check"'
        raise CheckError(message, retryable=True)
    how, killed = _code(report.code), report.code == -signal.SIGKILL
    if report.how == Report.LATE:
        how = f"not done after {check.timeout_seconds:g} s, ended"
    words = last_words(said)
    raise CheckError(f"{command}: {how}: {words}" if words else f"{command}: {how}", retryable=killed)


def _code(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"ended by signal {-code}"


def _ending(done: Completed) -> str:
    words = last_words(done.output)
    return f"{shown(done.argv)}: {_code(done.code)}: {words}" if words else _code(done.code)
