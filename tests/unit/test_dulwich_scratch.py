"""Directories that are being made or removed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gitopper_plugins.dulwich.scratch import make_directory, remove_tree, replace_file, scratch, sweep


def test_scratch_directory_is_private_and_gone_afterwards(tmp_path: Path) -> None:
    with scratch(tmp_path, ".new-") as path:
        assert path.stat().st_mode & 0o777 == 0o700
        (path / "file").touch()
    assert not list(tmp_path.iterdir())


def test_scratch_directory_that_was_renamed_stays(tmp_path: Path) -> None:
    with scratch(tmp_path, ".new-") as path:
        path.rename(tmp_path / "final")
    assert [p.name for p in tmp_path.iterdir()] == ["final"]


def test_sweep_takes_what_a_dead_process_left_and_nothing_that_is_worked_on(tmp_path: Path) -> None:
    (tmp_path / ".new-dead" / "sub").mkdir(parents=True)
    (tmp_path / "release").mkdir()
    (tmp_path / ".new-file").touch()
    with scratch(tmp_path, ".new-") as path:
        sweep(tmp_path, ".new-")
        assert sorted(tmp_path.iterdir()) == sorted([path, tmp_path / "release", tmp_path / ".new-file"])


def test_sweep_spares_what_another_process_works_on(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from gitopper_plugins.dulwich.scratch import scratch\n"
        "with scratch(Path(sys.argv[1]), '.new-'): print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.readline()
        sweep(tmp_path, ".new-")
        assert len(list(tmp_path.iterdir())) == 1
        process.kill()
        process.wait()
        sweep(tmp_path, ".new-")
        assert not list(tmp_path.iterdir())


def test_sweep_of_a_place_that_is_not_there_is_nothing(tmp_path: Path) -> None:
    sweep(tmp_path / "absent", ".new-")


def test_tree_3000_deep_is_removed(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d" * 100, dir_fd=here)
        below = os.open("d" * 100, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    remove_tree(top)
    assert not top.exists()


def test_removal_follows_no_symlink(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    top = tmp_path / "top"
    (top / "sub").mkdir(parents=True)
    (top / "sub/link").symlink_to(outside)
    (top / "link").symlink_to(outside)
    remove_tree(top)
    assert (outside / "precious").exists()
    assert not top.exists()
    link = tmp_path / "link"
    link.symlink_to(outside)
    with pytest.raises(OSError):
        remove_tree(link)
    assert (outside / "precious").exists()


def test_removal_of_odd_names_and_closed_directories(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "closed").mkdir(parents=True)
    (top / "closed" / os.fsdecode(b"\xff\n")).touch()
    (top / "closed").chmod(0o500)
    remove_tree(top)
    assert not top.exists()


def test_removal_while_somebody_reads_does_not_disturb(tmp_path: Path) -> None:
    (tmp_path / "top/sub").mkdir(parents=True)
    (tmp_path / "top/sub/file").write_text("still here")
    with (tmp_path / "top/sub/file").open() as reader:
        remove_tree(tmp_path / "top")
        assert reader.read() == "still here"


def test_directories_are_open_whatever_the_umask(tmp_path: Path) -> None:
    former = os.umask(0o077)
    try:
        make_directory(tmp_path / "a/b")
        replace_file(tmp_path / "a/file", b"")
    finally:
        os.umask(former)
    assert [(tmp_path / p).stat().st_mode & 0o777 for p in ("a", "a/b", "a/file")] == [0o755, 0o755, 0o644]


def test_file_that_can_not_be_replaced_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    with pytest.raises(OSError):
        replace_file(tmp_path / "directory", b"data")
    assert [p.name for p in tmp_path.iterdir()] == ["directory"]


def test_what_a_crash_left_of_a_file_is_cleared_when_it_is_replaced_again(tmp_path: Path) -> None:
    (tmp_path / ".HEAD-ab_3xyz9").touch()
    others = {
        tmp_path / name for name in (".HEAD-", ".HEAD-ab_3xyz9.new", ".HEADS-ab_3xyz9", "HEAD-ab_3xyz9")
    }
    for other in others:
        other.touch()
    replace_file(tmp_path / "HEAD", b"x")
    assert set(tmp_path.iterdir()) == others | {tmp_path / "HEAD"}
