"""A suite that a wrong plugin passes would be no contract."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from libgitopper import Hooks, MountRequest, MountVerb, Published, hookimpl
from libgitopper.testing.mount import MountContract, Stage


class Torn:
    """Copies a release over the one before, and takes a question for an order."""

    @hookimpl
    def gitopper_mount(self, request: MountRequest) -> Published | None:
        release = request.release
        if release and request.verb in (MountVerb.PUBLISH, MountVerb.JUDGE):
            for mapping in request.service.mappings:
                source, local = release.path / mapping.link, mapping.local
                local.parent.mkdir(parents=True, exist_ok=True)
                if mapping.file:
                    shutil.copyfile(source, local)
                else:
                    shutil.rmtree(local, ignore_errors=True)
                    shutil.copytree(source, local)
        return Published(release=release.id if release else None, changed=True)


@pytest.fixture
def torn() -> Hooks:
    hooks = Hooks()
    hooks.register(Torn())
    return hooks


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(root=tmp_path, publish="torn")


def test_a_publisher_that_tears_is_seen_by_who_reads_meanwhile(torn: Hooks, stage: Stage) -> None:
    with pytest.raises(AssertionError):
        MountContract().test_whoever_reads_meanwhile_sees_one_release_or_the_other(torn, stage)


def test_a_publisher_that_shows_what_it_is_to_judge_is_told(torn: Hooks, stage: Stage) -> None:
    with pytest.raises(AssertionError):
        MountContract().test_to_judge_touches_nothing(torn, stage)
