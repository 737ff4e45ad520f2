"""Reload by systemd: `systemctl <action> <unit>`, and what has to come before it.

systemctl's exit code alone tells too little: a unit that an operator stopped must stay so, one that
failed deserves another try, and a unit that can't reload should be said to be just that. So one
`systemctl show` comes first, `decide` makes a plan of it, and one more `show` looks at what became of it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from gitopper_plugins._units import (
    ACTIONS,
    PROPERTIES,
    UNIT_DIRECTORIES,
    Unit,
    check_action,
    decide,
    decide_for_ourselves,
    maps_units,
    unit_name,
)
from libgitopper import (
    CommandError,
    Completed,
    Reloaded,
    ReloadError,
    ReloadRequest,
    Service,
    hookimpl,
    run,
)

__all__ = ["ACTIONS", "gitopper_reload"]

# Present exactly when systemd is the host's init: sd_booted(3).
BOOTED = Path("/run/systemd/system")
ELSEWHERE = 'write reload = "command" and a command of your own'

# A template instance is enabled by a symlink here.
ENABLED_DIRECTORY = UNIT_DIRECTORIES[0]

JOURNAL_LINES = 5
JOURNAL_SECONDS = 2.0


@hookimpl
def gitopper_reload(request: ReloadRequest) -> Reloaded | None:
    """Make systemd read changed unit files, and apply the service's action to its unit.

    Raises:
        ReloadError: the unit is unknown, can't do the action, or failed at it; or no systemd is here.
    """
    service = request.service
    if service.reload != "systemd":
        return None
    if not service.action:
        return _without_action(service)
    check_action(service.action)
    unit = unit_name(service)
    if not BOOTED.is_dir():
        raise ReloadError(f"{unit}: this host was not booted with systemd; {ELSEWHERE}", retryable=False)
    return _act(request, _Systemctl(unit, service.timeout_seconds))


def _without_action(service: Service) -> Reloaded:
    # Even so, a unit file has no effect until systemd has read it.
    if not maps_units(service) or not BOOTED.is_dir():
        return Reloaded(did="")
    return Reloaded(did=_Systemctl("", service.timeout_seconds).daemon_reload())


def _act(request: ReloadRequest, systemctl: _Systemctl) -> Reloaded:
    did: list[str] = []
    notes: list[str] = []
    unit = systemctl.show()
    # NeedDaemonReload alone won't do: it stays "no" when a unit gets its first drop-in.
    if unit.needs_daemon_reload or maps_units(request.service):
        did.append(systemctl.daemon_reload())
        unit = systemctl.show()
    unit.check_loaded()
    if unit.is_run_by(os.getpid()):
        plan = decide_for_ourselves(unit, request.service.action)
    else:
        plan = decide(unit, request.service.action, first=request.first or request.start)
        if plan.verbs:
            _refuse_to_wait_for_ourselves(unit, request.service)
    if request.first and unit.may_be_enabled:
        _enable(request.service, systemctl, did, notes)
    did += [systemctl.do(verb) for verb in plan.verbs]
    notes += [plan.note] if plan.note else []
    notes += systemctl.settled(plan.verbs[-1]) if plan.verbs else []
    return Reloaded(did="; ".join(did), note="; ".join(notes), idle=not plan.verbs)


def _refuse_to_wait_for_ourselves(unit: Unit, service: Service) -> None:
    """Make sure that systemd does not hold back what is asked of `unit` until this very daemon is up.

    Before it is up it shows files again, and waits for who takes them.

    Raises:
        ReloadError: it would; it is tried again once this daemon is up.
    """
    ours = _own_unit()
    if unit.comes_after(ours) and _Systemctl(ours, service.timeout_seconds).show().active == "activating":
        raise ReloadError(
            f"unit {unit.name} is After={ours}, which is this daemon: it is asked once that is up"
        )


def _own_unit() -> str:
    """Return the name of systemd's service that this process is part of; empty where it is of none."""
    groups = Path("/proc/self/cgroup").read_text().splitlines()
    names = (group.rpartition("/")[2] for group in groups)
    return next((name for name in names if name.endswith(".service")), "")


def _enable(service: Service, systemctl: _Systemctl, did: list[str], notes: list[str]) -> None:
    # A unit that runs but is not enabled is a problem at the next boot, not a reason to end a deploy.
    if any(ENABLED_DIRECTORY.is_relative_to(mapping.local) for mapping in service.mappings):
        why = f"{ENABLED_DIRECTORY} is mapped, so the link that enables it belongs into the repository"
    else:
        try:
            did.append(systemctl.do("enable"))
        except ReloadError as exc:
            why = str(exc)
        else:
            return
    notes.append(f"unit {systemctl.name} is not enabled, and won't start at boot: {why}")


class _Systemctl:
    """systemctl for one unit, with one deadline for all that is asked of it."""

    def __init__(self, name: str, seconds: float) -> None:
        self.name = name
        self._seconds = seconds
        self._until = time.monotonic() + seconds
        self._since = time.time()

    def show(self) -> Unit:
        """Return the unit as systemd sees it now; one that does not exist has properties too."""
        return Unit.parse(
            self.name, self._run("show", f"--property={','.join(PROPERTIES)}", "--", self.name)
        )

    def daemon_reload(self) -> str:
        """Make systemd read all unit files; return what was done, for the log."""
        self._run("daemon-reload")
        return "systemctl daemon-reload"

    def do(self, verb: str) -> str:
        """Do `verb` to the unit, and wait for its end; return what was done, for the log."""
        self._run(verb, "--", self.name)
        return f"systemctl {verb} {self.name}"

    def settled(self, verb: str) -> list[str]:
        """Look at the unit after `verb`; return what an operator should know of it.

        systemctl answers 0 as soon as a simple service is forked, and when a condition forbids a start.

        Raises:
            ReloadError: it has failed already.
        """
        unit = self.show()
        if unit.has_failed:
            why = f"the unit failed ({unit.properties.get('Result')}) right after it"
            raise ReloadError(f"systemctl {verb} {self.name}: {why}{self._log()}")
        if unit.active == "inactive" and unit.condition_failed:
            return [f"unit {self.name} was not started: a condition in its unit file is not met"]
        return []

    def _run(self, verb: str, *words: str) -> str:
        what = f"systemctl {verb} {self.name}" if words else f"systemctl {verb}"
        argv = ("systemctl", "--no-ask-password", "--no-pager", verb, *words)
        try:
            done = run(argv, timeout_seconds=max(self._until - time.monotonic(), 0.1))
        except CommandError as exc:
            raise self._not_done(what, exc) from exc
        if done.code:
            raise ReloadError(f"{what}: {_words(done)}{self._log()}")
        return done.output

    def _not_done(self, what: str, exc: CommandError) -> ReloadError:
        if not exc.retryable:
            return ReloadError(f"{exc}; {ELSEWHERE}", retryable=False)
        # Ending systemctl does not end the job that systemd has by now.
        after = f"not done after {self._seconds:g} s; systemd may still be at it"
        return ReloadError(f"{what}: {after}{self._log()}")

    def _log(self) -> str:
        """Return what the unit itself has said since, or nothing if the journal does not tell at once."""
        if not self.name:
            return ""
        argv = (
            "journalctl", "--quiet", "--no-pager", "--output=cat", f"--lines={JOURNAL_LINES}",
            f"--since=@{self._since:.6f}", f"_SYSTEMD_UNIT={self.name}",
        )  # fmt: skip
        try:
            # The journal lags a little behind the unit's end.
            run(("journalctl", "--sync"), timeout_seconds=JOURNAL_SECONDS)
            done = run(argv, timeout_seconds=JOURNAL_SECONDS)
        except CommandError:
            return ""
        lines = [line.strip() for line in done.output.splitlines() if line.strip()]
        return f" Its log: {' | '.join(lines)}" if lines and not done.code else ""


def _words(done: Completed) -> str:
    """What systemctl said, in one line, without its advice on where to read more."""
    lines = (line.strip() for line in done.output.splitlines())
    return " ".join(line for line in lines if line and not line.startswith("See ")) or f"code {done.code}"
