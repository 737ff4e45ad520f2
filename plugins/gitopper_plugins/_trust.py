"""The files that say whose signatures are trusted: they must be there, and nobody else's to change."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from attrs import frozen

from gitopper_plugins._signedcommit import Kind
from libgitopper import Verify, VerifyError

__all__ = ["Stamp", "Trust", "read_trust"]

Stamp = tuple[int, ...]
"""Which files they are, and in which state: it differs after each change."""

_KEYS = {Kind.SSH: "allowed_signers", Kind.OPENPGP: "keyring"}
_ARMORED = b"-----BEGIN PGP"


@frozen(kw_only=True)
class Trust:
    """The files with the keys that are trusted, as they are now."""

    files: Mapping[Kind, Path]
    stamp: Stamp

    def __str__(self) -> str:
        return " or ".join(str(path) for path in self.files.values())


def read_trust(verify: Verify) -> Trust:
    """Look at the files that `verify` names.

    Raises:
        VerifyError: one can't be used, or anybody could change it. It can be mended, so retryable.
    """
    named = {Kind.SSH: verify.allowed_signers, Kind.OPENPGP: verify.keyring}
    files = {kind: path for kind, path in named.items() if path is not None}
    if not files:
        raise VerifyError("no commit can be verified: name allowed_signers or a keyring in `verify`")
    stamp = tuple(part for kind, path in files.items() for part in _stamp_of(path, kind))
    return Trust(files=files, stamp=stamp)


def _stamp_of(path: Path, kind: Kind) -> Stamp:
    try:
        found, start = _look(path)
    except OSError as exc:
        raise _unusable(path, kind, f"{exc.strerror}; put the trusted keys there") from exc
    if not stat.S_ISREG(found.st_mode):
        raise _unusable(path, kind, "not a file")
    if found.st_uid not in (0, os.geteuid()):
        raise _unusable(path, kind, f"belongs to uid {found.st_uid}, who could trust anybody; chown it")
    if found.st_mode & 0o022:
        mode = stat.S_IMODE(found.st_mode)
        raise _unusable(path, kind, f"mode {mode:04o} lets others add keys; chmod go-w it")
    if kind is Kind.OPENPGP and start == _ARMORED:
        raise _unusable(path, kind, f"it is armored, which gpgv can't read; gpg --dearmor < {path}")
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _look(path: Path) -> tuple[os.stat_result, bytes]:
    """The state of a file, and how it begins; it is opened, so that it is known to be readable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        return found, os.read(descriptor, len(_ARMORED)) if stat.S_ISREG(found.st_mode) else b""
    finally:
        os.close(descriptor)


def _unusable(path: Path, kind: Kind, why: str) -> VerifyError:
    return VerifyError(f"no commit can be verified: {_KEYS[kind]} {path}: {why}", retryable=True)
