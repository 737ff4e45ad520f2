"""A host that verifies: the real fetch, the real judges of commits, and an upstream to commit to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve

from gitopper_plugins import rewind
from gitopper_plugins.dulwich import DulwichPlugin
from gitopper_plugins.signature import Signatures
from libgitopper import (
    Accepted,
    Hooks,
    Intent,
    IntentKind,
    Service,
    Store,
    Verify,
    VerifyError,
    VerifyRequest,
)
from libgitopper.testing.git import Stage
from tests.support.upstream import Upstream

__all__ = ["VerifyingHost", "verifying_host"]


@define
class VerifyingHost:
    """What a test asks for verdicts."""

    stage: Stage
    verify: Verify | None = None

    @property
    def upstream(self) -> Upstream:
        """Its main has one commit that is not signed."""
        return self.stage.upstream

    def allow(self, *lines: str) -> Path:
        """Trust the ssh keys of these lines, and no others."""
        path = self.stage.root / "allowed_signers"
        path.write_text("".join(lines))
        path.chmod(0o644)
        self.verify = evolve(self.verify or Verify(), allowed_signers=path)
        return path

    def trust(self, keyring: Path) -> None:
        """Trust the OpenPGP keys of a keyring, and no others."""
        self.verify = evolve(self.verify or Verify(), keyring=keyring)

    def service(self, **fields: Any) -> Service:
        """The service to judge for."""
        return evolve(self.stage.service("web"), **{"verify": self.verify, **fields})

    def ask(
        self,
        revision: str = "",
        *,
        accepted: str | None = None,
        store: Store | None = None,
        intent: IntentKind = IntentKind.TRACK,
        **fields: Any,
    ) -> tuple[Accepted, ...]:
        """Ask whether the service may go to `revision`, or to the tip of main, as it is upstream now."""
        store = store or self.stage.fetch()
        return self.stage.hooks.verify(
            VerifyRequest(
                service=self.service(**fields),
                store=store,
                revision=revision or store.tips["main"],
                accepted=accepted,
                floor=accepted,
                intent=Intent(kind=intent),
            )
        )

    def refusal(self, revision: str = "", **more: Any) -> str:
        """The words of the refusal that must come: one line."""
        with pytest.raises(VerifyError) as refused:
            self.ask(revision, **more)
        assert "\n" not in str(refused.value)
        return str(refused.value)


@contextlib.contextmanager
def verifying_host(directory: Path) -> Iterator[VerifyingHost]:
    """Make one."""
    hooks = Hooks()
    plugin = DulwichPlugin()
    for part in (plugin, Signatures(), rewind):
        hooks.register(part)
    upstream = Upstream.create(directory / "upstreams")
    upstream.commit({"web/index": "1", "other": "1"}, message="unsigned beginnings")
    try:
        yield VerifyingHost(Stage(hooks=hooks, upstream=upstream, url=upstream.url, root=directory))
    finally:
        plugin.close()
