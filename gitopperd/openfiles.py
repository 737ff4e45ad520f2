"""How many files a program of ours may have open at a time."""

from __future__ import annotations

import resource

__all__ = ["ENOUGH", "allow_open_files"]

ENOUGH = 65_536
"""Stores keep some dozens of files open each, so the usual 1,024 end at about thirty upstreams; the client
has a connection to each host. More than this helps nobody, and programs that we start may close every
number up to their limit."""


def allow_open_files() -> None:
    """Raise the soft limit to `ENOUGH`, as far as the hard limit lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
