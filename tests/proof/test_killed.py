"""A spread of the moments at which it may be killed; all of them: ``python -m tests.proof killed``."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.proof.heldup import Whom, adopt_orphans, start
from tests.proof.killed import prove, spread
from tests.proof.oracle import differences, look, torn, unsound
from tests.proof.scenes import SCENES
from tests.proof.victim import Host
from tests.support.namespace import in_child

BY_NAME = {scene.name: scene for scene in SCENES}
in_a_process_of_its_own = partial(in_child, prepare=adopt_orphans)


@pytest.mark.parametrize(
    ("name", "publish", "whom", "number"),
    [
        ("first start", "symlink", Whom.ALL, 3),
        ("deploy", "symlink", Whom.DAEMON, 3),
        ("deploy over http", "symlink", Whom.CHILD, 2),
        ("taken back", "symlink", Whom.ALL, 3),
        ("asked to freeze", "symlink", Whom.ALL, 2),
        ("asked to roll back", "symlink", Whom.ALL, 2),
        pytest.param("deploy", "bind", Whom.ALL, 3, marks=pytest.mark.root),
        pytest.param("loaded: one moves, one goes", "bind", Whom.ALL, 2, marks=pytest.mark.root),
    ],
)
def test_killed_at_some_moment_it_ends_where_it_would_have(
    name: str, publish: str, whom: Whom, number: int
) -> None:
    row = prove(BY_NAME[name], publish, lambda count: spread(number, count), whom=whom)
    assert not row.failures, "\n".join(row.failures)
    assert row.points == number


@in_a_process_of_its_own
def test_every_call_that_changes_something_is_a_point(tmp_path: Path) -> None:
    def body() -> int:
        (tmp_path / "made").mkdir()
        (tmp_path / "made" / "file").write_text("1")
        (tmp_path / "made" / "file").read_text()
        (tmp_path / "made" / "file").rename(tmp_path / "moved")
        return 7

    whole = start(body)
    assert whole.code == 7
    # Where coverage is measured, the process writes of that at its end.
    ours = [point for point in whole.points if point.about.startswith(str(tmp_path))]
    assert [point.call for point in ours] == ["mkdir", "openat", "write", "rename"]
    assert ours[-1].about == str(tmp_path / "moved")
    if "coverage" not in sys.modules:
        assert ours == list(whole.points)


@in_a_process_of_its_own
def test_a_call_before_which_it_is_killed_is_not_made(tmp_path: Path) -> None:
    def make() -> int:
        (tmp_path / "made").mkdir()
        return 0

    killed = start(make, kill_at=1)
    assert killed.killed
    assert not (tmp_path / "made").exists()


@in_a_process_of_its_own
def test_it_is_looked_at_before_each_call(tmp_path: Path) -> None:
    path = tmp_path / "file"

    def body() -> int:
        path.write_text("half")
        path.write_text("whole")
        return 0

    def torn_now() -> list[str]:
        return ["half"] if path.exists() and path.read_text() == "half" else []

    [seen] = start(body, watch=torn_now).seen
    assert seen.startswith("before 3: openat ")


@in_a_process_of_its_own
def test_a_child_alone_is_killed_and_the_daemon_goes_on(tmp_path: Path) -> None:
    def body() -> int:
        child = os.fork()
        if child == 0:
            (tmp_path / "made").mkdir()
            os._exit(0)
        return -os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    ended = start(body, kill_at=1, whom=Whom.CHILD)
    assert (ended.killed, ended.code) == (True, 9)
    assert [point.call for point in ended.points] == ["mkdir"]
    assert not (tmp_path / "made").exists()


@in_a_process_of_its_own
def test_the_oracle_finds_what_is_torn_and_what_is_left(tmp_path: Path) -> None:
    host = Host(home=tmp_path / "host")
    BY_NAME["deploy"].prepare(host)
    well = look(host, 0)
    assert differences(well, look(host, 0)) == []
    assert torn(host, ["one"], ["etc"]) == []
    assert unsound(well) == []
    (host.home / "etc/web/a").write_text("two")
    assert len(torn(host, ["one", "two"], ["etc"])) == 2
    (host.home / "etc/web/a").write_text("one")
    (host.home / "mount/.gitopper/releases/web/.new-1").mkdir()
    (host.home / "mount/web").rename(host.home / "mount/was")
    (host.home / "mount/web").symlink_to((host.home / "mount/was").readlink())
    found = [line.partition(":")[0] for line in differences(well, look(host, 0))]
    assert found == [
        "releases past keeping", "heads", "git status", "files", "reloaded since the last flip",
    ]  # fmt: skip
    assert [line.partition(":")[0] for line in unsound(look(host, 0))] == [
        "git status", "releases past keeping", "reloaded since the last flip", "left over",
    ]  # fmt: skip
