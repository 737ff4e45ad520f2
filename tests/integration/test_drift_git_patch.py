"""The patch of a drift: what it takes to write it, and that it does again whatever was done."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gitopper_plugins.dulwich import DulwichPlugin, driftpatch, findings
from libgitopper import ChangeKind
from libgitopper.testing.git import Stage
from tests.support.drifting import Host, host, plugin, stage, told, tree
from tests.support.upstream import git

__all__ = ["host", "plugin", "stage"]


def test_upstream_is_not_needed(host: Host, tmp_path: Path) -> None:
    (host.web / "a").write_text("x")
    hidden = host.stage.upstream.path.rename(tmp_path / "hidden")
    drift = host.drift()
    assert told(drift.changes) == [("web/a", "edited", "")]
    assert b"-2\n" in drift.patch
    hidden.rename(host.stage.upstream.path)


def packs_with_blobs(store: Path) -> list[Path]:
    packs = (store / "objects/pack").glob("*.pack")
    return [
        pack for pack in packs if " blob " in git(store, "verify-pack", "-v", str(pack.with_suffix(".idx")))
    ]


def prune_blobs(store: Path) -> None:
    for pack in packs_with_blobs(store):
        for suffix in (".pack", ".idx", ".promisor"):
            pack.with_suffix(suffix).unlink(missing_ok=True)


def test_contents_that_were_pruned_are_brought_again_or_done_without(
    host: Host, plugin: DulwichPlugin, tmp_path: Path
) -> None:
    plugin.close()
    prune_blobs(host.store.path)
    host.store = host.stage.fetch(offline=True)
    (host.web / "a").write_text("x")
    (host.web / "sub/b").unlink()
    hidden = host.stage.upstream.path.rename(tmp_path / "hidden")
    blind = host.drift()
    assert told(blind.changes) == [("web/a", "edited", ""), ("web/sub/b", "removed", "")]
    assert blind.complete
    assert b"GIT binary patch" in blind.patch
    hidden.rename(host.stage.upstream.path)
    assert tree(host.apply(blind.patch, tmp_path / "blind")) == tree(host.web)
    assert b"-1\n-2\n-3\n+x" in host.drift().patch


def test_content_that_is_too_large_leaves_the_patch_incomplete_and_says_so(
    host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for module in (driftpatch, findings):
        monkeypatch.setattr(module, "LIMIT_BYTES", 1000)
    (host.web / "a").write_bytes(b"x" * 1001)
    (host.web / "new").write_bytes(os.urandom(999))
    (host.web / "small").write_text("1")
    drift = host.drift()
    assert told(drift.changes) == [
        ("web/a", "edited", ""), ("web/new", "added", ""), ("web/small", "added", "")
    ]  # fmt: skip
    assert not drift.complete
    assert drift.patch.startswith(
        b"# Not told by this patch:\n# web/a: its content, 1001 bytes, is too large\n"
        b"# web/new: the patch would be longer than 1000 bytes with its content\ndiff --git a/web/small"
    )
    assert (host.apply(drift.patch, tmp_path / "clean") / "small").read_text() == "1"


def test_removal_of_a_large_file_fits_into_a_patch(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stage.upstream.commit({"web/large": os.urandom(2000)})
    host = Host.deploy(stage, stage.service("web"))
    monkeypatch.setattr(driftpatch, "LIMIT_BYTES", 1000)
    (host.web / "large").unlink()
    drift = host.drift()
    assert drift.complete
    assert len(drift.patch) < 1000
    assert tree(host.apply(drift.patch, tmp_path / "clean")) == tree(host.web)


def test_former_content_that_is_damaged_is_done_without(
    host: Host, plugin: DulwichPlugin, tmp_path: Path
) -> None:
    plugin.close()
    for pack in packs_with_blobs(host.store.path):
        data = pack.read_bytes()
        pack.chmod(0o644)
        pack.write_bytes(data[:12] + b"\xff" * (len(data) - 32) + data[-20:])
    host.store = host.stage.fetch(offline=True)
    (host.web / "a").write_text("x")
    drift = host.drift()
    assert b"GIT binary patch" in drift.patch
    assert tree(host.apply(drift.patch, tmp_path / "clean")) == tree(host.web)


def test_bits_and_owner_of_what_was_added_are_told(host: Host) -> None:
    (host.web / "key").write_text("1")
    (host.web / "key").chmod(0o600)
    drift = host.drift()
    assert told(drift.changes) == [("web/key", "added", "mode 0600")]
    assert drift.patch.startswith(b"# Not told by this patch:\n# web/key: mode 0600\ndiff --git")


@pytest.mark.root
def test_owner_of_what_was_added_is_told(stage: Stage) -> None:
    host = Host.deploy(stage, evolve(stage.service("web"), user="nobody"))
    (host.web / "key").write_text("1")
    os.chown(host.web / "key", 0, 4_000_000_001)
    ((path, kind, detail),) = host.found()
    group = (host.web / "a").group()
    assert (path, kind) == ("web/key", "added")
    assert detail == f"owner root:4000000001 instead of nobody:{group}"


def test_names_that_git_takes_in_no_patch_leave_it_incomplete(host: Host, tmp_path: Path) -> None:
    (host.web / "sub/.git").mkdir()
    (host.web / "sub/.git/config").write_text("")
    (host.web / "new").write_text("1")
    drift = host.drift()
    assert told(drift.changes) == [("web/new", "added", ""), ("web/sub/.git/config", "added", "")]
    assert not drift.complete
    assert b"# web/sub/.git/config: git takes no such name\n" in drift.patch
    assert (host.apply(drift.patch, tmp_path / "clean") / "new").exists()


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["write", "link", "remove", "directory", "bits"]),
        st.sampled_from(["a", "sub", "sub/b", "sub/c", "link", "run", "new", "new/x", "new/x/y"]),
        st.sampled_from([b"", b"1\n", b"1\n2\n3\n", b"\0", b"a"]),
    ),
    max_size=6,
)


@settings(
    max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(actions=ACTIONS)
def test_whatever_is_done_the_patch_does_it_again(
    host: Host, tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, str, bytes]]
) -> None:
    for action, name, data in actions:  # on top of what the examples before this did
        disturb(host.web / name, action, data)
    drift = host.drift()
    assert drift.complete
    assert drift.changes == host.drift(thorough=True).changes
    if drift.patch:
        clean = tmp_path_factory.mktemp("drift") / "clean"
        assert tree(host.apply(drift.patch, clean, "--allow-empty")) == tree(host.web)
    else:
        assert {change.kind for change in drift.changes} <= {ChangeKind.MODE}


def disturb(path: Path, action: str, data: bytes) -> None:
    if not path.parent.is_dir() or path.parent.is_symlink():
        return
    if action == "bits":
        if path.exists() and not path.is_symlink():
            path.chmod(0o755 if path.stat().st_mode & 0o777 == 0o644 or path.is_dir() else 0o644)
        return
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    if action == "write":
        path.write_bytes(data)
        path.chmod(0o644)
    elif action == "link":
        path.symlink_to(data.replace(b"\0", b"").decode() or "x")
    elif action == "directory":
        path.mkdir(0o755)
