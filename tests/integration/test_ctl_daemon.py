"""gitopperctl and a real gitopperd with TLS, tokens and client certificates: one story for each."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certificates import Authority, Pair
from tests.support.daemon import wait_until
from tests.support.simulateddaemon import ROOT, command, ctl, environment
from tests.support.site import Site
from tests.support.site import site as make_site


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "ca")


@pytest.fixture(scope="module")
def ops(authority: Authority) -> Pair:
    return authority.client("ops")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, authority: Authority, ops: Pair) -> Iterator[Site]:
    """A host that knows tokens and the client certificates of `authority`, and nobody else."""
    server = authority.issue("server")
    with make_site(tmp_path_factory.mktemp("host")) as made:
        made.upstream.commit({"web/etc/conf": "1", "db/etc/conf": "1"})
        made.configure("web", "db", interval="1h")
        with made.daemon.config.open("a") as config:
            config.write(
                f'[api]\ncertificate = "{server.certificate}"\nkey = "{server.key}"\n'
                f'client_ca = "{authority.certificate}"\nanonymous = "none"\n'
                f'[auth.token]\nfile = "{made.home}/tokens.toml"\n'
                '[auth.mtls]\nclients = [{ name = "email:ops@example.net", role = "admin" }]\n'
            )
        with made.daemon as daemon:
            daemon.wait_for("web", "OK")
            daemon.wait_for("db", "OK")
            yield made


@pytest.fixture
def ca(authority: Authority) -> tuple[str, str]:
    return ("--ca", str(authority.certificate))


@pytest.fixture
def as_ops(ca: tuple[str, str], ops: Pair) -> tuple[str, ...]:
    """The options of an administrator with a certificate."""
    return (*ca, "--cert", str(ops.certificate), "--key", str(ops.key))


def at(host: Site) -> str:
    return f"@https://127.0.0.1:{host.daemon.port}"


def make_token(host: Site, name: str, *options: str) -> Path:
    """Make a token as an administrator does, and keep it as a user does."""
    done = ctl("token", "create", name, *options, "--file", f"{host.home}/tokens.toml")
    assert done.returncode == 0, done.stderr
    path = host.home / f"{name}.token"
    path.touch(mode=0o600)
    path.write_text(done.stdout)
    return path


def test_a_token_opens_what_its_role_allows_until_it_is_revoked(host: Site, ca: tuple[str, str]) -> None:
    token = make_token(host, "ci", "--role", "operate", "--services", "web")
    ours = (*ca, "--token-file", str(token))
    done = ctl("list", "services", at(host), *ours)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["SERVICE", "web"]
    assert ctl("do", "pull", at(host), "web", *ours).returncode == 0

    done = ctl("state", "freeze", at(host), "db", *ours)
    assert (done.returncode, done.stdout) == (1, "")
    assert "token:ci" in done.stderr
    assert "operate" in done.stderr

    ctl("token", "revoke", "ci", "--file", f"{host.home}/tokens.toml")
    done = ctl("list", "services", at(host), *ours)
    assert done.returncode == 1
    assert f"the token of {token} may have expired, been revoked" in done.stderr
    assert token.read_text().strip() not in done.stderr


def test_without_a_token_it_tells_how_to_give_one(host: Site, ca: tuple[str, str]) -> None:
    done = ctl("list", "services", at(host), *ca)
    assert done.returncode == 1
    assert "--token-file FILE" in done.stderr


def test_a_daemon_without_its_tls_is_told(host: Site, authority: Authority) -> None:
    done = ctl("list", "services", f"@127.0.0.1:{host.daemon.port}")
    assert done.returncode == 1
    assert "what listens there speaks TLS, not plain http" in done.stderr
    done = ctl("list", "services", at(host))
    assert "its certificate is not signed by a CA that this system trusts" in done.stderr


def test_a_certificate_of_a_stranger_is_told(host: Site, ca: tuple[str, str], authority: Authority) -> None:
    stranger = authority.client("stranger")
    done = ctl(
        "list", "services", at(host), *ca, "--cert", str(stranger.certificate), "--key", str(stranger.key)
    )
    assert done.returncode == 1
    assert f"[auth.mtls] gives no role to our certificate {stranger.certificate}" in done.stderr


def test_a_freeze_with_a_reason_is_seen_in_the_list_the_service_and_the_audit(
    host: Site, as_ops: tuple[str, ...]
) -> None:
    done = ctl("state", "freeze", at(host), "db", "--reason", "disks & co", "--for", "2h", *as_ops)
    assert (done.returncode, done.stderr) == (0, "")
    assert " frozen at " in done.stdout
    assert " until 2" in done.stdout
    listed = ctl("list", "services", at(host), *as_ops).stdout
    [row] = [line for line in listed.splitlines() if " db " in line]
    assert row.count("disks & co") == 1
    assert "until 2" in row
    one = ctl("list", "service", at(host), "db", *as_ops).stdout
    members = dict(line.split(maxsplit=1) for line in one.splitlines() if " " in line)
    assert members["reason"] == "disks & co"
    assert members["until"].startswith("2")
    assert members["by"]
    assert members["behind"] == "0"
    done = ctl("audit", at(host), "--service", "db", "--limit", "1", *as_ops)
    assert (done.returncode, done.stderr) == (0, "")
    [_, row] = done.stdout.splitlines()
    assert " freeze  db " in row
    assert " 200 " in row
    assert "disks & co" in row
    assert ctl("state", "unfreeze", at(host), "db", *as_ops).returncode == 0


def test_what_the_daemon_does_not_understand_is_told_in_its_words(
    host: Site, as_ops: tuple[str, ...]
) -> None:
    done = ctl("state", "freeze", at(host), "db", "--for", "soon", *as_ops)
    assert done.returncode == 1
    assert "soon" in done.stderr
    assert ctl("audit", at(host), "--limit", "1000", *as_ops).returncode == 0


def test_a_configuration_with_mistakes_is_refused_with_all_of_them_and_a_good_one_is_taken(
    host: Site, as_ops: tuple[str, ...]
) -> None:
    good = host.daemon.config.read_text()
    host.daemon.config.write_text(good + '\n[[services]]\nmachine = "*"\nservice = "x"\nintervall = "1h"\n')
    try:
        done = ctl("do", "reload-config", at(host), *as_ops)
        assert (done.returncode, done.stdout) == (1, "")
        head, *problems = done.stderr.splitlines()
        assert head.startswith(f"gitopperctl: {at(host)[1:]}: ")
        assert len(problems) >= 2
        assert all(problem.startswith("  ") for problem in problems)
        assert any("intervall" in problem for problem in problems)
        assert any("dirs" in problem for problem in problems)
    finally:
        host.daemon.config.write_text(good)
    done = ctl("do", "reload-config", at(host), *as_ops)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{at(host)[1:]}: the configuration is read; services: 2\n"


def test_a_freeze_is_watched_live_over_tls_and_over_the_socket(host: Site, as_ops: tuple[str, ...]) -> None:
    unix = f"@unix:{host.home}/gitopperd.sock"
    words = command("-m", "watch", at(host), unix, *as_ops)
    with subprocess.Popen(
        words, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        seen: set[str] = set()

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                event = json.loads(line)
                if event["kind"] == "state" and event["details"]["after"] == "FREEZE":
                    seen.add(f"{event['host']} {event['service']}")

        def told() -> bool:
            # Whether a host is heard yet, only an event tells: it is made until both are.
            assert ctl("state", "freeze", unix, "web").returncode == 0
            assert ctl("state", "unfreeze", unix, "web").returncode == 0
            return seen == {f"{at(host)[1:]} web", f"{unix[1:]} web"}

        reader = threading.Thread(target=read)
        reader.start()
        try:
            wait_until(told, lambda: f"only {seen} were heard")
        finally:
            process.send_signal(signal.SIGINT)
            reader.join(10)
        assert process.stderr is not None
        said = process.stderr.read()
    assert (process.returncode, said.strip()) == (130, "")
