"""The number of a process that was started is its own until its group has had the last signal."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from libgitopper import ended, run, spawn

PATIENCE_SECONDS = 20.0


def state(pid: int) -> str:
    """The letter that the kernel has for it; empty when there is none of that number."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


@pytest.fixture
def signalled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """Groups that got a signal, and the state of their leader then."""
    signalled = []
    killpg = os.killpg

    def note(group: int, number: int) -> None:
        signalled.append((group, state(group)))
        killpg(group, number)

    monkeypatch.setattr(os, "killpg", note)
    return signalled


def test_to_look_whether_it_ended_does_not_give_up_its_number() -> None:
    with spawn(["true"]) as process:
        assert ended(process, PATIENCE_SECONDS)
        assert ended(process)
        assert state(process.pid) == "Z"
    assert state(process.pid) == ""
    assert process.returncode == 0
    assert ended(process)


def test_what_runs_has_not_ended_however_it_is_asked() -> None:
    with spawn(["sleep", "60"]) as process:
        assert not ended(process)
        assert not ended(process, 0.01)


def test_every_group_is_signalled_while_its_leader_still_has_the_number(
    signalled: list[tuple[int, str]],
) -> None:
    run(["true"], timeout_seconds=PATIENCE_SECONDS)
    with spawn(["true"]) as process:
        assert ended(process, PATIENCE_SECONDS)
    with spawn(["sleep", "60"]):
        pass
    states = [state for _, state in signalled]
    assert [states[0], states[1], states[-1]] == ["Z", "Z", "Z"]
    assert len(states) == 4
    assert "" not in states


def test_what_is_left_of_a_group_goes_with_a_leader_that_was_found_ended(tmp_path: Path) -> None:
    with spawn(["sh", "-c", 'sleep 60 & echo $! >"$0"', str(tmp_path / "pid")]) as process:
        assert ended(process, PATIENCE_SECONDS)
        left = int((tmp_path / "pid").read_text())
        assert state(left) in {"S", "R", "D"}
    until = time.monotonic() + PATIENCE_SECONDS
    while state(left) not in {"", "Z"} and time.monotonic() < until:
        time.sleep(0.01)
    assert state(left) in {"", "Z"}


def test_a_number_that_was_given_up_gets_no_signal(signalled: list[tuple[int, str]]) -> None:
    with spawn(["true"]) as process:
        process.wait(PATIENCE_SECONDS)
    assert signalled == []


@pytest.fixture
def _reaped_by_the_kernel() -> Iterator[None]:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGCHLD, before)


@pytest.mark.usefixtures("_reaped_by_the_kernel")
def test_where_the_kernel_reaps_there_is_no_signal_for_who_is_gone(
    signalled: list[tuple[int, str]],
) -> None:
    assert run(["echo", "said"], timeout_seconds=PATIENCE_SECONDS).output == "said\n"
    with spawn(["true"]) as process:
        assert ended(process, PATIENCE_SECONDS)
    assert signalled == []
