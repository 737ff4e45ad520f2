"""gitopperctl as a process of its own, against simulated daemons: what it shows, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.simulateddaemon import GRAFANA, HASH, ROOT, Daemons, ctl, daemon
from tests.support.terminal import on_a_terminal

__all__ = ["daemon"]  # fixtures


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


def test_bad_usage_is_json_too_when_json_is_wanted() -> None:
    done = ctl("-m", "list", "services")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "usage"
    done = ctl("list", "services")
    assert (done.returncode, done.stdout) == (2, "")
    assert "No @HOST given" in done.stderr


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


def test_an_error_that_can_not_be_told_is_no_traceback() -> None:
    command = [sys.executable, "-m", "gitopperd.ctl.main", "-m", "list", "services"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "gitopperctl: can't write the answer: No space left on device\n"
    done = subprocess.run(
        ["sh", "-c", f"{' '.join(command)} | true"], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert done.stderr == ""


def test_what_is_done_stays_well_where_nobody_wants_to_read_it(daemon: Daemons) -> None:
    web = daemon({"/state/freeze/grafana-server": (200, GRAFANA)})
    command = f"{sys.executable} -m gitopperd.ctl.main state freeze {web.at} grafana-server >&-"
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, stderr=subprocess.PIPE, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(web.asked) == 1


@pytest.mark.parametrize("words", [("list", "services"), ("list", "service", "grafana-server")])
def test_what_the_locale_can_not_show_is_an_escape(daemon: Daemons, words: tuple[str, ...]) -> None:
    said = GRAFANA | {"stateinfo": "größer → ✓"}
    web = daemon(
        {
            "/list/services": (200, {"services": [said]}),
            "/list/service/grafana-server": (200, said),
        }
    )
    done = subprocess.run(
        [sys.executable, "-m", "gitopperd.ctl.main", *words, web.at], cwd=ROOT, capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"}, timeout=30,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert "größer \\u2192 \\u2713".encode("latin-1") in done.stdout


def test_a_terminal_gets_colours_and_a_table_that_fits(daemon: Daemons) -> None:
    shown = on_a_terminal("list", "services", daemon().at)
    assert "\x1b[32mOK" in shown
    assert HASH not in shown
    assert HASH[:12] in shown
    assert "\x1b" not in on_a_terminal("list", "services", daemon().at, NO_COLOR="1")
