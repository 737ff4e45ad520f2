"""What the systemd plugin knows of units, and what it decides; nothing here does I/O."""

from __future__ import annotations

import re
from pathlib import Path

from attrs import frozen

from libgitopper import ReloadError, Service

ACTIONS = ("reload", "restart", "reload-or-restart", "try-restart", "try-reload-or-restart")
"""The verbs that a service's `action` can be, besides empty."""

UNIT_DIRECTORIES = tuple(
    Path(top, "systemd/system") for top in ("/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib")
)

PROPERTIES = (
    "LoadState", "LoadError", "ActiveState", "SubState", "NeedDaemonReload", "UnitFileState", "CanReload",
    "Type", "RemainAfterExit", "Result", "ConditionResult", "InactiveExitTimestampMonotonic",
    "ActiveEnterTimestampMonotonic", "ActiveExitTimestampMonotonic", "ExecMainExitTimestampMonotonic",
    "ConditionTimestampMonotonic", "MainPID", "After",
)  # fmt: skip
"""What `Unit` looks at."""

# What systemd.unit(5) allows in a name. systemctl would take more: it escapes, and expands patterns.
UNIT_NAME = re.compile(r"[A-Za-z0-9:_.\\@-]+")

UNIT_SUFFIXES = (
    ".service", ".socket", ".device", ".mount", ".automount", ".swap", ".target", ".path", ".timer",
    ".slice", ".scope",
)  # fmt: skip


@frozen(kw_only=True)
class Unit:
    """A unit, as `systemctl show` tells of it."""

    name: str
    properties: dict[str, str]

    @classmethod
    def parse(cls, name: str, output: str) -> Unit:
        """Read what `systemctl show` printed of the unit `name`."""
        lines = (line.partition("=") for line in output.splitlines())
        return cls(name=name, properties={key: value for key, _, value in lines})

    @property
    def active(self) -> str:
        """``active``, ``reloading``, ``inactive``, ``failed``, ``activating`` or ``deactivating``."""
        return self.properties.get("ActiveState", "")

    @property
    def state(self) -> str:
        """Its state in words, as ``failed (exit-code)`` or ``activating (auto-restart)``."""
        if self.properties.get("LoadState") == "not-found" and self.active == "inactive":
            return "unknown to systemd"
        result = self.properties.get("Result", "")
        more = (self.properties.get("SubState", ""), "" if result == "success" else result)
        details = ", ".join(dict.fromkeys(word for word in more if word not in {"", "dead", self.active}))
        return f"{self.active} ({details})" if details else self.active

    @property
    def masked(self) -> bool:
        """An operator forbade every start of it."""
        return self.properties.get("LoadState") == "masked"

    @property
    def needs_daemon_reload(self) -> bool:
        """Systemd itself has seen that its files changed."""
        return self._yes("NeedDaemonReload")

    @property
    def can_reload(self) -> bool:
        """It has a way to reload, as ExecReload=."""
        return self._yes("CanReload")

    @property
    def may_be_enabled(self) -> bool:
        """An instance of a template that has an [Install] section, and is not enabled."""
        return "@" in self.name and self.properties.get("UnitFileState") in {"disabled", "indirect"}

    @property
    def has_failed(self) -> bool:
        """It failed; systemd may be about to start it once more by itself."""
        return self.active == "failed" or self.properties.get("SubState") == "auto-restart"

    @property
    def runs_and_ends(self) -> bool:
        """Not running is its normal state: a oneshot job."""
        return self.properties.get("Type") == "oneshot" and not self._yes("RemainAfterExit")

    @property
    def runs(self) -> bool:
        """It is up; also while it reloads."""
        return self.active in {"active", "reloading", "refreshing"}

    def is_run_by(self, pid: int) -> bool:
        """Tell whether the process `pid` is what systemd started for it."""
        return self.properties.get("MainPID") == str(pid)

    def comes_after(self, other: str) -> bool:
        """Tell whether what is asked of it waits for what is asked of the unit `other`."""
        return other in self.properties.get("After", "").split()

    @property
    def up_since(self) -> int:
        """When it last came up, in microseconds since boot; a reload does not move it. 0 for never."""
        return self._at("ActiveEnter")

    @property
    def condition_failed(self) -> bool:
        """Its last start was skipped because of a Condition...= line.

        A unit that does not run, and that nothing refers to, is forgotten at once, with the result of its
        conditions: "no" then. Of one that runs and ends this tells nothing.
        """
        known = self._at("Condition") or not self.runs_and_ends
        return bool(known) and self.properties.get("ConditionResult") == "no"

    @property
    def stopped(self) -> bool:
        """Somebody stopped it, or it ended well.

        Many programs end a `systemctl stop` with a code other than 0 (Java: 143), which leaves the unit
        "failed" too. The order tells: a stop takes the unit out of "active" before its main process
        ends; a crash ends the process first, and may be "deactivating" for a moment, too. Watchdog and
        out-of-memory stops are systemd's own.
        """
        if self.active == "inactive":
            return True
        if self.active == "deactivating":
            return not self._at("InactiveExit") <= self._at("ExecMainExit") <= self._at("ActiveExit")
        if self.active != "failed" or self.properties.get("Result") in {"watchdog", "oom-kill"}:
            return False
        return self._at("InactiveExit") < self._at("ActiveExit") < self._at("ExecMainExit")

    def check_loaded(self) -> None:
        """Make sure that systemd has a usable definition of the unit.

        Raises:
            ReloadError: it has none; the text has systemd's reason.
        """
        state = self.properties.get("LoadState")
        if state in {"loaded", "masked"}:
            return
        if state == "not-found":
            raise ReloadError(
                f"unit {self.name} is unknown to systemd: install its package, map its unit file, or"
                ' write action = "" for none'
            )
        words = re.search(r'"(.*)"', self.properties.get("LoadError", ""))
        why = words.group(1) if words else f"its load state is {state}."
        raise ReloadError(
            f"unit {self.name} can't be loaded: {why} Try: systemd-analyze verify {self.name}"
        )

    def _yes(self, name: str) -> bool:
        return self.properties.get(name) == "yes"

    def _at(self, what: str) -> int:
        """Microseconds since boot; 0 for never."""
        return int(self.properties.get(f"{what}TimestampMonotonic") or 0)


@frozen(kw_only=True)
class Plan:
    """What to do to a unit: systemctl's verbs, in order, and what to tell the operator."""

    verbs: tuple[str, ...] = ()
    note: str = ""


def decide(unit: Unit, action: str, *, first: bool) -> Plan:
    """Decide, from what was seen of `unit`, what makes it take a new release.

    Raises:
        ReloadError: the unit runs and can't do the action.
    """
    if unit.masked and unit.active in {"inactive", "failed"}:
        return Plan(note=f"unit {unit.name} is masked and does not run; `systemctl unmask` lets it start")
    if unit.stopped and not first:
        return _leave_stopped(unit, action)
    if unit.active in {"inactive", "deactivating"}:
        return Plan(verbs=("start",))
    if unit.has_failed:
        # Nobody stopped it, and the new release may be the remedy. `reset-failed` clears its count of
        # starts, which would refuse this one if there were too many; `start` would wait for the end of
        # RestartSec=, where `restart` does not.
        note = "" if first else f"unit {unit.name} had failed; it was started again"
        return Plan(verbs=("reset-failed", "restart"), note=note)
    if action == "reload" and not unit.can_reload:
        # Worth another try later: an ExecReload may be added on the host, and we hear nothing of it.
        raise ReloadError(
            f"unit {unit.name} can't reload (it has no ExecReload=):"
            ' write action = "restart" or "reload-or-restart"'
        )
    if unit.active == "activating" and "reload" in action:
        # It may have read the old files: wait for the start that is under way, then reload.
        return Plan(verbs=("start", action))
    return Plan(verbs=(action,))


def decide_for_ourselves(unit: Unit, action: str) -> Plan:
    """Decide for the unit that this process is: it can't wait for its own start, nor outlive its end.

    Raises:
        ReloadError: it has to be asked for something else, or later.
    """
    if "reload" not in action or not unit.can_reload:
        raise ReloadError(
            f"unit {unit.name} is this daemon: a restart would end it before the deploy is on record, and"
            ' again at each start; write action = "reload", or "" for none',
            retryable=False,
        )
    if not unit.runs:
        raise ReloadError(f"unit {unit.name} is this daemon, and not up: it is reloaded once it is")
    return Plan(verbs=(action,))


def _leave_stopped(unit: Unit, action: str) -> Plan:
    if not unit.runs_and_ends:
        return Plan(note=f"unit {unit.name} is stopped; the new files are in place for its next start")
    if action in {"restart", "reload-or-restart"}:
        return Plan(verbs=(action,))
    return Plan(note=f"unit {unit.name} is a oneshot that does not run now; its next run has the new files")


def unit_name(service: Service) -> str:
    """Return the name of the unit of `service`, with its suffix.

    Raises:
        ReloadError: systemd allows no such name.
    """
    name = service.name
    if not UNIT_NAME.fullmatch(name):
        raise ReloadError(
            f"{name!r} can't be the name of a unit; write the service as systemctl shows it",
            retryable=False,
        )
    return name if name.endswith(UNIT_SUFFIXES) else f"{name}.service"


def check_action(action: str) -> None:
    """Make sure that `action` is one that every unit can be asked for.

    Raises:
        ReloadError: it is not; the text has those that are.
    """
    if action not in ACTIONS:
        allowed = ", ".join(f'"{known}"' for known in ACTIONS)
        raise ReloadError(
            f'action = "{action}" is nothing to ask of a unit; write one of {allowed}, or "" for none',
            retryable=False,
        )


def maps_units(service: Service) -> bool:
    """Tell whether a mapping holds unit files: a file, a drop-in directory, or a whole directory."""
    return any(
        mapping.local.is_relative_to(directory) or directory.is_relative_to(mapping.local)
        for mapping in service.mappings
        for directory in UNIT_DIRECTORIES
    )
