"""gitopperctl shows patches: byte by byte in a pipe, harmless on a terminal."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.support.simulateddaemon import HASH, ROOT, Daemons, ctl, daemon
from tests.support.terminal import on_a_terminal

__all__ = ["daemon"]  # fixtures

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
