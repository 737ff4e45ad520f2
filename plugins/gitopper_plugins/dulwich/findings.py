"""Judging what is found at the paths of a release: is it what should be there?"""

from __future__ import annotations

import grp
import os
import pwd
import re
from collections.abc import Collection, Iterator, Mapping
from stat import S_ISDIR

from attrs import field, frozen

from gitopper_plugins.dulwich import ondisk
from gitopper_plugins.dulwich.compare import Version, name_of_kind
from gitopper_plugins.dulwich.gitindex import stat_data
from gitopper_plugins.dulwich.patch import LIMIT_BYTES
from gitopper_plugins.dulwich.tree import DIRECTORY, FILE, SUBMODULE, SYMLINK, kind_of
from libgitopper import ChangeKind, CheckoutError, FileChange, Service

__all__ = ["Expected", "Finding", "Judge", "Owner", "owner_of"]

# Names that git refuses in a patch, as any that some file system could take for .git.
_NOT_FOR_GIT = re.compile(r"(^|/)(\.git|git~1)[. ]*([/:\\]|$)", re.IGNORECASE)
_PLAIN = (0o644, 0o755)
_UNREADABLE = "it can't be read: "


@frozen
class Expected:
    """What a release should have at a path; directories included."""

    version: Version
    stat: tuple[int, ...] = ()
    """Its `stat_data` as it was written; empty, or zeros, where that is not known or not to be trusted."""

    @property
    def kind(self) -> int:
        """The kind that it has on disk: a submodule is an empty directory."""
        return DIRECTORY if self.version.mode == SUBMODULE else kind_of(self.version.mode)

    @property
    def permissions(self) -> int:
        """The bits that a checkout gives it."""
        return 0o755 if self.kind == DIRECTORY else self.version.mode & 0o777


@frozen
class Owner:
    """Who should own the files."""

    uid: int
    gid: int | None
    """None for whichever."""


@frozen
class Finding:
    """One path that is not as it should be, and what a patch needs to tell of it."""

    change: FileChange
    before: Version | None = None
    """The file that the revision has; None where a patch needs to take nothing away."""
    after: int | None = None
    """The mode, as git records it, of the file that is there; None where a patch has none to tell of."""
    untold: str = ""
    """What a patch can't tell."""
    lost: bool = False
    """True when content that is there is not known, or can't be told in a patch."""


def owner_of(service: Service, top: int) -> Owner:
    """Who should own the files of a release of `service`, whose directory is `top`.

    Without a user they belong to whoever made the release. Their group is then not looked at: it
    depends on the directories above.

    Raises:
        CheckoutError: there is no such user.
    """
    if service.user is None:
        return Owner(os.fstat(top).st_uid, None)
    try:
        user = pwd.getpwnam(service.user)
    except KeyError:
        raise CheckoutError(
            f"no user {service.user} on this host, to whom the files should belong: create it"
        ) from None
    return Owner(user.pw_uid, user.pw_gid)


@frozen
class Judge:
    """Compares what was found with what is expected."""

    top: int
    """Descriptor of the release."""
    seen: ondisk.Survey = field(repr=False)
    expected: Mapping[str, Expected] = field(repr=False)
    owner: Owner

    def all(self) -> Iterator[Finding]:
        """What differs.

        Raises:
            ondisk.Moved: something changes right now.
        """
        # What is mounted inside is somebody else's: neither an addition, nor missing what it covers.
        seen = self.seen
        covered = seen.foreign | ondisk.mount_points(self.top)
        here = set()
        for path, stat in seen.found:
            here.add(path)
            if not _within(path, covered) and (
                finding := self._judge(path, stat, seen.unreadable.get(path, ""))
            ):
                yield finding
        covered |= seen.unreadable.keys()
        for path, expected in self.expected.items():
            if path not in here and expected.version.mode != DIRECTORY and not _within(path, covered):
                yield Finding(FileChange(path=path, kind=ChangeKind.REMOVED), before=expected.version)

    def _judge(self, path: str, stat: os.stat_result, trouble: str) -> Finding | None:
        expected = self.expected.get(path)
        if expected is None:
            return self._added(path, stat, trouble)
        if kind_of(stat.st_mode) != expected.kind:
            return self._retyped(path, stat, expected.version)
        return self._same_kind(path, stat, expected, trouble)

    def _added(self, path: str, stat: os.stat_result, trouble: str) -> Finding | None:
        kind = kind_of(stat.st_mode)
        if kind == DIRECTORY:
            if not trouble:
                return None
            detail = f"a directory; {_UNREADABLE}{trouble}"
            return Finding(_change(path, ChangeKind.ADDED, detail), untold=detail, lost=True)
        if kind not in (FILE, SYMLINK):
            detail = name_of_kind(stat.st_mode)
            return Finding(_change(path, ChangeKind.ADDED, detail), untold=detail)
        extras = "; ".join(self._extras(stat))
        if _NOT_FOR_GIT.search(path):
            untold = f"{extras}; git takes no such name" if extras else "git takes no such name"
            return Finding(_change(path, ChangeKind.ADDED, extras), untold=untold, lost=True)
        return Finding(_change(path, ChangeKind.ADDED, extras), after=_git_mode(stat), untold=extras)

    def _extras(self, stat: os.stat_result) -> Iterator[str]:
        """What git does not record of a file that should not be there."""
        permissions = stat.st_mode & 0o7777
        if kind_of(stat.st_mode) == FILE and permissions not in _PLAIN:
            yield f"mode {permissions:04o}"
        if wrong := self._wrong_owner(stat):
            yield f"owner {wrong}"

    def _retyped(self, path: str, stat: os.stat_result, version: Version) -> Finding:
        detail = f"{name_of_kind(stat.st_mode)} instead of {name_of_kind(version.mode)}"
        change = _change(path, ChangeKind.RETYPED, detail)
        before = None if version.mode == DIRECTORY else version
        if kind_of(stat.st_mode) in (FILE, SYMLINK):
            untold = "; ".join(self._extras(stat))
            return Finding(change, before=before, after=_git_mode(stat), untold=untold)
        return Finding(change, before=before, untold="" if self._has_files(path) else detail)

    def _has_files(self, path: str) -> bool:
        """True for a directory that a patch tells of by what is in it."""
        found = self.seen.found
        return any(other.startswith(path + "/") and not S_ISDIR(stat.st_mode) for other, stat in found)

    def _same_kind(
        self, path: str, stat: os.stat_result, expected: Expected, trouble: str
    ) -> Finding | None:
        edited = False
        if expected.kind != DIRECTORY and expected.stat != stat_data(stat):
            try:
                edited = ondisk.read(self.top, path, limit=LIMIT_BYTES).id != expected.version.id
            except OSError as exc:
                trouble = exc.strerror or str(exc)
        permissions, owner = _wrong_permissions(stat, expected), self._wrong_owner(stat)
        if not (edited or permissions or owner or trouble):
            return None
        wrong = _Wrong(edited=edited, permissions=permissions, owner=owner, trouble=trouble)
        return wrong.finding(path, stat, expected)

    def _wrong_owner(self, stat: os.stat_result) -> str:
        uid, gid = self.owner.uid, self.owner.gid
        if stat.st_uid == uid and gid in (None, stat.st_gid):
            return ""
        if gid is None:
            return f"{_user(stat.st_uid)} instead of {_user(uid)}"
        return f"{_user(stat.st_uid)}:{_group(stat.st_gid)} instead of {_user(uid)}:{_group(gid)}"


def _wrong_permissions(stat: os.stat_result, expected: Expected) -> str:
    permissions = stat.st_mode & 0o7777
    if expected.kind == SYMLINK or permissions == expected.permissions:
        return ""
    return f"{permissions:04o} instead of {expected.permissions:04o}"


@frozen(kw_only=True)
class _Wrong:
    """What is wrong with a path of the right kind; empty for nothing."""

    edited: bool
    permissions: str
    owner: str
    trouble: str
    """Why it can't be read."""

    def finding(self, path: str, stat: os.stat_result, expected: Expected) -> Finding:
        """The same as a finding."""
        change = _change(path, self._kind, self._detail)
        after = None if expected.kind == DIRECTORY else _git_mode(stat)
        untold = self._untold(bits_told=expected.kind == FILE and stat.st_mode & 0o7777 in _PLAIN)
        same = after in (None, expected.version.mode) and not self.edited
        if same or self.trouble:
            return Finding(change, untold=untold, lost=bool(self.trouble))
        return Finding(change, before=expected.version, after=after, untold=untold)

    @property
    def _kind(self) -> ChangeKind:
        """The one that weighs most: a path is told of once."""
        if self.edited or (self.trouble and not self.permissions):
            return ChangeKind.EDITED
        return ChangeKind.MODE if self.permissions else ChangeKind.OWNER

    @property
    def _detail(self) -> str:
        mode = "" if self._kind is ChangeKind.MODE else "mode "
        owner = "" if self._kind is ChangeKind.OWNER else "owner "
        return _joined((mode, self.permissions), (owner, self.owner), (_UNREADABLE, self.trouble))

    def _untold(self, *, bits_told: bool) -> str:
        permissions = "" if bits_told else self.permissions
        return _joined(("mode ", permissions), ("owner ", self.owner), (_UNREADABLE, self.trouble))


def _joined(*parts: tuple[str, str]) -> str:
    return "; ".join(lead + text for lead, text in parts if text)


def _change(path: str, kind: ChangeKind, detail: str) -> FileChange:
    return FileChange(path=path, kind=kind, detail=detail)


def _git_mode(stat: os.stat_result) -> int:
    """As git records it: of the bits only whether the owner may execute it."""
    if kind_of(stat.st_mode) == SYMLINK:
        return SYMLINK
    return 0o100755 if stat.st_mode & 0o100 else 0o100644


def _within(path: str, places: Collection[str]) -> bool:
    return any(path == place or path.startswith(place + "/") for place in places)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
