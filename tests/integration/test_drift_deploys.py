"""Drift by whole passes, with real git: each kind; tracking, frozen, rolled back; reported and healed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import evolve, frozen

from libgitopper import (
    DriftPolicy,
    Health,
    Intent,
    IntentKind,
    Outcome,
    Reconciler,
    Service,
    SourceHealth,
    State,
    StateStore,
    derive,
    load_plugins,
    watches,
)
from libgitopper.testing.upstream import Upstream
from tests.support.upstream import git, web_of

Tree = dict[str, tuple[int, bytes]]
"""Path to mode and content; of a symlink, where it leads."""


def tree_of(top: Path) -> Tree:
    """What is below `top`, as git would see it."""
    tree: Tree = {}
    for path in sorted(top.rglob("*")):
        name, mode = str(path.relative_to(top)), path.lstat().st_mode
        if path.is_symlink():
            tree[name] = mode, bytes(path.readlink())
        elif path.is_file():
            tree[name] = mode, path.read_bytes()
    return tree


@frozen(kw_only=True)
class Site:
    """A real service that was deployed twice, and its upstream."""

    top: Path
    upstream: Upstream
    state: StateStore
    reconciler: Reconciler
    service: Service
    first: str
    second: str

    @property
    def local(self) -> Path:
        """Where the service has its files."""
        return self.top / "etc/web"

    def pass_(self, drift: DriftPolicy = DriftPolicy.REPORT) -> tuple[Outcome, State, str]:
        """Poll and reconcile once; return what came of it, and what is shown."""
        service = evolve(self.service, drift=drift)
        (watch,) = watches([service], self.top / "stores")
        store = self.reconciler.poll(watch)
        outcome = self.reconciler.reconcile(service, store)
        shown = derive(
            intent=outcome.intent, deployed=outcome.deployed, tip=store.tips["main"],
            source=SourceHealth(polled=True), branch="main", error=outcome.error, drift=outcome.drift,
        )  # fmt: skip
        return outcome, *shown

    def want(self, kind: IntentKind, revision: str | None = None) -> None:
        """As an operator says; and a pass for it."""
        self.reconciler.want("web", Intent(kind=kind, revision=revision))
        self.pass_()

    def at(self, revision: str) -> Tree:
        """What the revision has for the service."""
        checkout = self.top / f"checkout-{revision[:8]}"
        if not checkout.exists():
            git(self.top, "clone", "--quiet", str(self.upstream.path), str(checkout))
            git(checkout, "checkout", "--quiet", revision)
        return tree_of(checkout / "web")

    def patched(self, revision: str, patch: bytes) -> Tree:
        """The same, after ``git apply`` of a patch."""
        self.at(revision)
        checkout = self.top / f"checkout-{revision[:8]}"
        subprocess.run(["git", "apply", "-"], cwd=checkout, input=patch, check=True)
        return tree_of(checkout / "web")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    upstream = Upstream.create(tmp_path / "upstream", "fleet")
    first = upstream.commit({"web/conf": "first\n", "web/sub/more": "more\n", "web/old": "old\n"})
    service = web_of(upstream, tmp_path, f"echo reloaded >> {tmp_path}/reloads")
    with StateStore(tmp_path / "state.db") as state:
        reconciler = Reconciler(hooks=load_plugins(), state=state)
        site = Site(
            top=tmp_path, upstream=upstream, state=state, reconciler=reconciler, service=service,
            first=first, second="",
        )  # fmt: skip
        site.pass_()
        second = upstream.commit({"web/conf": "second\n", "elsewhere": "1"})
        site.pass_()
        yield evolve(site, second=second)


def edited(local: Path) -> None:
    (local / "conf").write_bytes(b"by hand\n\xff\x00")


def added(local: Path) -> None:
    (local / "sub/new dir").mkdir()
    (local / "sub/new dir/added").write_text("added\n")


def removed(local: Path) -> None:
    (local / "sub/more").unlink()


def replaced_by_a_symlink(local: Path) -> None:
    (local / "conf").unlink()
    (local / "conf").symlink_to("old")


def mode_changed(local: Path) -> None:
    (local / "conf").chmod(0o755)


KINDS = [edited, added, removed, replaced_by_a_symlink, mode_changed]


def tracking(site: Site) -> str:
    return site.second


def frozen_there(site: Site) -> str:
    """Frozen; and upstream has moved on."""
    site.want(IntentKind.FREEZE)
    site.upstream.commit({"web/conf": "third\n"})
    return site.second


def rolled_back(site: Site) -> str:
    site.want(IntentKind.ROLLBACK, site.first)
    return site.first


SITUATIONS = [tracking, frozen_there, rolled_back]


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("kind", KINDS, ids=lambda f: f.__name__)
def test_drift_is_reported_and_its_patch_gives_the_drifted_files(
    site: Site, kind: Callable[[Path], None], situation: Callable[[Site], str]
) -> None:
    revision = situation(site)
    kind(site.local)
    drifted = tree_of(site.local.resolve())
    assert drifted != site.at(revision)
    for _ in range(2):
        outcome, state, info = site.pass_()
        assert (state, outcome.error) == (State.DIFF, None)
        assert info.startswith("drift: web/")
        assert tree_of(site.local.resolve()) == drifted, "it was touched"
    (record,) = site.state.drifts("web")
    assert (record.revision, record.healed, record.complete) == (revision, False, True)
    assert site.patched(revision, record.patch) == drifted


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("kind", KINDS, ids=lambda f: f.__name__)
def test_drift_is_healed_by_a_fresh_release_and_its_patch_stays(
    site: Site, kind: Callable[[Path], None], situation: Callable[[Site], str]
) -> None:
    revision = situation(site)
    kind(site.local)
    live = site.local.resolve()
    drifted = tree_of(live)
    reloads = (site.top / "reloads").read_text().count("reloaded")
    outcome, state, _ = site.pass_(DriftPolicy.HEAL)
    assert outcome.error is None
    assert state is (State.OK if situation is tracking else State.FREEZE)
    assert site.local.resolve() != live, "it was healed in place"
    assert tree_of(site.local.resolve()) == site.at(revision)
    assert (site.top / "reloads").read_text().count("reloaded") == reloads + 1
    assert outcome.deployed is not None
    assert outcome.deployed.revision == revision
    (record,) = site.state.drifts("web")
    assert record.healed
    assert site.patched(revision, record.patch) == drifted
    # And that is the end of it.
    outcome, state, _ = site.pass_(DriftPolicy.HEAL)
    assert (outcome.error, outcome.drift, len(site.state.drifts("web"))) == (None, None, 1)
    assert (site.top / "reloads").read_text().count("reloaded") == reloads + 1
    assert git(site.local.resolve(), "status", "--porcelain") == ""


def test_a_change_that_is_undone_is_drift_no_more(site: Site) -> None:
    before = (site.local / "conf").read_bytes()
    edited(site.local)
    assert site.pass_()[1] is State.DIFF
    (site.local / "conf").write_bytes(before)
    assert site.pass_()[1] is State.OK


@pytest.mark.parametrize("drift", DriftPolicy)
@pytest.mark.parametrize("kind", [IntentKind.TRACK, IntentKind.FREEZE])
def test_mapped_path_that_is_gone_as_a_whole_is_shown_again(
    site: Site, kind: IntentKind, drift: DriftPolicy
) -> None:
    site.want(kind)
    shutil.rmtree(site.local.resolve())
    outcome, state, info = site.pass_(drift)
    assert outcome.error is None, info
    assert state is (State.OK if kind is IntentKind.TRACK else State.FREEZE)
    assert tree_of(site.local) == site.at(site.second)
    kept = site.state.drifts("web")
    assert len(kept) == (0 if drift is DriftPolicy.OFF else 1)
    for record in kept:
        assert record.healed
        assert site.patched(site.second, record.patch) == {}


def test_mapped_path_that_is_gone_as_a_whole_holds_no_commit_up(site: Site) -> None:
    third = site.upstream.commit({"web/conf": "third\n"})
    shutil.rmtree(site.local.resolve())
    outcome, state, info = site.pass_()
    assert (outcome.error, state) == (None, State.OK), info
    assert tree_of(site.local) == site.at(third)
    assert site.state.drifts("web")


def test_release_is_taken_back_though_a_mapped_path_of_the_former_is_gone(site: Site) -> None:
    good = evolve(site, service=evolve(site.service, health=Health(command=("true",), within_seconds=1.0)))
    good.pass_()
    site.upstream.commit({"web/conf": "third\n"})
    # The former release loses its files while the new one is watched.
    lose = f"rm -rf {site.local.resolve()}; false"
    ill = Health(command=("sh", "-c", lose), within_seconds=0.3, interval_seconds=0.2)
    outcome, state, info = evolve(site, service=evolve(site.service, health=ill)).pass_()
    assert state is State.BROKEN
    assert "taken back" in info
    assert outcome.deployed
    assert outcome.deployed.revision == site.second
    assert tree_of(site.local) == site.at(site.second)
