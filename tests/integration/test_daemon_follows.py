"""The daemon follows its upstream, whatever that does."""

from __future__ import annotations

import shutil
import time

from tests.support.daemon import wait_until
from tests.support.site import Site


def test_a_push_is_published_and_reloaded(site: Site) -> None:
    first = site.commit(text="one")
    site.configure("web")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        second = site.commit(text="two")
        daemon.wait_for("web", "OK", second)
    assert site.shown() == "two"
    assert site.reloads() == [first, second]


def test_a_commit_elsewhere_moves_the_hash_and_reloads_nothing(site: Site) -> None:
    first = site.upstream.commit({"web/etc/conf": "w", "webapp/etc/conf": "a"})
    site.configure("web", "webapp")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        daemon.wait_for("webapp", "OK", first)
        second = site.commit("webapp", "changed")
        daemon.wait_for("web", "OK", second)
        daemon.wait_for("webapp", "OK", second)
    assert site.reloads("web") == [first]
    assert site.reloads("webapp") == [first, second]


def test_an_upstream_that_is_down_at_the_start_is_awaited(site: Site) -> None:
    first = site.commit()
    site.stop_server()
    site.configure("web")
    with site.daemon as daemon:
        daemon.wait_for("web", "DIFF", "", info="refused")
        site.start_server()
        daemon.post("/do/pull/web")
        daemon.wait_for("web", "OK", first)


def test_an_upstream_that_goes_away_takes_no_files_with_it(site: Site) -> None:
    first = site.commit(text="one")
    site.configure("web")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        site.stop_server()
        daemon.wait_for("web", "DIFF", first, info="refused")
        assert site.shown() == "one"
        second = site.commit(text="two")
        site.start_server()
        # By itself, after its back-off.
        daemon.wait_for("web", "OK", second)
    assert site.reloads() == [first, second]


def test_a_force_push_is_followed(site: Site) -> None:
    first = site.commit(text="one")
    site.commit(text="two")
    site.configure("web")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK")
        site.upstream.rewind(1)
        daemon.wait_for("web", "OK", first)
        assert site.shown() == "one"
        third = site.commit(text="three")
        daemon.wait_for("web", "OK", third)


def test_a_branch_that_is_deleted_is_a_clear_diff_and_followed_when_it_is_back(site: Site) -> None:
    site.commit(text="one")
    site.upstream.switch("canary")
    canary = site.upstream.commit({"web/etc/conf": "canary"}, branch="canary")
    site.configure('web: branch = "canary"')
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", canary)
        site.upstream.delete("canary")
        daemon.wait_for("web", "DIFF", canary, info="upstream has no branch 'canary'")
        assert site.shown() == "canary"
        site.upstream.push("canary")
        daemon.wait_for("web", "OK", canary)
    assert site.reloads() == [canary]


def test_a_repository_that_is_made_anew_is_followed(site: Site) -> None:
    first = site.commit(text="one")
    site.configure("web")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        shutil.rmtree(site.upstream.path)
        shutil.rmtree(site.upstream.work)
        site.upstream.init()
        again = site.commit(text="anew")
        daemon.wait_for("web", "OK", again)
    assert site.shown() == "anew"


def test_a_path_that_a_commit_removes_is_a_diff_and_the_service_keeps_its_files(site: Site) -> None:
    first = site.commit(text="one")
    site.configure("web")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        site.upstream.commit({"web/etc/conf": None, "elsewhere": "x"})
        daemon.wait_for("web", "DIFF", first, info="web/etc")
        assert site.shown() == "one"
        third = site.commit(text="back")
        daemon.wait_for("web", "OK", third)


def test_one_service_that_fails_stops_no_other_and_is_tried_again(site: Site) -> None:
    first = site.commit("web", "one")
    site.configure("web", "late")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        daemon.wait_for("late", "DIFF", "", info="late/etc")
        second = site.commit("late", "here")
        daemon.wait_for("late", "OK", second)


def test_a_reload_that_fails_is_broken_with_its_own_words_and_tried_again(site: Site) -> None:
    first = site.commit()
    gate = site.home / "gate"
    site.configure(f'web: command = ["sh", "-c", "test -e {gate} || {{ echo no gate; exit 3; }}"]')
    with site.daemon as daemon:
        daemon.wait_for("web", "BROKEN", first, info="no gate")
        assert site.shown() == "1"
        gate.touch()
        daemon.wait_for("web", "OK", first)


def test_what_failed_is_tried_again_long_before_the_next_poll(site: Site) -> None:
    first = site.commit()
    gate = site.home / "gate"
    site.configure(f'web: command = ["test", "-e", "{gate}"]', interval="1h")
    with site.daemon as daemon:
        daemon.wait_for("web", "BROKEN")
        gate.touch()
        daemon.wait_for("web", "OK", first)


def test_a_slow_upstream_holds_up_no_service_of_another(site: Site) -> None:
    first = site.commit()
    other = site.upstream.create(site.home / "others", "other")
    other_first = other.commit({"quick/etc/conf": "q"})
    site.server.hang = True
    site.configure("web", f'quick: upstream = "{other.path}"', timeout="20s")
    with site.daemon as daemon:
        started = time.monotonic()
        daemon.wait_for("quick", "OK", other_first)
        assert time.monotonic() - started < 10
        daemon.wait_for("web", "DIFF", "", info="not fetched yet")
        second = other.commit({"quick/etc/conf": "q2"})
        daemon.wait_for("quick", "OK", second)
    assert first not in site.reloads()


def test_pull_polls_at_once(site: Site) -> None:
    first = site.commit()
    site.configure("web", interval="1h")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        second = site.commit(text="two")
        status, answer = daemon.ask("POST", "/do/pull/web")
        assert (status, answer["service"]) == (202, "web")
        daemon.wait_for("web", "OK", second)


def test_one_poll_serves_every_service_of_an_upstream(site: Site) -> None:
    site.upstream.commit({f"s{i}/etc/conf": "x" for i in range(10)})
    site.configure(*(f"s{i}" for i in range(10)), interval="1h")
    with site.daemon as daemon:
        for i in range(10):
            daemon.wait_for(f"s{i}", "OK")
        before = len(site.server.requests)
        daemon.post("/do/pull/s3")
        wait_until(lambda: len(site.server.requests) > before, "no poll")
        time.sleep(0.3)
        assert len(site.server.requests) == before + 1
