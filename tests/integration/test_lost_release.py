"""A release that is gone from the disk comes back from the store, with real git, whatever the tip is."""

from __future__ import annotations

import shutil
from pathlib import Path

from libgitopper import (
    CheckoutError,
    Outcome,
    Reconciler,
    StateStore,
    load_plugins,
    watches,
)
from libgitopper.testing.upstream import Upstream
from tests.support.upstream import git, web_of


def test_a_release_that_is_gone_is_made_again_although_the_tip_lacks_its_path(tmp_path: Path) -> None:
    upstream = Upstream.create(tmp_path / "upstream", "fleet")
    good = upstream.commit({"web/conf": "good\n"})
    reloads = tmp_path / "reloads"
    service = web_of(upstream, tmp_path, f"cat {tmp_path}/etc/web/conf >> {reloads}")
    (watch,) = watches([service], tmp_path / "stores")
    with StateStore(tmp_path / "state.db") as state:
        reconciler = Reconciler(hooks=load_plugins(), state=state)

        def pass_(*, offline: bool = False) -> Outcome:
            return reconciler.reconcile(service, reconciler.poll(watch, offline=offline))

        assert pass_().error is None
        upstream.commit({"web/conf": None, "elsewhere": "1"})
        assert isinstance(pass_().error, CheckoutError)
        shutil.rmtree(service.releases)
        outcome = pass_(offline=True)
        assert isinstance(outcome.error, CheckoutError), "of the tip"
        assert outcome.deployed is not None
        assert outcome.deployed.revision == good
        assert (tmp_path / "etc/web/conf").read_text() == "good\n"
        assert git(service.live, "rev-parse", "HEAD").strip() == good
        assert git(service.live, "status", "--porcelain") == ""
        assert reloads.read_text() == "good\n" * 2
        assert isinstance(pass_().error, CheckoutError)
        assert reloads.read_text() == "good\n" * 2
