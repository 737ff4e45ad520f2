"""The daemon as a process: how it starts, ends, logs, and what it shows of itself."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.daemon import BIN, manager, wait_until
from tests.support.secrets import secret
from tests.support.site import Site

SECRET = secret("hunter2-in-the-url")


def test_it_answers_before_the_first_checkout_is_done(site: Site) -> None:
    site.commit()
    site.server.hang = True
    site.configure("web", timeout="60s")
    with site.daemon as daemon:
        assert daemon.get("/list/services")["services"][0]["state"] == "DIFF"
        assert daemon.ask("GET", "/healthz") == (200, {"status": "alive"})
        status, answer = daemon.ask("GET", "/readyz")
        assert status == 503
        assert answer["for"] >= 1
        assert daemon.get("/list/machines") == {"machines": ["*"]}


def test_it_says_when_it_is_ready(site: Site) -> None:
    site.commit()
    site.configure("web")
    with site.daemon as daemon:
        wait_until(lambda: daemon.ask("GET", "/readyz")[0] == 200, "never ready")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_within_seconds_although_its_upstream_hangs(site: Site, number: signal.Signals) -> None:
    site.commit()
    site.server.hang = True
    site.configure("web", timeout="60s")
    with site.daemon as daemon:
        wait_until(lambda: bool(site.server.requests), "never polled")
        started = time.monotonic()
        assert daemon.stop(number) == 0
        assert time.monotonic() - started < 3


def test_a_reload_that_is_cut_off_by_the_end_is_made_up_for(site: Site) -> None:
    first = site.commit()
    line = f'command = ["sh", "-c", "echo $GITOPPER_REVISION >> {site.home}/slow; sleep 30"]'
    site.configure(f"web: {line}", timeout="60s")
    with site.daemon as daemon:
        wait_until(lambda: (site.home / "slow").exists(), "no reload")
        started = time.monotonic()
        assert daemon.stop(timeout=15) == 0
        assert time.monotonic() - started < 10
        site.configure("web")
        daemon.start()
        daemon.wait_for("web", "OK", first)
    assert site.reloads() == [first]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_second_signal_does_not_cut_short_what_is_waited_for_at_the_end(
    site: Site, number: signal.Signals
) -> None:
    site.commit()
    site.configure(f'web: command = ["sh", "-c", "echo > {site.home}/begun; sleep 30"]', timeout="60s")
    with site.daemon as daemon:
        wait_until(lambda: (site.home / "begun").exists(), "no reload")
        assert daemon.process is not None
        started = time.monotonic()
        daemon.process.send_signal(signal.SIGTERM)
        time.sleep(1)
        assert daemon.stop(number) == 0
        assert 4 < time.monotonic() - started < 10
        assert "Traceback" not in daemon.text()


def test_the_service_manager_is_told_that_it_ends(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.commit()
    site.configure("web")
    with manager(site.home / "notify") as told:
        monkeypatch.setenv("NOTIFY_SOCKET", str(site.home / "notify"))
        with site.daemon as daemon:
            daemon.wait_for("web", "OK")
            assert daemon.stop() == 0
        assert told() == ["READY=1", "STOPPING=1"]


def test_a_mount_that_anybody_may_write_to_is_told(site: Site) -> None:
    site.commit()
    site.configure("web")
    (site.home / "mount").mkdir()
    (site.home / "mount").chmod(0o777)
    done = site.daemon.once()
    assert done.returncode == 0
    assert f"everybody may change {site.home}/mount, and so put other files in the place" in done.stderr


def test_a_mount_that_can_not_be_claimed_costs_a_warning_only(site: Site) -> None:
    site.commit()
    site.configure("web")
    assert site.daemon.once().returncode == 0
    lock = site.home / "mount/.gitopper/lock"
    lock.unlink()
    lock.mkdir()
    done = site.daemon.once()
    assert done.returncode == 0
    assert f"{lock}: Is a directory; nothing keeps another gitopperd from it" in done.stderr


def test_once_reconciles_and_tells_by_its_exit_code(site: Site) -> None:
    site.commit()
    site.configure("web")
    assert site.daemon.once().returncode == 0
    assert site.shown() == "1"
    site.configure("web", "missing")
    done = site.daemon.once()
    assert done.returncode == 1
    assert "missing: DIFF" in done.stderr
    site.configure("web")
    site.stop_server()
    assert site.daemon.once().returncode == 1
    assert site.shown() == "1"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_once_that_is_ended_before_its_time_has_not_gone_well(site: Site, number: signal.Signals) -> None:
    site.commit()
    site.server.hang = True
    site.configure("web", timeout="60s")
    process = subprocess.Popen(site.daemon.command("--once"), stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: bool(site.server.requests), "never polled")
        process.send_signal(number)
        assert process.wait(10) == 1
    finally:
        process.kill()
        process.wait()


def test_anybody_may_connect_to_its_unix_socket_which_ends_with_it(site: Site) -> None:
    site.commit()
    site.configure("web")
    with site.daemon as daemon:
        path = site.home / "gitopperd.sock"
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(path))
        connection.request("GET", "/list/services")
        services = json.loads(connection.getresponse().read())["services"]
        connection.close()
        assert services[0]["service"] == "web"
        daemon.restart(signal.SIGKILL)
        daemon.stop()
        assert not path.exists()


def test_check_tells_what_is_wrong_or_what_this_host_would_run(site: Site) -> None:
    site.configure("web")
    named = ["-c", str(site.daemon.config)]
    checks = [[str(BIN / "gitopperd"), *words] for words in (["check", *named], [*named, "check"])]
    for check in checks:
        done = subprocess.run(check, capture_output=True, text=True, check=True)
        assert "services of this host: web" in done.stdout
    config = site.daemon.config.read_text()
    site.daemon.config.write_text(config.replace('machine = "*"', 'machine = "elsewhere"'))
    done = subprocess.run(checks[0], capture_output=True, text=True, check=True)
    assert f"services of this host: none; it is {socket.gethostname()}, -h" in done.stdout
    site.daemon.config.write_text("[globl]\n")
    done = subprocess.run(checks[-1], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "[global]" in done.stderr


def test_help_says_of_hosts_and_interval_what_they_do(site: Site) -> None:
    service = (
        '[[services]]\nmachine = "{0}"\nservice = "{0}"\ndirs = [{{ local = "/x/{0}", link = "x" }}]\n'
    )
    names = ("elsewhere", socket.gethostname())
    site.daemon.config.write_text(
        '[global]\nupstream = "/srv/x.git"\n' + "".join(map(service.format, names))
    )

    def say(*words: str) -> str:
        done = subprocess.run([str(BIN / "gitopperd"), *words], capture_output=True, text=True, check=True)
        return " ".join(done.stdout.split())

    told = say("check", "-c", str(site.daemon.config), "-h", "elsewhere")
    assert told.endswith(f"services of this host: {', '.join(names)}")
    for words in ((), ("check",)):
        assert "Other names that this host answers to" in say(*words, "--help")
    assert "instead of the one in [global]" in say("--help")


def test_check_tells_which_plugins_are_missing(site: Site) -> None:
    site.configure('web: publish = "symlnk"\nreload = "sytemd"')
    check = [str(BIN / "gitopperd"), "check", "-c", str(site.daemon.config)]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "service web: publish = 'symlnk': no such plugin; installed: bind, symlink" in done.stderr
    assert "service web: reload = 'sytemd': no such plugin; installed: command, systemd" in done.stderr
    assert "has 2 mistakes" in done.stderr


def test_a_service_that_the_config_drops_is_withdrawn_and_keeps_its_data(site: Site) -> None:
    site.upstream.commit({"web/etc/conf": "1", "old/etc/conf": "2"})
    site.configure("web", "old")
    with site.daemon as daemon:
        daemon.wait_for("old", "OK")
        release = site.live("old").resolve()
        site.configure("web")
        daemon.restart()
        daemon.wait_for("web", "OK")
        assert not (site.home / "etc/old").is_symlink()
        assert (release / "old/etc/conf").read_text() == "2"
        site.configure("web", "old")
        daemon.restart()
        daemon.wait_for("old", "OK")
        assert site.shown("old") == "2"


def test_a_host_name_that_matches_nothing_withdraws_nothing(site: Site) -> None:
    site.commit()
    site.configure("web")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK")
        text = daemon.config.read_text()
        daemon.config.write_text(text.replace('machine = "*"', 'machine = "somewhere.else"'))
        daemon.restart()
        assert daemon.get("/list/services") == {"services": []}
        daemon.stop()
        assert "nothing is withdrawn" in daemon.text()
        assert site.shown() == "1"
        (site.home / "etc/web").unlink()  # as a boot takes mounts away
        daemon.start()
        wait_until((site.home / "etc/web").exists, "what is spared is not shown")
        daemon.stop()
        assert len(site.reloads()) == 1, "how it is reloaded, nobody says"
        daemon.arguments = ("-h", "another, somewhere.else")
        daemon.start()
        daemon.wait_for("web", "OK")
        assert len(site.reloads()) == 2


def test_metrics_tell_what_runs_where_and_forget_what_is_past(site: Site) -> None:
    first = site.commit(text="one")
    site.configure("web")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        seen = daemon.metrics()
        assert seen[f'gitopper_service_info{{hash="{first}",service="web",state="OK"}}'] == 1
        assert seen['gitopper_service_state{service="web",state="OK"}'] == 1
        assert seen['gitopper_service_state{service="web",state="BROKEN"}'] == 0
        assert abs(seen['gitopper_service_change_time_seconds{service="web"}'] - time.time()) < 60
        last_success = f'gitopper_source_last_success_time_seconds{{upstream="{site.url}"}}'
        assert abs(seen[last_success] - time.time()) < 60
        assert seen["gitopper_machine_git_ops_total"] >= 2
        assert seen["gitopper_machine_git_error_total"] == 0
        assert seen["gitopper_reconcile_duration_seconds_count"] >= 1
        assert any(name.startswith("gitopper_build_info{") for name in seen)
        second = site.commit(text="two")
        daemon.wait_for("web", "OK", second)
        assert not any(first in name for name in daemon.metrics())
        site.stop_server()
        daemon.wait_for("web", "DIFF")
        assert daemon.metrics()["gitopper_machine_git_error_total"] >= 1


def test_logs_are_json_lines_on_request(site: Site) -> None:
    first = site.commit()
    site.configure("web")
    site.daemon.arguments = ("--log-json",)
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
    entries = [json.loads(line) for line in site.daemon.text().splitlines()]
    deployed = next(entry for entry in entries if entry.get("event") == "deployed")
    assert deployed["service"] == "web"
    assert deployed["details"]["revision"] == first


def test_a_password_in_an_upstream_shows_up_nowhere(site: Site) -> None:
    first = site.commit()
    site.server.credentials = f"gitops:{SECRET}"
    site.configure("web", url=site.server.url(userinfo=f"gitops:{SECRET}"))
    site.daemon.arguments = ("--debug",)
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        answers = json.dumps([daemon.get("/list/services"), list(daemon.metrics())])
        assert daemon.process is not None
        command_lines = Path(f"/proc/{daemon.process.pid}/cmdline").read_bytes().decode()
        site.server.credentials = "gitops:rotated"
        site.commit(text="two")
        daemon.wait_for("web", "DIFF", first, info="401")
        answers += json.dumps(daemon.get("/list/services"))
    everything = daemon.text() + answers + command_lines
    assert "401" in everything
    assert SECRET not in everything
    for path in (p for p in site.home.rglob("*") if p.is_file() and p != daemon.config):
        assert SECRET.encode() not in path.read_bytes(), path


def test_credentials_in_a_file_are_read_again_at_each_use(site: Site) -> None:
    first = site.commit()
    kept = site.home / "credentials"
    kept.write_text("gitops:the-old-password\n")
    site.server.credentials = secret("gitops:the-old-password")
    site.configure(f'web: credentials = "{kept}"')
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        site.server.credentials = secret("gitops:the-new-password")
        second = site.commit(text="two")
        daemon.wait_for("web", "DIFF", first, info="401")
        kept.write_text("gitops:the-new-password\n")
        daemon.post("/do/pull/web")
        daemon.wait_for("web", "OK", second)


def test_an_ordinary_user_is_told_how_to_run_it(site: Site) -> None:
    site.configure("web")
    command = [str(BIN / "gitopperd"), "-c", str(site.daemon.config)]
    if os.geteuid() == 0:
        command = ["unshare", "--user", "--map-user=1000", *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "--no-root" in done.stderr


def test_every_unexpected_method_and_body_gets_the_one_shape_of_errors(site: Site) -> None:
    site.commit()
    site.configure("web")
    with site.daemon as daemon:
        for method, path in (
            ("PUT", "/list/services"),
            ("POST", "/metrics"),
            ("DELETE", "/state/freeze/web"),
        ):
            status, answer = daemon.ask(method, path)
            assert status == 405
            assert set(answer) == {"error"}
            assert set(answer["error"]) == {"code", "message"}
        status, answer = daemon.ask("POST", "/state/freeze/we%2Fb%0A%1b%5b31m")
        assert status == 404
        assert "\x1b" not in answer["error"]["message"]
