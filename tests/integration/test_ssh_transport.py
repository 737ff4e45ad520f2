"""gitopperctl through a real ssh, to a real sshd on loopback, to a real Unix socket."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import frozen

from tests.support.gitserver import SshServer, ssh_server
from tests.support.simulateddaemon import GRAFANA, ROOT, Daemons, command, daemon, environment
from tests.support.site import Site

__all__ = ["daemon"]  # a fixture

PHRASE = "correct horse battery staple"


@frozen
class Fleet:
    """A user's own ssh, and the sshd that it leads to; by the names web1, and web2 behind web1."""

    sshd: SshServer
    home: Path
    temporary: Path
    """Where gitopperctl makes its sockets; a short path."""

    @property
    def environ(self) -> dict[str, str]:
        return environment(
            PATH=f"{self.home}:{os.environ['PATH']}", TMPDIR=str(self.temporary), SSH_AUTH_SOCK=""
        )

    def ctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*words),
            cwd=ROOT,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command(*words),
            cwd=ROOT,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def configure(self, *lines: str) -> None:
        """Put lines at the top of the user's ssh configuration."""
        path = self.home / "config"
        path.write_text("\n".join(lines) + "\n" + path.read_text())

    def use_key(self, key: Path) -> None:
        self.configure("Host *", f"  IdentityFile {key}")
        text = (self.home / "config").read_text()
        (self.home / "config").write_text(text.replace(f"IdentityFile {self.sshd.key}\n", ""))

    def leftovers(self) -> list[str]:
        """Everything that a gitopperctl which has ended left: files, and processes that know of them."""
        return [
            *(path.name for path in self.temporary.iterdir()),
            *processes_about(str(self.temporary)).values(),
        ]


def processes_about(text: str) -> dict[int, str]:
    """Return process number and command line of every process that has `text` in it."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if text in words:
                found[int(process.name)] = words
    return found


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    home = tmp_path / "user"
    home.mkdir()
    temporary = Path(tempfile.mkdtemp(prefix="ctl", dir="/tmp"))
    with ssh_server(tmp_path / "sshd") as sshd:
        (home / "config").write_text(
            f"Host web1\n  HostName 127.0.0.1\n  Port {sshd.port}\n"
            f"Host web2\n  HostName 127.0.0.1\n  Port {sshd.port}\n  ProxyJump web1\n"
            f"Host *\n  IdentityFile {sshd.key}\n  IdentitiesOnly yes\n  User {sshd.user}\n"
            + (tmp_path / "sshd/ssh_config").read_text()
        )
        script = home / "ssh"
        script.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {home}/config "$@"\n')
        script.chmod(0o755)
        try:
            yield Fleet(sshd=sshd, home=home, temporary=temporary)
        finally:
            shutil.rmtree(temporary)


@pytest.fixture
def unix(daemon: Daemons, fleet: Fleet) -> Iterator[str]:
    """The path of a simulated daemon's socket."""
    path = str(fleet.temporary.parent / f"{fleet.temporary.name}.sock")
    daemon(at=path)
    try:
        yield path
    finally:
        Path(path).unlink()


def test_a_real_daemon_is_seen_and_steered_through_ssh_without_any_secret(fleet: Fleet, site: Site) -> None:
    site.configure("web")
    site.commit("web")
    with site.daemon:
        site.daemon.wait_for("web", "OK")
        where = ("@ssh://web1", "--socket", str(site.home / "gitopperd.sock"))
        done = fleet.ctl("list", "services", *where)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines()[1].split()[1] == "web"
        done = fleet.ctl("state", "freeze", *where, "web")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("ssh://web1: web frozen at ")
        assert site.daemon.service("web")["state"] == "FREEZE"
    assert fleet.leftovers() == []


def test_names_ports_users_and_jump_hosts_are_those_of_the_user_s_ssh(fleet: Fleet, unix: str) -> None:
    direct = f"ssh://{fleet.sshd.user}@127.0.0.1:{fleet.sshd.port}"
    done = fleet.ctl("-m", "list", "services", "@ssh://web2", f"@{direct}", "--socket", unix)
    assert (done.returncode, done.stderr) == (0, "")
    answer = {"services": [GRAFANA]}
    assert json.loads(done.stdout) == {"ssh://web2": answer, direct: answer}
    assert fleet.leftovers() == []


def test_the_socket_there_may_be_set_for_each_host_and_hosts_be_in_groups(fleet: Fleet, unix: str) -> None:
    config = fleet.home / "ctl.toml"
    config.write_text(f'[hosts.web1]\nsocket = "{unix}"\n[groups]\nall = ["ssh://web1"]\n')
    done = fleet.ctl("list", "services", "@@all", "--config", str(config))
    assert (done.returncode, done.stderr) == (0, "")
    assert "grafana-server" in done.stdout


def test_what_the_user_s_configuration_adds_for_long_sessions_is_not_in_the_way(
    fleet: Fleet, unix: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        fleet.configure(
            "Host web1",
            f"  LocalForward {taken.getsockname()[1]} localhost:1",
            "  ControlMaster auto",
            f"  ControlPath {fleet.temporary}/master",
            "  ControlPersist 10m",
            "  RemoteCommand sleep 100",
            "  RequestTTY force",
            "  PermitLocalCommand yes",
            f"  LocalCommand touch {fleet.temporary}/command",
        )
        done = fleet.ctl("list", "services", "@ssh://web1", "--socket", unix)
    assert (done.returncode, done.stderr) == (0, "")
    assert "grafana-server" in done.stdout
    assert fleet.leftovers() == []


def test_a_refused_key_is_told_in_ssh_s_words_and_for_one_host_only(fleet: Fleet, unix: str) -> None:
    fleet.configure(
        "Host refused", "  HostName 127.0.0.1", f"  Port {fleet.sshd.port}", "  User nosuchuser"
    )
    done = fleet.ctl("list", "services", "@ssh://refused", "@ssh://web1", "--socket", unix)
    assert done.returncode == 1
    assert "grafana-server" in done.stdout
    assert done.stderr.startswith("gitopperctl: ssh://refused: ssh gave up: ")
    assert "Permission denied (publickey" in done.stderr
    assert "see to it that `ssh refused` works without asking anything" in done.stderr
    assert done.stderr.count("\n") == 1
    assert fleet.leftovers() == []


def test_a_host_key_that_nobody_accepted_is_told(fleet: Fleet, unix: str) -> None:
    (fleet.home.parent / "sshd/known_hosts").write_text("")
    done = fleet.ctl("list", "services", "@ssh://web1", "--socket", unix)
    assert "Host key verification failed" in done.stderr


def test_a_port_where_nobody_listens_and_a_name_that_nobody_knows(fleet: Fleet) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    done = fleet.ctl("list", "services", f"@ssh://127.0.0.1:{port}", "@ssh://no-such-host.invalid")
    assert done.returncode == 1
    assert "Connection refused" in done.stderr
    assert f"`ssh -p {port} 127.0.0.1`" in done.stderr
    assert "resolve hostname no-such-host.invalid" in done.stderr


def test_a_socket_that_is_not_there_is_told_from_an_ssh_that_failed(fleet: Fleet) -> None:
    done = fleet.ctl("state", "freeze", "@ssh://web1", "web", "--socket", "/run/no-such.sock")
    assert done.returncode == 1
    assert "ssh got through, but not to /run/no-such.sock there" in done.stderr
    assert "open failed" in done.stderr
    assert "is gitopperd running there" in done.stderr


def test_an_sshd_that_forbids_forwarding_is_told(fleet: Fleet, unix: str) -> None:
    keys = fleet.home.parent / "sshd/authorized_keys"
    keys.write_text(f"restrict {keys.read_text()}")
    done = fleet.ctl("list", "services", "@ssh://web1", "--socket", unix)
    assert done.returncode == 1
    assert f"ssh got through, but not to {unix} there" in done.stderr
    assert "does its sshd allow AllowStreamLocalForwarding?" in done.stderr


def test_a_socket_with_a_name_that_ssh_would_change_is_refused(fleet: Fleet) -> None:
    for path in ("/run/a:b", "/run/%h", "/run/${HOME}"):
        done = fleet.ctl("list", "services", "@ssh://web1", "--socket", path)
        assert "ssh can't forward" in done.stderr


def test_a_machine_without_ssh_is_told(fleet: Fleet, tmp_path: Path) -> None:
    environ = {**fleet.environ, "PATH": str(tmp_path)}
    done = subprocess.run(
        command("list", "services", "@ssh://web1"), cwd=ROOT, env=environ, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no ssh here" in done.stderr
    assert fleet.leftovers() == []


@contextlib.contextmanager
def hanging_sshd() -> Iterator[tuple[str, threading.Event]]:
    """Take connections, and say nothing; yields the @HOST, and what is set when somebody came."""
    came, connections = threading.Event(), []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connections.append(listener.accept()[0])
                    came.set()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"@ssh://127.0.0.1:{listener.getsockname()[1]}", came
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in connections:
                connection.close()


def test_an_sshd_that_hangs_ends_at_the_deadline_and_leaves_nothing(fleet: Fleet, unix: str) -> None:
    with hanging_sshd() as (hanging, _):
        start = time.monotonic()
        done = fleet.ctl("list", "services", hanging, "@ssh://web1", "--socket", unix, "--timeout", "2.5")
        took = time.monotonic() - start
    assert done.returncode == 1
    assert "grafana-server" in done.stdout
    assert "no answer within 2.5 s" in done.stderr or "timed out" in done.stderr
    assert took < 6
    assert fleet.leftovers() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_command_that_is_ended_takes_its_ssh_along(fleet: Fleet, number: signal.Signals) -> None:
    with hanging_sshd() as (hanging, came), fleet.start("list", "services", hanging) as process:
        assert came.wait(20)
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
        # The kernel ends an ssh whose gitopperctl was killed, and that may take a moment.
        deadline = time.monotonic() + 5
        while processes_about(str(fleet.temporary)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert processes_about(str(fleet.temporary)) == {}
    assert (out, err.strip()) == ("", "")
    if number != signal.SIGKILL:
        assert process.returncode == (130 if number == signal.SIGINT else 128 + number)
        assert fleet.leftovers() == []


def on_a_terminal(fleet: Fleet, typed: str, *words: str) -> tuple[int, str]:
    """Run it on a terminal of its own, type a line as soon as it asks, and return what was shown."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        argv = command(*words)
        os.execve(argv[0], argv, {**fleet.environ, "TERM": "xterm"})
    shown = b""
    with contextlib.suppress(OSError), os.fdopen(terminal, "r+b", buffering=0) as file:
        while chunk := file.read(4096):
            shown += chunk
            if b"passphrase" in shown and typed:
                file.write(typed.encode() + b"\n")
                typed = ""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


@pytest.fixture
def locked(fleet: Fleet) -> Fleet:
    """The user's key has a passphrase, and no agent knows it."""
    key = fleet.home / "locked"
    shutil.copy(fleet.sshd.key, key)
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", PHRASE, "-f", key], check=True)
    fleet.use_key(key)
    return fleet


def test_for_one_host_on_a_terminal_ssh_may_ask_and_take_its_time(locked: Fleet, unix: str) -> None:
    code, shown = on_a_terminal(locked, PHRASE, "list", "services", "@ssh://web1", "--socket", unix)
    assert code == 0, shown
    assert "Enter passphrase for key" in shown
    assert "grafana-server" in shown
    assert locked.leftovers() == []


def test_an_answer_that_is_wrong_ends_with_ssh_s_own_words(locked: Fleet, unix: str) -> None:
    (locked.home / "config").write_text(
        "NumberOfPasswordPrompts 1\n" + (locked.home / "config").read_text()
    )
    code, shown = on_a_terminal(locked, "wrong", "list", "services", "@ssh://web1", "--socket", unix)
    assert code == 1
    assert "Permission denied (publickey" in shown
    assert "ssh gave up (exit code 255), and said why above; does `ssh web1` work?" in shown.replace(
        "\r\n", " "
    )


def test_several_hosts_are_never_asked_for_a_passphrase(locked: Fleet, unix: str) -> None:
    hosts = ("@ssh://web1", f"@ssh://127.0.0.1:{locked.sshd.port}")
    code, shown = on_a_terminal(locked, "", "list", "services", *hosts, "--socket", unix)
    assert code == 1
    assert shown.count("Permission denied (publickey") == 2
    assert "passphrase" not in shown


def test_events_are_watched_through_ssh_again_after_it_ended_and_nothing_is_left(
    fleet: Fleet, daemon: Daemons
) -> None:
    def tell(send: Callable[[bytes], None]) -> None:
        send(b'data: {"time": "now", "kind": "poll", "details": {}}\n\n')
        ended.wait(30)

    ended = threading.Event()
    path = f"{fleet.temporary}.sock"
    daemon({"/events": (200, tell)}, at=path)
    with fleet.start("watch", "@ssh://web1", "--socket", path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "now  ssh://web1  poll\n"
        [ssh] = processes_about(f"-L {fleet.temporary}/")
        os.kill(ssh, signal.SIGTERM)
        assert "trying again in 1 s" in process.stderr.readline()
        assert "connected again" in process.stderr.readline()
        assert process.stdout.readline() == "now  ssh://web1  poll\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
    ended.set()
    Path(path).unlink()
    assert fleet.leftovers() == []
