"""The file of tokens: read by the daemon at each change, written by ``gitopperctl token``.

    [[tokens]]
    name = "deploy"
    sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    role = "operate"
    services = ["web*"]
    created = 2026-11-22T12:00:00Z
    expires = 2027-02-20T12:00:00Z

It holds hashes only. Plain SHA-256 is right here: a token has 256 random bits, so nobody can search for
what has a given hash; a slow hash, as for passwords, would make each request slow and add nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import stat
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attrs import field, frozen

from gitopper_plugins._grants import grant_of, role_problems, services_problems, unknown_keys
from libgitopper import GitopperError, Grant

__all__ = [
    "NAME",
    "PREFIX",
    "Token",
    "TokenFileError",
    "default_file",
    "editing",
    "hash_of",
    "new_token",
    "open_file",
    "parse",
    "read",
]

PREFIX = "gitopper_"
"""So that secret scanners know one, and other plugins' bearer tokens are left to them."""
RANDOM_BYTES = 32
MOST_BYTES = 1 << 20

KEYS = ("name", "sha256", "role", "services", "created", "expires")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

HEAD = """\
# Tokens of gitopperd's API. Written by `gitopperctl token`, which keeps no comments but this.
# Only hashes are kept: a token that was lost can't be read from here; make another, and revoke it.
"""


class TokenFileError(GitopperError):
    """A file of tokens that can't be used; the text names the file, what is wrong, and the remedy."""


@frozen(kw_only=True)
class Token:
    """What is kept of one token."""

    name: str
    sha256: str = field(repr=False)
    """64 lower-case hex digits."""
    grant: Grant
    created: datetime | None = None
    expires: datetime | None = None

    def expired(self, now: datetime) -> bool:
        """Tell whether its time is over."""
        return self.expires is not None and now >= self.expires


def default_file() -> Path:
    """Return where tokens are kept when nobody says: of the system for root, else of this user."""
    if os.geteuid() == 0:
        return Path("/etc/gitopper/tokens.toml")
    config = os.environ.get("XDG_CONFIG_HOME", "")
    base = Path(config) if config.startswith("/") else Path.home() / ".config"
    return base / "gitopper" / "tokens.toml"


def new_token() -> str:
    """Return a new token, to be shown once: 256 bits of the system's randomness."""
    return PREFIX + secrets.token_urlsafe(RANDOM_BYTES)


def hash_of(token: str) -> str:
    """Return what is kept of a token; any text that came in a header can be hashed."""
    return hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest()


def read(path: Path) -> tuple[Token, ...]:
    """Return the tokens in a file.

    Raises:
        TokenFileError: it can't be read, others could read or write it, or it has mistakes.
    """
    with open_file(path) as descriptor:
        return parse(path, descriptor)


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[int]:
    """Open a file of tokens that nobody else may read or write; yields its descriptor.

    Raises:
        TokenFileError: it can't be opened, or others could read or write it.
    """
    try:
        # Not to wait where it is a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        remedy = "make a token with `gitopperctl token create`"
        raise TokenFileError(f"{path}: there is no such file; {remedy}") from None
    except (OSError, ValueError) as exc:
        raise TokenFileError(f"{path}: can't be read: {getattr(exc, 'strerror', '') or exc}") from exc
    try:
        _refuse_unsafe(path, os.fstat(descriptor))
        yield descriptor
    finally:
        os.close(descriptor)


def parse(path: Path, descriptor: int) -> tuple[Token, ...]:
    """Return the tokens in an open file; `path` is for the errors.

    Raises:
        TokenFileError: it can't be read, or has mistakes; all of them are told, and no value is.
    """
    try:
        data = os.pread(descriptor, MOST_BYTES + 1, 0)
        if len(data) > MOST_BYTES:
            raise TokenFileError(f"{path}: more than {MOST_BYTES} bytes; is it the right file?")
        document = tomllib.loads(data.decode())
    except OSError as exc:
        raise TokenFileError(f"{path}: can't be read: {exc.strerror or exc}") from exc
    except tomllib.TOMLDecodeError as exc:
        raise TokenFileError(f"{path}: not valid TOML: {exc}; mend it there") from None
    except (ValueError, RecursionError):
        raise TokenFileError(f"{path}: not TOML in UTF-8; mend it, or make it anew") from None
    return _tokens(path, document)


@contextlib.contextmanager
def editing(path: Path) -> Iterator[list[Token]]:
    """Yield the tokens in a file, to be changed in place; written when the block ends well.

    The new file takes the place of the old one in one step, so the daemon never reads half of it; two
    that edit at the same time come one after the other. A file that is new is for its owner alone.

    Raises:
        TokenFileError: it can't be read or written.
    """
    try:
        path = path.resolve()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        with _locked(path.parent):
            tokens = list(read(path)) if path.exists() else []
            yield tokens
            _write(path, tokens)
    except OSError as exc:
        remedy = "; as root?" if isinstance(exc, PermissionError) and os.geteuid() else ""
        raise TokenFileError(f"{path}: can't be written: {exc.strerror or exc}{remedy}") from exc


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    # The directory itself: the file is replaced, and a lock file would be left behind.
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _refuse_unsafe(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise TokenFileError(f"{path}: not a file")
    if found.st_uid not in (0, os.geteuid()):
        raise TokenFileError(f"{path}: belongs to uid {found.st_uid}, who could let anybody in; chown it")
    mode = stat.S_IMODE(found.st_mode)
    # Its group may read it: a daemon that is not root gets it so.
    if mode & 0o037:
        does = "write" if mode & 0o022 else "read"
        raise TokenFileError(f"{path}: mode {mode:04o} lets others {does} it; chmod 600 it")


def _tokens(path: Path, document: Mapping[str, Any]) -> tuple[Token, ...]:
    entries = document.get("tokens", [])
    problems = unknown_keys(document, "tokens")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        problems.append("tokens: not a list of tables; write [[tokens]]")
        entries = []
    for number, entry in enumerate(entries):
        problems += [f"tokens[{number}].{problem}" for problem in _problems(entry)]
    names = [str(entry.get("name")) for entry in entries]
    problems += [
        f"{name} is there twice; revoke it" for name in sorted({n for n in names if names.count(n) > 1})
    ]
    if problems:
        raise TokenFileError(f"{path}: {'; '.join(problems)}")
    return tuple(_token(entry) for entry in entries)


def _problems(entry: Mapping[str, Any]) -> list[str]:
    problems = unknown_keys(entry, *KEYS) + role_problems(entry) + services_problems(entry)
    for key, shape in (("name", NAME), ("sha256", _SHA256)):
        value = entry.get(key)
        if not isinstance(value, str) or not shape.fullmatch(value):
            problems.append(f"{key}: missing, or not of the shape {shape.pattern}")
    for key in ("created", "expires"):
        value = entry.get(key)
        if value is not None and (not isinstance(value, datetime) or value.tzinfo is None):
            problems.append(f"{key}: not a time with its offset; write 2026-11-22T12:00:00Z")
    return problems


def _token(entry: Mapping[str, Any]) -> Token:
    return Token(
        name=entry["name"],
        sha256=entry["sha256"],
        grant=grant_of(entry),
        created=entry.get("created"),
        expires=entry.get("expires"),
    )


def _write(path: Path, tokens: Sequence[Token]) -> None:
    before = path.stat() if path.exists() else None
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            if before is not None:  # a group that the daemon reads it by stays
                if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(descriptor, before.st_uid, before.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
            file.write(HEAD + "".join(_toml(token) for token in tokens))
            file.flush()
            os.fsync(descriptor)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _toml(token: Token) -> str:
    lines = ["", "[[tokens]]", f"name = {_quoted(token.name)}", f'sha256 = "{token.sha256}"']
    lines.append(f'role = "{token.grant.role.name.lower()}"')
    if not token.grant.unlimited:
        lines.append(f"services = [{', '.join(_quoted(glob) for glob in token.grant.services)}]")
    for key, moment in (("created", token.created), ("expires", token.expires)):
        if moment is not None:
            lines.append(f"{key} = {moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Return a TOML basic string; it escapes as JSON does, and DEL besides."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
