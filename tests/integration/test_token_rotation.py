"""Tokens are rotated while they are used, and nobody notices."""

from __future__ import annotations

import concurrent.futures
import http.client
import subprocess
import threading
import time

from tests.support.daemon import BIN, Daemon
from tests.support.site import Site

CLIENTS = 4
ROTATIONS = 8


class Rotating:
    """The token that clients are to use now."""

    def __init__(self, site: Site) -> None:
        self._file = site.home / "tokens.toml"
        self.now = self.create("number0")
        self.done = threading.Event()

    def run(self, *arguments: str) -> str:
        command = [str(BIN / "gitopperctl"), "token", *arguments, "--file", str(self._file)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def create(self, name: str) -> str:
        return self.run("create", name, "--role", "operate")

    def rotate(self, number: int) -> None:
        """Make the next one, let the clients go over, and revoke the last."""
        self.now = self.create(f"number{number}")
        time.sleep(0.1)
        self.run("revoke", f"number{number - 1}")


def ask(daemon: Daemon, token: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=10)
    try:
        connection.request("POST", "/state/unfreeze/web", headers={"Authorization": f"Bearer {token}"})
        return connection.getresponse().status
    finally:
        connection.close()


def test_tokens_change_under_load_without_one_failed_request(site: Site) -> None:
    site.commit()
    site.configure("web", interval="1h")
    with site.daemon.config.open("a") as config:
        config.write(f'[auth.token]\nfile = "{site.home}/tokens.toml"\n')
    tokens = Rotating(site)

    def client() -> list[int]:
        answers = []
        while not tokens.done.is_set():
            answers.append(ask(site.daemon, tokens.now))
            time.sleep(0.01)
        return answers

    with site.daemon as daemon, concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        daemon.wait_for("web", "OK")
        first = tokens.now
        clients = [pool.submit(client) for _ in range(CLIENTS)]
        try:
            for number in range(1, ROTATIONS + 1):
                tokens.rotate(number)
        finally:
            tokens.done.set()
        answers = [status for done in clients for status in done.result()]
        assert len(answers) > CLIENTS * ROTATIONS
        assert set(answers) == {200}
        assert ask(daemon, first) == 401
        assert ask(daemon, tokens.now) == 200
