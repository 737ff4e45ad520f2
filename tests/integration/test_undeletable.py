"""Something that can't be removed stops no deploy, whatever it is a leftover of, and goes once it can."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.daemon import wait_until
from tests.support.namespace import in_mount_namespace
from tests.support.site import site


@pytest.mark.root
@in_mount_namespace
def test_leftovers_in_which_something_is_mounted_stop_no_deploy(tmp_path: Path) -> None:
    with site(tmp_path / "site") as here:
        here.configure("web")
        here.commit(text="1")
        assert here.daemon.once().returncode == 0
        ours = here.home / "mount/.gitopper"
        [store] = ours.glob("stores/*.git")
        left = [ours / "releases/web/.new-left", ours / "stores/.new-store-left", store / "scratch-left"]
        for path in left:
            (path / "a/b").mkdir(parents=True)
            subprocess.run(["mount", "--bind", path / "a", path / "a"], check=True)
        here.commit(text="2")
        run = here.daemon.once()
        assert run.returncode == 0, run.stderr
        assert here.shown() == "2"
        for path in left:
            assert f"{path} can't be removed now" in run.stderr
            subprocess.run(["umount", path / "a"], check=True)
        here.commit(text="3")
        assert here.daemon.once().returncode == 0
        assert here.shown() == "3"
        assert [path for path in left if path.exists()] == []


def immutable(path: Path, sign: str) -> bool:
    return subprocess.run(["chattr", sign, path], check=False, capture_output=True).returncode == 0


@pytest.mark.root
def test_immutable_files_of_releases_that_are_past_cost_no_descriptor_and_no_deploy(tmp_path: Path) -> None:
    with site(tmp_path / "site") as here:
        probe = tmp_path / "probe"
        probe.touch()
        if not immutable(probe, "+i"):
            pytest.skip("this file system has no immutable files")
        immutable(probe, "-i")
        here.configure("web: keep = 1")
        here.commit(text="0")
        releases = here.home / "mount/.gitopper/releases/web"
        with here.daemon as daemon:
            daemon.wait_for("web", "OK")
            try:
                for number in range(1, 4):
                    assert immutable(here.live().resolve() / "web/etc/conf", "+i")
                    tip = here.commit(text=str(number))
                    daemon.wait_for("web", "OK", tip)
                wait_until(lambda: len(list(releases.glob(".new-*"))) == 3, daemon.text)
                assert daemon.process is not None
                opened = Path(f"/proc/{daemon.process.pid}/fd")
                assert not [fd for fd in opened.iterdir() if ".new-" in str(fd.readlink())]
                daemon.restart()
                daemon.wait_for("web", "OK", here.commit(text="after a restart"))
            finally:
                for path in releases.rglob("conf"):
                    immutable(path, "-i")
            # In the process that could not, too.
            daemon.wait_for("web", "OK", here.commit(text="last"))
            wait_until(lambda: not list(releases.glob(".new-*")), daemon.text)
            assert here.shown() == "last"
