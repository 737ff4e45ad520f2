"""Bad commits on a real host, with nginx and prometheus: seen by nobody, or for no longer than allowed.

And the same with the daemon killed in the midst of each step.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from subprocess import PIPE

import pytest
from attrs import field, frozen

from tests.support.host import GitServer, Host

pytestmark = [pytest.mark.systemd, pytest.mark.root]

WITHIN_SECONDS = 4.0
NGINX_URL = "http://127.0.0.1/config"
READY_URL = "http://127.0.0.1:9090/-/ready"
CONFIG_URL = "http://127.0.0.1:9090/api/v1/status/config"

SERVICES = f"""
[[services]]
machine = "box"
service = "nginx"
check = ["nginx", "-t"]
health = {{ http = "{NGINX_URL}", within = "{WITHIN_SECONDS:g}s", interval = "100ms" }}
dirs = [{{ local = "/etc/nginx", link = "nginx" }}]

[[services]]
machine = "box"
service = "prometheus"
user = "prometheus"
action = "restart"
check = [["hold", "check"], ["promtool", "check", "config", "/etc/prometheus/prometheus.yml"]]
health = {{ http = "{READY_URL}", within = "{WITHIN_SECONDS:g}s", interval = "200ms", stable_for = "1s" }}
dirs = [{{ local = "/etc/prometheus", link = "prometheus" }}]
"""

NGINX = """\
events {{}}
http {{ server {{ listen 127.0.0.1:80; location = /config {{ return 200 "{answer}"; }} }} }}
"""
PROMETHEUS = "global:\n  scrape_interval: {seconds}s\n"
# promtool has no objection, but prometheus refuses two of one URL, and ends.
UNREADY = f"{PROMETHEUS}remote_write:\n  - url: http://127.0.0.1:9/x\n  - url: http://127.0.0.1:9/x\n"
SYNTAX = "global:\n  scrape_interval: [{seconds}s\n"
PATH = "/etc/prometheus/prometheus.yml"

# Waits at the step of its name for as long as /run/hold-<step> is there, and leaves a trace of having come.
HOLD = """\
#!/bin/sh
test -e /run/hold-$1 || exit 0
touch /run/held-$1
while test -e /run/hold-$1; do sleep 0.05; done
"""
HOLD_START = "[Service]\nExecStartPre=+/usr/local/bin/hold start\nTimeoutStartSec=60\n"


@frozen
class Sightings:
    """Every text that was seen in each file, with when it was first and last seen."""

    texts: dict[str, list[tuple[str, float, float]]] = field(factory=dict)

    def of(self, path: str) -> list[str]:
        """The texts of one file, in the order of their first sight."""
        return [text for text, _, _ in self.texts[path]]

    def seconds(self, path: str, text: str) -> float:
        """How long `text` was to be seen in the file."""
        return next(last - first for seen, first, last in self.texts[path] if seen == text)


@contextmanager
def watching(host: Host, *directories: str) -> Iterator[Sightings]:
    """Read all files all the time during the block; what was seen is there after it."""
    argv = [sys.executable, "-m", "tests.support.sightings", *directories]
    process = host.box.popen(argv, stdin=PIPE, stdout=PIPE)
    found = Sightings()
    assert process.stdout is not None
    assert process.stdout.readline() == b"reading\n"
    try:
        yield found
    finally:
        out, _ = process.communicate(timeout=20)
        texts = json.loads(out)
        found.texts.update({path: [tuple(seen) for seen in each] for path, each in texts.items()})


@pytest.fixture(scope="module")
def server(host: Host) -> GitServer:
    """The git server; the host runs both services as of its first commit."""
    host.box.write("/usr/local/bin/hold", HOLD, mode=0o755)
    host.box.run(["mkdir", "-p", "/etc/systemd/system/prometheus.service.d"], check=True)
    host.box.write("/etc/systemd/system/prometheus.service.d/hold.conf", HOLD_START)
    host.box.systemctl("daemon-reload")
    server = host.git_server("fleet")
    first = server.commit(
        {
            "nginx/nginx.conf": NGINX.format(answer="first"),
            "prometheus/prometheus.yml": PROMETHEUS.format(seconds=11),
        }
    )
    host.configure(server.url, SERVICES, timeout="30s")
    host.daemon("start")
    for name in ("nginx", "prometheus"):
        host.wait_for(name, "OK", first, seconds=40)
    return server


def holding(host: Host, step: str) -> None:
    """Let whoever comes to `step` wait there."""
    host.box.write(f"/run/hold-{step}", "")


def wait_until_held(host: Host, step: str) -> None:
    """Wait until somebody waits at `step`."""
    host.wait_until(lambda: host.box.exists(f"/run/held-{step}"), lambda: f"nobody came to {step}")


def let_go(host: Host, step: str) -> None:
    """Let everybody pass `step` again."""
    host.box.run(["rm", "-f", f"/run/hold-{step}", f"/run/held-{step}"], check=True)


def kill(host: Host) -> None:
    """End the daemon with SIGKILL, in the midst of whatever it does; systemd starts it again."""
    pid = host.box.property("gitopperd", "MainPID")
    host.box.run(["kill", "-KILL", pid], check=True)
    host.wait_until(
        lambda: host.box.property("gitopperd", "MainPID") not in ("0", pid), lambda: "not started again"
    )


def test_a_syntax_error_is_never_seen_by_anybody(host: Host, server: GitServer) -> None:
    good = host.service("nginx")["hash"]
    page = host.get(NGINX_URL)
    with watching(host, "/etc/nginx") as seen:
        bad = server.commit({"nginx/nginx.conf": "events {}\nhttp { unheard_of on; }\n"})
        shown = host.wait_for("nginx", "BROKEN", good, info="unheard_of")
    assert bad[:12] in shown["stateinfo"]
    assert 'unknown directive "unheard_of"' in shown["stateinfo"]
    assert len(seen.of("/etc/nginx/nginx.conf")) == 1, "the bad file was seen"
    assert host.get(NGINX_URL) == page
    # It is remembered: a restart of the daemon does not try it again.
    host.daemon("restart")
    host.wait_for("nginx", "BROKEN", good, info="unheard_of")
    third = server.commit({"nginx/nginx.conf": NGINX.format(answer="third")})
    host.wait_for("nginx", "OK", third)
    host.wait_for_answer(NGINX_URL, "third")


def test_what_is_not_ready_in_time_is_taken_back(host: Host, server: GitServer) -> None:
    good = server.commit({"prometheus/prometheus.yml": PROMETHEUS.format(seconds=22)})
    host.wait_for("prometheus", "OK", good, seconds=30)
    with watching(host, "/etc/prometheus") as seen:
        unready = UNREADY.format(seconds=22)
        bad = server.commit({"prometheus/prometheus.yml": unready})
        shown = host.wait_for("prometheus", "BROKEN", good, info="taken back", seconds=30)
    assert bad[:12] in shown["stateinfo"]
    assert seen.of(PATH) == [PROMETHEUS.format(seconds=22), unready]
    assert seen.seconds(PATH, unready) < WITHIN_SECONDS + 3
    assert_served(host, "scrape_interval: 22s")
    history = host.ask("GET", "/history/prometheus")["history"]
    assert (history[0]["result"], history[0]["from"], history[0]["to"]) == ("taken back", good, bad)


def assert_served(host: Host, part: str) -> None:
    """Prometheus is ready, with a configuration that has `part`, and the file agrees."""
    host.wait_for_answer(READY_URL, "Ready")
    host.wait_for_answer(CONFIG_URL, part)
    assert part in host.box.read(PATH)


Push = Callable[[], str]
"""Pushes the bad commit, and returns its hash."""


def in_the_check(host: Host, push: Push) -> str:
    """Kill the daemon while a check runs."""
    holding(host, "check")
    bad = push()
    wait_until_held(host, "check")
    kill(host)
    let_go(host, "check")
    return bad


def in_the_reload(host: Host, push: Push) -> str:
    """Kill the daemon while the service is restarted with what was just published."""
    holding(host, "start")
    bad = push()
    wait_until_held(host, "start")
    kill(host)
    let_go(host, "start")
    return bad


def while_watching(host: Host, push: Push) -> str:
    """Kill the daemon while it watches the health of a service that does not come up."""
    bad = push_until_refused(host, push)
    kill(host)
    return bad


def while_taking_back(host: Host, push: Push) -> str:
    """Kill the daemon while the service is restarted with the former release."""
    bad = push_until_refused(host, push)
    holding(host, "start")
    host.wait_until(lambda: "remote_write" not in host.box.read(PATH), lambda: "it was not taken back")
    wait_until_held(host, "start")
    kill(host)
    let_go(host, "start")
    return bad


def push_until_refused(host: Host, push: Push) -> str:
    """Push the bad commit, and wait until prometheus has ended because of it."""

    def refusals() -> int:
        return host.box.journal("prometheus").count("error loading config")

    before = refusals()
    bad = push()
    host.wait_until(lambda: refusals() > before, lambda: "prometheus has no objection")
    return bad


@pytest.mark.parametrize(
    ("moment", "text", "seconds"),
    [
        pytest.param(in_the_check, SYNTAX, 31, id="in the check that refuses"),
        pytest.param(in_the_check, UNREADY, 32, id="in the check that accepts"),
        pytest.param(in_the_reload, UNREADY, 33, id="in the reload"),
        pytest.param(while_watching, UNREADY, 34, id="while watching"),
        pytest.param(while_taking_back, UNREADY, 35, id="while taking back"),
    ],
)
def test_a_daemon_that_is_killed_ends_in_the_same_place(
    host: Host, server: GitServer, moment: Callable[[Host, Push], str], text: str, seconds: int
) -> None:
    former, text = PROMETHEUS.format(seconds=seconds), text.format(seconds=seconds)
    good = server.commit({"prometheus/prometheus.yml": former})
    host.wait_for("prometheus", "OK", good, seconds=40)
    with watching(host, "/etc/prometheus") as seen:
        bad = moment(host, lambda: server.commit({"prometheus/prometheus.yml": text}))
        shown = host.wait_for("prometheus", "BROKEN", good, info=bad[:12], seconds=40)
    refused = "remote_write" not in text
    assert ("failed its check" in shown["stateinfo"]) == refused
    assert ("taken back" in shown["stateinfo"]) != refused
    assert seen.of(PATH) == ([former] if refused else [former, text])
    assert_served(host, f"scrape_interval: {seconds}s")
