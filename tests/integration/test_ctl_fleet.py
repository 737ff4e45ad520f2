"""gitopperctl and hosts that are down, hang or are no gitopperd; and how a host is found."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gitopperd.ctl import fleet
from gitopperd.ctl.client import Request, ask
from gitopperd.ctl.connect import Connector
from gitopperd.ctl.errors import Answer, AskError
from gitopperd.ctl.hosts import default_sockets, parse_host
from gitopperd.ctl.places import Target
from gitopperd.ctl.settings import Settings
from tests.support.simulateddaemon import GRAFANA, ROOT, Daemons, ctl, daemon, nobody

__all__ = ["daemon", "nobody"]  # fixtures

SERVICES = Request(method="GET", segments=("list", "services"), shape="services")


@contextlib.contextmanager
def raw_server(behave: Callable[[socket.socket], None]) -> Iterator[str]:
    """Take one connection, and do with it what no HTTP server would; yields its @HOST."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                behave(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"@127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize(("hard", "well"), [(4096, True), (60, False)])
def test_more_hosts_than_files_may_be_open_by_default(hard: int, well: bool) -> None:
    body = json.dumps({"services": [GRAFANA]}).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("0.0.0.0", 0), backlog=128))
        listener.settimeout(3)
        hosts = [f"@127.0.{number}.1:{listener.getsockname()[1]}" for number in range(100)]
        command = [sys.executable, "-m", "gitopperd.ctl.main", "-m", "list", "services", *hosts]
        limited = ["sh", "-c", f'ulimit -Sn 60 && ulimit -Hn {hard} && exec "$@"', "sh", *command]
        process = stack.enter_context(subprocess.Popen(limited, cwd=ROOT, stdout=subprocess.PIPE))
        connections: list[socket.socket] = []
        with contextlib.suppress(TimeoutError):
            while len(connections) < len(hosts):  # nobody is answered before all are there
                connections.append(stack.enter_context(listener.accept()[0]))
        for connection in connections:
            connection.sendall(head.encode() + body)
        told = json.loads(process.communicate(timeout=30)[0])
    refused = [one["error"]["message"] for one in told.values() if "error" in one]
    assert (process.returncode == 0, not refused) == (well, well)
    assert all("Too many open files" in text and "ask fewer hosts at once" in text for text in refused)


def test_a_host_that_is_down_does_not_hide_the_others(daemon: Daemons, nobody: str) -> None:
    web1, web2 = daemon(), daemon()
    done = ctl("list", "services", web1.at, nobody, web2.at)
    assert done.returncode == 1
    assert [line.split()[:3] for line in done.stdout.splitlines()] == [
        ["#", "HOST", "SERVICE"],
        ["1", web1.at[1:], "grafana-server"],
        ["2", web2.at[1:], "grafana-server"],
    ]
    place = nobody[1:]
    assert done.stderr == (
        f"gitopperctl: {place}: can't connect ({place}: Connection refused); is gitopperd running there?\n"
    )


def test_several_hosts_are_one_object_and_errors_are_json_too(daemon: Daemons, nobody: str) -> None:
    web = daemon()
    done = ctl("-m", "list", "services", nobody, web.at)
    answers = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (1, "")
    assert list(answers) == [nobody[1:], web.at[1:]]
    assert answers[web.at[1:]] == {"services": [GRAFANA]}
    assert answers[nobody[1:]]["error"]["code"] == "unreachable"


def ask_one(host: str, timeout_seconds: float = 5, **settings: Any) -> Answer:
    with Connector(timeout_seconds=timeout_seconds) as connector:
        target = Target(host=parse_host(host), settings=Settings(**settings))
        return ask(target, SERVICES, connector)


def hang(connection: socket.socket) -> None:
    while connection.recv(4096):
        pass


def drip(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    for number in range(200):
        connection.sendall(b"X-%d: y\r\n" % number)
        time.sleep(0.05)


@pytest.mark.parametrize("behave", [hang, drip])
def test_a_host_that_hangs_ends_at_the_deadline_and_others_are_shown(
    daemon: Daemons, behave: Callable[[socket.socket], None]
) -> None:
    web = daemon()
    with raw_server(behave) as hanging:
        start = time.monotonic()
        done = ctl("list", "services", hanging, web.at, "--timeout", "0.5")
        took = time.monotonic() - start
    assert done.returncode == 1
    assert "grafana-server" in done.stdout
    assert "no answer within 0.5 s" in done.stderr
    assert 0.5 <= took < 5


def test_hosts_are_asked_side_by_side() -> None:
    with contextlib.ExitStack() as stack:
        hosts = [stack.enter_context(raw_server(hang)) for _ in range(8)]
        start = time.monotonic()
        done = ctl("list", "services", *hosts, "--timeout", "1")
        took = time.monotonic() - start
    assert done.stderr.count("no answer within 1 s") == 8
    assert took < 5


def test_a_change_that_timed_out_may_have_been_done_and_is_not_repeated() -> None:
    with raw_server(hang) as hanging:
        done = ctl("state", "freeze", hanging, "nginx", "--timeout", "0.3")
    assert "it may have been carried out all the same" in done.stderr


def test_a_connection_that_does_not_come_about_ends_at_the_deadline_too() -> None:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(
            4
        ):  # The queue of a server that takes nobody: full, the kernel drops who comes next.
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        with pytest.raises(AskError, match="no answer within") as caught:
            ask_one(f"@127.0.0.1:{listener.getsockname()[1]}", timeout_seconds=0.2)
    assert caught.value.code == "timeout"


def test_an_interrupt_ends_it_at_once_and_quietly() -> None:
    arrived = threading.Event()

    def hang_and_tell(connection: socket.socket) -> None:
        arrived.set()
        hang(connection)

    with raw_server(hang_and_tell) as hanging:
        command = [sys.executable, "-m", "gitopperd.ctl.main", "list", "services", hanging]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
            assert arrived.wait(30)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=5)
    assert (process.returncode, said.strip()) == (130, "")


def test_a_fault_of_our_own_is_not_taken_for_one_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(*args: object, **settings: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(fleet, "ask", faulty)
    with pytest.raises(ZeroDivisionError):
        fleet.ask_all([Target(host=parse_host("@web1"))], SERVICES, timeout_seconds=5)


def say(text: bytes) -> Callable[[socket.socket], None]:
    def behave(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(text)

    return behave


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "does not speak HTTP properly"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP properly"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "does not speak HTTP properly"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "is not gitopperd"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "HTTP 200 OK, no content type, 0 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>", "HTTP 200 OK, text/html, 6 bytes"),
        (b"HTTP/1.1 200 OK\r\n\r\n[]", "is not gitopperd"),
        (b'HTTP/1.1 200 OK\r\n\r\n{"services": {}}', "is not gitopperd"),
        (b'HTTP/1.1 200 OK\r\n\r\n{"services": ["a"]}', "is not gitopperd"),
        (b'HTTP/1.1 200 OK\r\n\r\n{"services": [{"hash": NaN}]}', "is not gitopperd"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 5000, "is not gitopperd"),
        (b"HTTP/1.1 200 OK\r\n\r\n\xff\xfe\xfd", "is not gitopperd"),
        (b"HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n", "HTTP 302 Found"),
        (b"HTTP/1.1 502 Bad \x1b[31mGateway\r\n\r\n<html>", "HTTP 502 Bad \\x1b[31mGateway"),
        (b'HTTP/1.1 500 Oops\r\n\r\n{"error": "plain"}', "HTTP 500 Oops"),
    ],
)
def test_what_is_not_gitopperd_is_told_from_it(text: bytes, says: str) -> None:
    with raw_server(say(text)) as stranger:
        done = ctl("list", "services", stranger)
    assert (done.returncode, done.stdout) == (1, "")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.strip().isprintable()


def test_an_answer_without_end_is_given_up() -> None:
    def flood(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b" " * 65536)

    with raw_server(flood) as endless:
        done = ctl("list", "services", endless)
    assert done.returncode == 1
    assert "is not gitopperd" in done.stderr


def test_a_name_that_nobody_knows() -> None:
    done = ctl("list", "services", "@no-such-host.invalid")
    assert done.returncode == 1
    assert "no-such-host.invalid:8000" in done.stderr


def test_a_unix_socket_is_asked(daemon: Daemons, tmp_path: Path) -> None:
    local = daemon(at=str(tmp_path / "d.sock"))
    assert "grafana-server" in ctl("list", "services", local.at).stdout
    done = ctl("list", "services", f"@unix:{tmp_path}/other.sock")
    assert done.returncode == 1
    assert f"{tmp_path}/other.sock: No such file or directory" in done.stderr


def test_localhost_is_asked_on_the_socket_that_was_named(daemon: Daemons, tmp_path: Path) -> None:
    local = daemon(at=str(tmp_path / "d.sock"))
    done = ctl("list", "services", "@localhost", "--socket", str(tmp_path / "d.sock"))
    assert done.returncode == 0
    assert local.asked == [("GET", "/list/services")]


def test_localhost_without_a_socket_is_asked_on_its_port(daemon: Daemons, tmp_path: Path) -> None:
    stale = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as left_by_a_crash:
        left_by_a_crash.bind(str(stale))
    web = daemon()
    # Port 8000 may be taken where the tests run, so another stands for it.
    port = int(web.at.rpartition(":")[2])
    assert ask_one("@localhost", port=port, socket=str(stale)) == {"services": [GRAFANA]}


def test_localhost_tells_every_place_that_was_tried(nobody: str, tmp_path: Path) -> None:
    gone = tmp_path / "gone.sock"
    with pytest.raises(AskError, match="Connection refused") as caught:
        ask_one("@localhost", port=int(nobody.rpartition(":")[2]), socket=str(gone))
    assert f"{gone}: No such file or directory" in str(caught.value)


def test_an_ordinary_user_s_own_socket_is_found(
    daemon: Daemons, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gitopper").mkdir()
    local = daemon(at=str(tmp_path / "gitopper/gitopperd.sock"))
    sockets = default_sockets({"XDG_RUNTIME_DIR": str(tmp_path)}, uid=1000)
    monkeypatch.setattr("gitopperd.ctl.places.default_sockets", lambda: sockets)
    assert ask_one("@localhost")
    assert local.asked == [("GET", "/list/services")]
