"""The configuration file `ctl.toml`: how hosts are asked, and groups of them. Read strictly."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import BinaryIO

from gitopperd.ctl.errors import SettingsError
from gitopperd.ctl.hosts import Host, group_of, is_name, parse_host
from gitopperd.ctl.private import OTHERS
from gitopperd.ctl.settings import Settings, meant, read_settings, seconds

__all__ = ["Config", "find", "load"]

SYSTEM_FILE = "/etc/gitopper/ctl.toml"
TABLES = ("defaults", "hosts", "groups")
# A name, an address without brackets, or a glob.
PATTERN = re.compile(r"[A-Za-z0-9_.*?!\[\]:-]{1,253}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """What the file says; without a file, nothing."""

    timeout_seconds: float | None = None
    defaults: Settings = field(default_factory=Settings)
    hosts: Sequence[tuple[str, Settings]] = ()
    """Name or glob, in lower case, and what holds for it; in the order of the file."""
    groups: Mapping[str, Sequence[Host]] = field(default_factory=dict)

    def settings(self, host: Host) -> Settings:
        """Return what holds for `host`: its own name wins over globs, and a later glob over an earlier."""
        found = self.defaults
        name = (host.name or "").lower()
        matching = [(pattern, table) for pattern, table in self.hosts if fnmatchcase(name, pattern)]
        for _, table in sorted(matching, key=lambda item: item[0] == name):
            found = table.over(found)
        return found

    def group(self, name: str) -> Sequence[Host]:
        """Return the hosts of a group.

        Raises:
            SettingsError: There is no such group.
        """
        if name in self.groups:
            return self.groups[name]
        here = meant(name, self.groups) or "; there is none: see [groups] in ctl.toml"
        raise SettingsError([f"there is no group {name!r}{here}"])


def find(named: str | None, environ: Mapping[str, str]) -> str | None:
    """Return the path of the file: the one that was named, else the first that is there, else None."""
    if named or (named := environ.get("GITOPPERCTL_CONFIG")):
        return named
    own = environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111
    candidates = (f"{own}/gitopper/ctl.toml", SYSTEM_FILE)
    return next((path for path in candidates if os.path.lexists(path)), None)


def load(path: str) -> Config:
    """Read the file.

    Raises:
        SettingsError: It can't be read, or something in it is wrong; all of it is reported at once.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - what is checked is what is read
            return _Reader(path).read(_parsed(file, path), os.fstat(file.fileno()).st_mode)
    except OSError as exc:
        remedy = "" if isinstance(exc, FileNotFoundError) else "; --config FILE takes another"
        raise SettingsError([f"{path}: can't be read: {exc.strerror or exc}{remedy}"]) from exc


def _parsed(file: BinaryIO, path: str) -> dict[str, object]:
    # Imported here alone: most hosts are asked without a file.
    import tomllib

    try:
        return tomllib.load(file)
    except ValueError as exc:
        raise SettingsError([f"{path}: this is not TOML: {exc}"]) from exc


class _Reader:
    """Reads one document, and gathers all that is wrong with it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._problems: list[str] = []

    def read(self, document: Mapping[str, object], mode: int) -> Config:
        for key in document.keys() - set(TABLES):
            self._complain(key, f"unknown table{meant(key, TABLES)}")
        defaults = dict(self._table(document, "defaults"))
        timeout_seconds = self._timeout(defaults.pop("timeout", None))
        hosts = [
            (pattern.lower(), self._settings(("hosts", pattern), table))
            for pattern, table in self._table(document, "hosts").items()
        ]
        settings = self._settings(("defaults",), defaults)
        if mode & OTHERS and any(s.token and s.token.text for s in (settings, *(s for _, s in hosts))):
            self._problems.append(
                f"{self._path}: it holds a token, and others may read it; chmod 600 {self._path}"
            )
        groups = self._groups(self._table(document, "groups"))
        if self._problems:
            raise SettingsError(self._problems)
        return Config(timeout_seconds=timeout_seconds, defaults=settings, hosts=hosts, groups=groups)

    def _complain(self, where: str, said: str) -> None:
        self._problems.append(f"{self._path}: {where}: {said}")

    def _table(self, document: Mapping[str, object], name: str) -> Mapping[str, object]:
        value = document.get(name, {})
        if isinstance(value, dict):
            return value
        self._complain(name, f"this is not a table; write [{name}]")
        return {}

    def _timeout(self, value: object) -> float | None:
        try:
            return None if value is None else seconds(value)
        except ValueError as exc:
            self._complain("defaults.timeout", str(exc))
            return None

    def _settings(self, where: tuple[str, ...], table: object) -> Settings:
        name = ".".join(part if is_name(part) and "." not in part else f'"{part}"' for part in where)
        if where[0] == "hosts":
            self._check_pattern(name, where[1])
        if not isinstance(table, dict):
            self._complain(name, f"this is not a table; write [{name}]")
            return Settings()
        if "timeout" in table:
            self._complain(f"{name}.timeout", "it holds for all hosts together; write it in [defaults]")
        known = {key: value for key, value in table.items() if key != "timeout"}
        return read_settings(known, lambda key, said: self._complain(f"{name}.{key}", said), self._path)

    def _check_pattern(self, name: str, pattern: str) -> None:
        if not PATTERN.fullmatch(pattern):
            self._complain(name, 'not a name or glob; write one such as [hosts."*.example.net"]')
        elif pattern.count(":") == 1:
            self._complain(name, "a table is for a name, without a port; write port = … in it")

    def _groups(self, table: Mapping[str, object]) -> dict[str, Sequence[Host]]:
        members = {name: self._members(name, value) for name, value in table.items()}
        groups: dict[str, Sequence[Host]] = {}
        for name in members:
            found: dict[str, Host] = {}
            self._gather(name, members, (), found)
            groups[name] = tuple(found.values())
        return groups

    def _members(self, name: str, value: object) -> list[Host | str]:
        """Return the hosts of one group, and the names of the groups in it."""
        if not is_name(name):
            self._complain(f'groups."{name}"', "not the name of a group; write letters, digits, - and _")
        if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
            self._complain(f"groups.{name}", 'this is not a list of hosts; write ["web1", "web2:8443"]')
            return []
        found: list[Host | str] = []
        for item in value:
            try:
                found.append(group_of(item) or parse_host(item))
            except ValueError as exc:
                self._complain(f"groups.{name}", str(exc))
        return found

    def _gather(
        self,
        name: str,
        members: Mapping[str, Sequence[Host | str]],
        above: tuple[str, ...],
        found: dict[str, Host],
    ) -> None:
        """Put the hosts of the group into `found`, by label; `above` are the groups that led here."""
        for item in members[name]:
            if isinstance(item, Host):
                found.setdefault(item.label, item)
            elif item == name or item in above:
                # Of each group in the circle it is told once, where the group begins.
                if item == (*above, name)[0]:
                    self._complain(f"groups.{item}", f"it is in itself: {' → '.join((*above, name, item))}")
            elif item in members:
                self._gather(item, members, (*above, name), found)
            elif not above:
                self._complain(f"groups.{name}", f"there is no group {item!r}{meant(item, members)}")
