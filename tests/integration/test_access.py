"""Access control as operators meet it: curl and gitopperctl against a real daemon."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.curl import curl, header_file
from tests.support.daemon import BIN, wait_until
from tests.support.site import Site

USER = 54321
"""A user that no host has."""
GROUPS = {"games": 60, "users": 100}
"""Of base-passwd, so on every Debian."""


def configure(site: Site, *lines: str) -> None:
    """Write a config with two services, and `lines`."""
    site.configure("web", "db", interval="1h")
    with site.daemon.config.open("a") as config:
        config.write("\n".join(lines) + "\n")


def ctl_token(site: Site, *arguments: str) -> str:
    """Run ``gitopperctl token``; return what it printed."""
    command = [str(BIN / "gitopperctl"), "token", *arguments, "--file", str(site.home / "tokens.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def tokens(site: Site) -> Callable[..., str]:
    """Makes a token with gitopperctl, and returns the argument that gives it to curl."""
    configure(site, f'[auth.token]\nfile = "{site.home}/tokens.toml"')
    site.upstream.commit({"web/etc/conf": "1", "db/etc/conf": "1"})

    def create(name: str, *arguments: str) -> str:
        return header_file(site.home / f"{name}.header", ctl_token(site, "create", name, *arguments))

    return create


def test_a_token_over_tcp(site: Site, tokens: Callable[..., str]) -> None:
    deploy = tokens("deploy", "--role", "operate", "--services", "web*")
    grafana = tokens("grafana", "--role", "read")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK")
        base = f"http://127.0.0.1:{daemon.port}"
        assert curl("-X", "POST", "-H", deploy, f"{base}/state/freeze/web")[0] == 200
        status, _, body = curl("-X", "POST", "-H", deploy, f"{base}/state/freeze/db")
        assert (status, body["error"]["code"]) == (403, "forbidden")
        assert body["error"]["message"] == "token:deploy lacks the role operate for db"
        _, _, body = curl("-H", deploy, f"{base}/list/services")
        assert [service["service"] for service in body["services"]] == ["web"]
        assert curl("-H", deploy, f"{base}/metrics")[0] == 403
        assert curl("-H", grafana, f"{base}/metrics")[0] == 200
        assert curl("-X", "POST", "-H", grafana, f"{base}/state/unfreeze/web")[0] == 403
        assert daemon.service("web")["state"] == "FREEZE"


def test_refusals_have_the_shape_that_is_documented(site: Site, tokens: Callable[..., str]) -> None:
    bad = header_file(site.home / "bad.header", "gitopper_no-such-token")
    with site.daemon as daemon:
        url = f"http://127.0.0.1:{daemon.port}/state/freeze/web"
        for arguments, says in (
            ((), "bring a token or a client certificate"),
            (("-H", bad), "the daemon's log says why"),  # there is no file of tokens yet
            (("-u", "admin:admin"), "bring a token"),
        ):
            status, headers, body = curl("-X", "POST", *arguments, url)
            assert status == 401
            assert headers["www-authenticate"] == 'Bearer realm="gitopper"'
            assert headers["content-type"] == "application/json; charset=utf-8"
            assert set(body) == {"error"}
            assert body["error"]["code"] == "unknown-identity"
            assert says in body["error"]["message"]
        tokens("other", "--role", "read")
        assert curl("-X", "POST", "-H", bad, url)[2]["error"]["message"] == "this token is not valid here"
        assert curl("-X", "POST", "-H", "Origin: http://evil.example", url)[0] == 403
        assert "tokens.toml: there is no such file" in daemon.text()


def test_anonymous_may_read_on_loopback_and_over_the_socket(site: Site, tokens: Callable[..., str]) -> None:
    with site.daemon as daemon:
        base = f"http://127.0.0.1:{daemon.port}"
        assert curl(f"{base}/list/services")[0] == 200
        assert curl(f"http://localhost:{daemon.port}/metrics", "-4")[0] == 200
        rebound = ("--resolve", f"evil.example:{daemon.port}:127.0.0.1")
        status, _, body = curl(*rebound, f"http://evil.example:{daemon.port}/list/services")
        assert status == 401
        assert "Host header" in body["error"]["message"]
        assert curl("-H", "X-Forwarded-For: 192.0.2.1", f"{base}/list/services")[0] == 401
        assert curl("-H", "Host: evil.example", f"{base}/healthz")[0] == 200


def test_the_daemons_own_user_operates_over_the_socket(site: Site, tokens: Callable[..., str]) -> None:
    with site.daemon as daemon:
        daemon.wait_for("web", "OK")
        socket = ("--unix-socket", str(site.home / "gitopperd.sock"))
        status, _, body = curl(*socket, "-X", "POST", "http://localhost/state/freeze/web")
        assert (status, body["state"]) == (200, "FREEZE")
        assert curl(*socket, "http://localhost/audit")[0] == 200


def test_tokens_are_made_and_revoked_while_the_daemon_runs(site: Site, tokens: Callable[..., str]) -> None:
    with site.daemon as daemon:
        url = f"http://127.0.0.1:{daemon.port}/audit"
        one = tokens("one", "--role", "admin")
        assert curl("-H", one, url)[0] == 200
        two = tokens("two", "--role", "admin", "--expires", "1h")
        ctl_token(site, "revoke", "one")
        assert curl("-H", one, url)[0] == 401
        assert curl("-H", two, url)[0] == 200
        (site.home / "tokens.toml").chmod(0o644)
        assert curl("-H", two, url)[0] == 401
        assert "chmod 600" in daemon.text()
        (site.home / "tokens.toml").chmod(0o600)
        assert curl("-H", two, url)[0] == 200
        short = tokens("short", "--role", "admin", "--expires", "1s")
        wait_until(lambda: curl("-H", short, url)[0] == 401, "it never expired", 5)
        assert "has expired" in curl("-H", short, url)[2]["error"]["message"]


def test_nothing_is_anonymous_where_the_config_says_so(site: Site) -> None:
    configure(site, '[api]\nanonymous = "none"')
    with site.daemon as daemon:
        base = f"http://127.0.0.1:{daemon.port}"
        assert curl(f"{base}/list/services")[0] == 401
        assert curl(f"{base}/metrics")[0] == 401
        assert curl(f"{base}/readyz")[0] in (200, 503)
        assert daemon.ask("GET", "/list/services")[0] == 200


# --- users of this host ------------------------------------------------------------------


@pytest.fixture
def socket_dir() -> Iterator[Path]:
    """A directory that every user of this host may pass through; pytest's own are root's."""
    path = Path(tempfile.mkdtemp(prefix="gitopper-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def as_user(socket: Path, method: str, path: str, **who: Any) -> tuple[int, Any]:
    """Ask as another user of this host."""
    who = {"user": USER, "group": USER, "extra_groups": [], **who}
    url = f"http://localhost{path}"
    status, _, body = curl("--unix-socket", str(socket), "-X", method, url, cwd="/", **who)
    return status, body


@pytest.mark.root
def test_groups_of_the_operators_may_do_what_the_config_says(site: Site, socket_dir: Path) -> None:
    configure(
        site,
        "[auth.peercred]",
        "groups = [",
        '  { name = "games", role = "operate", services = ["web"] },',
        '  { name = "users", role = "read" },',
        "]",
        "[api]",
        'anonymous = "none"',
    )
    site.upstream.commit({"web/etc/conf": "1", "db/etc/conf": "1"})
    socket = socket_dir / "gitopperd.sock"
    site.daemon.arguments = ("--socket", str(socket))
    with site.daemon as daemon:
        wait_until(lambda: as_user(socket, "GET", "/readyz")[0] == 200, "never ready")
        games, users = [GROUPS["games"]], [GROUPS["users"]]
        freeze = "/state/freeze/web"
        assert as_user(socket, "POST", freeze, extra_groups=games)[0] == 200
        assert as_user(socket, "POST", freeze, group=GROUPS["games"])[0] == 200
        assert as_user(socket, "POST", "/state/freeze/db", extra_groups=games)[0] == 403
        assert as_user(socket, "GET", "/metrics", extra_groups=games)[0] == 403
        assert as_user(socket, "GET", "/metrics", extra_groups=users)[0] == 200
        assert as_user(socket, "POST", freeze, extra_groups=users)[0] == 403
        assert as_user(socket, "POST", "/state/freeze/db", extra_groups=games + users)[0] == 403
        many = [*games, *users, *range(70000, 70200)]
        assert as_user(socket, "GET", "/metrics", extra_groups=many)[0] == 200
        far_too_many = [*users, *range(70000, 70300)]
        assert as_user(socket, "GET", "/metrics", extra_groups=far_too_many)[0] == 401
        assert as_user(socket, "GET", "/audit", extra_groups=games + users)[0] == 403
        status, body = as_user(socket, "GET", "/list/services")
        assert status == 401
        assert "sudo" in body["error"]["message"]
        # Root of its own namespace is nobody here.
        assert as_user(socket, "POST", freeze, user=0, group=0)[0] == 200
        _not_root_by_namespace(socket)
        assert "uid 54321" in daemon.text()


def _not_root_by_namespace(socket: Path) -> None:
    """A user that makes itself root in a user namespace stays the user that it is."""
    inner = f"id -u; curl -s -o /dev/null -w '%{{http_code}}' --unix-socket {socket} http://localhost/audit"
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", inner],
        capture_output=True,
        text=True,
        cwd="/",
        user=USER,
        group=USER,
        extra_groups=[],
        check=True,
    )
    assert done.stdout.split() == ["0", "401"]


@pytest.mark.root
def test_any_user_of_this_host_may_read_and_not_operate(site: Site, socket_dir: Path) -> None:
    configure(site)
    socket = socket_dir / "gitopperd.sock"
    site.daemon.arguments = ("--socket", str(socket))
    with site.daemon:
        assert as_user(socket, "GET", "/list/services")[0] == 200
        for path in ("/state/freeze/web", "/do/pull/web", "/do/reload-config"):
            status, body = as_user(socket, "POST", path)
            assert (status, body["error"]["code"]) == (401, "unknown-identity")
        assert as_user(socket, "GET", "/audit")[0] == 401
        assert as_user(socket, "POST", "/state/freeze/web", user=65534, group=65534)[0] == 401


# --- mistakes in the config --------------------------------------------------------------


def test_mistakes_in_the_tables_of_plugins_are_told_with_all_others(site: Site) -> None:
    configure(
        site,
        "[auth]",
        'plugins = ["token", "mtls", "ldap"]',
        "[auth.token]",
        'file = "tokens.toml"',
        "[auth.mtls]",
        'clients = [{ subject = "CN=x", role = "read" }, { name = "x", role = "boss" }]',
        "[api]",
        'anonymous = "all"',
    )
    check = [str(BIN / "gitopperd"), "check", "-c", str(site.daemon.config)]
    told = []
    for command in (check, site.daemon.command(), site.daemon.command("--once")):
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 2
        told.append([line for line in done.stderr.splitlines() if ": auth" in line or ": api" in line])
    assert told[0] == told[1] == told[2]
    text = "\n".join(told[0])
    for place in (
        "auth.token.file: not the absolute path",
        "auth.mtls.clients[1].role: 'boss' is no role",
        "auth.mtls.clients[1].name: no alternative name",
        "auth.ldap: no such auth plugin; installed: mtls, peercred, token",
        "api.anonymous: ",
    ):
        assert place in text, text
    assert len(told[0]) == 5
    assert not (site.home / "state").exists()


def test_who_may_do_what_can_be_changed_while_the_daemon_runs(
    site: Site, tokens: Callable[..., str]
) -> None:
    admin = tokens("admin", "--role", "admin")
    with site.daemon as daemon:
        base = f"http://127.0.0.1:{daemon.port}"
        reload = ("-X", "POST", "-H", admin, f"{base}/do/reload-config")
        configure(site, "[auth.token]", f'file = "{site.home}/tokens.toml"', "[api]", 'anonymous = "none"')
        assert curl(f"{base}/list/services")[0] == 200
        assert curl(*reload)[0] == 200
        assert curl(f"{base}/list/services")[0] == 401
        configure(site, "[auth.token]", "file = 5")
        status, _, body = curl(*reload)
        assert (status, body["error"]["code"]) == (422, "bad-config")
        assert any("auth.token.file: " in problem for problem in body["error"]["problems"])
        assert curl("-H", admin, f"{base}/list/services")[0] == 200
        configure(site, "[auth]", 'plugins = ["peercred"]')
        assert curl(*reload)[0] == 200
        assert curl("-H", admin, f"{base}/audit")[0] == 401


# --- secrets -----------------------------------------------------------------------------


class Processes:
    """Every command line of this host, looked at again and again while a test runs."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Processes:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.02):
            for process in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(process.read_bytes())
                except OSError:
                    continue


def test_no_secret_shows_up_anywhere(site: Site, tokens: Callable[..., str]) -> None:
    """In logs, errors, answers, command lines, the state directory, and what is shown of the audit."""
    password, hook_secret = "url-password-" + os.urandom(8).hex(), "hook-" + os.urandom(16).hex()
    site.server.credentials = f"gitops:{password}"
    secret_file = site.home / "hook.secret"
    secret_file.write_text(hook_secret + "\n")
    secret_file.chmod(0o600)
    site.configure("web", interval="1s", url=site.server.url(userinfo=f"gitops:{password}"))
    with site.daemon.config.open("a") as config:
        config.write(f'[auth.token]\nfile = "{site.home}/tokens.toml"\n')
        config.write(f'[[webhooks]]\nname = "any"\nkind = "hmac"\nsecret = "{secret_file}"\n')
    good = tokens("good", "--role", "admin")
    bad = header_file(site.home / "bad.header", "gitopper_" + os.urandom(16).hex())
    expired = tokens("expired", "--role", "admin", "--expires", "1s")
    secrets = [password, hook_secret]
    secrets += [Path(name[1:]).read_text().split()[-1] for name in (good, bad, expired)]
    assert len({*secrets}) == 5
    site.daemon.arguments = ("--debug",)
    said: list[Any] = []
    with Processes() as processes, site.daemon as daemon:
        daemon.wait_for("web", "OK")
        base = f"http://127.0.0.1:{daemon.port}"
        questions = [
            ("-X", method, "-H", header, f"{base}{path}")
            for header in (good, bad, expired)
            for method, path in (
                ("GET", "/list/services"),
                ("GET", "/list/service/web"),
                ("POST", "/state/freeze/web?reason=test"),
                ("POST", "/state/unfreeze/web"),
                ("POST", "/do/pull/web"),
                ("POST", "/do/reload-config"),
                ("GET", "/metrics"),
                ("GET", "/nothing"),
            )
        ]
        with ThreadPoolExecutor(4) as pool:
            said += pool.map(lambda question: curl(*question), questions)
        daemon.post("/state/unfreeze/web")
        push = ("-X", "POST", "-d", "{}", f"{base}/hook/any")
        said += [curl(*push), curl("-H", "X-Signature-256: sha256=00", *push)]
        site.server.credentials = "gitops:rotated"
        site.commit(text="two")
        daemon.wait_for("web", "DIFF", info="401")
        (site.home / "tokens.toml").chmod(0o644)
        said.append(curl("-H", good, f"{base}/audit"))
        (site.home / "tokens.toml").chmod(0o600)
        said.append(curl("-H", good, f"{base}/audit"))
        said.append(ctl_token(site, "list"))
        said.append(daemon.text())
        assert daemon.process is not None
        said.append(Path(f"/proc/{daemon.process.pid}/environ").read_bytes().decode())
    text = json.dumps(said) + "".join(line.decode(errors="replace") for line in processes.seen)
    assert "token:good" in text
    assert "gitopperd" in text
    assert re.search(r"is not valid here|has expired", text)
    kept = [path for path in site.home.rglob("*") if path.is_file()]
    ours = {site.daemon.config, secret_file, *(Path(name[1:]) for name in (good, bad, expired))}
    for secret in secrets:
        assert secret not in text
        for path in {*kept} - ours:
            assert secret.encode() not in path.read_bytes(), path
    assert any(path.name == "state.db" for path in kept)
