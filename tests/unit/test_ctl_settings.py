"""What ctl.toml, the environment and flags say, and which of them wins."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from gitopperd.ctl import commands
from gitopperd.ctl.commands import cli
from gitopperd.ctl.config import find, load
from gitopperd.ctl.errors import AskError, SettingsError
from gitopperd.ctl.hosts import parse_host
from gitopperd.ctl.options import targets_of, timeout_of
from gitopperd.ctl.places import Port, Target, Through, Tls
from gitopperd.ctl.private import check_private, read_token, token_in
from gitopperd.ctl.settings import Settings, Token, from_environ, seconds

SECRET = "s3cret-t0ken"


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the person who runs the tests has set up for himself must not matter."""
    for name in ("CONFIG", "TIMEOUT", "TLS", "CA", "TOKEN", "TOKEN_FILE", "CERT", "KEY", "SOCKET"):
        monkeypatch.delenv(f"GITOPPERCTL_{name}", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr("gitopperd.ctl.config.SYSTEM_FILE", str(tmp_path / "etc.toml"))


def written(path: Path, text: str, mode: int = 0o600) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return str(path)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[click.Context]:
    contexts: list[click.Context] = []
    monkeypatch.setattr(commands, "carry_out", lambda ctx, *_: contexts.append(ctx) or 0)
    return contexts


def targets(asked: list[click.Context], line: str) -> tuple[Target, ...]:
    result = CliRunner().invoke(cli, shlex.split(f"list services {line}"), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return targets_of(asked[-1])


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


def place(host: str, **settings: object) -> Port:
    [*_, found] = Target(host=parse_host(host), settings=Settings(**settings)).places  # type: ignore[arg-type]
    assert isinstance(found, Port)
    return found


TOKEN = Token(text=SECRET, origin="here")


@pytest.mark.parametrize(
    ("host", "settings", "secure"),
    [
        ("@web1", {}, False),
        ("@web1", {"ca": "/ca"}, True),
        ("@web1", {"token": TOKEN}, True),
        ("@web1", {"certificate": "/c"}, True),
        ("@web1", {"tls": True}, True),
        ("@web1", {"tls": False, "ca": "/ca"}, False),
        ("@https://web1", {"tls": False}, True),
        ("@http://web1", {"tls": True, "ca": "/ca"}, False),
        ("@localhost", {"ca": "/ca", "token": TOKEN}, False),
        ("@localhost", {"tls": True}, True),
        ("@127.0.0.2:8000", {"token": TOKEN}, False),
        ("@[::1]:8000", {"token": TOKEN}, False),
        ("@https://localhost", {}, True),
    ],
)
def test_when_tls_is_used(host: str, settings: dict[str, object], *, secure: bool) -> None:
    assert (place(host, **settings).tls is not None) is secure


@pytest.mark.parametrize(
    ("host", "settings"),
    [
        ("@http://web1", {}),
        ("@web1", {"tls": False}),
        ("@localhost.example.net", {"tls": False}),
        ("@http://128.0.0.1", {}),
    ],
)
def test_a_token_is_not_sent_over_plain_http(host: str, settings: dict[str, object]) -> None:
    with pytest.raises(AskError, match="the token of here is not sent over plain http") as caught:
        place(host, token=TOKEN, **settings)
    assert caught.value.code == "credentials"
    assert SECRET not in str(caught.value)


def test_a_place_has_what_the_settings_say() -> None:
    found = place("@web1", port=8443, ca="/ca", certificate="/c", key="/k", token=TOKEN)
    tls = Tls(ca="/ca", certificate="/c", key="/k")
    assert found == Port(name="web1", port=8443, known_as="web1", tls=tls, token=TOKEN)
    assert place("@web1:9", port=8443).port == 9
    assert place("@localhost", tls=True).known_as == "localhost"
    target = Target(host=parse_host("@ssh://web1"), settings=Settings(socket="/s", token=TOKEN, ca="/ca"))
    assert target.places == (Through(ssh=parse_host("@ssh://web1").address, socket="/s"),)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_tokens_and_keys_that_others_may_use_are_refused(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path / "t", SECRET, mode)
    for use in (read_token, check_private):
        with pytest.raises(AskError, match=f"others may read it; chmod 600 {path}"):
            use(path)


def test_a_token_is_the_first_line_of_its_file(tmp_path: Path) -> None:
    assert read_token(written(tmp_path / "t", f" {SECRET}\r\nmore\n", 0o400)) == SECRET


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no token in"),
        ("\n\n", "no token in"),
        ("two words", "is no token"),
        ("tökén", "is no token"),
        ("a\x1bb", "is no token"),
    ],
)
def test_what_can_not_be_a_token_is_refused_without_showing_it(
    tmp_path: Path, text: str, says: str
) -> None:
    path = written(tmp_path / "t", text)
    with pytest.raises(AskError, match=says) as caught:
        read_token(path)
    assert not text.strip() or text not in str(caught.value)
    with pytest.raises(AskError, match="can't read the token in /no/such: No such file"):
        read_token("/no/such")


@given(st.text())
def test_whatever_is_taken_for_a_token_fits_into_a_header(text: str) -> None:
    try:
        token = token_in(text, "x")
    except AskError:
        return
    assert token
    assert token.isascii()
    assert token.isprintable()
    assert " " not in token


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
