"""A freeze tells who, why and until when; it ends by itself, whatever happens to the daemon meanwhile."""

from __future__ import annotations

import os
import pwd
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.daemon import wait_until
from tests.support.site import Site
from tests.support.site import site as make_site

ME = f"{pwd.getpwuid(os.getuid()).pw_name} (uid {os.getuid()})"


def test_a_freeze_tells_who_why_and_until_when(site: Site) -> None:
    first = site.commit(text="one")
    site.configure("web")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        asked = datetime.now(UTC)
        shown = daemon.post("/state/freeze/web?reason=new%20disks,%20f%C3%BCr%20immer&for=2h")
        until = datetime.fromisoformat(shown["until"])
        assert asked + timedelta(hours=2) <= until <= asked + timedelta(hours=2, seconds=5)
        assert (shown["reason"], shown["by"]) == ("new disks, für immer", ME)
        assert shown["stateinfo"].startswith(f"frozen by {ME} until {shown['until'][:16]}")
        assert shown["stateinfo"].endswith("Z: new disks, für immer")
        assert daemon.get("/list/services")["services"] == [shown]
        alone = daemon.service("web")
        assert {name: alone[name] for name in shown} == shown
        assert alone["behind"] == 0
        samples = daemon.metrics()
        assert samples['gitopper_service_freeze_until_time_seconds{service="web"}'] == until.timestamp()
        since = samples['gitopper_service_freeze_since_time_seconds{service="web"}']
        assert asked.timestamp() <= since <= asked.timestamp() + 5
        labels = f'by="{ME}",reason="new disks, für immer",service="web"'
        assert samples[f"gitopper_service_freeze_info{{{labels}}}"] == 1
        thawed = daemon.post("/state/unfreeze/web")
        assert not thawed.keys() & {"reason", "until", "by"}
        assert not [name for name in daemon.metrics() if name.startswith("gitopper_service_freeze_")]


def test_a_freeze_ends_by_itself_and_the_service_follows_again(site: Site) -> None:
    first = site.commit(text="one")
    site.configure("web", interval="1h")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        until = datetime.fromisoformat(daemon.post("/state/freeze/web?for=2s")["until"])
        second = site.commit(text="two")
        daemon.post("/do/pull/web")
        while datetime.now(UTC) < until - timedelta(seconds=0.3):
            assert daemon.service("web")["state"] == "FREEZE"
            assert site.shown() == "one"
            time.sleep(0.1)
        daemon.wait_for("web", "OK", second)
        assert datetime.now(UTC) - until < timedelta(seconds=3)
        entry = daemon.get("/audit?service=web&limit=1")["audit"][0]
        assert (entry["action"], entry["status"], entry["reason"]) == (
            "expiry",
            200,
            "the time of this freeze is over",
        )
        assert site.reloads() == [first, second]


def test_a_freeze_that_ended_while_the_daemon_was_down_ends_at_the_start(site: Site) -> None:
    first = site.commit(text="one")
    site.configure("web", "db")
    site.commit("db")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK")
        daemon.wait_for("db", "OK")
        daemon.post("/state/freeze/db?for=1h")
        daemon.post("/state/freeze/web?for=1s&reason=short")
        daemon.stop(signal.SIGKILL)
        second = site.commit(text="two")
        site.stop_server()
        time.sleep(2.1)
        daemon.start()
        wait_until(
            lambda: "reason" not in daemon.service("web"), "web is still frozen: no upstream is needed"
        )
        assert daemon.service("db")["state"] == "FREEZE"
        site.start_server()
        daemon.wait_for("web", "OK", second)
        assert [e["action"] for e in daemon.get("/audit?service=web")["audit"]] == ["expiry", "freeze"]
    assert first != second


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_what_is_known_of_a_freeze_survives_a_restart(site: Site, how: signal.Signals) -> None:
    first = site.commit(text="one")
    site.configure("web")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        shown = daemon.post("/state/freeze/web?reason=upgrade&for=1h")
        daemon.restart(how)
        site.commit(text="two")
        daemon.wait_for("web", "FREEZE", first)
        [listed] = daemon.get("/list/services")["services"]
        assert listed | {"change": ""} == shown | {"change": ""}


def test_a_freeze_ends_in_its_time_also_after_a_restart(site: Site) -> None:
    first = site.commit(text="one")
    site.configure("web", interval="1h")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        daemon.post("/state/freeze/web?for=6s")
        second = site.commit(text="two")
        daemon.restart(signal.SIGTERM)
        daemon.wait_for("web", "OK", second)
        assert [e["action"] for e in daemon.get("/audit?service=web")["audit"]] == ["expiry", "freeze"]
        assert site.reloads() == [first, second]


def test_the_last_word_counts(site: Site) -> None:
    first = site.commit(text="one")
    site.configure("web")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        daemon.post("/state/freeze/web?for=1s&reason=short")
        shown = daemon.post("/state/freeze/web")
        assert not shown.keys() & {"reason", "until"}
        site.commit(text="two")
        time.sleep(3)
        daemon.wait_for("web", "FREEZE", first)
        shown = daemon.post("/state/freeze/web?for=1s")
        daemon.post(f"/state/rollback/web/{first}")
        time.sleep(2.5)
        daemon.wait_for("web", "FREEZE", first, info=f"ROLLBACK: {first}")
        assert daemon.service("web")["by"] == ME


@pytest.fixture(scope="module")
def frozen_not(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site whose service is never frozen."""
    with make_site(tmp_path_factory.mktemp("site")) as made:
        made.configure("web")
        with made.daemon:
            yield made


@pytest.mark.parametrize(
    ("query", "what"),
    [
        ("for=soon", "for: 'soon' is not a duration; write 30m, 2h or 72h"),
        ("for=3d", "is not a duration"),
        ("for=0s", "is not from 1s to 8784h"),
        ("for=999ms", "is not from 1s to 8784h"),
        ("for=8785h", "is not from 1s to 8784h"),
        ("for=-2h", "is not a duration"),
        ("for=" + "9" * 500 + "h", "is not a duration"),
        ("reason=" + "x" * 501, "reason: it has 501 characters; 500 is the most"),
        ("reason=two%0Alines", "write one line"),
        ("reason=%00", "write one line"),
        ("reason=%E2%80%AEtxt", "write one line"),
        ("resaon=typo", "'resaon' is no parameter here; this takes reason and for"),
        ("for=1h&for=2h", "for is given twice; give it once"),
    ],
)
def test_a_freeze_that_makes_no_sense_is_refused_and_changes_nothing(
    frozen_not: Site, query: str, what: str
) -> None:
    daemon = frozen_not.daemon
    status, answer = daemon.ask("POST", f"/state/freeze/web?{query}")
    assert (status, answer["error"]["code"]) == (400, "bad-request")
    assert what in answer["error"]["message"]
    assert len(answer["error"]["message"]) < 200
    assert "by" not in daemon.service("web")
    entry = daemon.get("/audit?limit=1")["audit"][0]
    assert (entry["action"], entry["status"]) == ("freeze", 400)
