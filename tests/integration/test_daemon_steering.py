"""What an operator asks for is done, stays true across restarts, and can be taken back."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest

from tests.support.site import Site


def git(site: Site, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(site.live()), *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_frozen_service_stays_where_it_is_and_follows_again_after_an_unfreeze(site: Site) -> None:
    first = site.commit(text="one")
    site.configure("web")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        assert daemon.post("/state/freeze/web")["state"] == "FREEZE"
        second = site.commit(text="two")
        time.sleep(2.5)
        daemon.wait_for("web", "FREEZE", first)
        assert site.shown() == "one"
        daemon.post("/state/unfreeze/web")
        daemon.wait_for("web", "OK", second)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_freeze_survives_a_restart(site: Site, how: signal.Signals) -> None:
    first = site.commit(text="one")
    site.configure("web")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        change = daemon.post("/state/freeze/web")["change"]
        site.commit(text="two")
        daemon.wait_for("web", "FREEZE", first)
        time.sleep(1.1)
        daemon.restart(how)
        time.sleep(1.5)
        assert daemon.wait_for("web", "FREEZE", first)["change"] == change
    assert site.shown() == "one"
    assert site.reloads() == [first]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_rollback_survives_a_restart(site: Site, how: signal.Signals) -> None:
    first = site.commit(text="one")
    second = site.commit(text="two")
    site.configure("web")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", second)
        status, answer = daemon.ask("POST", f"/state/rollback/web/{first}")
        assert (status, answer["state"]) == (202, "ROLLBACK")
        daemon.wait_for("web", "FREEZE", first, info=f"ROLLBACK: {first}")
        daemon.restart(how)
        site.commit(text="three")
        time.sleep(1.5)
        daemon.wait_for("web", "FREEZE", first, info=f"ROLLBACK: {first}")
    assert site.shown() == "one"
    assert site.reloads() == [second, first]


def test_after_a_rollback_an_unfreeze_follows_upstream_again(site: Site) -> None:
    first = site.commit(text="one")
    second = site.commit(text="two")
    site.configure("web")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", second)
        daemon.post(f"/state/rollback/web/{first}")
        daemon.wait_for("web", "FREEZE", first)
        site.upstream.rewind(1)
        third = site.commit(text="three, over a rewritten history")
        daemon.post("/state/unfreeze/web")
        daemon.wait_for("web", "OK", third)
        assert git(site, "log", "-1", "--format=%H") == third


def test_a_rollback_to_a_kept_release_works_with_upstream_gone(site: Site) -> None:
    first = site.commit(text="one")
    site.configure("web")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        second = site.commit(text="two")
        daemon.wait_for("web", "OK", second)
        site.stop_server()
        daemon.wait_for("web", "DIFF", second)
        daemon.post(f"/state/rollback/web/{first[:8]}")
        daemon.wait_for("web", "FREEZE", first)
        assert site.shown() == "one"
        daemon.restart()
        daemon.wait_for("web", "FREEZE", first)
        daemon.post(f"/state/rollback/web/{second}")
        daemon.wait_for("web", "FREEZE", second)
        assert site.shown() == "two"


def test_a_rollback_while_upstream_hangs_does_not_wait_for_it(site: Site) -> None:
    first = site.commit(text="one")
    site.configure("web", timeout="60s")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        second = site.commit(text="two")
        daemon.wait_for("web", "OK", second)
        site.server.hang = True
        daemon.post("/do/pull/web")
        time.sleep(0.5)
        started = time.monotonic()
        daemon.post(f"/state/rollback/web/{first}")
        daemon.wait_for("web", "FREEZE", first)
        assert time.monotonic() - started < 5


def test_a_release_that_history_no_longer_has_can_be_gone_back_to(site: Site) -> None:
    site.commit(text="base")
    lost = site.commit(text="lost")
    site.configure("web")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", lost)
        site.upstream.rewind(1)
        rewritten = site.commit(text="rewritten")
        daemon.wait_for("web", "OK", rewritten)
        daemon.post(f"/state/rollback/web/{lost[:10]}")
        daemon.wait_for("web", "FREEZE", lost)
    assert site.shown() == "lost"


def test_a_hash_that_can_not_be_gone_to_is_refused_and_changes_nothing(site: Site) -> None:
    first = site.commit(text="one")
    other = site.upstream.commit({"web/etc/conf": "other"}, branch="other")
    site.upstream.switch("main")

    site.configure("web")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        for bad in ("0" * 40, "zzzz", "12", other, first[:3]):
            status, answer = daemon.ask("POST", f"/state/rollback/web/{bad}")
            assert (status, answer["error"]["code"]) == (404, "unknown-revision"), bad
            assert bad[:4] in answer["error"]["message"]
        daemon.wait_for("web", "OK", first)


def test_the_hash_of_another_branch_that_is_in_the_store_is_refused_by_its_name(site: Site) -> None:
    first = site.upstream.commit({"web/etc/conf": "one", "canary/etc/conf": "one"})
    canary = site.upstream.commit({"canary/etc/conf": "two"}, branch="canary")
    site.upstream.switch("main")
    site.configure("web", 'canary: branch = "canary"')
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        daemon.wait_for("canary", "OK", canary)
        status, answer = daemon.ask("POST", f"/state/rollback/web/{canary}")
        assert status == 404
        assert "main" in answer["error"]["message"]


def test_a_service_that_this_host_does_not_run_is_named_in_the_refusal(site: Site) -> None:
    site.commit()
    site.configure("web")
    with site.daemon as daemon:
        for method, path in (
            ("GET", "/list/service/nginx"),
            ("POST", "/state/freeze/nginx"),
            ("POST", "/state/unfreeze/nginx"),
            ("POST", "/state/rollback/nginx/abcd"),
            ("POST", "/do/pull/nginx"),
        ):
            status, answer = daemon.ask(method, path)
            assert (status, answer["error"]["code"]) == (404, "unknown-service")
            assert "'nginx'" in answer["error"]["message"]
            assert "web" in answer["error"]["message"]
        assert daemon.ask("GET", "/nowhere")[0] == 404
        assert daemon.ask("GET", "/do/pull/web")[0] == 405


def test_a_parameter_that_there_is_not_is_refused_and_nothing_is_done(site: Site) -> None:
    tip = site.commit()
    site.configure("web")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", tip)
        for method, path in (
            ("GET", "/list/machines"),
            ("GET", "/list/services"),
            ("GET", "/list/service/web"),
            ("POST", "/state/unfreeze/web"),
            ("POST", f"/state/rollback/web/{tip}"),
            ("POST", "/do/pull/web"),
            ("POST", "/do/retry/web"),
            ("POST", "/do/reload-config"),
        ):
            status, answer = daemon.ask(method, f"{path}?reason=x")
            assert (status, answer["error"]["code"]) == (400, "bad-request"), path
            assert answer["error"]["message"] == "'reason' is no parameter here; this takes no parameters"
        daemon.wait_for("web", "OK", tip)


def test_a_release_tells_the_truth_about_its_history(site: Site) -> None:
    for number in range(5):
        site.commit(text=str(number), **{f"elsewhere/{number}": "x"})
    tip = site.commit(text="last")
    site.configure("web")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", tip)
        moved = site.upstream.commit({"elsewhere/more": "x"})
        daemon.wait_for("web", "OK", moved)
    assert git(site, "status", "--porcelain") == ""
    assert git(site, "rev-list", "--count", "HEAD") == str(site.upstream.count())
    assert git(site, "rev-parse", "HEAD") == moved
    seen = sorted(p.name for p in site.live().iterdir())
    assert seen == [".git", "web"]


def test_only_so_many_releases_are_kept(site: Site) -> None:
    site.configure("web: keep = 2")
    with site.daemon as daemon:
        for number in range(4):
            tip = site.commit(text=str(number))
            if number == 0:
                daemon.wait_for("web", "OK", tip)
            daemon.post("/do/pull/web")
            daemon.wait_for("web", "OK", tip)
    releases = [p for p in (site.home / "mount/.gitopper/releases/web").iterdir() if p.name[0] != "."]
    assert len(releases) == 2
