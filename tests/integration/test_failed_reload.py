"""After a reload that failed, what an operator is told is what is on disk, and stays true."""

from __future__ import annotations

import subprocess

from tests.support.daemon import wait_until
from tests.support.simulateddaemon import ctl
from tests.support.site import Site


def test_after_a_failed_reload_everything_names_the_commit_that_is_published(site: Site) -> None:
    first, fails = site.commit(text="1"), site.home / "fails"
    site.configure(f'web: command = ["sh", "-c", "test ! -e {fails}"]')
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        fails.touch()
        second = site.commit(text="2")
        told = daemon.wait_for("web", "BROKEN", second, "reload failed: ")
        assert site.shown() == "2"
        head = subprocess.check_output(["git", "-C", site.live(), "rev-parse", "HEAD"], text=True)
        assert head.strip() == second
        assert told["behind"] == 0
        assert f'gitopper_service_info{{hash="{second}",service="web",state="BROKEN"}}' in daemon.metrics()
        diff = daemon.get("/diff/web?kind=upstream")
        assert (diff["from"], diff["to"], diff["patch"]) == (second, second, "")
        assert daemon.get("/history/web")["history"][0]["error"].startswith("reload failed: ")

        at = f"@unix:{site.home}/gitopperd.sock"
        assert f"web frozen at {second}" in ctl("state", "freeze", at, "web").stdout
        site.commit(text="3")
        daemon.wait_for("web", "BROKEN", second, "frozen by ")
        fails.unlink()
        daemon.wait_for("web", "FREEZE", second)
        daemon.restart()
        daemon.wait_for("web", "FREEZE", second)
        assert site.shown() == "2"


def test_a_freeze_while_a_reload_hangs_names_the_commit_that_it_stays_at(site: Site) -> None:
    first, hang, began = site.commit(text="1"), site.home / "hang", site.home / "began"
    script = f"while test -e {hang}; do touch {began}; sleep 0.1; done"
    site.configure(f'web: command = ["sh", "-c", "{script}"]', timeout="60s")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        hang.touch()
        second = site.commit(text="2")
        wait_until(began.exists, "no reload began")
        answer = daemon.post("/state/freeze/web")
        assert (answer["hash"], answer["state"]) == (second, "DIFF")
        assert "is published, and its deploy is not finished" in answer["stateinfo"]
        hang.unlink()
        daemon.wait_for("web", "FREEZE", second)
