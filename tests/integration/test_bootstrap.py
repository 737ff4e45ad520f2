"""A host that gets its configuration from a repository, and follows it there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import pytest

from tests.support.daemon import Daemon, manager, wait_until
from tests.support.gitserver import make_certificate, ssh_server
from tests.support.secrets import secret as note_secret
from tests.support.site import Site
from tests.support.upstream import git

BROKEN = '[global]\ninterval = "soon"\n[[services]]\nservise = "web"\n'
REFUSED = "the configuration is refused"
SECRET = note_secret("hunter2-of-the-bootstrap")


class Booted(Daemon):
    """A daemon whose configuration is `gitopper/gitopper.toml` of the upstream."""

    options: tuple[str, ...] = ()

    def command(self, *arguments: str) -> list[str]:
        base = super().command(*arguments)
        base[base.index("-c") + 1] = "gitopper.toml"
        return [*base, "-M", str(self.home / "boot"), "-t", "1s", *self.options]


@pytest.fixture
def boot(site: Site) -> Iterator[Booted]:
    """An empty host that knows where its configuration is."""
    daemon = Booted(site.home, "")
    daemon.config.unlink()
    daemon.options = ("-U", site.url)
    yield daemon
    daemon.kill()


def config(site: Site, *services: str, **settings: str) -> str:
    """The text of a configuration with `services`."""
    site.configure(*services, **settings)
    text = site.daemon.config.read_text()
    site.daemon.config.unlink()
    return text


def samples(daemon: Daemon) -> list[str]:
    """The name and labels of every sample that is exposed."""
    with build_opener(ProxyHandler({})).open(f"http://127.0.0.1:{daemon.port}/metrics", timeout=10) as got:
        lines = got.read().decode().splitlines()
    return [line.rsplit(" ", 1)[0] for line in lines if not line.startswith("#")]


def commit(site: Site, text: str, **files: str) -> str:
    return site.upstream.commit({"gitopper/gitopper.toml": text, **files})


def test_an_empty_host_gets_everything_from_a_repository_and_refuses_what_is_broken(
    site: Site, boot: Booted
) -> None:
    good = config(site, "web")
    first = commit(site, good, **{"web/etc/conf": "1", "new/etc/conf": "2"})
    with boot:
        boot.wait_for("web", "OK", first)
        boot.wait_for("gitopper", "OK", first)
        assert [deploy["asked"] for deploy in boot.get("/history/gitopper")["history"]] == ["start"]
        assert site.shown("web") == "1"
        assert (site.home / "boot/gitopper/gitopper/gitopper.toml").read_text() == good
        assert git(site.home / "boot/gitopper", "status", "--porcelain") == ""
        assert boot.get("/list/machines") == {"machines": ["*"]}
        assert samples(boot) == list(dict.fromkeys(samples(boot)))  # one upstream, below two mounts

        second = commit(site, config(site, "web", "new"))
        boot.wait_for("new", "OK", second)
        assert site.shown("new") == "2"

        third = commit(site, BROKEN, **{"web/etc/conf": "3"})
        boot.wait_for("gitopper", "BROKEN", second, info=REFUSED)
        boot.wait_for("web", "OK", third)
        # Its files are still followed: only the configuration is the last good one.
        assert site.shown("web") == "3"
        info = boot.service("gitopper")["stateinfo"]
        assert "global.interval" in info
        assert "services[0].servise" in info
        assert boot.metrics()["gitopper_config_last_reload_success"] == 0
        assert '"new"' in (site.home / "boot/gitopper/gitopper/gitopper.toml").read_text()

        boot.restart()
        boot.wait_for("gitopper", "BROKEN", second, info=REFUSED)
        boot.wait_for("web", "OK", third)
        boot.wait_for("new", "OK", third)
        assert boot.metrics()["gitopper_config_last_reload_success"] == 0

        fourth = commit(site, config(site, "new"))
        boot.wait_for("gitopper", "OK", fourth)
        wait_until(lambda: not (site.home / "etc/web").is_symlink(), boot.text)
        boot.wait_for("new", "OK", fourth)
        assert boot.metrics()["gitopper_config_last_reload_success"] == 1
    assert len(site.reloads("new")) == 1


def test_the_last_good_one_holds_across_a_restart_with_upstream_gone(site: Site, boot: Booted) -> None:
    first = commit(site, config(site, "web"), **{"web/etc/conf": "1"})
    with boot:
        boot.wait_for("web", "OK", first)
        commit(site, BROKEN)
        boot.wait_for("gitopper", "BROKEN", info=REFUSED)
        boot.stop()
        site.stop_server()
        for link in ("web", "gitopper"):  # as after the loss of a tmpfs
            (site.home / "mount" / link).unlink(missing_ok=True)
        (site.home / "etc/web").unlink()
        boot.options = (*boot.options, "-P")
        boot.start()
        wait_until(lambda: (site.home / "etc/web").is_symlink(), boot.text)
        assert site.shown() == "1"
        boot.wait_for("web", "DIFF", info="refused")
        assert "starting with the last good one" in boot.text()
        site.start_server()
        last = commit(site, config(site, "web"), **{"web/etc/conf": "2"})
        boot.wait_for("gitopper", "OK", last)
        boot.wait_for("web", "OK", last)


def test_a_host_whose_repository_can_not_be_reached_yet_waits_and_says_so(site: Site, boot: Booted) -> None:
    commit(site, config(site, "web"), **{"web/etc/conf": "1"})
    site.stop_server()
    with boot:
        boot.wait_for("gitopper", "DIFF", info="refused")
        assert [entry["service"] for entry in boot.get("/list/services")["services"]] == ["gitopper"]
        site.start_server()
        boot.wait_for("web", "OK")


def hangups_blocked(process: subprocess.Popen[bytes]) -> bool:
    """Tell whether SIGHUP waits at the door of `process`; see proc_pid_status(5)."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    masks = dict(line.split(":\t") for line in status.splitlines() if line.startswith("SigBlk"))
    return bool(int(masks["SigBlk"], 16) & 1 << signal.SIGHUP - 1)


def test_a_hangup_before_it_works_is_no_reason_to_end(site: Site, boot: Booted) -> None:
    """While the program is loaded, and while it waits for its repository."""
    first = commit(site, config(site, "web"), **{"web/etc/conf": "1"})
    site.server.hang = True
    boot.process = process = subprocess.Popen(boot.command(), stderr=subprocess.DEVNULL)
    wait_until(lambda: hangups_blocked(process), "never blocked")
    process.send_signal(signal.SIGHUP)
    wait_until(lambda: bool(site.server.requests), "never asked")
    process.send_signal(signal.SIGHUP)
    site.stop_server()
    site.start_server()
    wait_until(lambda: (site.home / "etc/web/conf").exists(), f"nothing came of {first}")
    assert process.poll() is None


def test_a_repository_that_never_had_a_good_one_is_told_and_mended(site: Site, boot: Booted) -> None:
    commit(site, BROKEN, **{"web/etc/conf": "1"})
    with boot:
        boot.wait_for("gitopper", "BROKEN", info=REFUSED)
        assert boot.metrics()["gitopper_config_last_reload_success"] == 0
        good = commit(site, config(site, "web"))
        boot.wait_for("web", "OK", good)


def test_a_reload_that_is_asked_for_looks_upstream_first(site: Site, boot: Booted) -> None:
    commit(site, config(site, "web"), **{"web/etc/conf": "1", "new/etc/conf": "2"})
    boot.options = (*boot.options, "-t", "1h")
    with boot:
        boot.wait_for("web", "OK")
        commit(site, config(site, "web", "new"))
        assert boot.ask("POST", "/do/reload-config") == (200, {"services": 3})
        boot.wait_for("new", "OK")
        commit(site, BROKEN)
        status, answer = boot.ask("POST", "/do/reload-config")
        assert status == 422
        assert any("servise" in problem for problem in answer["error"]["problems"])
        site.stop_server()
        assert boot.ask("POST", "/do/reload-config")[0] == 503
        boot.wait_for("new", "OK")


def test_the_configuration_can_be_frozen_and_rolled_back_like_any_service(site: Site, boot: Booted) -> None:
    files = {"web/etc/conf": "1", "new/etc/conf": "2"}
    first = commit(site, config(site, "web"), **files)
    with boot:
        boot.wait_for("web", "OK", first)
        boot.post("/state/freeze/gitopper")
        second = commit(site, config(site, "web", "new"))
        boot.wait_for("web", "OK", second)
        assert boot.ask("GET", "/list/service/new")[0] == 404
        boot.post("/state/unfreeze/gitopper")
        boot.wait_for("new", "OK", second)
        boot.post(f"/state/rollback/gitopper/{first}")
        boot.wait_for("gitopper", "FREEZE", first)
        wait_until(lambda: boot.ask("GET", "/list/service/new")[0] == 404, boot.text)
        assert site.shown("web") == "1"


@pytest.mark.parametrize(
    ("service", "problem"),
    [
        ("gitopper", "choose another name"),
        ('web: upstream = "{url}"\ncredentials = "/nowhere"', "other credentials"),
    ],
)
def test_a_config_that_clashes_with_its_own_checkout_is_refused(
    site: Site, boot: Booted, service: str, problem: str
) -> None:
    files = {"web/etc/conf": "1", "gitopper/etc/conf": "2"}
    commit(site, config(site, service.format(url=site.url)), **files)
    with boot:
        boot.wait_for("gitopper", "BROKEN", info=problem)


def test_a_path_inside_of_the_checkout_is_refused(site: Site, boot: Booted) -> None:
    text = config(site, "web").replace(f"{site.home}/etc/web", f"{site.home}/boot/web")
    commit(site, text, **{"web/etc/conf": "1"})
    with boot:
        boot.wait_for("gitopper", "BROKEN", info="overlap")


def test_services_share_the_store_and_the_credentials_of_the_configuration(
    site: Site, boot: Booted
) -> None:
    """The same mount, and so one store: one poll serves both."""
    text = config(site, "web").replace(f"{site.home}/mount", f"{site.home}/boot")
    first = commit(site, text, **{"web/etc/conf": "1"})
    site.server.credentials = f"gitops:{SECRET}"
    secret = site.home / "secret"
    secret.write_text(f"gitops:{SECRET}")
    boot.options = (*boot.options, "--credentials", str(secret))
    with boot:
        boot.wait_for("web", "OK", first)
        assert len(list((site.home / "boot/.gitopper/stores").iterdir())) == 1
        assert not (site.home / "mount").exists()
        second = commit(site, text, **{"web/etc/conf": "2"})
        boot.wait_for("web", "OK", second)


def test_a_secret_comes_by_the_environment_and_goes_nowhere(
    site: Site, boot: Booted, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = config(
        site, 'web: command = ["sh", "-c", "env > {home}/environment"]'.replace("{home}", str(site.home))
    )
    first = commit(site, text, **{"web/etc/conf": "1"})
    site.server.credentials = f"gitops:{SECRET}"
    monkeypatch.setenv("GITOPPER_UPSTREAM", site.server.url(userinfo=f"gitops:{SECRET}"))
    boot.options = ("--debug",)
    with boot:
        boot.wait_for("web", "OK", first)
        assert boot.process is not None
        seen = Path(f"/proc/{boot.process.pid}/cmdline").read_text()
        seen += json.dumps([boot.get("/list/services"), list(boot.metrics())])
        monkeypatch.delenv("GITOPPER_UPSTREAM")
    seen += boot.text() + (site.home / "environment").read_text()
    assert SECRET not in seen
    for path in (p for p in site.home.rglob("*") if p.is_file()):
        assert SECRET.encode() not in path.read_bytes(), path


def test_over_ssh_with_a_key(
    site: Site, boot: Booted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ssh_server(tmp_path / "ssh") as server:
        monkeypatch.setenv("GIT_SSH_COMMAND", server.command)
        text = config(site, "web", url=server.url(site.upstream.path))
        first = commit(site, text, **{"web/etc/conf": "1"})
        boot.options = ("-U", server.url(site.upstream.path), "--ssh-key", str(server.key))
        if os.geteuid() == 0:
            boot.options += ("--fetch-user", "root")  # that ssh's configuration is for root to read
        with boot:
            boot.wait_for("web", "OK", first)


def test_once_fetches_the_configuration_first(site: Site, boot: Booted) -> None:
    commit(site, config(site, "web"), **{"web/etc/conf": "1", "new/etc/conf": "2"})
    assert boot.once().returncode == 0
    assert site.shown("web") == "1"
    commit(site, config(site, "web", "new"))
    assert boot.once().returncode == 0
    assert site.shown("new") == "2"
    commit(site, BROKEN)
    done = boot.once()
    assert done.returncode == 1
    assert REFUSED in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-U", "https://user:word@git.example.net/x.git"], "GITOPPER_UPSTREAM"),
        (["-U", "gopher://x/y"], "https"),
        (["-U", "https://git.example.net/x.git", "-D", "../x"], '".."'),
        (["-U", "https://git.example.net/x.git", "--ssh-key", "/k"], "--credentials"),
        (["-U", "ssh://git@git.example.net/x.git", "--credentials", "/k"], "http"),
        (["-U", "https://git.example.net/x.git", "-c", "/etc/gitopper.toml"], "below the directory of -D"),
        (["-P"], "-U"),
        (["-D", "elsewhere"], "-D is about a repository"),
        (["-B", "next"], "-B is about a repository"),
        (["--credentials", "relative"], "absolute path"),
        (["-t", "0s"], "'--interval': \"0s\" is too short"),
        (["-a", "nowhere"], "'--address': 'nowhere' is no address"),
    ],
)
def test_options_that_make_no_sense_are_told(tmp_path: Path, options: list[str], said: str) -> None:
    root = [] if os.geteuid() == 0 else ["--no-root"]
    daemon = Daemon(tmp_path, "")
    command = [*daemon.command()[:3], *root, "-c", "gitopper.toml", *options, "--state-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "word" not in done.stderr.replace("password", "")


def states_of_children(pid: int) -> list[str]:
    """The states of the processes that `pid` is the parent of, as ``S`` and ``Z``; see proc_pid_stat(5)."""
    children = [
        child
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
    return [Path(f"/proc/{child}/stat").read_text().rpartition(") ")[2][0] for child in children]


def test_a_host_that_had_to_wait_answers_as_its_first_configuration_wants(
    site: Site, boot: Booted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(site.home / "notify"))
    both = make_certificate(site.home)
    api = f'[api]\ncertificate = "{both}"\nkey = "{both}"\n'
    first = commit(site, api + config(site, "web"), **{"web/etc/conf": "1"})
    site.stop_server()
    with manager(site.home / "notify") as told, boot:
        boot.wait_for("gitopper", "DIFF", info="refused")
        assert boot.process is not None
        process = boot.process.pid
        site.start_server()
        wait_until(lambda: "starting over" in boot.text(), boot.text)
        wait_until(lambda: "(TLS)" in boot.text(), boot.text)
        boot.wait_for("web", "OK", first)
        assert boot.process.poll() is None
        assert boot.process.pid == process
        assert "Z" not in states_of_children(process), "what it started before is a zombie"
        # Whom systemd takes for stopping, it kills in the end.
        assert told() == ["READY=1", "RELOADING=1", "READY=1", "READY=1"]


def test_a_configuration_may_bring_the_public_files_that_it_names(site: Site, boot: Booted) -> None:
    """They are in place before the configuration is gone over to, and before a start reads it."""
    both = make_certificate(site.home)
    brought = site.home / "boot/gitopper/gitopper/cert.pem"
    api = f'[api]\ncertificate = "{brought}"\nkey = "{both}"\nclient_ca = "{brought}"\n'
    public = both.read_text().partition("-----BEGIN CERTIFICATE")
    files = {"web/etc/conf": "1", "gitopper/cert.pem": public[1] + public[2]}
    first = commit(site, api + config(site, "web"), **files)
    with boot:
        boot.wait_for("web", "OK", first)
        assert "(TLS)" in boot.text()
        (site.home / "boot/gitopper").unlink()
        boot.restart()
        boot.wait_for("web", "OK", first)
        assert boot.text().count("(TLS)") == 2
