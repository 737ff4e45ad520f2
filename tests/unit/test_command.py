"""The command plugin, with real programs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from gitopper_plugins import command
from libgitopper import ReloadError, Service
from libgitopper.testing.reload import request_for, service_for_tests


def service(*argv: str, timeout_seconds: float = 20.0) -> Service:
    return service_for_tests("app", reload="command", command=argv, timeout_seconds=timeout_seconds)


def python(code: str, *args: str) -> Service:
    return service(sys.executable, "-c", code, *args)


@pytest.mark.parametrize("first", [True, False])
def test_the_command_is_told_what_it_runs_for(tmp_path: Path, first: bool) -> None:
    out = tmp_path / "environment"
    code = "import json, os, sys; json.dump(dict(os.environ), open(sys.argv[1], 'w'))"
    request = request_for(python(code, str(out)), first=first)
    command.gitopper_reload(request)
    seen = json.loads(out.read_text())
    assert seen["GITOPPER_SERVICE"] == "app"
    assert seen["GITOPPER_REVISION"] == request.release.content.revision
    assert seen["GITOPPER_RELEASE"] == str(request.release.path)
    assert seen["GITOPPER_FIRST"] == ("1" if first else "0")
    assert seen["PATH"]


def test_the_command_can_not_speak_to_systemd_in_the_daemons_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    monkeypatch.setenv("WATCHDOG_USEC", "1000")
    monkeypatch.setenv("TZ", "UTC")
    out = tmp_path / "environment"
    code = "import json, os, sys; json.dump(dict(os.environ), open(sys.argv[1], 'w'))"
    command.gitopper_reload(request_for(python(code, str(out))))
    seen = json.loads(out.read_text())
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC"} & seen.keys()
    assert seen["TZ"] == "UTC"


def test_no_shell_reads_the_command(tmp_path: Path) -> None:
    reloaded = command.gitopper_reload(request_for(service("touch", f"{tmp_path}/$HOME;x")))
    assert reloaded is not None
    assert [path.name for path in tmp_path.iterdir()] == ["$HOME;x"]
    assert reloaded.did == f"touch '{tmp_path}/$HOME;x'"


def test_a_failure_has_the_code_and_the_last_line() -> None:
    with pytest.raises(ReloadError, match=r"exit code 3: bad port$") as caught:
        command.gitopper_reload(
            request_for(python("print('reading'); print('bad port'); raise SystemExit(3)"))
        )
    assert caught.value.retryable


def test_a_command_that_is_not_there_is_named() -> None:
    with pytest.raises(ReloadError, match=r"/no/such/program: can't be started: No such file") as caught:
        command.gitopper_reload(request_for(service("/no/such/program")))
    assert not caught.value.retryable


def test_a_deadline_has_the_last_line_too() -> None:
    code = "import time; print('waiting for the lock', flush=True); time.sleep(60)"
    slow = service(sys.executable, "-c", code, timeout_seconds=1.0)
    with pytest.raises(
        ReloadError, match=r"not done after 1 s.*it said last: waiting for the lock"
    ) as caught:
        command.gitopper_reload(request_for(slow))
    assert caught.value.retryable


def test_no_command_at_all_says_what_to_write() -> None:
    with pytest.raises(ReloadError, match=r"write command = \[") as caught:
        command.gitopper_reload(request_for(service()))
    assert not caught.value.retryable
