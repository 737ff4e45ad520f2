"""How a session authenticates: values, which can be handed to a process that may read no file."""

from __future__ import annotations

import base64
import re

from attrs import field, frozen

__all__ = ["Access", "authorization", "without_userinfo"]


@frozen(kw_only=True)
class Access:
    """What one session shows of itself."""

    authorization: str | None = field(default=None, repr=False)
    """The value of an http ``Authorization`` header."""
    user: str | None = None
    """For ssh, where the address names none."""
    ssh_key: str | None = None
    """Path of a private key, for ssh to read."""
    known_hosts: str | None = None
    """Path of a file with host keys for ssh, beside those of the system."""


def authorization(pair: str) -> str | None:
    """The value of an ``Authorization`` header for ``user:password``; None when that is empty."""
    return f"Basic {base64.b64encode(pair.encode()).decode()}" if pair else None


def without_userinfo(url: str) -> str:
    """`url` as it may be shown: without what stands before the ``@`` of its host."""
    return re.sub(r"^(https?://)[^/?#]*@", r"\1", url)
