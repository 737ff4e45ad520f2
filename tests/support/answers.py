"""Each hook called as the library calls it, with a plugin that answers as it is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from libgitopper import (
    AuthRequest,
    CheckRequest,
    Content,
    DriftRequest,
    HealthRequest,
    HoldRequest,
    Hooks,
    InstallRequest,
    Intent,
    Release,
    ReloadRequest,
    Service,
    Source,
    Store,
    VerifyRequest,
    hookimpl,
)

__all__ = ["CALLS", "RELEASE", "SERVICE", "answering"]

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SERVICE = Service(
    name="web", source=Source(upstream="u", branch="b"), mappings=(), mount=Path("/m"), package="web"
)
RELEASE = Release(service="web", id="r", path=Path("/r"), content=Content(revision="a" * 40, entries=()))
STORE = cast(Store, None)
ASKED = AuthRequest(plugin="acme", settings={}, method="GET", path="/", headers={})

CALLS: Mapping[str, Callable[[Hooks], object]] = {
    "gitopper_mount": lambda hooks: hooks.observe(SERVICE),
    "gitopper_reload": lambda hooks: hooks.reload(
        ReloadRequest(service=SERVICE, release=RELEASE, first=False)
    ),
    "gitopper_hold": lambda hooks: hooks.hold(HoldRequest(service=SERVICE, revision="a" * 40, now=NOW)),
    "gitopper_verify": lambda hooks: hooks.verify(
        VerifyRequest(
            service=SERVICE, store=STORE, revision="a" * 40, accepted=None, floor=None, intent=Intent()
        )
    ),
    "gitopper_install": lambda hooks: hooks.install(InstallRequest(service=SERVICE)),
    "gitopper_check": lambda hooks: hooks.check(CheckRequest(service=SERVICE, release=RELEASE)),
    "gitopper_health": lambda hooks: hooks.health(
        HealthRequest(service=SERVICE, release=RELEASE, since=NOW, timeout_seconds=1.0)
    ),
    "gitopper_drift": lambda hooks: hooks.drift(
        DriftRequest(service=SERVICE, store=STORE, release=RELEASE)
    ),
    "gitopper_auth": lambda hooks: hooks.identify(ASKED),
}


def answering(hook: str, answer: Callable[[], object]) -> Hooks:
    """Return hooks with a plugin `acme` that does `answer`, and nothing else."""

    def method(self: object, request: Any) -> object:
        return answer()

    plugin = type("Acme", (), {hook: hookimpl(method)})()
    hooks = Hooks()
    hooks.register(plugin, name="acme", distribution="acme-dist")
    return hooks
