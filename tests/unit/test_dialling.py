"""Who answers at one of several addresses is reached, whatever is wrong with the others."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest

from gitopper_plugins import _channel
from gitopper_plugins._channel import Deadline, dial

LOOPBACK = "127.0.0.1"
UNKNOWN = (120, socket.SOCK_STREAM, 0, "", ("::1", 1))
"""An address of a family that no kernel has, as IPv6 is to one that was built without it."""


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server((LOOPBACK, 0)) as server:
        yield server.getsockname()[1]


def named(monkeypatch: pytest.MonkeyPatch, *addresses: object) -> None:
    monkeypatch.setattr(_channel, "_look_up", lambda *_: addresses)


def at(port: int) -> object:
    return (socket.AF_INET, socket.SOCK_STREAM, 0, "", (LOOPBACK, port))


def test_an_address_that_this_host_has_no_family_for_leaves_the_others(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    named(monkeypatch, UNKNOWN, at(port))
    with dial("twofold.example.net", port, Deadline.after(10)) as sock:
        assert sock.getpeername() == (LOOPBACK, port)


def test_what_was_met_is_told_rather_than_what_could_not_be_tried(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for addresses in ((UNKNOWN, at(1)), (at(1), UNKNOWN)):
        named(monkeypatch, *addresses)
        with pytest.raises(ConnectionRefusedError):
            dial("twofold.example.net", port, Deadline.after(10))
    named(monkeypatch, UNKNOWN)
    with pytest.raises(OSError) as caught:
        dial("new.example.net", port, Deadline.after(10))
    assert caught.value.errno == errno.EAFNOSUPPORT


def test_no_descriptor_is_left_of_those_that_did_not_answer(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That would be a warning, which is an error in tests."""
    named(monkeypatch, at(1), at(port))
    dial("twofold.example.net", port, Deadline.after(10)).close()
