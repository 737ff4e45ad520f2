"""Settings of gitopperctl that a test writes, and none but those."""

from __future__ import annotations

import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gitopperd.ctl import commands
from gitopperd.ctl.commands import cli
from gitopperd.ctl.options import targets_of
from gitopperd.ctl.places import Target

__all__ = ["SECRET", "asked", "no_settings", "targets", "written"]

SECRET = "s3cret-t0ken"


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the person who runs the tests has set up for himself must not matter."""
    for name in ("CONFIG", "TIMEOUT", "TLS", "CA", "TOKEN", "TOKEN_FILE", "CERT", "KEY", "SOCKET"):
        monkeypatch.delenv(f"GITOPPERCTL_{name}", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr("gitopperd.ctl.config.SYSTEM_FILE", str(tmp_path / "etc.toml"))


def written(path: Path, text: str, mode: int = 0o600) -> str:
    """Write a file; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return str(path)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[click.Context]:
    """The commands that would have been carried out."""
    contexts: list[click.Context] = []

    def note(ctx: click.Context, *_: object) -> int:
        contexts.append(ctx)
        return 0

    monkeypatch.setattr(commands, "carry_out", note)
    return contexts


def targets(asked: list[click.Context], line: str) -> tuple[Target, ...]:
    """Which hosts `line` asks, and how."""
    result = CliRunner().invoke(cli, shlex.split(f"list services {line}"), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return targets_of(asked[-1])
