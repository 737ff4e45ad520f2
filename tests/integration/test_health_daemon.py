"""Health and windows with a real daemon: what an operator of a host sees of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from tests.support.site import Site

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@pytest.fixture
def ready_url(site: Site) -> Iterator[str]:
    """A server that is ready as long as its configuration does not hold the word ``broken``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503 if "broken" in site.shown() else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/-/ready"
        server.shutdown()
        thread.join()


def test_a_commit_that_makes_the_service_unhealthy_is_taken_back(site: Site, ready_url: str) -> None:
    health = f'{{ http = "{ready_url}", within = "1s", interval = "100ms" }}'
    site.configure(f"web: health = {health}")
    good = site.commit("web", "good")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", good)
        bad = site.commit("web", "broken")
        shown = daemon.wait_for("web", "BROKEN", good, info="not healthy")
        assert f"{bad[:12]}: not healthy within 1s: {ready_url} answers 503" in shown["stateinfo"]
        assert f"taken back to {good[:12]}" in shown["stateinfo"]
        assert site.shown() == "good"
        assert site.reloads() == [good, bad, good]
        better = site.commit("web", "better")
        daemon.wait_for("web", "OK", better)
    assert site.shown() == "better"


def test_a_commit_waits_for_its_window(site: Site) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1, hours=12)
    window = f"{DAYS[tomorrow.weekday()]} {tomorrow:%H}:00-{tomorrow:%H}:59"
    site.configure(f'web: window = "{window}"')
    first = site.commit("web", "1")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)  # a first deploy does not wait
        new = site.commit("web", "2")
        shown = daemon.wait_for("web", "DIFF", first, info="waits")
        opens = f"{tomorrow:%Y-%m-%d %H}:00 UTC"
        assert shown["stateinfo"] == f"{new[:12]} waits: outside of {window}; opens {opens}"
        assert site.shown() == "1"
        daemon.post(f"/state/rollback/web/{new}")  # an operator's word does not wait
        daemon.wait_for("web", "FREEZE", new)
        daemon.post("/state/unfreeze/web")
        daemon.wait_for("web", "OK", new)
        newest = site.commit("web", "3")
        daemon.wait_for("web", "DIFF", new, info="waits")
        site.configure('web: window = ["daily 00:00-12:00", "daily 12:00-24:00"]')
        daemon.restart()
        daemon.wait_for("web", "OK", newest)
    assert site.shown() == "3"
