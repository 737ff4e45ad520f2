"""No secret that any test uses may be left in a daemon's log or state."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["leaks", "secret"]

TOKEN = re.compile(rb"gitopper_[A-Za-z0-9_-]{40,}")
"""Every bearer token that `gitopperctl token create` ever made."""

_known: set[bytes] = set()


def secret(value: str) -> str:
    """Note `value` as a secret, to be looked for when all tests are done, and return it."""
    _known.add(value.encode())
    return value


def leaks(base: Path) -> list[str]:
    """Return where below `base`, the directory of all tests, a daemon wrote a secret down."""
    logs = base.glob("*/gitopperd.log")
    states = (path for path in base.glob("*/state/**/*") if path.is_file())
    return [f"{path}: {found!r}" for path in (*logs, *states) for found in _found(path.read_bytes())]


def _found(data: bytes) -> list[bytes]:
    return [known for known in _known if known in data] + TOKEN.findall(data)
