"""What systemd's notification protocol asks of a daemon; a socket of the test stands in for the manager."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitopperd.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5)
        yield listener


def test_readiness_is_told_where_the_manager_listens(manager: socket.socket) -> None:
    Notifier({"NOTIFY_SOCKET": manager.getsockname()}).send("READY=1", "STATUS=3 services")
    assert manager.recv(100) == b"READY=1\nSTATUS=3 services"


def test_without_a_manager_and_with_a_deaf_one_nothing_fails(tmp_path: Path) -> None:
    Notifier({}).send("READY=1")
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).send("READY=1")


def test_programs_that_the_daemon_runs_do_not_inherit_the_managers_variables(
    manager: socket.socket,
) -> None:
    environ = {
        "NOTIFY_SOCKET": manager.getsockname(),
        "WATCHDOG_USEC": "1000000",
        "WATCHDOG_PID": str(os.getpid()),
        "PATH": "/bin",
    }
    Notifier(environ)
    assert environ == {"PATH": "/bin"}


@pytest.mark.parametrize("pid", [None, os.getpid()], ids=["for anybody", "for us"])
def test_the_watchdog_is_fed_twice_in_each_period(manager: socket.socket, pid: int | None) -> None:
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "100000"}
    if pid is not None:
        environ["WATCHDOG_PID"] = str(pid)

    async def feed() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(Notifier(environ).watchdog(), 0.175)

    asyncio.run(feed())
    manager.setblocking(False)
    assert [manager.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3


@pytest.mark.parametrize(
    "environ", [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"}]
)
def test_nobody_is_fed_who_did_not_ask(manager: socket.socket, environ: dict[str, str]) -> None:
    asyncio.run(Notifier({"NOTIFY_SOCKET": manager.getsockname(), **environ}).watchdog())
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(100)
