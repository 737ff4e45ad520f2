"""Every call fails once: a spread of `python -m tests.proof failing`, and whether it would see a breach."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from functools import partial

import pytest

from tests.proof.calls import ERRORS
from tests.proof.disks import digest
from tests.proof.failing import SCENES, faults, share, spread, sweep, tried
from tests.proof.stand import ABSENT, Fault, Scene, Stand, stand

DEPLOY = next(scene for scene in SCENES if scene.name == "deploy")


@pytest.fixture(scope="module")
def host() -> Iterator[Stand]:
    with stand() as host:
        yield host


@pytest.fixture(scope="module")
def mounting() -> Iterator[Stand]:
    with stand("bind") as host:
        yield host


@pytest.mark.parametrize(("scene", "first"), list(zip(SCENES, (40, 90, 140, 190), strict=True)))
def test_a_spread_of_the_calls_of_a_scene_fails_and_no_promise_with_it(
    host: Stand, scene: Scene, first: int
) -> None:
    row = sweep(host, scene, partial(spread, 3, first=first))
    assert row.points > 1
    assert not row.failures, "\n".join(row.failures)


@pytest.mark.root
@pytest.mark.parametrize("kind", ["open_tree", "mount_setattr", "move_mount", "umount2"])
def test_a_call_for_a_mount_fails_and_no_promise_with_it(mounting: Stand, kind: str) -> None:
    broken = [
        failure
        for error in ERRORS[kind][:2]
        for failure in tried(mounting, DEPLOY, Fault(kind=kind, nth=1, error=error)).broken
    ]
    assert not broken, "\n".join(broken)


FIELD = (
    Fault(kind="read", nth=2, error="EMFILE", lasting=True),
    Fault(kind="socket", nth=1, error="ENOMEM"),
    Fault(kind="clone", nth=2, error="EAGAIN"),
    Fault(kind="write", nth=1, error="ENOSPC", lasting=True),
    Fault(kind="rename", nth=3, error="EIO", lasting=True),
)
"""What was once met with a traceback, a daemon that ended, or something left behind."""


@pytest.mark.parametrize("fault", FIELD, ids=str)
def test_a_fault_that_once_did_harm_does_none(host: Stand, fault: Fault) -> None:
    judge = tried(host, DEPLOY, fault)
    assert not judge.broken, "\n".join(judge.broken)


def test_a_fault_strikes_the_call_that_is_meant_and_is_told(host: Stand) -> None:
    host.set_up(DEPLOY)
    run = host.run(Fault(kind="symlink", nth=2, error="ENOSPC"))
    assert [call.kind for call in run.failed] == ["symlink"]
    assert run.failed[0].what.startswith(f"{host.home}/mount/.web.")
    assert (run.code, host.published()) == (1, "one")
    assert "No space left on device" in run.log


def test_what_is_published_is_looked_at_before_each_call(host: Stand) -> None:
    host.set_up(DEPLOY)
    run = host.run()
    assert run.seen == ["one", "two"]
    assert len(run.calls) > 100
    assert {"open", "write", "rename", "symlink", "fsync", "clone", "execve", "connect"} <= {
        call.kind for call in run.calls
    }


def test_a_breach_is_seen(host: Stand) -> None:
    host.set_up(DEPLOY)
    assert host.published() == "one"
    shown = host.home / "mount/web/web/etc"
    (shown / "sub/more").write_text("two")
    assert host.published().startswith("mixed: ")
    (shown / "sub/more").unlink()
    assert host.published().startswith("incomplete: ")
    assert host.complaints_of_git()
    (host.home / "mount/web").unlink()
    assert host.published() == "dangling"
    (host.home / "etc/web").unlink()
    assert host.published() == ABSENT
    (host.home / "mount/.gitopper/releases/web/.new-x").mkdir()
    assert host.leftovers() == ["mount/.gitopper/releases/web/.new-x"]


def test_every_call_has_a_fault_for_each_of_its_errors() -> None:
    found = [str(fault) for fault in faults(["fsync", "umount2", "fsync"])]
    assert found == [
        "EIO at fsync 1", "EIO at fsync 1 and from then on", "ENOSPC at fsync 1",
        "ENOSPC at fsync 1 and from then on", "EINTR at fsync 1", "EBUSY at umount2 1",
        "ENOMEM at umount2 1",
        "EIO at fsync 2", "EIO at fsync 2 and from then on", "ENOSPC at fsync 2",
        "ENOSPC at fsync 2 and from then on", "EINTR at fsync 2",
    ]  # fmt: skip


def test_a_spread_is_even_and_the_spreads_of_all_beginnings_are_everything() -> None:
    assert list(spread(0, 5)) == [0, 1, 2, 3, 4]
    assert list(spread(3, 10)) == [0, 3, 6]
    every = [number for first in range(3) for number in spread(4, 12, first)]
    assert sorted(every) == list(range(12))


def test_the_shares_of_all_are_everything_once() -> None:
    shares = [share(range(11), at, 4) for at in range(4)]
    assert [number for one in shares for number in one] == list(range(11))
    assert {len(one) for one in shares} == {2, 3}


def test_of_hosts_that_were_left_alike_the_next_run_is_tried_once(host: Stand) -> None:
    mended: set[str] = set()
    judges = [
        tried(host, DEPLOY, Fault(kind="symlink", nth=2, error=error), mended)
        for error in ("ENOSPC", "EIO", "EROFS")
    ]
    assert not [judge for judge in judges if judge.broken]
    assert len(mended) == 1
    assert judges[0].promises > judges[1].promises == judges[2].promises


@pytest.mark.parametrize("change", ["a file", "a mode", "an attempt", "a reload"])
def test_a_host_that_differs_in_anything_that_matters_is_another_one(host: Stand, change: str) -> None:
    host.set_up(DEPLOY)
    words = host.reloads.read_text()
    before = digest(host.home, words)
    assert digest(host.home, words) == before
    match change:
        case "a file":
            (host.home / "mount/more").touch()
        case "a mode":
            (host.home / "etc").chmod(0o700)
        case "an attempt":
            with contextlib.closing(sqlite3.connect(host.home / "state/state.db")) as state, state:
                state.execute("INSERT INTO attempt VALUES ('web', 'r', 'i', 'c', 'p')")
        case "a reload":
            words += "once more"
    assert digest(host.home, words) != before
