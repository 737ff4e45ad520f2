"""What the environment and flags say, and which of them and the file wins."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from gitopperd.ctl.errors import SettingsError
from gitopperd.ctl.options import timeout_of
from gitopperd.ctl.settings import Settings, Token, from_environ
from tests.support.ctlsettings import SECRET, asked, no_settings, targets, written

__all__ = ["asked", "no_settings"]  # fixtures


def test_flags_win_over_the_environment_and_that_over_the_file(
    asked: list[click.Context], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(
        tmp_path / "c",
        '[defaults]\nca = "/file"\ntls = true\ntimeout = 1\nsocket = "/file"\ntoken_file = "/file"\n'
        'certificate = "/file"\nkey = "/file"\n',
    )
    monkeypatch.setenv("GITOPPERCTL_CONFIG", path)
    [target] = targets(asked, "@h")
    assert target.settings.tls is True
    assert (target.settings.ca, timeout_of(asked[-1])) == ("/file", 1)

    for name in ("CA", "SOCKET", "TOKEN_FILE", "CERT"):
        monkeypatch.setenv(f"GITOPPERCTL_{name}", "/environ")
    monkeypatch.setenv("GITOPPERCTL_TLS", "false")
    monkeypatch.setenv("GITOPPERCTL_TIMEOUT", "2s")
    [target] = targets(asked, "@h")
    assert target.settings == Settings(
        tls=False,
        ca="/environ",
        token=Token(file="/environ", origin="/environ"),
        certificate="/environ",
        socket="/environ",
    )
    assert timeout_of(asked[-1]) == 2

    flags = "--tls --ca /flag --token-file /flag --cert /flag --key /flag2 --socket /flag --timeout 3"
    [target] = targets(asked, f"@h {flags}")
    assert target.settings == Settings(
        tls=True,
        ca="/flag",
        token=Token(file="/flag", origin="/flag"),
        certificate="/flag",
        key="/flag2",
        socket="/flag",
    )
    assert timeout_of(asked[-1]) == 3


def test_what_is_wrong_in_the_environment_is_told_by_its_name() -> None:
    with pytest.raises(SettingsError) as caught:
        from_environ(
            {
                "GITOPPERCTL_TLS": "1",
                "GITOPPERCTL_CA": "ca.pem",
                "GITOPPERCTL_TOKEN": SECRET,
                "GITOPPERCTL_TOKEN_FILE": "/t",
                "GITOPPERCTL_KEY": "/k",
            }
        )
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "$GITOPPERCTL_TLS",
        "$GITOPPERCTL_CA",
        "$GITOPPERCTL_TOKEN",
        "$GITOPPERCTL_KEY",
    ]
    assert SECRET not in str(caught.value)
    assert from_environ({"GITOPPERCTL_CA": "", "GITOPPERCTL_TOKEN": ""}) == Settings()


def test_wrong_settings_end_with_2_and_all_that_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from gitopperd.ctl.main import main

    path = written(tmp_path / "c", "[defaults]\nprot = 1\nsl = true\n")
    for machine_readable in ([], ["-m"]):
        argv = ["gitopperctl", *machine_readable, "list", "services", "@h", "--config", path]
        monkeypatch.setattr("sys.argv", argv)
        assert main() == 2
    out, err = capsys.readouterr()
    lines = [f"{path}: defaults.{key}: unknown key" for key in ("prot", "sl")]
    assert [line.partition(";")[0] for line in err.splitlines()] == [
        f"gitopperctl: {line}" for line in lines
    ]
    error = json.loads(out)["error"]
    assert error["code"] == "settings"
    assert [problem.partition(";")[0] for problem in error["problems"]] == lines
