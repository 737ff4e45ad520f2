"""What `@HOST` means."""

from __future__ import annotations

import ipaddress
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitopperd.ctl.hosts import Host, Ssh, Tcp, Unix, default_sockets, group_of, parse_host
from gitopperd.ctl.places import Port, Target
from gitopperd.ctl.settings import Settings

names = st.lists(
    st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=12), min_size=1, max_size=4
).map(".".join)
ports = st.integers(1, 65535)


@given(names.filter(lambda name: name != "localhost"), st.none() | ports)
def test_a_name_and_a_port_are_taken_as_they_are(name: str, port: int | None) -> None:
    label = name if port is None else f"{name}:{port}"
    assert parse_host(f"@{label}") == Host(label=label, address=Tcp(name=name, port=port))


@given(st.ip_addresses(v=6), st.none() | ports)
def test_an_ipv6_address_stands_in_brackets(address: ipaddress.IPv6Address, port: int | None) -> None:
    label = f"[{address}]" if port is None else f"[{address}]:{port}"
    host = parse_host(f"@{label}")
    assert host.address == Tcp(name=str(address), port=port)
    assert [str(place) for place in Target(host=host).places] == [f"[{address}]:{port or 8000}"]


@given(st.text())
def test_whatever_is_written_is_parsed_or_refused_with_a_reason(text: str) -> None:
    host = problem = None
    try:
        host = parse_host(f"@{text}")
    except ValueError as exc:
        problem = exc
    assert not isinstance(problem, UnicodeError)
    assert host is not None or str(problem)
    if host is not None and not isinstance(host.address, Unix):
        # Nothing in it can break out of the Host header or ssh's arguments, nor surprise getaddrinfo.
        name, port = host.address.name, host.address.port
        name.encode("idna")
        assert name.isprintable()
        assert not name.startswith("-")
        assert not set(name) & set(" /?#@\\%$`;&|<>()'\"")
        assert port is None or 0 < port < 65536


def test_localhost_without_a_port_tries_the_sockets_first_and_then_the_port(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gitopperd.ctl.places.default_sockets", lambda: ("/a", "/b"))
    port = Port(name="127.0.0.1", port=8000, known_as="localhost")
    localhost = parse_host("@localhost")
    assert Target(host=localhost).places == (Unix(path="/a"), Unix(path="/b"), port)
    assert Target(host=localhost, settings=Settings(socket="/c")).places == (Unix(path="/c"), port)


@pytest.mark.parametrize("text", ["@localhost:8000", "@web1", "@unix:/run/x.sock", "@ssh://web1"])
def test_every_other_host_is_one_place(text: str) -> None:
    assert len(Target(host=parse_host(text)).places) == 1


def test_a_name_of_another_script_is_asked_for_in_idna_and_shown_as_written() -> None:
    host = parse_host("@bücher.example:9")
    assert host == Host(label="bücher.example:9", address=Tcp(name="xn--bcher-kva.example", port=9))


def test_a_host_may_be_called_unix() -> None:
    assert parse_host("@unix:8001").address == Tcp(name="unix", port=8001)
    assert parse_host("@unix").address == Tcp(name="unix")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("@https://web1", Tcp(name="web1", tls=True)),
        ("@https://web1:8443/", Tcp(name="web1", port=8443, tls=True)),
        ("@http://[::1]:80", Tcp(name="::1", port=80, tls=False)),
        ("@http://localhost", Tcp(name="localhost", tls=False)),
        ("@ssh://web1", Ssh(name="web1")),
        ("@ssh://ops@web1:2222", Ssh(name="web1", port=2222, user="ops")),
        ("@ssh://first.last@[2001:db8::1]", Ssh(name="2001:db8::1", user="first.last")),
    ],
)
def test_a_scheme_says_how_the_host_is_reached(text: str, address: object) -> None:
    host = parse_host(text)
    assert (host.address, host.label, host.socket_first) == (address, text[1:], False)


def test_two_ats_are_a_group() -> None:
    assert group_of("@@web") == "web"
    assert group_of("@web") is None
    with pytest.raises(ValueError, match="write one such as @@web"):
        group_of("@@web 1")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("@", "name is missing"),
        ("@:8000", "name is missing"),
        ("@web1:", "is not a port"),
        ("@web1:0", "is not a port"),
        ("@web1:65536", "is not a port"),
        ("@web1:http", "is not a port"),
        ("@web1:٣", "is not a port"),
        ("@::1", "in brackets"),
        ("@[::1", "brackets"),
        ("@[::1]8000", "brackets"),
        ("@[web1]:8000", "is not an IPv6 address"),
        ("@web 1", "is not a host name"),
        ("@web1/list", "is not a host name"),
        ("@ftp://web1", "is not a way to a host"),
        ("@https://", "name is missing"),
        ("@https://web1/list", "has a path"),
        ("@ssh://-oProxyCommand=reboot", "is not a host name"),
        ("@ssh://-l@web1", "is not the name of a user"),
        ("@ssh://a$(reboot)@web1", "is not the name of a user"),
        ("@ssh://@web1", "is not the name of a user"),
        ("@ssh://web1:ssh", "is not a port"),
        ("@-web", "is not a host name"),
        ("@web..net", "is not a host name"),
        ("@" + "a" * 64, "is not a host name"),
        ("@unix:run/x.sock", "absolute path"),
        ("@unix:", "absolute path"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_remedy(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        parse_host(text)
    assert "write" in str(caught.value)


def test_an_ordinary_user_has_a_socket_of_his_own_before_that_of_the_system() -> None:
    environ = {"XDG_RUNTIME_DIR": "/run/user/7"}
    system = "/run/gitopper/gitopperd.sock"
    assert default_sockets(environ, uid=7) == ("/run/user/7/gitopper/gitopperd.sock", system)
    assert default_sockets(environ, uid=0) == (system,)
    assert default_sockets({}, uid=7) == (system,)
