"""`git log` below `mount` names the commit that is on record, also after an end at the wrong moment."""

from __future__ import annotations

import subprocess

from tests.support.daemon import wait_until
from tests.support.site import Site


def log_of(site: Site) -> str:
    command = ["git", "-c", "safe.directory=*", "-C", str(site.live()), "log", "-1", "--format=%H"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_a_head_that_was_moved_before_the_end_of_a_process_is_taken_back_where_it_is_frozen(
    site: Site,
) -> None:
    first = site.commit()
    site.configure("web", interval="1h")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        daemon.post("/state/freeze/web")
        daemon.wait_for("web", "FREEZE", first)
        second = site.commit("elsewhere")
        daemon.post("/do/pull/web")
        daemon.stop()
        [head] = (site.home / "mount/.gitopper/stores").glob("*/worktrees/*/HEAD")
        head.write_text(f"{second}\n")  # as a pass leaves it that was killed before it wrote the record
        assert log_of(site) == second
        daemon.start()
        wait_until(lambda: log_of(site) == first, "HEAD stays at what is not on record")
        daemon.wait_for("web", "FREEZE", first)
    assert site.reloads() == [first]
