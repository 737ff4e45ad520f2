"""The disk that the state is on is full, and the releases are on another: services get what they had."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.daemon import wait_until
from tests.support.namespace import in_mount_namespace
from tests.support.site import Site, site

pytestmark = pytest.mark.root  # a daemon that publishes by bind mounts


@contextmanager
def bound(home: Path, options: str = "size=1m") -> Iterator[Site]:
    """A site that publishes by bind mounts, with its state on a small disk of its own, and one release."""
    state = home / "state"
    state.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", state], check=True)
    with site(home) as here:
        here.configure('web: resync = "1s"')
        text = here.daemon.config.read_text().replace('publish  = "symlink"', 'publish  = "bind"')
        here.daemon.config.write_text(text)
        here.commit(text="1")
        assert here.daemon.once().returncode == 0
        yield here
    subprocess.run(["umount", "--lazy", state], check=True)


def lose_files(here: Site) -> None:
    """Do to the mounts what a reboot does."""
    subprocess.run(["umount", here.home / "etc/web"], check=True)
    assert not (here.home / "etc/web/conf").exists()


def fill(here: Site) -> None:
    with suppress(OSError), (here.home / "state/ballast").open("wb", buffering=0) as ballast:
        while ballast.write(b"\0" * 512):  # the daemon may write meanwhile
            pass
    assert os.statvfs(here.home / "state").f_bavail == 0


def make_room(here: Site) -> None:
    (here.home / "state/ballast").unlink()


def is_shown(here: Site) -> bool:
    return (here.home / "etc/web/conf").exists()


def assert_heals(here: Site) -> None:
    """Nothing is acknowledged while nothing can be written; with room again all goes on by itself."""
    daemon = here.daemon
    assert here.shown() == "1"
    daemon.wait_for("web", "BROKEN", info="disk is full")
    status, answer = daemon.ask("POST", "/state/freeze/web")
    assert status >= 500, answer
    assert "disk is full" in str(answer)
    make_room(here)
    daemon.wait_for("web", "OK")
    assert daemon.ask("POST", "/state/freeze/web")[0] == 200
    daemon.post("/state/unfreeze/web")
    new = here.commit(text="2")
    daemon.wait_for("web", "OK", new)
    assert here.shown() == "2"
    assert "Traceback" not in daemon.text()


@in_mount_namespace
def test_a_boot_with_a_full_disk_shows_what_is_deployed_and_heals_when_there_is_room(
    tmp_path: Path,
) -> None:
    with bound(tmp_path / "site") as here:
        lose_files(here)
        fill(here)
        with here.daemon:
            wait_until(lambda: is_shown(here), here.daemon.text)
            assert_heals(here)


@in_mount_namespace
def test_a_boot_without_inodes_shows_what_is_deployed_and_tells_what_is_wrong(tmp_path: Path) -> None:
    with bound(tmp_path / "site", "size=1m,nr_inodes=40") as here:
        lose_files(here)
        free = os.statvfs(here.home / "state").f_favail
        for number in range(free):
            (here.home / f"state/{number}").touch()
        fill_up = here.home / "state/0"
        fill_up.write_bytes(b"\0" * os.statvfs(fill_up).f_bavail * os.statvfs(fill_up).f_frsize)
        run = here.daemon.once()
        assert here.shown() == "1", run.stderr
        assert run.returncode == 1
        assert "see that there is space" in run.stderr


@in_mount_namespace
def test_a_boot_with_a_full_disk_after_a_kill_shows_what_is_deployed_and_heals(tmp_path: Path) -> None:
    with bound(tmp_path / "site") as here:
        here.daemon.start().wait_for("web", "OK")
        here.daemon.kill()
        assert (here.home / "state/state.db-wal").exists()
        lose_files(here)
        fill(here)
        with here.daemon:
            wait_until(lambda: is_shown(here), here.daemon.text)
            assert_heals(here)


@in_mount_namespace
@pytest.mark.parametrize("more", ["", "frozen"])
def test_a_mount_that_is_taken_away_while_the_disk_is_full_comes_back(tmp_path: Path, more: str) -> None:
    with bound(tmp_path / "site") as here, here.daemon as daemon:
        daemon.wait_for("web", "OK")
        if more:  # a freeze whose end can't be written is no reason against its files
            assert daemon.ask("POST", "/state/freeze/web?for=3s")[0] == 200
        fill(here)
        lose_files(here)
        wait_until(lambda: is_shown(here), daemon.text)
        assert_heals(here)


@in_mount_namespace
def test_a_reload_that_fails_while_nothing_can_be_written_is_owed(tmp_path: Path) -> None:
    with bound(tmp_path / "site") as here, here.daemon as daemon:
        daemon.wait_for("web", "OK")
        before = len(here.reloads())
        (here.home / "reloads").rename(here.home / "former")
        (here.home / "reloads").mkdir()  # so the command fails
        fill(here)
        lose_files(here)
        wait_until(lambda: is_shown(here), daemon.text)
        daemon.wait_for("web", "BROKEN")
        (here.home / "reloads").rmdir()
        (here.home / "former").rename(here.home / "reloads")
        make_room(here)
        daemon.wait_for("web", "OK")
        assert len(here.reloads()) == before + 1
