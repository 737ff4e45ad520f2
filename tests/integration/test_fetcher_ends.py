"""The process that fetches, killed, stopped or hanging: the next fetch is well, and nothing is left."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gitopper_plugins.dulwich import fetcher
from gitopper_plugins.dulwich.channel import Deadline
from libgitopper import SourceError
from tests.support.fetching import Client, children_that_fetch, client, until
from tests.support.gitserver import HttpServer
from tests.support.upstream import Upstream

__all__ = ["client"]  # fixtures

pytestmark = pytest.mark.root


def ended(pid: int) -> bool:
    """Tell whether all its threads have ended, and only its parent has yet to hear of it."""
    return (
        len(list(Path(f"/proc/{pid}/task").iterdir())) == 1
        and ") Z" in Path(f"/proc/{pid}/stat").read_text()
    )


def test_killed_between_two_polls_another_one_takes_over(client: Client, server: HttpServer) -> None:
    client.fetch(server.url())
    (before,) = client.pids()
    os.kill(before, signal.SIGKILL)
    until(lambda: ended(before))
    assert not client.fetch(server.url()).moved
    (after,) = client.pids()
    assert after != before


def test_killed_it_keeps_its_number_until_another_one_takes_over() -> None:
    with contextlib.closing(fetcher.Fetcher("nobody")) as fetches:
        with fetches.conversation(Deadline.after(30)):
            killed = fetches.pid
            assert killed is not None
            os.kill(killed, signal.SIGKILL)
            until(lambda: ended(killed))
        assert ended(killed), "a stranger who gets its number would be killed next"
        with fetches.conversation(Deadline.after(30)):
            assert fetches.pid not in {None, killed}
        assert not Path(f"/proc/{killed}").exists()


def test_killed_in_a_fetch_that_is_told_and_the_next_one_is_well(
    client: Client, upstream: Upstream, server: HttpServer
) -> None:
    client.fetch(server.url())
    (before,) = client.pids()
    upstream.commit({"web/index": "2"})
    server.drip = True
    child = subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -9 {before}"])
    with pytest.raises(SourceError, match=r"the process that fetches as nobody failed.*starts another one"):
        client.fetch(server.url())
    child.wait()
    server.drip = False
    store = client.fetch(server.url())
    assert client.read(server.url(), store) == "2"
    assert not list(store.path.glob("scratch-*"))


def test_stopped_one_is_ended_when_the_time_is_over(
    client: Client, server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetcher, "GRACE_SECONDS", 0.5)
    client.fetch(server.url())
    (before,) = client.pids()
    os.kill(before, signal.SIGSTOP)
    with pytest.raises(SourceError, match="within 1 s"):
        client.fetch(server.url(), seconds=1)
    assert not client.fetch(server.url()).moved
    assert client.pids() != [before]


def test_one_that_hangs_holds_up_no_other(
    client: Client, upstream: Upstream, server: HttpServer, tmp_path: Path
) -> None:
    client.fetch(server.url())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x.git"
        with pytest.raises(SourceError, match="within 1 s"):
            client.fetch(url, seconds=1)
    started = time.monotonic()
    assert not client.fetch(server.url()).moved
    assert time.monotonic() - started < 1
    assert len(client.pids()) == 1


def test_daemon_killed_with_sigkill_takes_it_along(
    upstream: Upstream, server: HttpServer, tmp_path: Path
) -> None:
    program = (
        "import sys, time; from pathlib import Path\n"
        "from gitopper_plugins.dulwich import DulwichPlugin\n"
        "from libgitopper import Credentials, FetchRequest\n"
        "plugin = DulwichPlugin()\n"
        "plugin.gitopper_fetch(FetchRequest(upstream=sys.argv[1], credentials=Credentials(),"
        " branches=frozenset({'main'}), stores=Path(sys.argv[2]), fetch_user='nobody'))\n"
        "print('fetched', flush=True); time.sleep(60)"
    )
    argv = [sys.executable, "-c", program, server.url(), str(tmp_path / "stores")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == b"fetched\n"
        (pid,) = children_that_fetch(daemon.pid)
        daemon.kill()
        daemon.wait()
    until(lambda: not Path(f"/proc/{pid}").exists())
