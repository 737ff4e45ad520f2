"""gitopperctl as a process of its own, against simulated daemons on loopback and on a Unix socket.

The simulated daemon speaks real HTTP on real sockets; what it answers is made up by each test.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import resource
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
from tests.support.simulateddaemon import GRAFANA, HASH, ROOT, Daemons, ctl, daemon, nobody

__all__ = ["daemon", "nobody"]  # fixtures

SERVICES = Request(method="GET", segments=("list", "services"), shape="services")
TIMES_ITS_IMPORTS = 2
"""So much more may `list services` take than Python with the libraries that it uses."""


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


def test_services_are_listed_as_a_table(daemon: Daemons) -> None:
    web = daemon()
    done = ctl("list", "services", web.at)
    assert (done.returncode, done.stderr) == (0, "")
    head, row = done.stdout.splitlines()
    assert head.split() == ["#", "SERVICE", "HASH", "STATE", "INFO", "CHANGED"]
    assert row.split() == ["1", "grafana-server", HASH, "OK", *GRAFANA["change"].split()]
    assert web.asked == [("GET", "/list/services")]


def test_machine_readable_is_the_answer_as_it_is(daemon: Daemons) -> None:
    answer = {"services": [GRAFANA], "new": {"deep": [1, 2.5, None, "\x1b[31m", "ü"]}}
    done = ctl("-m", "list", "services", daemon({"/list/services": (200, answer)}).at)
    assert done.returncode == 0
    assert json.loads(done.stdout) == answer
    assert "\x1b" not in done.stdout


def test_machines_and_one_service(daemon: Daemons) -> None:
    web = daemon(
        {
            "/list/machines": (200, {"machines": ["web1.example.net", "web*"]}),
            "/list/service/prometheus%40a": (200, GRAFANA),
        }
    )
    done = ctl("list", "machines", web.at)
    assert done.stdout.splitlines() == ["#  MACHINE", "1  web1.example.net", "2  web*"]
    done = ctl("list", "service", web.at, "prometheus@a")
    assert done.returncode == 0
    assert "branch     main" in done.stdout.splitlines()


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (("state", "freeze", "grafana-server"), "/state/freeze/grafana-server"),
        (("do", "unfreeze", "grafana-server"), "/state/unfreeze/grafana-server"),
        (("s", "r", "grafana-server", "606eb57"), "/state/rollback/grafana-server/606eb57"),
        (("do", "pull", "grafana-server"), "/do/pull/grafana-server"),
    ],
)
def test_what_changes_something_is_posted_once_and_acknowledged(
    daemon: Daemons, words: tuple[str, ...], path: str
) -> None:
    web = daemon({path: (202, GRAFANA)})
    done = ctl(*words, web.at)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{web.at[1:]}: grafana-server ")
    assert HASH in done.stdout
    assert web.asked == [("POST", path)]


def test_what_the_daemon_refuses_is_told_in_its_words(daemon: Daemons) -> None:
    error = {"error": {"code": "unknown-service", "message": "no service \x1b[31m'nginx'", "hint": 1}}
    web = daemon({"/state/freeze/nginx": (404, error)})
    done = ctl("state", "freeze", web.at, "nginx")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"gitopperctl: {web.at[1:]}: no service \\x1b[31m'nginx'\n"
    done = ctl("state", "freeze", web.at, "nginx", "-m")
    assert (done.returncode, json.loads(done.stdout), done.stderr) == (1, error, "")


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


def test_bad_usage_is_json_too_when_json_is_wanted() -> None:
    done = ctl("-m", "list", "services")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "usage"
    done = ctl("list", "services")
    assert (done.returncode, done.stdout) == (2, "")
    assert "No @HOST given" in done.stderr


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


def test_a_reader_that_has_enough_is_no_error_worth_a_word(daemon: Daemons) -> None:
    line = f"{sys.executable} -m gitopperd.ctl.main list services {daemon().at} | true"
    done = subprocess.run(["sh", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.stderr == ""


def test_a_full_disk_is_told(daemon: Daemons) -> None:
    command = [sys.executable, "-m", "gitopperd.ctl.main", "list", "services", daemon().at]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "gitopperctl: can't write the answer: No space left on device\n"


def on_a_terminal(*words: str, **environ: str) -> str:
    """Run it on a pseudo terminal, and return what the terminal got."""
    ours, theirs = pty.openpty()
    try:
        command = [sys.executable, "-m", "gitopperd.ctl.main", *words]
        settings = {**os.environ, "TERM": "xterm", "COLUMNS": "90", "NO_COLOR": "", **environ}
        subprocess.run(command, cwd=ROOT, env=settings, stdout=theirs, timeout=30, check=True)
        os.close(theirs)
        theirs = -1
        said = b""
        with contextlib.suppress(OSError):  # EIO is how a terminal without a writer ends.
            while chunk := os.read(ours, 65536):
                said += chunk
        return said.decode()
    finally:
        os.close(ours)
        if theirs >= 0:
            os.close(theirs)


def test_a_terminal_gets_colours_and_a_table_that_fits(daemon: Daemons) -> None:
    shown = on_a_terminal("list", "services", daemon().at)
    assert "\x1b[32mOK" in shown
    assert HASH not in shown
    assert HASH[:12] in shown
    assert "\x1b" not in on_a_terminal("list", "services", daemon().at, NO_COLOR="1")


COMPLETE = """
eval "$(_GITOPPERCTL_COMPLETE=bash_source gitopperctl)"
COMP_LINE=$1 COMP_POINT=${#1}
_gitopperctl_completion gitopperctl
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("line", "candidates"),
    [
        ("gitopperctl l", ["list"]),
        ("gitopperctl list {at} serv", ["service", "services"]),
        ("gitopperctl list service {at} g", ["grafana-server"]),
        ("gitopperctl l service {at} ", ["grafana-server", "prometheus@a"]),
        ("gitopperctl state freeze {at} prometheus@", ["a"]),
        ("gitopperctl list service {nobody} ", [""]),
        ("gitopperctl list services {at} --ti", ["--timeout"]),
    ],
)
def test_bash_completes_lines_with_a_host_in_them(
    daemon: Daemons, tmp_path: Path, nobody: str, line: str, candidates: list[str]
) -> None:
    services = [GRAFANA, {**GRAFANA, "service": "prometheus@a"}, {**GRAFANA, "service": "$(reboot)"}]
    web = daemon({"/list/services": (200, {"services": services})})
    script = tmp_path / "gitopperctl"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m gitopperd.ctl.main "$@"\n')
    script.chmod(0o755)
    done = subprocess.run(
        ["bash", "--norc", "-c", COMPLETE, "bash", line.format(at=web.at, nobody=nobody)],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    assert done.stdout.split("\n")[:-1] == candidates


@pytest.mark.parametrize(("shell", "current"), [("zsh", "4"), ("fish", "gra")])
def test_zsh_and_fish_complete_the_services_of_a_host(daemon: Daemons, shell: str, current: str) -> None:
    """What their functions hand over; zsh tells the number of the current word, fish the word."""
    done = ctl(
        COMP_WORDS=f"gitopperctl list service {daemon().at} gra",
        COMP_CWORD=current,
        _GITOPPERCTL_COMPLETE=f"{shell}_complete",
    )
    assert "grafana-server" in done.stdout


LOADED = """
import sys
from gitopperd.ctl.main import main
sys.argv = ["gitopperctl", "list", "services", sys.argv[1]]
code = main()
print(*sorted(sys.modules), file=sys.stderr)
sys.exit(code)
"""


def test_nothing_heavy_is_imported_to_list_services(daemon: Daemons) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, daemon().at],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert "grafana-server" in done.stdout
    modules = set(done.stderr.split())
    heavy = {"aiohttp", "asyncio", "attr", "dulwich", "libgitopper", "prometheus_client", "rich"}
    seldom = {
        "difflib",
        "subprocess",
        "tomllib",
        *(f"gitopperd.ctl.{name}" for name in ("ssh", "watch", "tokens")),
    }
    assert modules & (heavy | seldom) == set()
    ours = {name for name in modules if name.startswith("gitopper")}
    assert all(name == "gitopperd" or name.startswith("gitopperd.ctl") for name in ours)


def test_listing_services_costs_little_more_than_loading_what_it_needs(daemon: Daemons) -> None:
    """Side by side, the least of five runs each: other work on the machine can only add to it."""
    at = daemon({"/list/services": (200, {"services": [GRAFANA] * 20})}).at
    # A coverage run that also traces children would measure itself.
    environment = {**os.environ, "COVERAGE_PROCESS_CONFIG": "", "COVERAGE_PROCESS_START": ""}

    def cpu_seconds(*command: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        argv = [sys.executable, *command]
        subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, check=True, timeout=30)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    listing = ("-c", "from gitopperd.ctl.main import main; main()", "list", "services", at)
    loading = ("-c", "import click, http.client, json, threading")
    turns = [(cpu_seconds(*listing), cpu_seconds(*loading)) for _ in range(5)]
    ours, needed = (min(costs) for costs in zip(*turns, strict=True))
    assert ours <= TIMES_ITS_IMPORTS * needed


PATCH = "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-old\n+\x1b[2J\udcffnew\t\r\n"


def difference(patch: str = PATCH) -> dict[str, Any]:
    return {
        "service": "nginx", "kind": "drift", "from": HASH, "to": None, "changes": [], "changes_total": 1,
        "patch": patch, "patch_bytes": len(patch), "complete": True, "time": None, "healed": False,
        "kept": 1,
    }  # fmt: skip


def test_a_patch_goes_into_a_pipe_byte_by_byte_and_what_it_is_to_standard_error(daemon: Daemons) -> None:
    one, two = (daemon({"/diff/nginx": (200, difference())}) for _ in range(2))
    missing = daemon({})
    words = ("diff", one.at, missing.at, two.at, "nginx")
    argv = [sys.executable, "-m", "gitopperd.ctl.main", *words]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, timeout=30, check=False)
    patch = PATCH.encode("utf-8", "surrogateescape")
    assert b"\x1b[2J\xffnew\t\r\n" in patch
    assert done.stdout == patch * 2
    assert done.returncode == 1
    first, second, third = done.stderr.decode().splitlines()
    assert first == f"gitopperctl: {one.at[1:]}: changed on the host since {HASH[:12]}: 1 file"
    assert second.startswith(f"gitopperctl: {two.at[1:]}: changed")
    assert third.startswith(f"gitopperctl: {missing.at[1:]}: no /diff/nginx here")


def test_a_patch_on_a_terminal_steers_nothing(daemon: Daemons) -> None:
    shown = on_a_terminal("diff", daemon({"/diff/nginx": (200, difference())}).at, "nginx")
    assert "\x1b[32m+\\x1b[2J\\udcffnew\t\\r\x1b[0m" in shown
    assert "\x1b[31m-old" in shown
    plain = on_a_terminal("diff", daemon({"/diff/nginx": (200, difference())}).at, "nginx", NO_COLOR="1")
    assert "\x1b" not in plain


def test_an_answer_of_several_hosts_in_json_keeps_every_byte(daemon: Daemons) -> None:
    one, two = (daemon({"/diff/nginx": (200, difference())}) for _ in range(2))
    done = ctl("-m", "diff", one.at, two.at, "nginx")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    assert [answer["patch"] for answer in json.loads(done.stdout).values()] == [PATCH, PATCH]


@pytest.mark.parametrize("verb", ["history", "explain", "diff"])
def test_what_is_no_answer_to_such_a_question_is_told(daemon: Daemons, verb: str) -> None:
    done = ctl(verb, daemon({f"/{verb}/nginx": (200, {"services": []})}).at, "nginx")
    assert (done.returncode, done.stdout) == (1, "")
    assert "is not gitopperd, or not one that knows" in done.stderr


def test_a_patch_may_be_longer_than_any_other_answer(daemon: Daemons) -> None:
    long = "+" + "x" * (17 << 20) + "\n"
    web = daemon(
        {"/diff/nginx": (200, difference(long)), "/list/services": (200, {"services": [], "x": long})}
    )
    done = ctl("diff", web.at, "nginx")
    assert done.returncode == 0, done.stderr
    assert done.stdout == long
    assert ctl("list", "services", web.at).returncode == 1
