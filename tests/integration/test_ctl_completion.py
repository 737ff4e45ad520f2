"""gitopperctl completes what is typed in bash, zsh and fish."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.simulateddaemon import GRAFANA, ROOT, Daemons, ctl, daemon, nobody

__all__ = ["daemon", "nobody"]  # fixtures

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
