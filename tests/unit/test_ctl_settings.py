"""What ctl.toml may say, and what is said of the mistakes in it."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gitopperd.ctl.commands import cli
from gitopperd.ctl.config import find, load
from gitopperd.ctl.errors import SettingsError
from gitopperd.ctl.hosts import parse_host
from gitopperd.ctl.options import timeout_of
from gitopperd.ctl.settings import Settings, Token, seconds
from tests.support.ctlsettings import SECRET, asked, no_settings, targets, written

__all__ = ["asked", "no_settings"]  # fixtures

WHOLE = """
[defaults]
port = 8443
timeout = "2m"
tls = true
ca = "/etc/ca.pem"
token_file = "/etc/token"

[hosts.web1]
port = 1

[hosts."web*"]
port = 2
socket = "/run/web.sock"

[hosts."*.example.net"]
certificate = "/c.pem"
key = "/k.pem"

[hosts."db*.example.net"]
certificate = "/db.pem"
tls = false

[groups]
web = ["web1", "@web2:9", "@@more", "web1"]
more = ["ssh://ops@db1.example.net", "unix:/run/x.sock", "localhost"]
"""


def test_a_host_gets_the_defaults_then_globs_in_their_order_then_its_own_table(tmp_path: Path) -> None:
    config = load(written(tmp_path / "c", WHOLE))
    assert config.timeout_seconds == 120

    def of(text: str) -> Settings:
        return config.settings(parse_host(text))

    assert (of("@x").port, of("@x").tls, of("@x").ca) == (8443, True, "/etc/ca.pem")
    assert of("@x").token == Token(file="/etc/token", origin="/etc/token")
    assert (of("@WEB1").port, of("@web1:77").port, of("@web10").port) == (1, 1, 2)
    assert of("@web1").socket == of("@ssh://web1").socket == "/run/web.sock"
    assert (of("@a.example.net").certificate, of("@a.example.net").key) == ("/c.pem", "/k.pem")
    # A certificate does not keep the key of another.
    assert (of("@db1.example.net").certificate, of("@db1.example.net").key) == ("/db.pem", None)
    assert of("@unix:/web1").port == 8443


def test_groups_hold_hosts_and_groups_each_host_once(tmp_path: Path) -> None:
    config = load(written(tmp_path / "c", WHOLE))
    more = ["ssh://ops@db1.example.net", "unix:/run/x.sock", "localhost"]
    assert [host.label for host in config.group("web")] == ["web1", "web2:9", *more]
    assert [host.label for host in config.group("more")] == more
    with pytest.raises(SettingsError, match="there is no group 'wbe'; did you mean web"):
        config.group("wbe")


def test_groups_and_hosts_on_the_line_are_asked_once_each(
    asked: list[click.Context], tmp_path: Path
) -> None:
    path = written(tmp_path / "c", WHOLE)
    found = targets(asked, f"@web1 @@more @@web --config {path}")
    labels = [target.host.label for target in found]
    assert labels == ["web1", "ssh://ops@db1.example.net", "unix:/run/x.sock", "localhost", "web2:9"]
    assert timeout_of(asked[-1]) == 120


WRONG = """
timeout = 3
[defaults]
prot = 1
port = "8443"
tls = "yes"
ca = "ca.pem"
timeout = "soon"
key = "/k"
[default]
[hosts]
web2 = 3
[hosts.web1]
timeout = 3
token = 3
[hosts.web3.example.net]
ca = "/x"
[hosts."web1:80"]
[hosts."a b"]
[hosts.both]
token = "s3cret-t0ken"
token_file = "/t"
[groups]
empty = []
a = ["@@b"]
b = ["@@c"]
c = ["@@a", "web 1", "@@d"]
self = ["@@self"]
"x y" = ["web1"]
"""


DOTS = 'a name with dots stands in quotes, as [hosts."web1.example.net"]'


def test_all_mistakes_are_reported_at_once_each_with_its_remedy(tmp_path: Path) -> None:
    path = written(tmp_path / "ctl.toml", WRONG)
    with pytest.raises(SettingsError) as caught:
        load(path)
    problems = [problem.removeprefix(f"{path}: ") for problem in caught.value.problems]
    assert sorted(problems) == sorted(
        [
            "timeout: unknown table; there is defaults, hosts, groups",
            "default: unknown table; did you mean defaults?",
            "defaults.prot: unknown key; did you mean port?",
            "defaults.port: '8443' is not a port; write a number from 1 to 65535, without quotes",
            "defaults.tls: 'yes' is neither true nor false; write one of them, without quotes",
            "defaults.ca: 'ca.pem' is not a path; write an absolute one, or one that begins with \"~/\"",
            'defaults.timeout: \'soon\' is not a time; write "10s" or "2m"',
            "defaults.key: a key belongs to a certificate; write certificate, too",
            "hosts.web2: this is not a table; write [hosts.web2]",
            "hosts.web1.timeout: it holds for all hosts together; write it in [defaults]",
            'hosts.web1.token: this is not a token; write token = "…", or token_file = "~/…"',
            f"hosts.web3.example: unknown key; {DOTS}",
            'hosts."web1:80": a table is for a name, without a port; write port = … in it',
            'hosts."a b": not a name or glob; write one such as [hosts."*.example.net"]',
            "hosts.both.token: there is a token_file, too; keep one of them",
            'groups.empty: this is not a list of hosts; write ["web1", "web2:8443"]',
            "groups.c: 'web 1' is not a host name; write one such as @web1 or @web1.example.net:8000",
            "groups.c: there is no group 'd'; there is empty, a, b, c, self, x y",
            "groups.a: it is in itself: a → b → c → a",
            "groups.b: it is in itself: b → c → a → b",
            "groups.c: it is in itself: c → a → b → c",
            "groups.self: it is in itself: self → self",
            'groups."x y": not the name of a group; write letters, digits, - and _',
        ]
    )
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o610])
def test_a_file_with_a_token_is_refused_when_others_may_use_it(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path / "c", f'[hosts.web1]\ntoken = "{SECRET}"\n', mode)
    with pytest.raises(SettingsError, match=f"others may read it; chmod 600 {path}"):
        load(path)
    (tmp_path / "c").chmod(0o600)
    token = load(path).settings(parse_host("@web1")).token
    assert token is not None
    assert (token.text, token.origin) == (SECRET, path)
    assert SECRET not in repr(load(path))


def test_a_file_without_a_token_may_be_everybody_s(tmp_path: Path) -> None:
    assert load(written(tmp_path / "c", WHOLE, 0o644)).defaults.port == 8443


def test_what_is_not_toml_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"this is not TOML: .*line 2"):
        load(written(tmp_path / "c", "[defaults]\nport = = 1\n"))
    (tmp_path / "c").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="this is not TOML"):
        load(str(tmp_path / "c"))


def test_the_first_file_that_is_there_is_read(tmp_path: Path) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "xdg"), "GITOPPERCTL_CONFIG": ""}
    assert find(None, environ) is None
    system = written(tmp_path / "etc.toml", "")
    assert find(None, environ) == system
    own = written(tmp_path / "xdg/gitopper/ctl.toml", "")
    assert find(None, environ) == own
    assert find(None, {**environ, "GITOPPERCTL_CONFIG": "/e"}) == "/e"
    assert find("/f", {**environ, "GITOPPERCTL_CONFIG": "/e"}) == "/f"


def test_a_file_that_was_named_must_be_there() -> None:
    result = CliRunner().invoke(cli, ["list", "services", "@h", "--config", "/no/such.toml"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "gitopperctl: /no/such.toml: can't be read: No such file or directory\n"


@pytest.mark.parametrize(
    ("value", "is_"),
    [(10, 10), (0.5, 0.5), ("10", 10), ("10s", 10), ("500ms", 0.5), ("2m", 120), ("1.5h", 5400)],
)
def test_times(value: object, is_: float) -> None:
    assert seconds(value) == is_


@pytest.mark.parametrize(
    "value", [True, 0, -1, "0s", "soon", "nan", "inf", "1d", "25h", "", None, [], "٣s", "1e3"]
)
def test_what_is_no_time(value: object) -> None:
    with pytest.raises(ValueError):
        seconds(value)
