"""gitopperctl against simulated daemons: audit, reload-config, and freezes with an end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.simulateddaemon import GRAFANA, HASH, Daemons, ctl, daemon

__all__ = ["daemon"]  # fixtures


def test_an_audit_is_a_table_newest_first(daemon: Daemons) -> None:
    refused: dict[str, object]
    refused = {"time": "2026-03-01T10:00:00Z", "who": "", "action": "freeze", "service": "web"}
    refused |= {"origin": "192.0.2.7", "status": 401, "reason": "nobody"}
    begun: dict[str, object]
    begun = {"time": "2026-03-01T09:00:00Z", "who": "token:ci", "action": "reload-config", "service": None}
    begun |= {"origin": "192.0.2.8", "status": 0, "reason": ""}
    entries = [refused, begun]
    web = daemon({"/audit": (200, {"audit": entries})})
    done = ctl("audit", web.at, "--service", "web", "--limit", "7")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["#", "TIME", "WHO", "ACTION", "SERVICE", "STATUS", "FROM", "REASON"],
        [
            "1",
            "2026-03-01T10:00:00Z",
            "freeze",
            "web",
            "401",
            "192.0.2.7",
            "nobody",
        ],
        ["2", "2026-03-01T09:00:00Z", "token:ci", "reload-config", "unknown", "192.0.2.8"],
    ]
    assert web.asked == [("GET", "/audit?limit=7&service=web")]
    assert json.loads(ctl("-m", "audit", web.at).stdout) == {"audit": entries}


def test_a_configuration_that_was_read_is_acknowledged(daemon: Daemons) -> None:
    web = daemon({"/do/reload-config": (200, {"services": 12})})
    done = ctl("do", "reload-config", web.at)
    assert (done.returncode, done.stdout) == (
        0,
        f"{web.at[1:]}: the configuration is read; services: 12\n",
    )
    assert web.asked == [("POST", "/do/reload-config")]


def test_a_configuration_with_mistakes_is_told_with_all_of_them(daemon: Daemons) -> None:
    problems = [
        '/etc/gitopper.toml: services[0].interval: "soon" is not a duration',
        "second \x1b[31mproblem",
    ]
    error = {"error": {"code": "bad-config", "message": "2 mistakes", "problems": problems}}
    web = daemon({"/do/reload-config": (422, error)})
    good = daemon({"/do/reload-config": (200, {"services": 1})})
    done = ctl("do", "reload-config", web.at, good.at)
    assert (done.returncode, done.stdout) == (
        1,
        f"{good.at[1:]}: the configuration is read; services: 1\n",
    )
    assert done.stderr.splitlines() == [
        f"gitopperctl: {web.at[1:]}: 2 mistakes",
        f"  {problems[0]}",
        "  second \\x1b[31mproblem",
    ]
    assert json.loads(ctl("-m", "do", "reload-config", web.at).stdout) == error


FROZEN = {
    **GRAFANA,
    "state": "FREEZE",
    "reason": "disk swap",
    "until": "2026-03-01T11:00:00Z",
    "by": "token:ci",
}


def test_a_freeze_takes_a_reason_and_an_end_and_shows_them(daemon: Daemons) -> None:
    web = daemon({"/state/freeze/grafana-server": (200, FROZEN)})
    done = ctl("state", "freeze", web.at, "grafana-server", "--reason", "disk swap", "--for", "2h")
    assert done.stdout == f"{web.at[1:]}: grafana-server frozen at {HASH} until 2026-03-01T11:00:00Z\n"
    assert web.asked == [("POST", "/state/freeze/grafana-server?reason=disk+swap&for=2h")]


@pytest.mark.parametrize(
    ("member", "info"),
    [
        ({}, "disk swap (until 2026-03-01T11:00:00Z, by token:ci)"),
        (
            {"stateinfo": "ROLLBACK: 606eb57", "until": None},
            "ROLLBACK: 606eb57; disk swap (by token:ci)",
        ),
        (
            {"stateinfo": "ROLLBACK: 606eb57", "until": None, "reason": None, "by": "root (uid 0)"},
            "ROLLBACK: 606eb57; by root (uid 0)",
        ),
        (
            {"stateinfo": "frozen by token:ci until 2026-03-01T11:00Z: disk swap"},
            "frozen by token:ci until 2026-03-01T11:00Z: disk swap",
        ),
        (
            {"stateinfo": "drift: web/conf edited; frozen by token:ci until 2026-03-01T11:00Z: disk swap"},
            "drift: web/conf edited; frozen by token:ci until 2026-03-01T11:00Z: disk swap",
        ),
        (
            {"stateinfo": "frozen before its first deploy: nothing is published", "until": None},
            "frozen before its first deploy: nothing is published; disk swap (by token:ci)",
        ),
    ],
)
def test_why_and_until_when_is_in_the_info_of_the_list_once(
    daemon: Daemons, member: dict[str, Any], info: str
) -> None:
    web = daemon({"/list/services": (200, {"services": [{**FROZEN, **member}]})})
    done = ctl("list", "services", web.at)
    assert f"FREEZE  {info}  Fri, 18" in done.stdout


def test_one_service_shows_every_member(daemon: Daemons) -> None:
    web = daemon({"/list/service/grafana-server": (200, FROZEN)})
    lines = ctl("list", "service", web.at, "grafana-server").stdout.splitlines()
    assert [line.split(maxsplit=1) for line in lines if line[:5] in {"reaso", "until", "by   "}] == [
        ["reason", "disk swap"],
        ["until", "2026-03-01T11:00:00Z"],
        ["by", "token:ci"],
    ]


def test_services_are_completed_for_the_audit_too(daemon: Daemons, tmp_path: Path) -> None:
    web = daemon()
    done = ctl(
        COMP_WORDS=f"gitopperctl audit {web.at} --service gra",
        COMP_CWORD="4",
        _GITOPPERCTL_COMPLETE="zsh_complete",
    )
    assert "grafana-server" in done.stdout
