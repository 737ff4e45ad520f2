"""What a plugin may be asked to reload."""

from __future__ import annotations

from pathlib import Path

from libgitopper import Content, Release, ReloadRequest, Service, Source

__all__ = ["CONTENT", "RELEASE", "RELOAD", "SERVICE"]

SERVICE = Service(name="web", source=Source(upstream="u", branch="b"), mappings=(), mount=Path("/m"))
CONTENT = Content(revision="a" * 40, entries=())
RELEASE = Release(service="web", id="r", path=Path("/r"), content=CONTENT)
RELOAD = ReloadRequest(service=SERVICE, release=RELEASE, first=False)
