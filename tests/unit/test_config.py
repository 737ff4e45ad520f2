"""What a configuration without mistakes becomes."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libgitopper import Config, ConfigError, Credentials, Mapping, Overrides, Service, load_config
from libgitopper.config import default_mount, parse_config
from libgitopper.config.machines import Roster, runs_here

EXAMPLE = Path(__file__).parents[2] / "examples" / "gitopper.toml"

DESIGN = """
[global]
upstream = "https://git.example.net/config.git"
mount    = "/var/lib/gitopper"
branch   = "main"
interval = "5m"

[[services]]
machine = "grafana.example.net"
service = "grafana-server"
branch  = "main"
package = "grafana"
user    = "grafana"
action  = "reload"
mount   = "/tmp/grafana1"
dirs = [
  { local = "/etc/grafana", link = "grafana/etc" },
  { local = "/etc/caddy/Caddyfile", link = "caddy/Caddyfile", file = true },
]
"""

NO_OVERRIDES = Overrides()
UPSTREAM = 'upstream = "https://git.example.net/config.git"\n'


def parse(
    text: str,
    *,
    hosts: frozenset[str] = frozenset({"web1.example.net"}),
    root: bool = True,
    environ: dict[str, str] | None = None,
    overrides: Overrides = NO_OVERRIDES,
) -> Config:
    return parse_config(
        text, origin="gitopper.toml", hosts=hosts, root=root, environ=environ or {}, overrides=overrides
    )


def entry(name: str = "nginx", *, machine: str = '"*"', more: str = "") -> str:
    """One good service of every host; `more` are further lines of it."""
    return (
        f'[[services]]\nmachine = {machine}\nservice = "{name}"\n{more}\n'
        f'dirs = [{{ local = "/etc/{name}", link = "{name}/etc" }}]\n'
    )


def the_service(text: str, **more: Any) -> Service:
    (service,) = parse(text, **more).services
    return service


def test_the_configuration_of_the_design_becomes_a_service() -> None:
    config = parse(DESIGN, hosts=frozenset({"grafana.example.net"}))
    (service,) = config.services
    assert (service.name, service.package, service.user) == ("grafana-server", "grafana", "grafana")
    assert service.mappings == (
        Mapping(local=Path("/etc/grafana"), link="grafana/etc"),
        Mapping(local=Path("/etc/caddy/Caddyfile"), link="caddy/Caddyfile", file=True),
    )
    assert service.mount == Path("/tmp/grafana1")
    assert config.stores == Path("/var/lib/gitopper/.gitopper/stores")
    assert config.machines == ("grafana.example.net",)
    assert config.origin == Path("gitopper.toml")


def test_what_is_not_written_has_the_documented_default() -> None:
    service = the_service(f"[global]\n{UPSTREAM}" + entry())
    assert service.source.branch == "main"
    assert (service.interval_seconds, service.timeout_seconds, service.keep) == (300.0, 90.0, 5)
    assert service.resync_seconds == 600.0
    assert (service.publish, service.reload, service.action) == ("bind", "systemd", "reload")
    assert (service.readonly, service.user, service.command) == (False, None, ())
    assert service.mount == Path("/var/lib/gitopper")


def test_a_service_inherits_every_default_of_global() -> None:
    text = (
        f'[global]\n{UPSTREAM}branch = "live"\ninterval = "1m"\ntimeout = "1h"\nmount = "/srv/g"\n'
        'keep = 2\npublish = "overlay"\nreadonly = true\nuser = "www"\naction = "restart"\n'
    )
    service = the_service(text + entry())
    assert service.source.branch == "live"
    assert (service.interval_seconds, service.timeout_seconds, service.keep) == (60.0, 3600.0, 2)
    assert (service.publish, service.readonly, service.user) == ("overlay", True, "www")
    assert (service.mount, service.action) == (Path("/srv/g"), "restart")


def test_a_service_says_otherwise_than_global() -> None:
    text = f'[global]\n{UPSTREAM}keep = 2\ninterval = "1h"\n' + entry(more='keep = 9\ninterval = "2s"')
    assert (the_service(text).keep, the_service(text).interval_seconds) == (9, 2.0)
    assert parse(text).interval_seconds == 3600.0


def test_the_command_line_stands_between_global_and_the_service() -> None:
    text = f'[global]\n{UPSTREAM}branch = "a"\ninterval = "1h"\nmount = "/srv/a"\n' + entry(
        more='branch = "c"'
    )
    overrides = Overrides(interval_seconds=2.5, upstream="/srv/x.git", branch="b", mount=Path("/srv/b"))
    config = parse(text, overrides=overrides)
    (service,) = config.services
    assert (service.source.upstream, service.source.branch) == ("/srv/x.git", "c")
    assert (service.interval_seconds, config.interval_seconds) == (2.5, 2.5)
    assert service.mount == config.mount == Path("/srv/b")


def test_an_ordinary_user_gets_symlinks_below_the_data_home() -> None:
    home = {"HOME": "/home/ann"}
    service = the_service(f"[global]\n{UPSTREAM}" + entry(), root=False, environ=home)
    assert (service.publish, service.mount) == ("symlink", Path("/home/ann/.local/share/gitopper"))
    assert default_mount(root=False, environ=home | {"XDG_DATA_HOME": "/d"}) == Path("/d/gitopper")
    relative = home | {"XDG_DATA_HOME": "d"}
    assert default_mount(root=False, environ=relative) == Path("/home/ann/.local/share/gitopper")


def test_without_a_home_the_mount_must_be_written() -> None:
    with pytest.raises(ConfigError, match=r"global\.mount: there is no home directory"):
        parse(f"[global]\n{UPSTREAM}" + entry(), root=False)
    assert parse(f'[global]\n{UPSTREAM}mount = "/srv/g"\n' + entry(), root=False).mount == Path("/srv/g")


def test_a_command_selects_the_command_plugin() -> None:
    service = the_service(f"[global]\n{UPSTREAM}" + entry(more='command = ["/bin/kick", ""]'))
    assert (service.reload, service.command) == ("command", ("/bin/kick", ""))


def test_a_service_can_go_back_to_systemd_where_global_has_a_command() -> None:
    text = f'[global]\n{UPSTREAM}command = ["/bin/kick"]\n'
    assert the_service(text + entry()).reload == "command"
    service = the_service(text + entry(more='reload = "systemd"'))
    assert (service.reload, service.command) == ("systemd", ())


def test_a_third_partys_reload_plugin_takes_command_and_any_action() -> None:
    more = 'reload = "runit"\naction = "hup"\ncommand = ["sv"]'
    service = the_service(f"[global]\n{UPSTREAM}" + entry(more=more))
    assert (service.reload, service.action, service.command) == ("runit", "hup", ("sv",))


def test_paths_are_written_in_one_way() -> None:
    dirs = '[{ local = "//etc//app/", link = "./app//etc/" }]'
    text = f'[global]\n{UPSTREAM}[[services]]\nmachine = "*"\nservice = "app"\ndirs = {dirs}'
    assert the_service(text).mappings == (Mapping(local=Path("/etc/app"), link="app/etc"),)


def test_a_link_may_lie_inside_another_one() -> None:
    dirs = '[{ local = "/etc/a", link = "app" }, { local = "/etc/b", link = "app/b" }]'
    text = f'[global]\n{UPSTREAM}[[services]]\nmachine = "*"\nservice = "app"\ndirs = {dirs}'
    assert [m.link for m in the_service(text).mappings] == ["app", "app/b"]


def test_only_the_services_of_this_host_are_given_and_every_machine_is_named() -> None:
    text = (
        f"[global]\n{UPSTREAM}"
        + entry("nginx", machine='["web1", "web2"]')
        + entry("postgres", machine='"db*"')
        + entry("nginx", machine='"db*"')
    )
    config = parse(text)
    assert [s.name for s in config.services] == ["nginx"]
    assert config.machines == ("db*", "web1", "web2")
    assert [s.name for s in parse(text, hosts=frozenset({"db7"})).services] == ["postgres", "nginx"]
    assert parse(text, hosts=frozenset({"mail"})).services == ()
    assert parse(text, hosts=frozenset()).services == ()


@pytest.mark.parametrize(
    ("machine", "host", "matches"),
    [
        ("web1.example.net", "web1.example.net", True),
        ("WEB1.example.net", "web1.Example.net", True),
        ("web1.example.net", "web1.example.net.", True),
        ("web1", "web1.example.net", True),
        ("web1", "web10.example.net", False),
        ("web1.example.net", "web1", False),
        ("web1.example.net", "web1.example.org", False),
        ("web*", "web1.example.net", True),
        ("*net", "web1.example.net", False),
        ("*.example.net", "web1.example.net", True),
        ("*.example.net", "web1", False),
        ("web[12]", "web2.example.net", True),
        ("web[!1]", "web1.example.net", False),
        ("web?", "web12", False),
        ("*", "web1.example.net", True),
    ],
)
def test_a_machine_means_a_host(machine: str, host: str, matches: bool) -> None:
    assert runs_here([machine], frozenset({host})) is matches


@given(
    st.lists(st.lists(st.text(alphabet="aB.*?", min_size=1, max_size=4), max_size=3), max_size=5),
    st.frozensets(st.text(alphabet="Ab.", min_size=1, max_size=4), max_size=2),
)
def test_the_roster_tells_the_same_of_many_services(
    services: list[list[str]], hosts: frozenset[str]
) -> None:
    slow = tuple(i for i, machines in enumerate(services) if runs_here(machines, hosts))
    assert Roster(services).of(hosts) == slow


def test_a_host_answers_to_each_of_its_names() -> None:
    assert runs_here(["db1"], frozenset({"web1.example.net", "db1"}))


def test_credentials_of_a_url_are_taken_out_of_it() -> None:
    upstream = 'upstream = "https://ann:p%40ss@Git.example.net:443/config.git/"'
    source = the_service(entry(more=upstream)).source
    assert source.upstream == "https://git.example.net/config.git"
    assert source.credentials == Credentials(userinfo="ann:p%40ss")
    assert "p%40ss" not in repr(source)


def test_global_credentials_go_to_the_server_of_the_global_upstream_only() -> None:
    text = f'[global]\n{UPSTREAM}credentials = "/etc/secret"\n'
    shared = Credentials(file=Path("/etc/secret"))
    assert the_service(text + entry()).source.credentials == shared

    def of(upstream: str) -> Credentials:
        return the_service(text + entry(more=f'upstream = "{upstream}"')).source.credentials

    assert of("https://git.example.net/other.git") == shared
    assert of("https://git.example.org/other.git") == Credentials()
    assert of("http://git.example.net/other.git") == Credentials()
    assert of("https://git.example.net:8443/other.git") == Credentials()
    assert of("https://me@git.example.net/other.git") == Credentials(userinfo="me")


def test_a_services_own_credentials_win_over_the_url_that_it_inherits() -> None:
    text = '[global]\nupstream = "https://ann:secret@git.example.net/config.git"\n'
    assert the_service(text + entry()).source.credentials.userinfo == "ann:secret"
    service = the_service(text + entry(more='credentials = "/etc/own"'))
    assert service.source.credentials == Credentials(file=Path("/etc/own"))


def test_an_upstream_of_the_command_line_gets_no_credentials_of_another_server() -> None:
    text = f'[global]\n{UPSTREAM}credentials = "/etc/secret"\n' + entry()
    overrides = Overrides(upstream="https://elsewhere.example/x.git")
    assert the_service(text, overrides=overrides).source.credentials == Credentials()


def test_an_ssh_key_goes_with_an_ssh_upstream() -> None:
    text = '[global]\nupstream = "git@git.example.net:config.git"\nssh_key = "/etc/id"\n' + entry()
    source = the_service(text).source
    assert source.upstream == "git@git.example.net:config.git"
    assert source.credentials == Credentials(ssh_key=Path("/etc/id"))


def test_an_empty_list_of_services_can_be_asked_for() -> None:
    assert parse("services = []").services == ()


def test_the_example_loads_for_each_of_its_machines() -> None:
    config = load_config(EXAMPLE, hosts={"web1.example.net"}, root=True, environ={})
    assert config.services
    assert config.origin == EXAMPLE
    for machine in config.machines:
        host = machine.replace("*", "1")
        assert load_config(EXAMPLE, hosts={host}, root=False, environ={"HOME": "/home/ann"}).services


def test_a_byte_order_mark_and_carriage_returns_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "gitopper.toml"
    path.write_bytes(b"\xef\xbb\xbf" + DESIGN.replace("\n", "\r\n").encode())
    assert load_config(path, hosts={"grafana.example.net"}, root=True, environ={}).services
