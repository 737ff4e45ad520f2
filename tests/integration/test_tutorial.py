"""The tutorial is followed word for word."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import wait_until

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
BIN = Path(sys.executable).parent


class Reader:
    """Somebody who types what the tutorial says, below a home of their own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.base = home / "gitopper-tutorial"
        text = TUTORIAL.read_text().replace("/home/you", str(home))
        self.config = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)[0]
        followed = text.split("## The end")[0]
        blocks = re.findall(
            r"(?:^    .*\n)+", re.sub(r"```.*?```", "", followed, flags=re.DOTALL), re.MULTILINE
        )
        self.blocks = [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in blocks]
        self.environment = {
            "HOME": str(home), "PATH": f"{BIN}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8",
            "GIT_AUTHOR_NAME": "You", "GIT_AUTHOR_EMAIL": "you@localhost",
            "GIT_COMMITTER_NAME": "You", "GIT_COMMITTER_EMAIL": "you@localhost",
        }  # fmt: skip

    def type(self, block: str) -> str:
        """Run one block of commands where the last one left off; return what they printed."""
        cwd = self.base if self.base.exists() else self.home
        done = subprocess.run(
            ["bash", "-e"], input=block, capture_output=True, text=True, cwd=cwd, env=self.environment,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, (block, done.stdout, done.stderr)
        return done.stdout

    @contextlib.contextmanager
    def daemon(self, command: str) -> Iterator[None]:
        """Leave the daemon running, as in a terminal of its own."""
        with (self.home / "daemon.log").open("w") as log:
            running = subprocess.Popen(
                ["bash", "-c", f"exec {command}"], cwd=self.base, env=self.environment, stderr=log
            )
            try:
                yield
            finally:
                running.terminate()
                assert running.wait(15) == 0

    def message(self) -> str:
        path = self.base / "etc/motd/message"
        return path.read_text().strip() if path.exists() else ""

    def reloads(self) -> int:
        path = self.base / "log"
        return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.fixture
def home() -> Iterator[Path]:
    """A home with a short name, as people have them: a socket's path has no room for a long one."""
    with tempfile.TemporaryDirectory(prefix="you-", dir="/tmp") as path:
        yield Path(path)


def test_the_tutorial_works_as_it_is_written(home: Path) -> None:
    reader = Reader(home)
    repository, start, look, change, elsewhere, freeze, back, forth, past, inside = reader.blocks
    reader.type(repository)
    (reader.base / "gitopper.toml").write_text(reader.config)
    check, daemon = start.strip().splitlines()
    assert "services of this host: motd" in reader.type(check)
    with reader.daemon(daemon):
        wait_until(lambda: reader.message() == "Good morning" and reader.reloads() == 1, "no first deploy")
        assert "motd" in reader.type(look)
        reader.type(change)
        wait_until(lambda: reader.message() == "Good evening" and reader.reloads() == 2, "no change")
        reader.type(elsewhere)
        tip = reader.type("git -C work rev-parse HEAD").strip()
        wait_until(lambda: tip in reader.type(look), lambda: reader.type(look))
        assert reader.reloads() == 2
        reader.type(freeze)
        assert "FREEZE" in reader.type(look)
        reader.type(back)
        wait_until(lambda: reader.message() == "Good morning", "no rollback")
        wait_until(lambda: "ROLLBACK: " in reader.type(look), lambda: reader.type(look))
        reader.type(forth)
        wait_until(lambda: reader.message() == "Good evening", "did not follow again")
        assert "rollback by" in reader.type(past)
        assert "working tree clean" in reader.type(inside)
