"""What happens can be watched while it happens; nobody who watches holds up the daemon."""

from __future__ import annotations

import contextlib
import http.client
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

from tests.support.daemon import Daemon, wait_until
from tests.support.events import watching
from tests.support.site import Site


def test_a_push_is_seen_live_from_the_poll_to_the_new_state(site: Site) -> None:
    first = site.commit(text="one")
    site.configure("web")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        with watching(daemon) as seen:
            second = site.commit(text="two")
            deployed = seen.wait_for("deployed", revision=second)
            polled = seen.wait_for("poll", moved=True)
            assert (polled["upstream"], polled["service"]) == (site.url, None)
            assert (deployed["service"], deployed["details"]["why"]) == (
                "web",
                "mapped paths changed: web/etc",
            )
            assert seen.events.index(polled) < seen.events.index(deployed)
            assert polled["time"].endswith("Z")


def test_changes_of_state_tell_the_state_before_and_after(site: Site) -> None:
    first = site.commit(text="one")
    site.configure("web")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        with watching(daemon) as seen:
            daemon.post("/state/freeze/web?reason=upgrade")
            state = seen.wait_for("state", before="OK", after="FREEZE")
            assert state["service"] == "web"
            assert state["details"]["hash"] == first
            assert state["details"]["info"].endswith(": upgrade")
            intent = seen.wait_for("intent", intent="freeze")
            assert intent["details"]["reason"] == "upgrade"
            daemon.post("/state/unfreeze/web")
            seen.wait_for("state", before="FREEZE", after="OK")


def test_refusals_are_seen_and_who_and_where_from_only_by_admins(site: Site) -> None:
    site.commit()
    site.configure("web")
    with site.daemon as daemon, watching(daemon) as admin, watching(daemon, tcp=True) as reader:
        assert daemon.ask("POST", "/state/freeze/web", tcp=True)[0] == 401
        refused = admin.wait_for("refused", action="freeze")
        assert refused["service"] == "web"
        assert refused["details"].keys() == {"who", "action", "origin", "status", "reason"}
        assert (refused["details"]["origin"], refused["details"]["status"]) == ("127.0.0.1", 401)
        shown = reader.wait_for("refused", action="freeze")
        assert shown["details"] == {"action": "freeze", "status": 401}


def test_sigterm_ends_the_daemon_at_once_with_clients_connected(site: Site) -> None:
    first = site.commit()
    site.configure("web")
    with site.daemon as daemon, contextlib.ExitStack() as stack:
        daemon.wait_for("web", "OK", first)
        seen = [stack.enter_context(watching(daemon, tcp=bool(n % 2))) for n in range(6)]
        started = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - started < 3
        for one in seen:
            assert one.ended.wait(3)


def test_clients_that_vanish_leave_their_places_to_others(site: Site) -> None:
    """More clients, one after the other, than there are places, each gone without a word."""
    site.commit()
    site.configure("web")
    with site.daemon as daemon:
        for _ in range(70):
            with watching(daemon):
                pass
        with watching(daemon) as seen:
            daemon.post("/state/freeze/web")
            seen.wait_for("intent", intent="freeze")


def stuck(daemon: Daemon) -> socket.socket:
    """A client that asks for events and never reads them."""
    sock = socket.socket(socket.AF_UNIX)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(20)
    sock.connect(str(daemon.home / "gitopperd.sock"))
    sock.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
    return sock


def freeze(daemon: Daemon, number: int) -> int:
    """Make events of several kilobytes."""
    reason = quote(f"{number} " + "\N{SNOWFLAKE}" * 480)
    return daemon.ask("POST", f"/state/freeze/web?reason={reason}")[0]


def test_a_client_that_does_not_read_is_dropped_and_nobody_waits_for_it(site: Site) -> None:
    first = site.commit()
    site.configure("web", interval="1h")
    with (
        site.daemon as daemon,
        watching(daemon) as quick,
        contextlib.closing(stuck(daemon)) as slow,
        ThreadPoolExecutor(4) as pool,
    ):
        daemon.wait_for("web", "OK", first)
        count = 400
        assert set(pool.map(lambda n: freeze(daemon, n), range(count))) == {200}
        wait_until(lambda: quick.kinds().count("intent") == count, lambda: f"{len(quick.events)} seen")
        assert not quick.ended.is_set()
        got = b""
        with contextlib.suppress(ConnectionError):
            while data := slow.recv(65536):
                got += data
        seen = got.count(b"event: intent")
        assert 0 < seen < count, f"{seen} of {count} in {len(got)} bytes"
        started = time.monotonic()
        assert daemon.stop(signal.SIGTERM) == 0
        assert time.monotonic() - started < 4


def test_events_say_what_they_are_in_their_headers(site: Site) -> None:
    site.configure("web")
    with site.daemon as daemon:
        connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", "/events")
            response = connection.getresponse()
            assert response.getheader("Cache-Control") == "no-store"
            assert response.readline() == b":\n"
            response.close()
