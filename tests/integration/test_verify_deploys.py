"""What is refused for its signatures, by a whole pass: nothing is written, and the reason is shown."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import frozen

from libgitopper import (
    Mapping,
    Outcome,
    Reconciler,
    Service,
    Source,
    SourceError,
    StateStore,
    Verify,
    VerifyError,
    load_plugins,
    watches,
)
from libgitopper.testing.upstream import Upstream
from tests.support.signing import SshKey, signed, signed_by
from tests.support.upstream import git


@frozen(kw_only=True)
class Site:
    """A real service, deployed at a signed commit, and its upstream."""

    top: Path
    upstream: Upstream
    state: StateStore
    reconciler: Reconciler
    service: Service
    trusted: SshKey
    stranger: SshKey
    expired: SshKey
    """It is among the trusted ones, and was valid until 2020."""

    def pass_(self) -> Outcome:
        """Poll and reconcile once."""
        (watch,) = watches([self.service], self.top / "stores")
        return self.reconciler.reconcile(self.service, self.reconciler.poll(watch))

    def written(self) -> object:
        """All that a deploy writes: files with their times, and the state."""
        files: dict[Path, os.stat_result] = {}
        for directory in (self.top / "mount", self.top / "etc", self.top / "stores"):
            for above, _, names in os.walk(directory):
                if "objects" not in Path(above).parts:
                    files |= {path: path.lstat() for path in (Path(above, name) for name in names)}
        # What a fetch brings is no deploy: the tips, and when they were looked at.
        of_fetch = ("packed-refs", "FETCH_HEAD", "main", "lock")
        shown = {p: (s.st_mtime_ns, s.st_ino) for p, s in files.items() if p.name not in of_fetch}
        name, source = self.service.name, self.service.source
        state = self.state.deployed(name), self.state.attempt(name), self.state.accepted(name, source)
        return shown, state


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    upstream = Upstream.create(tmp_path / "upstream", "fleet")
    keys = [SshKey.make(tmp_path, name) for name in ("trusted", "stranger", "expired")]
    trusted, _, expired = keys
    allowed = tmp_path / "allowed_signers"
    allowed.write_text(trusted.allowed() + expired.allowed('valid-before="20200101"'))
    allowed.chmod(0o644)
    signed(upstream, trusted, "web/first")
    service = Service(
        name="web",
        source=Source(upstream=f"file://{upstream.path}", branch="main"),
        mappings=(Mapping(link="web", local=tmp_path / "etc/web"),),
        mount=tmp_path / "mount",
        publish="symlink",
        reload="command",
        command=("true",),
        verify=Verify(allowed_signers=allowed),
        no_rewind=True,
    )
    with StateStore(tmp_path / "state.db") as state:
        reconciler = Reconciler(hooks=load_plugins(), state=state)
        site = Site(
            top=tmp_path, upstream=upstream, state=state, reconciler=reconciler, service=service,
            trusted=trusted, stranger=keys[1], expired=expired,
        )  # fmt: skip
        nothing = site.written()
        assert site.pass_().error is None
        assert site.written() != nothing
        yield site


def unsigned_in_the_middle(site: Site) -> None:
    site.upstream.commit({"web/smuggled": "1"})
    signed(site.upstream, site.trusted, "web/second")


def unsigned_elsewhere(site: Site) -> None:
    site.upstream.commit({"README": "not of this service"})


def by_a_stranger(site: Site) -> None:
    signed(site.upstream, site.stranger, "web/second")


def by_an_expired_key(site: Site) -> None:
    signed(site.upstream, site.expired, "web/second")


def merge_of_an_unsigned_branch(site: Site) -> None:
    site.upstream.commit({"web/smuggled": "1"}, branch="topic")
    with signed_by(site.upstream, site.trusted):
        git(site.upstream.work, "checkout", "--quiet", "main")
        git(site.upstream.work, "merge", "--quiet", "--no-ff", "-S", "-m", "merge", "topic")
    git(site.upstream.work, "push", "--quiet", "origin", "main")


def rewound(site: Site) -> None:
    signed(site.upstream, site.trusted, "web/second")
    assert site.pass_().error is None
    site.upstream.rewind(1)


@pytest.mark.parametrize(
    ("do", "reason"),
    [
        (unsigned_in_the_middle, "is not signed"),
        (unsigned_elsewhere, "is not signed"),
        (by_a_stranger, "is signed by a key that is not in"),
        (by_an_expired_key, "expired"),
        (merge_of_an_unsigned_branch, "is not signed"),
        (rewound, "does not descend from"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_is_refused_leaves_nothing_behind(site: Site, do: Callable[[Site], None], reason: str) -> None:
    do(site)
    (watch,) = watches([site.service], site.top / "stores")
    site.reconciler.poll(watch)  # what a fetch writes is not looked at
    before = site.written()
    outcome = site.pass_()
    assert isinstance(outcome.error, VerifyError)
    assert reason in str(outcome.error)
    assert site.written() == before


def test_a_tag_in_the_place_of_a_commit_is_refused_by_the_fetch(site: Site) -> None:
    with signed_by(site.upstream, site.trusted):
        git(site.upstream.work, "tag", "-s", "-m", "release", "v1")
    git(site.upstream.work, "push", "--quiet", "origin", "v1")
    before = site.written()
    (site.upstream.path / "refs/heads/main").write_text(git(site.upstream.path, "rev-parse", "v1") + "\n")
    with pytest.raises(SourceError, match="names a tag, and not a commit"):
        site.pass_()
    assert site.written() == before
