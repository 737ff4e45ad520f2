"""The health plugin: commands, units, several probes at once, and what is watched until it is ready."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from attrs import evolve

from gitopper_plugins import health
from libgitopper import Accepted, Health, HealthError, HealthWatch, Hooks
from libgitopper.testing.reload import service_for_tests
from tests.support.probing import (
    TEXT,
    Serve,
    answering,
    probe,
    request,
    serve,
    silent,
    trouble,
    unused_port,
)

__all__ = ["serve"]  # fixtures


def python(code: str, *more: str) -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", code, *more)


def test_a_command_that_ends_with_0_is_healthy(tmp_path: Path) -> None:
    out = tmp_path / "environment"
    code = "import json, os, sys; json.dump(dict(os.environ), open(sys.argv[1], 'w'))"
    asked = request(Health(command=python(code, str(out))))
    os.environ["NOTIFY_SOCKET"] = "/run/systemd/notify"
    try:
        assert health.gitopper_health(asked) == Accepted(judged=("health",))
    finally:
        del os.environ["NOTIFY_SOCKET"]
    seen = json.loads(out.read_text())
    assert seen["GITOPPER_SERVICE"] == "web"
    assert seen["GITOPPER_REVISION"] == asked.release.content.revision
    assert seen["GITOPPER_RELEASE"] == str(asked.release.path)
    assert seen["PATH"] == os.environ["PATH"]
    assert not {"NOTIFY_SOCKET", "GITOPPER_FIRST"} & seen.keys()


def test_a_command_that_fails_gives_its_code_and_its_last_words() -> None:
    text = trouble(command=("sh", "-c", "echo checking; printf 'queue \\033[1mfull\\n\\n' >&2; exit 3"))
    assert text.endswith("exit code 3: queue [1mfull")


def test_a_command_that_hangs_is_ended_and_its_last_words_are_told(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = f"echo $$ > {pid}; echo waiting for the lock; exec sleep 60"
    started = time.monotonic()
    text = trouble(0.5, command=("sh", "-c", script))
    assert time.monotonic() - started < 4
    assert "not done after 0.5 s" in text
    assert "said last: waiting for the lock" in text
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_a_command_that_is_not_there_is_named() -> None:
    assert "/no/such/probe: can't be started: No such file" in trouble(command=("/no/such/probe",))


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo System has not been booted; exit 1", "System has not been booted"),
        ("exec sleep 60", "not done after 0.3 s, ended"),
        (None, "can't be started: No such file or directory"),
    ],
)
def test_a_systemd_that_does_not_tell_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, told: str
) -> None:
    if script:
        (tmp_path / "systemctl").write_text(f"#!/bin/sh\nPATH=/bin:/usr/bin\n{script}\n")
        (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert trouble(0.3, unit=True) == f"unit web.service: systemctl show: {told}"


def test_a_service_that_can_be_no_unit_is_told() -> None:
    service = service_for_tests("a b", health=Health(unit=True))
    asked = evolve(request(None), service=service)
    with pytest.raises(HealthError, match="'a b' can't be the name of a unit"):
        health.gitopper_health(asked)


def test_everything_must_hold_at_once_and_what_does_not_is_told(serve: Serve) -> None:
    good = serve(answering("200 OK"))
    port = unused_port()
    url, where = f"http://127.0.0.1:{good.port}/", f"127.0.0.1:{good.port}"
    assert probe(http=url, tcp=where, command=("true",)) == Accepted(judged=("health",))
    assert trouble(http=url, tcp=where, command=("false",)) == "false: exit code 1"
    assert trouble(http=f"http://127.0.0.1:{port}/", tcp=f"127.0.0.1:{port}", command=("false",)) == (
        f"tcp 127.0.0.1:{port}: Connection refused; http://127.0.0.1:{port}/: Connection refused;"
        " false: exit code 1"
    )


def test_one_that_hangs_does_not_give_the_others_more_time(serve: Serve) -> None:
    server = serve(silent)
    started = time.monotonic()
    text = trouble(0.4, http=f"http://127.0.0.1:{server.port}/", command=("sleep", "60"))
    assert time.monotonic() - started < 4
    assert "no answer within 0.4s; sleep 60: not done" in text


def test_a_service_without_health_is_not_watched_and_costs_nothing() -> None:
    assert health.gitopper_health(request(None)) is None
    code = (
        "import sys, gitopper_plugins.health as health; before = set(sys.modules);"
        "from libgitopper import load_plugins; hooks = load_plugins();"
        "print(sorted({'gitopper_plugins._http', 'gitopper_plugins.window'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['gitopper_plugins.window']"


def test_it_is_watched_until_the_server_is_ready(serve: Serve) -> None:
    answers = iter(["503 Not Yet", "503 Not Yet"])

    def handle(connection: socket.socket) -> None:
        answering(next(answers, "200 OK"), b"loading", TEXT)(connection)

    hooks = Hooks()
    hooks.register(health)
    wanted = Health(
        http=f"http://127.0.0.1:{serve(handle).port}/", within_seconds=20, interval_seconds=0.05
    )
    asked = request(wanted)
    watch = HealthWatch(hooks=hooks)
    judged = watch.run(
        asked.service, asked.release, since=asked.since, since_monotonic=asked.since_monotonic,
        still=lambda: True,
    )  # fmt: skip
    assert judged == (Accepted(judged=("health",)),)


def test_a_server_that_never_gets_ready_is_given_up_in_time(serve: Serve) -> None:
    hooks = Hooks()
    hooks.register(health)
    url = f"http://127.0.0.1:{serve(answering('503 Service Unavailable')).port}/-/ready"
    asked = request(Health(http=url, within_seconds=0.5, interval_seconds=0.1))
    started = time.monotonic()
    with pytest.raises(HealthError) as caught:
        HealthWatch(hooks=hooks).run(
            asked.service, asked.release, since=asked.since, since_monotonic=asked.since_monotonic,
            still=lambda: True,
        )  # fmt: skip
    assert time.monotonic() - started < 2
    assert str(caught.value) == f"not healthy within 0.5s: {url} answers 503"
