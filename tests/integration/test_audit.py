"""Who did what to which service, when, from where, and with which result: on disk before it is answered."""

from __future__ import annotations

import os
import pwd
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.daemon import Daemon, wait_until
from tests.support.site import Site
from tests.support.site import site as make_site

ME = f"{pwd.getpwuid(os.getuid()).pw_name} (uid {os.getuid()})"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon for all tests that leave it as it is."""
    with make_site(tmp_path_factory.mktemp("site")) as site:
        site.commit("web")
        site.commit("db")
        site.configure("web", "db", interval="1h")
        with site.daemon as daemon:
            daemon.wait_for("web", "OK")
            daemon.wait_for("db", "OK")
            yield daemon


def newest(daemon: Daemon, query: str = "") -> dict[str, object]:
    entry: dict[str, object] = daemon.get(f"/audit?limit=1{query}")["audit"][0]
    return entry


def test_an_operation_is_told_with_all_that_is_known_of_it(daemon: Daemon) -> None:
    before = datetime.now(UTC)
    daemon.post("/state/freeze/web?reason=upgrade")
    entry = newest(daemon)
    assert timedelta(0) <= datetime.fromisoformat(str(entry.pop("time"))) - before + timedelta(
        milliseconds=1
    )
    assert entry == {
        "who": ME,
        "action": "freeze",
        "service": "web",
        "origin": f"unix uid {os.getuid()} pid {os.getpid()}",
        "status": 200,
        "reason": "upgrade",
    }
    daemon.post("/state/unfreeze/web")
    assert newest(daemon)["action"] == "unfreeze"
    assert "freeze web: 200: upgrade" in daemon.text()


def test_an_operation_that_failed_is_told_with_its_reason(daemon: Daemon) -> None:
    daemon.post("/state/rollback/web/ffffffff")
    entry = newest(daemon)
    assert (entry["action"], entry["status"]) == ("rollback", 404)
    assert "ffffffff" in str(entry["reason"])
    daemon.post("/do/pull/nowhere")
    entry = newest(daemon, "&service=nowhere")
    assert (entry["action"], entry["service"], entry["status"]) == ("pull", "nowhere", 404)


def test_a_refusal_is_told_a_moment_later(daemon: Daemon) -> None:
    assert daemon.ask("POST", "/state/freeze/db", tcp=True)[0] == 401
    wait_until(lambda: newest(daemon, "&service=db")["status"] == 401, daemon.text)
    entry = newest(daemon, "&service=db")
    assert (entry["who"], entry["action"], entry["origin"]) == ("", "freeze", "127.0.0.1")
    assert "bring a token" in str(entry["reason"])


def test_the_newest_come_first_and_can_be_asked_for_by_service_and_number(daemon: Daemon) -> None:
    for name in ("web", "db", "web"):
        daemon.post(f"/do/pull/{name}")
    services = [entry["service"] for entry in daemon.get("/audit?limit=3")["audit"]]
    assert services == ["web", "db", "web"]
    of_db = daemon.get("/audit?service=db")["audit"]
    assert {entry["service"] for entry in of_db} == {"db"}
    times = [entry["time"] for entry in daemon.get("/audit")["audit"]]
    assert times == sorted(times, reverse=True)
    assert daemon.get("/audit?service=nothing")["audit"] == []


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=-1", "limit=ten", "limit=1e2", "limit=%D9%A3", "since=now"]
)
def test_a_question_that_makes_no_sense_is_refused(daemon: Daemon, query: str) -> None:
    status, answer = daemon.ask("GET", f"/audit?{query}")
    assert (status, answer["error"]["code"]) == (400, "bad-request")


def test_who_may_only_read_does_not_see_the_audit(daemon: Daemon) -> None:
    status, answer = daemon.ask("GET", "/audit", tcp=True)
    assert (status, answer["error"]["code"]) == (401, "unknown-identity")


def test_to_read_leaves_no_entry(daemon: Daemon) -> None:
    daemon.post("/do/pull/db")
    before = daemon.get("/audit?limit=5")
    daemon.get("/list/services")
    daemon.get("/audit")
    assert daemon.get("/audit?limit=5") == before


def test_an_acknowledged_freeze_is_in_the_audit_after_kill_9(site: Site) -> None:
    first = site.commit()
    site.configure("web")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        for number in range(5):
            daemon.post(f"/state/freeze/web?reason={number}")
            daemon.restart(signal.SIGKILL)
            entry = newest(daemon)
            assert (entry["action"], entry["status"], entry["reason"]) == ("freeze", 200, str(number))
            assert daemon.service("web")["reason"] == str(number)


def test_a_flood_of_refusals_is_a_few_entries_and_all_are_counted(site: Site) -> None:
    site.configure("web")
    with site.daemon as daemon:
        statuses = [daemon.ask("POST", f"/state/freeze/s{number}", tcp=True)[0] for number in range(12)]
        assert statuses == [401] * 12
        assert daemon.stop() == 0
        daemon.start()
        entries = daemon.get("/audit")["audit"]
        assert [(entry["service"], entry["status"]) for entry in entries] == [("s11", 401), ("s0", 401)]
        assert str(entries[0]["reason"]).endswith("(11 times more)")
        assert daemon.text().count("freeze s") == 1
