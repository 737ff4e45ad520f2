"""What gitopperctl costs: what it imports, and how long it takes."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

from tests.support.simulateddaemon import GRAFANA, ROOT, Daemons, daemon

__all__ = ["daemon"]  # fixtures

TIMES_ITS_IMPORTS = 2
"""So much more may `list services` take than Python with the libraries that it uses."""

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
    assert {name for name in ours if not name.startswith("gitopperd.ctl")} == {
        "gitopperd",
        "gitopperd.openfiles",
    }


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
