"""What git keeps of a work tree, read from its files: no git is needed on the host.

See gitrepository-layout(5) and git-config(1). Included configuration and ``insteadOf`` are not followed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from gitopperd.hdr.errors import HeaderError

__all__ = ["WorkTree", "parse_config"]

HEADS = "refs/heads/"

_SECTION = re.compile(r'\[\s*([\w.-]+)(?:\s+"((?:[^"\\]|\\.)*)")?\s*\]')
_BACKSLASH, _UNESCAPED = re.compile(r"\\(.)"), r"\1"
_ESCAPES = {"n": "\n", "t": "\t", "b": "\b"}


class WorkTree:
    """The work tree that a file is in; a linked one, as a release of gitopper is, counts."""

    def __init__(self, top: Path, directory: Path) -> None:
        self.top = top
        self._directory = directory
        pointer = directory / "commondir"
        # Configuration and branches are shared with the repository that this is a work tree of.
        self._common = directory / _read(pointer).strip() if pointer.is_file() else directory
        self._config = parse_config(_read(self._common / "config"))

    @classmethod
    def around(cls, file: Path) -> WorkTree:
        """Return the innermost work tree that `file`, an absolute path, is in.

        Raises:
            HeaderError: it is in none.
        """
        for top in file.parents:
            found = top / ".git"
            if found.is_file():
                pointer = _read(found)
                if pointer.startswith("gitdir: "):
                    return cls(top, top / pointer.removeprefix("gitdir: ").rstrip("\n"))
            elif (found / "HEAD").exists():
                return cls(top, found)
        raise HeaderError(
            f"{file} is in no git work tree; of a file that is mounted, name the original, below"
            " MOUNT/SERVICE, as /var/lib/gitopper/nginx/nginx/etc/nginx.conf"
        )

    def remote_url(self, name: str | None) -> str:
        """Return the URL of the remote `name`; without one, of the one that the branch follows.

        Raises:
            HeaderError: there is no such remote, or none to choose.
        """
        remotes = [key.split(".", 1)[1].removesuffix(".url") for key in self._config if _is_remote(key)]
        if name is None:
            follows = self._config.get(f"branch.{self._attached}.remote", "origin")
            name = follows if follows in remotes or len(remotes) != 1 else remotes[0]
        if name not in remotes:
            known = f"it has {', '.join(remotes)}: choose with --remote, or" if remotes else "it has none:"
            raise HeaderError(f"{self.top} has no remote {name!r}; {known} give the web address with --url")
        return self._config[f"remote.{name}.url"]

    @property
    def branch(self) -> str | None:
        """The branch that is checked out, by its name upstream; None where that can't be told.

        In a release no branch is: then it is the one whose tip this is, or the only one that is known.
        """
        if self._attached:
            merge = self._config.get(f"branch.{self._attached}.merge", "")
            return merge.removeprefix(HEADS) if merge.startswith(HEADS) else self._attached
        tips = [(_branch_of(ref), tip) for ref, tip in dict(self._refs()).items()]
        known = {name for name, _ in tips if name}
        here = {name for name, tip in tips if name and tip == self.revision} or known
        return here.pop() if len(here) == 1 else None

    @property
    def revision(self) -> str:
        """The commit that is checked out where no branch is: a full hash; empty where a branch is."""
        return "" if self._attached else self._head

    @property
    def _head(self) -> str:
        return _read(self._directory / "HEAD").strip()

    @property
    def _attached(self) -> str:
        kind, _, ref = self._head.partition(": ")
        return ref.removeprefix(HEADS) if kind == "ref" and ref.startswith(HEADS) else ""

    def _refs(self) -> Iterator[tuple[str, str]]:
        """Yield each ref with what it names; a loose one comes after its packed self, and counts."""
        packed = self._common / "packed-refs"
        for line in _read(packed).splitlines() if packed.is_file() else ():
            revision, _, ref = line.partition(" ")
            yield ref, revision
        for path in (self._common / "refs").rglob("*"):
            if path.is_file():
                yield path.relative_to(self._common).as_posix(), _read(path).strip()


def parse_config(text: str) -> Mapping[str, str]:
    """Return the values of a git configuration, by ``section.subsection.key``; the first of each key."""
    values: dict[str, str] = {}
    section = ""
    for line in text.replace("\\\n", "").splitlines():
        rest = line.strip()
        if match := _SECTION.match(rest):
            name, sub = match[1].lower(), match[2]
            section = name if sub is None else f"{name}.{_BACKSLASH.sub(_UNESCAPED, sub)}"
            rest = rest[match.end() :].strip()
        key, _, value = rest.partition("=")
        if key.strip() and key[0] not in "#;":
            values.setdefault(f"{section}.{key.strip().lower()}", _value(value))
    return values


def _value(raw: str) -> str:
    """Return what a value says: without quotes, escapes, and the comment behind it."""
    found, quoted, characters = "", False, iter(raw.strip())
    for character in characters:
        if character == "\\":
            escaped = next(characters, "")
            found += _ESCAPES.get(escaped, escaped)
        elif character == '"':
            quoted = not quoted
        elif character in "#;" and not quoted:
            return found.rstrip()
        else:
            found += character
    return found


def _is_remote(key: str) -> bool:
    return key.startswith("remote.") and key.endswith(".url") and key.count(".") > 1


def _branch_of(ref: str) -> str | None:
    if ref.startswith(HEADS):
        return ref.removeprefix(HEADS)
    _, kind, *rest = *ref.split("/", 3), "", ""
    name = rest[1] if kind == "remotes" else ""
    return name if name and name != "HEAD" else None


def _read(path: Path) -> str:
    try:
        return os.fsdecode(path.read_bytes())
    except OSError as exc:
        raise HeaderError(f"{path} can't be read: {exc.strerror}; run it as who may") from exc
