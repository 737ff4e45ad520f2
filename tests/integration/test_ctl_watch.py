"""gitopperctl watch, against simulated daemons."""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.simulateddaemon import (
    HASH,
    ROOT,
    Daemons,
    Stream,
    command,
    ctl,
    daemon,
    environment,
    nobody,
)

__all__ = ["daemon", "nobody"]  # fixtures

WAIT_SECONDS = 20
DEPLOYED = {
    "time": "2026-03-01T09:14:52Z",
    "kind": "deployed",
    "service": "grafana-server",
    "upstream": None,
    "details": {"revision": HASH, "why": "mapped paths changed: grafana/etc", "took": 1.5, "none": None},
}
STATE = {
    "time": "2026-03-01T09:14:53Z",
    "kind": "state",
    "service": "grafana-server",
    "upstream": None,
    "details": {"before": "OK", "after": "BROKEN", "info": "\x1b[31mboom"},
}
POLL: dict[str, Any] = {
    "time": "2026-03-01T09:14:54Z",
    "kind": "poll",
    "service": None,
    "upstream": "https://git.example.net/fleet.git",
    "details": {},
}


def frame(event: dict[str, Any]) -> bytes:
    return f"event: {event['kind']}\ndata: {json.dumps(event)}\n\n".encode()


class Channel:
    """What a simulated daemon tells; each connection gets what is put in from then on."""

    def __init__(self) -> None:
        self.listening = threading.Semaphore(0)
        self._items: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def __call__(self, send: Callable[[bytes], None]) -> None:
        with contextlib.suppress(OSError):
            send(b":\n\n")
            self.listening.release()
            while (item := self._items.get()) is not None:
                send(item)

    def tell(self, *events: dict[str, Any]) -> None:
        for event in events:
            self._items.put(frame(event))

    def say(self, raw: bytes) -> None:
        self._items.put(raw)

    def hang_up(self) -> None:
        self._items.put(None)


class Watching:
    """A `gitopperctl watch` that runs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def complaint(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.readline()

    def end(self, number: signal.Signals = signal.SIGINT) -> tuple[int, str, str]:
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=10)
        return self.process.returncode, out, err


@contextlib.contextmanager
def watching(*words: str) -> Iterator[Watching]:
    with subprocess.Popen(
        command(*words),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        # A test that waits for a line which never comes must end, too.
        watchdog = threading.Timer(WAIT_SECONDS, process.kill)
        watchdog.start()
        try:
            yield Watching(process)
        finally:
            watchdog.cancel()
            process.kill()


def listened(channel: Channel) -> None:
    assert channel.listening.acquire(timeout=WAIT_SECONDS)


@pytest.fixture
def channel() -> Iterator[Channel]:
    made = Channel()
    yield made
    made.hang_up()


def with_events(stream: Stream) -> dict[str, Any]:
    return {"/events": (200, stream)}


def test_events_are_shown_live_one_to_a_line(daemon: Daemons, channel: Channel) -> None:
    web = daemon(with_events(channel))
    with watching("watch", web.at) as watch:
        listened(channel)
        channel.tell(DEPLOYED)
        assert watch.line() == (
            f"2026-03-01T09:14:52Z  {web.at[1:]}  deployed  grafana-server  "
            f'revision={HASH} why="mapped paths changed: grafana/etc" took=1.5\n'
        )
        channel.tell(STATE, POLL)
        assert watch.line().endswith("state  grafana-server  before=OK after=BROKEN info=\\x1b[31mboom\n")
        assert watch.line().endswith("poll  https://git.example.net/fleet.git\n")
        assert watch.end() == (130, "", "\n")


def test_json_lines_name_their_host(daemon: Daemons, channel: Channel) -> None:
    web = daemon(with_events(channel))
    with watching("-m", "watch", web.at) as watch:
        listened(channel)
        channel.tell(STATE)
        line = watch.line()
        assert json.loads(line) == {**STATE, "host": web.at[1:]}
        assert "\x1b" not in line


def test_several_hosts_are_watched_at_once_and_one_that_is_down_is_tried_again(
    daemon: Daemons, channel: Channel, nobody: str
) -> None:
    other = Channel()
    web1, web2 = daemon(with_events(channel)), daemon(with_events(other))
    with watching("watch", nobody, web1.at, web2.at) as watch:
        listened(channel)
        listened(other)
        said = watch.complaint()
        assert said.startswith(f"gitopperctl: {nobody[1:]}: can't connect (")
        assert said.endswith("is gitopperd running there?; trying again in 1 s\n")
        other.tell(POLL)
        assert web2.at[1:] in watch.line()
        channel.tell(POLL)
        assert web1.at[1:] in watch.line()
        # The daemon that was down comes up at its address, and is heard.
        third = Channel()
        daemon(with_events(third), at=("127.0.0.1", int(nobody.rpartition(":")[2])))
        listened(third)
        assert watch.complaint() == f"gitopperctl: {nobody[1:]}: connected again\n"
        third.tell(POLL)
        assert nobody[1:] in watch.line()
        other.hang_up()
        third.hang_up()


def test_a_host_that_goes_away_is_tried_again_and_heard_again(daemon: Daemons, channel: Channel) -> None:
    web = daemon(with_events(channel))
    with watching("watch", web.at) as watch:
        listened(channel)
        channel.hang_up()
        said = watch.complaint()
        assert said == f"gitopperctl: {web.at[1:]}: it ended the connection; trying again in 1 s\n"
        listened(channel)
        assert watch.complaint() == f"gitopperctl: {web.at[1:]}: connected again\n"
        channel.tell(POLL)
        assert "poll" in watch.line()
    assert web.asked == [("GET", "/events")] * 2


def test_errors_of_a_host_are_json_lines_too(daemon: Daemons, channel: Channel) -> None:
    web = daemon(with_events(channel))
    with watching("-m", "watch", web.at) as watch:
        listened(channel)
        channel.hang_up()
        error = json.loads(watch.line())
        assert (error["host"], error["error"]["code"]) == (web.at[1:], "unreachable")
        listened(channel)
        channel.tell(POLL)
        assert json.loads(watch.line())["kind"] == "poll"


def test_what_is_split_over_lines_and_packets_and_what_is_unknown_is_read_as_the_standard_says(
    daemon: Daemons, channel: Channel
) -> None:
    web = daemon(with_events(channel))
    first, second = json.dumps(POLL).split(", ", 1)
    with watching("-m", "watch", web.at) as watch:
        listened(channel)
        channel.say(f": comment\nid: 7\nretry: 10\nevent: x\ndata: {first},\ndata:{second}".encode())
        channel.say(b"\r\n\r")
        channel.say(b"\n\n\ndata\n\n")
        # A field without a value is an empty one, and no event of ours: see the complaint below.
        assert json.loads(watch.line()) == {**POLL, "host": web.at[1:]}
        assert json.loads(watch.line())["error"]["message"] == "what it sent is not an event of gitopperd"


@pytest.mark.parametrize(
    ("status", "answer", "says"),
    [
        (401, {"error": {"code": "unknown-identity", "message": "nobody"}}, "nobody (no token was sent"),
        (403, {"error": {"code": "forbidden", "message": "your role ends before this"}}, "your role ends"),
        (404, {"error": {"code": "not-found", "message": "no /events here"}}, "no /events here"),
        (200, {"services": []}, "is not gitopperd"),
        (302, b"elsewhere", "is not gitopperd"),
    ],
)
def test_a_host_that_will_not_let_us_watch_is_given_up(
    daemon: Daemons, status: int, answer: object, says: str
) -> None:
    web = daemon({"/events": (status, answer)})
    done = ctl("watch", web.at)
    assert (done.returncode, done.stdout) == (1, "")
    assert says in done.stderr
    assert "trying again" not in done.stderr
    assert len(web.asked) == 1


def test_watching_goes_on_while_one_host_can_be_watched(daemon: Daemons, channel: Channel) -> None:
    refusal = {"error": {"code": "forbidden", "message": "no"}}
    web1, web2 = daemon({"/events": (403, refusal)}), daemon(with_events(channel))
    with watching("watch", web1.at, web2.at) as watch:
        assert watch.complaint() == f"gitopperctl: {web1.at[1:]}: no\n"
        listened(channel)
        channel.tell(POLL)
        assert web2.at[1:] in watch.line()


def test_a_role_that_was_taken_away_ends_it(daemon: Daemons, channel: Channel) -> None:
    web = daemon(with_events(channel))
    with watching("watch", web.at) as watch:
        listened(channel)
        web.answers["/events"] = (401, {"error": {"code": "unknown-identity", "message": "revoked"}})
        channel.hang_up()
        out, err = watch.process.communicate(timeout=WAIT_SECONDS)
    assert (watch.process.returncode, out) == (1, "")
    assert "revoked" in err.splitlines()[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_end_it_cleanly_too(
    daemon: Daemons, channel: Channel, number: signal.Signals
) -> None:
    web = daemon(with_events(channel))
    with watching("watch", web.at) as watch:
        listened(channel)
        assert watch.end(number) == (128 + number, "", "")


def test_a_reader_that_has_enough_ends_it(daemon: Daemons, channel: Channel) -> None:
    web = daemon(with_events(channel))
    with watching("watch", web.at) as watch:
        listened(channel)
        channel.tell(POLL)
        watch.line()
        assert watch.process.stdout is not None
        watch.process.stdout.close()
        channel.tell(POLL)
        assert watch.process.wait(WAIT_SECONDS) == 1
        assert watch.complaint() == ""


def test_a_line_without_end_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def flood() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: ")
                while True:
                    connection.sendall(b"x" * 65536)

        thread = threading.Thread(target=flood)
        thread.start()
        with watching("watch", f"@127.0.0.1:{listener.getsockname()[1]}") as watch:
            assert "trying again" in watch.complaint()
        thread.join()
