"""What `@HOST` means."""

from __future__ import annotations

import ipaddress
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitopperd.ctl.hosts import Host, Tcp, Unix, default_sockets, endpoints, parse_host

names = st.lists(
    st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=12), min_size=1, max_size=4
).map(".".join)
ports = st.integers(1, 65535)


@given(names.filter(lambda name: name != "localhost"), st.none() | ports)
def test_a_name_and_a_port_are_taken_as_they_are(name: str, port: int | None) -> None:
    label = name if port is None else f"{name}:{port}"
    assert parse_host(f"@{label}") == Host(label=label, endpoint=Tcp(name=name, port=port or 8000))


@given(st.ip_addresses(v=6), st.none() | ports)
def test_an_ipv6_address_stands_in_brackets(address: ipaddress.IPv6Address, port: int | None) -> None:
    label = f"[{address}]" if port is None else f"[{address}]:{port}"
    endpoint = parse_host(f"@{label}").endpoint
    assert endpoint == Tcp(name=str(address), port=port or 8000)
    assert str(endpoint) == f"[{address}]:{port or 8000}"


@given(st.text())
def test_whatever_is_written_is_parsed_or_refused_with_a_reason(text: str) -> None:
    host = problem = None
    try:
        host = parse_host(f"@{text}")
    except ValueError as exc:
        problem = exc
    assert not isinstance(problem, UnicodeError)
    assert host is not None or str(problem)
    if host is not None and isinstance(host.endpoint, Tcp):
        # Nothing in it can break out of the Host header, nor surprise getaddrinfo.
        host.endpoint.name.encode("idna")
        assert host.endpoint.name.isprintable()
        assert not set(host.endpoint.name) & set(" /?#@\\")
        assert 0 < host.endpoint.port < 65536


def test_localhost_without_a_port_tries_the_sockets_first_and_then_the_port() -> None:
    host = parse_host("@localhost")
    assert endpoints(host, ("/a", "/b")) == (
        Unix(path="/a"),
        Unix(path="/b"),
        Tcp(name="127.0.0.1", port=8000),
    )


@pytest.mark.parametrize("text", ["@localhost:8000", "@web1", "@unix:/run/x.sock"])
def test_every_other_host_is_one_place(text: str) -> None:
    host = parse_host(text)
    assert endpoints(host, ("/a",)) == (host.endpoint,)


def test_a_name_of_another_script_is_asked_for_in_idna_and_shown_as_written() -> None:
    host = parse_host("@bücher.example:9")
    assert host == Host(label="bücher.example:9", endpoint=Tcp(name="xn--bcher-kva.example", port=9))


def test_a_host_may_be_called_unix() -> None:
    assert parse_host("@unix:8001").endpoint == Tcp(name="unix", port=8001)
    assert parse_host("@unix").endpoint == Tcp(name="unix", port=8000)


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
        ("@http://web1", "is not a port"),
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
