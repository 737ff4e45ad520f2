"""The contract of `Store.commits` and `Store.is_ancestor`, as tests to run on a fetch plugin of your own.

    class TestMyHistory(HistoryContract):
        @pytest.fixture
        def plugin(self):
            return my_package.my_plugin

Judged by ``git rev-list``; see `libgitopper.testing.git` for the fixtures.
"""

# ruff: noqa: S101, D102 - these are tests, though they are shipped, and their names are sentences

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from attrs import frozen

from libgitopper import CheckoutError, Store
from libgitopper.testing.git import GitContract, Stage
from libgitopper.testing.upstream import git

__all__ = ["HistoryContract"]

NOWHERE = "1" * 40
START_SECONDS = 1_700_000_000


@frozen(kw_only=True)
class _Story:
    """A branch that was merged: ``root - left - merged - tip``, and ``root - right - merged``."""

    root: str
    left: str
    right: str
    merged: str
    tip: str


def _commit(stage: Stage, number: int, message: str, *parents: str) -> str:
    at = stage.upstream.path
    tree = git(at, "rev-parse", "main^{tree}")
    return git(
        at, "commit-tree", tree, "-m", message, *(f"-p{parent}" for parent in parents),
        GIT_AUTHOR_NAME="Ärwin", GIT_COMMITTER_DATE=f"{START_SECONDS + number} +0100",
    )  # fmt: skip


class HistoryContract(GitContract):
    """What the store of every plugin that implements `gitopper_fetch` must tell of its history."""

    @pytest.fixture
    def story(self, stage: Stage) -> _Story:
        """The branch main upstream, which is not fetched yet."""
        root = _commit(stage, 0, "root")
        left = _commit(stage, 1, "left", root)
        right = _commit(stage, 2, "right", root)
        merged = _commit(stage, 3, "merged", left, right)
        tip = _commit(stage, 4, "tip\n\nwith more to say", merged)
        git(stage.upstream.path, "update-ref", "refs/heads/main", tip)
        return _Story(root=root, left=left, right=right, merged=merged, tip=tip)

    @pytest.fixture
    def store(self, stage: Stage, story: _Story) -> Store:
        """What the fetch of it brings."""
        store = stage.fetch()
        assert store.tips["main"] == story.tip
        return store

    def test_commits_are_all_that_are_reachable(self, store: Store, story: _Story) -> None:
        found = [commit.revision for commit in store.commits(story.tip)]
        assert found[:2] == [story.tip, story.merged]
        assert set(found[2:4]) == {story.left, story.right}
        assert found[4:] == [story.root]

    def test_what_is_excluded_is_left_out_with_all_before_it(self, store: Store, story: _Story) -> None:
        found = {commit.revision for commit in store.commits(story.tip, exclude=[story.left])}
        assert found == {story.tip, story.merged, story.right}

    def test_nothing_lies_between_a_commit_and_one_that_descends_from_it(
        self, store: Store, story: _Story
    ) -> None:
        assert not store.commits(story.root, exclude=[story.tip])
        assert not store.commits(story.tip, exclude=[story.tip])

    def test_no_more_are_listed_than_asked_for(self, store: Store, story: _Story) -> None:
        assert [commit.revision for commit in store.commits(story.tip, limit=1)] == [story.tip]
        assert len(store.commits(story.tip, limit=3)) == 3

    def test_excluding_what_is_not_there_excludes_nothing(self, store: Store, story: _Story) -> None:
        assert len(store.commits(story.tip, exclude=[NOWHERE])) == 5

    def test_commits_of_an_unknown_revision_are_an_error(self, store: Store) -> None:
        with pytest.raises(CheckoutError, match=NOWHERE[:8]):
            store.commits(NOWHERE)

    def test_commit_is_read_as_it_is(self, stage: Stage, store: Store, story: _Story) -> None:
        tip, merged, *_ = store.commits(story.tip)
        assert tip.subject == "tip"
        assert tip.author == "Ärwin"
        assert tip.at == datetime.fromtimestamp(START_SECONDS + 4, UTC)
        assert tip.parents == (story.merged,)
        assert merged.parents == (story.left, story.right)
        assert tip.raw.decode().strip() == git(stage.upstream.path, "cat-file", "commit", story.tip)

    def test_is_ancestor_of_itself_and_of_what_descends(self, store: Store, story: _Story) -> None:
        assert store.is_ancestor(story.tip, story.tip)
        assert store.is_ancestor(story.right, story.tip)
        assert store.is_ancestor(story.root, story.left)

    def test_is_no_ancestor_of_what_lies_before_or_beside(self, store: Store, story: _Story) -> None:
        assert not store.is_ancestor(story.tip, story.root)
        assert not store.is_ancestor(story.left, story.right)

    def test_what_is_not_there_is_nobodys_ancestor(self, store: Store, story: _Story) -> None:
        assert not store.is_ancestor(NOWHERE, story.tip)
        assert not store.is_ancestor(story.tip, NOWHERE)
        assert not store.is_ancestor(NOWHERE, NOWHERE)
