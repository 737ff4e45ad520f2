"""What can't be removed is left, told, and removed later; nobody fails because of it."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from gitopper_plugins.dulwich.packs import HALF_SECONDS, drop_halves
from gitopper_plugins.dulwich.scratch import replace_file, scratch, sweep
from tests.support.namespace import in_mount_namespace


def obstruct(path: Path) -> None:
    """Make `path`, a directory or a file, one that can't be removed, as something is mounted there."""
    subprocess.run(["mount", "--bind", path, path], check=True)


def clear(path: Path) -> None:
    subprocess.run(["umount", path], check=True)


def descriptors(path: Path) -> list[str]:
    """What this process has open at `path` or below."""
    links = list(Path("/proc/self/fd").iterdir())
    return [
        to for link in links if link.is_symlink() and (to := str(link.readlink())).startswith(str(path))
    ]


@in_mount_namespace
def test_a_scratch_directory_that_cannot_be_removed_holds_no_lock_and_goes_later(tmp_path: Path) -> None:
    with scratch(tmp_path, ".new-") as aside:
        (aside / "release/sub").mkdir(parents=True)
        (aside / "release/file").touch()
        obstruct(aside / "release/sub")
    assert aside.is_dir()
    assert descriptors(tmp_path) == []
    [mounted] = [Path(line.split()[4]) for line in mounts() if str(aside) in line]
    clear(mounted)
    sweep(tmp_path, ".new-")
    assert list(tmp_path.iterdir()) == []


def mounts() -> list[str]:
    return Path("/proc/self/mountinfo").read_text().splitlines()


def test_an_error_in_the_block_is_not_hidden_by_one_of_clearing_up(tmp_path: Path) -> None:
    def fail() -> None:
        with scratch(tmp_path, ".new-") as aside:
            aside.rmdir()
            aside.touch()  # no directory, so it can't be removed as one
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        fail()
    assert descriptors(tmp_path) == []


@in_mount_namespace
def test_a_sweep_goes_on_after_what_it_cannot_remove(tmp_path: Path) -> None:
    names = [f".new-{number}" for number in range(5)]
    for name in names:
        (tmp_path / name / "sub").mkdir(parents=True)
    obstruct(tmp_path / ".new-2")
    sweep(tmp_path, ".new-")
    assert [path.name for path in tmp_path.iterdir()] == [".new-2"]
    assert descriptors(tmp_path) == []
    clear(tmp_path / ".new-2")
    sweep(tmp_path, ".new-")
    assert list(tmp_path.iterdir()) == []


def test_what_is_left_is_told_with_what_to_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted", "conf")

    (tmp_path / ".new-1").mkdir()
    (tmp_path / ".new-1/conf").touch()
    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", refuse)
        sweep(tmp_path, ".new-")
    [told] = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert told.startswith(f"{tmp_path}/.new-1 can't be removed now, and is left: ")
    assert "Operation not permitted: 'conf'" in told
    assert "lsattr -R" in told


@in_mount_namespace
def test_a_file_is_replaced_beside_a_leftover_that_cannot_be_removed(tmp_path: Path) -> None:
    left = tmp_path / ".HEAD-abcdefgh"
    left.touch()
    obstruct(left)
    replace_file(tmp_path / "HEAD", b"1")
    assert (tmp_path / "HEAD").read_bytes() == b"1"
    clear(left)
    replace_file(tmp_path / "HEAD", b"2")
    assert [path.name for path in tmp_path.iterdir()] == ["HEAD"]


@in_mount_namespace
def test_halves_of_packs_that_cannot_be_removed_stop_no_store(tmp_path: Path) -> None:
    packs = tmp_path / "objects/pack"
    packs.mkdir(parents=True)
    old = time.time() - HALF_SECONDS - 1
    halves = [packs / name for name in ("pack-1.idx", "pack-2.idx", "pack-3.pack", "pack-4.pack")]
    for half in halves:
        half.touch()
        os.utime(half, (old, old))
    for half in halves[::2]:
        obstruct(half)
    drop_halves(tmp_path)
    assert sorted(packs.iterdir()) == halves[::2]
    for half in halves[::2]:
        clear(half)
    drop_halves(tmp_path)
    assert list(packs.iterdir()) == []
