"""Which commit an operator means by a hash."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from attrs import frozen

from libgitopper import (
    AmbiguousRevision,
    Content,
    Deployed,
    Mapping,
    Service,
    Source,
    StateStore,
    Store,
    UnknownRevision,
)
from libgitopper.revisions import find_revision

OLD, NEW, KEPT = "aaaa1" + "0" * 35, "aaaa2" + "0" * 35, "aaaa3" + "0" * 35


@frozen
class SimulatedHistory:
    """What a store knows of one branch."""

    revisions: tuple[str, ...]

    def resolve(self, prefix: str, branch: str) -> str:
        found = [revision for revision in self.revisions if revision.startswith(prefix)]
        if len(found) > 1:
            raise AmbiguousRevision(f"{prefix} in {branch}: {len(found)}")
        if not found:
            raise UnknownRevision(f"{prefix} is not in {branch}")
        return found[0]


def history(*revisions: str) -> Store:
    return cast("Store", SimulatedHistory(revisions))


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(
        name="web",
        source=Source(upstream="https://git.example.net/fleet.git", branch="main"),
        mappings=(Mapping(link="web", local=Path("/etc/web")),),
        mount=tmp_path,
    )


@pytest.fixture
def state(tmp_path: Path, service: Service) -> StateStore:
    """A state in which a release of KEPT, which no history has any more, is on disk."""
    (service.releases / "release").mkdir(parents=True)
    content = Content(revision=KEPT, entries=())
    deployed = Deployed(
        revision=KEPT, release="release", content=content, service=service, at=datetime.now(UTC)
    )
    store = StateStore(tmp_path / "state.db")
    store.record(deployed)
    return store


@pytest.mark.parametrize(
    ("prefix", "found"),
    [("aaaa1", OLD), (OLD, OLD), ("aaaa3", KEPT), ("AAAA3", KEPT), (KEPT, KEPT)],
)
def test_a_hash_is_found_in_the_history_or_among_what_is_kept(
    service: Service, state: StateStore, prefix: str, found: str
) -> None:
    with state:
        assert find_revision(service, prefix, history(OLD, NEW), state) == found


def test_one_in_the_history_and_one_that_is_kept_are_two(service: Service, state: StateStore) -> None:
    with state, pytest.raises(AmbiguousRevision, match=r"aaaa10000000, aaaa30000000; give more digits"):
        find_revision(service, "aaaa", history(OLD), state)


def test_two_in_the_history_are_two_although_one_is_kept(service: Service, state: StateStore) -> None:
    with state, pytest.raises(AmbiguousRevision):
        find_revision(service, "aaaa", history(OLD, NEW), state)


def test_too_few_digits_name_nothing_that_is_kept(service: Service, state: StateStore) -> None:
    with state, pytest.raises(UnknownRevision):
        find_revision(service, "aaa", None, state)


def test_a_release_that_is_gone_from_disk_is_not_found(service: Service, state: StateStore) -> None:
    (service.releases / "release").rmdir()
    with state, pytest.raises(UnknownRevision, match="kept: none"):
        find_revision(service, KEPT, None, state)
