"""One name for a repository, whichever of its URLs is at hand."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

__all__ = ["repository"]

_SCP = re.compile(r"(?:[^@/:]+@)?(?P<host>\[[^]/]+\]|[^@/:]+):(?P<path>[^:].*)")


def repository(url: str) -> str | None:
    """Return host and path of the repository at `url`, in lower case; None where it can't be read.

    ``https://git.example.net/ops/config.git``, ``ssh://git@git.example.net:2222/ops/config`` and
    ``git@git.example.net:ops/config.git`` are all ``git.example.net/ops/config``; ``/srv/git/config.git``
    is ``/srv/git/config``. Protocol, user, port and case say nothing about which repository it is, or so
    little that a poll too many is the better mistake.
    """
    if "://" in url:
        try:
            parts = urlsplit(url)
            host, path = parts.hostname or "", parts.path
        except ValueError:
            return None
        if not host and parts.scheme != "file":
            return None
        if parts.scheme == "file":
            host = ""
    elif url.startswith("/"):
        host, path = "", url
    elif match := _SCP.fullmatch(url):
        host, path = match["host"].strip("[]"), match["path"]
    else:
        return None
    path = unquote(path).strip("/").removesuffix(".git").rstrip("/")
    return f"{host}/{path}".lower() if path else None
