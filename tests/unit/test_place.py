"""Places that are held open: what is made on the way to them, and which symlinks are followed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitopper_plugins._place import held, open_to
from tests.support.namespace import enter_mount_namespace, in_child, mount_tmpfs
from tests.support.ordinary import NOBODY


@pytest.fixture
def _narrow_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def make(path: Path, *, file: bool = False) -> None:
    with held([path]) as [place]:
        place.make(file=file)


def bits(path: Path) -> int:
    return path.stat().st_mode & 0o777


def ends_at(path: Path) -> Path:
    """Where the way to `path` ends, without symlinks."""
    with held([path]) as [place]:
        return Path(os.path.realpath(place.path))


def refusal(path: Path) -> OSError:
    with pytest.raises(OSError, match="is not followed") as caught, held([path]):
        pass
    assert caught.value.errno == errno.ELOOP
    return caught.value


@pytest.mark.usefixtures("_narrow_umask")
def test_what_is_made_can_be_reached_by_services(tmp_path: Path) -> None:
    make(tmp_path / "a" / "b")
    make(tmp_path / "a" / "c" / "file", file=True)
    assert {bits(tmp_path / made) for made in ("a", "a/b", "a/c")} == {0o755}
    assert bits(tmp_path / "a/c/file") == 0o644
    assert {made.stat().st_uid for made in (tmp_path / "a").rglob("*")} == {os.geteuid()}


def test_nothing_is_made_by_looking(tmp_path: Path) -> None:
    with held([tmp_path / "a" / "b"]) as [place]:
        assert not os.path.lexists(place.path)
    assert not (tmp_path / "a").exists()


def test_a_directory_that_cannot_be_made_is_named_in_full(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError) as caught:
        make(tmp_path / "file" / "a" / "b")
    assert caught.value.filename == str(tmp_path / "file")


def test_a_call_at_a_place_fails_by_the_name_that_people_know(tmp_path: Path) -> None:
    with (
        pytest.raises(FileNotFoundError) as caught,
        held([tmp_path / "a", tmp_path / "b" / "c"]) as [_, place],
    ):
        place.path.touch()
    assert caught.value.filename == str(tmp_path / "b" / "c")


def test_a_directory_that_somebody_makes_meanwhile_is_taken_as_it_is(tmp_path: Path) -> None:
    with held([tmp_path / "a" / "b"]) as [place]:
        (tmp_path / "a").mkdir(mode=0o700)
        (tmp_path / "a" / "b").mkdir(mode=0o700)
        place.make(file=False)
    assert bits(tmp_path / "a") == bits(tmp_path / "a" / "b") == 0o700


def test_a_file_that_is_there_is_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    make(tmp_path / "file", file=True)
    assert (tmp_path / "file").read_text() == "precious"


def test_a_place_stays_where_it_is_when_the_way_to_it_leads_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "etc").mkdir()
    with held([tmp_path / "conf" / "file"]) as [place]:
        (tmp_path / "conf").rename(tmp_path / "old")
        (tmp_path / "conf").symlink_to("etc")
        place.make(file=True)
    assert (tmp_path / "old" / "file").exists()
    assert not (tmp_path / "etc" / "file").exists()


def test_symlinks_of_our_own_are_followed_one_after_the_other(tmp_path: Path) -> None:
    real = tmp_path / "real" / "deep"
    real.mkdir(parents=True)
    (tmp_path / "real" / "back").symlink_to("../real/./deep")
    (tmp_path / "first").symlink_to(tmp_path / "second")
    (tmp_path / "second").symlink_to("real/back")
    assert ends_at(tmp_path / "first" / "x") == real.resolve() / "x"
    make(tmp_path / "first" / "x" / "y")
    assert (real / "x" / "y").is_dir()


def test_symlinks_without_an_end_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="Too many levels") as caught, held([tmp_path / "loop" / "x"]):
        pass
    assert caught.value.filename == str(tmp_path / "loop")


def test_a_symlink_that_anybody_can_have_put_there_is_not_followed(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    (tmp_path / "conf").symlink_to("/etc")
    error = refusal(tmp_path / "conf" / "x")
    assert error.filename == str(tmp_path / "conf")
    assert error.strerror == (
        f"this is a symlink to /etc, and is not followed: everybody may change {tmp_path};"
        " name the path that it leads to instead, or let nobody else write there"
    )


def test_nor_is_one_below_a_directory_that_anybody_can_have_put_there(tmp_path: Path) -> None:
    """They move a directory of ours there, which has a symlink in it."""
    tmp_path.chmod(0o777)
    (tmp_path / "ours").mkdir(mode=0o755)
    (tmp_path / "ours" / "conf").symlink_to("/etc")
    assert f"everybody may change {tmp_path};" in str(refusal(tmp_path / "ours" / "conf" / "x"))


def test_directories_are_walked_whoever_may_change_them(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    make(tmp_path / "a" / "b")
    assert bits(tmp_path / "a" / "b") == 0o755


def test_what_is_ours_in_a_sticky_directory_is_safe(tmp_path: Path) -> None:
    """As in /tmp."""
    tmp_path.chmod(0o1777)
    (tmp_path / "real").mkdir()
    (tmp_path / "conf").symlink_to("real")
    assert ends_at(tmp_path / "conf" / "x") == tmp_path.resolve() / "real" / "x"


@pytest.mark.root
def test_what_is_somebody_elses_in_a_sticky_directory_is_not(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    (tmp_path / "conf").symlink_to("/etc")
    os.chown(tmp_path / "conf", NOBODY, NOBODY, follow_symlinks=False)
    assert f"everybody may change {tmp_path};" in str(refusal(tmp_path / "conf" / "x"))


@pytest.mark.root
def test_a_directory_of_somebody_else_is_theirs_to_change(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "conf").symlink_to("/etc")
    os.chown(home, 4_000_000, 0)
    assert f"user 4000000 may change {home};" in str(refusal(home / "conf" / "x"))


@pytest.mark.root
@pytest.mark.parametrize("group", [0, 4_000_000])
def test_for_root_a_group_is_somebody_else(tmp_path: Path, group: int) -> None:
    (tmp_path / "conf").symlink_to("/etc")
    os.chown(tmp_path, 0, group)
    tmp_path.chmod(0o775)
    assert "group " in str(refusal(tmp_path / "conf" / "x"))


def _have_a_home() -> None:
    """Let root become an ordinary user, to whom /mnt belongs."""
    if os.geteuid() == 0:
        enter_mount_namespace()
        mount_tmpfs(Path("/mnt"))
        os.chown("/mnt", NOBODY, NOBODY)
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


def test_an_ordinary_user_trusts_a_group_of_their_own(tmp_path: Path) -> None:
    """Where the umask is 002, directories can be written by it."""

    def home_with_a_link() -> None:
        home = (tmp_path if os.access(tmp_path, os.W_OK) else Path("/mnt")) / "home"
        (home / "real").mkdir(parents=True)
        home.chmod(0o775)
        (home / "conf").symlink_to("real")
        assert ends_at(home / "conf" / "x") == home.resolve() / "real" / "x"

    in_child(home_with_a_link, _have_a_home)()


def test_who_else_may_change_a_directory_is_told_with_the_place_where_they_may(tmp_path: Path) -> None:
    inner = tmp_path / "srv" / "gitopper"
    inner.mkdir(parents=True)
    assert open_to(inner) == ""
    inner.chmod(0o777)
    assert open_to(inner) == f"everybody may change {inner}"
    inner.parent.chmod(0o777)
    assert open_to(inner) == f"everybody may change {inner.parent}"
    inner.chmod(0o755)
    inner.parent.chmod(0o1777)
    assert open_to(inner) == ""
