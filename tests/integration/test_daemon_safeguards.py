"""The daemon's part in safe deploys: their order, one round only, and an end while health is watched."""

from __future__ import annotations

import json
import time

import pytest

from tests.support.daemon import wait_until
from tests.support.simulateddaemon import ctl
from tests.support.site import Site


def conf(text: str, *services: str) -> dict[str, str]:
    return {f"{service}/etc/conf": text for service in services}


def order(site: Site) -> list[str]:
    """Who was reloaded, one after the other."""
    path = site.home / "reloads"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


def asked(site: Site, service: str) -> list[str]:
    done = ctl("-m", "history", f"@unix:{site.home}/gitopperd.sock", service)
    return [entry["asked"] for entry in json.loads(done.stdout)["history"]]


def test_services_are_deployed_in_their_order_without_waiting_for_the_next_poll(site: Site) -> None:
    first = site.upstream.commit(conf("1", "api", "db", "web"))
    site.configure('api: after = ["web"]', 'web: after = ["db"]', "db", interval="1h")
    with site.daemon as daemon:
        for name in ("api", "web", "db"):
            daemon.wait_for(name, "OK", first)
        for number in range(2, 5):
            tip = site.upstream.commit(conf(str(number), "api", "db", "web"))
            daemon.post("/do/pull/api")
            daemon.wait_for("api", "OK", tip)
        elsewhere = site.upstream.commit({"other/conf": "1"})
        daemon.post("/do/pull/api")
        for name in ("api", "web", "db"):
            daemon.wait_for(name, "OK", elsewhere)
        assert order(site) == ["db", "web", "api"] * 4
        assert asked(site, "web")[0] == "after db"
        assert asked(site, "db")[0].startswith("pull by ")


def test_one_round_is_enough_for_services_that_come_after_each_other(site: Site) -> None:
    site.upstream.commit(conf("1", "api", "db", "web"))
    site.configure('api: after = ["web"]', 'web: after = ["db"]', "db")
    done = site.daemon.once()
    assert done.returncode == 0, done.stderr
    assert order(site) == ["db", "web", "api"]


def test_one_round_ends_where_an_earlier_service_fails(site: Site) -> None:
    site.upstream.commit(conf("1", "db", "web"))
    site.configure('web: after = ["db"]', 'db: command = ["false"]')
    done = site.daemon.once()
    assert done.returncode == 1
    assert "web: DIFF" in done.stderr
    assert "waits: for db" in done.stderr
    assert order(site) == []


@pytest.mark.parametrize("well", [True, False], ids=["healthy", "ill"])
def test_an_end_while_health_is_watched_comes_at_once_and_the_next_start_goes_on(
    site: Site, well: bool
) -> None:
    ok, probed = site.home / "ok", site.home / "probed"
    ok.touch()
    first = site.commit(text="one")
    health = f'health = {{ command = ["sh", "-c", "echo >> {probed}; test -e {ok}"], within = "60s" }}'
    site.configure(f"web: {health}", interval="1h")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        ok.unlink()
        probed.unlink()
        second = site.commit(text="two")
        daemon.post("/do/pull/web")
        wait_until(probed.exists, "health was not looked at")
        assert site.shown() == "two"
        started = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - started < 8
        assert site.shown() == "two", "what was published stays until somebody goes on"
        if well:
            ok.touch()
        else:  # the old one is healthy again once it is back
            text = daemon.config.read_text().replace('within = "60s"', 'within = "2s"')
            daemon.config.write_text(
                text.replace(f"test -e {ok}", f"! grep -q two {site.home}/etc/web/conf")
            )
        daemon.start()
        if well:
            daemon.wait_for("web", "OK", second)
        else:
            daemon.wait_for("web", "BROKEN", first, "taken back")
            assert site.shown() == "one"


def test_a_rejected_commit_stays_rejected_over_a_restart_until_a_retry(site: Site) -> None:
    bad = site.home / "bad"
    first = site.commit(text="one")
    site.configure(f'web: check = ["sh", "-c", "echo >> {site.home}/checked; test ! -e {bad}"]')
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        bad.touch()
        second = site.commit(text="two")
        daemon.wait_for("web", "BROKEN", first, "failed its check")
        count = len((site.home / "checked").read_text().splitlines())
        bad.unlink()
        daemon.restart()
        time.sleep(2.5)
        daemon.wait_for("web", "BROKEN", first, "failed its check")
        assert len((site.home / "checked").read_text().splitlines()) == count
        status, answer = daemon.ask("POST", "/do/retry/web")
        assert (status, answer["service"]) == (202, "web")
        daemon.wait_for("web", "OK", second)
        assert site.shown() == "two"
