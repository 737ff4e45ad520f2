"""Where the daemon answers: a TCP address on loopback, and a Unix socket for the daemon's own user."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web
from attrs import frozen

from libgitopper import GitopperError

__all__ = ["Address", "ListenError", "listening", "parse_address"]

DEFAULT_PORT = 8000
BACKLOG = 128


class ListenError(GitopperError):
    """An address that the daemon can't answer on."""


@frozen(kw_only=True)
class Address:
    """A loopback address and a port; port 0 takes any that is free."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Read ``ADDR:PORT``, ``:PORT``, ``ADDR`` or ``[ADDR]:PORT``; without an address, 127.0.0.1.

    Raises:
        ValueError: it is none of these, or not on loopback.
    """
    host, port = _split(text)
    host = {"": "127.0.0.1", "localhost": "127.0.0.1"}.get(host, host)
    try:
        address = ipaddress.ip_address(host)
        number = int(port)
    except ValueError:
        raise ValueError(f"{text!r} is no address; write 127.0.0.1:8000 or [::1]:8000") from None
    if not 0 <= number <= 65535:
        raise ValueError(f"{text!r}: port {number} is not between 0 and 65535")
    if not address.is_loopback:
        raise ValueError(
            f"{text!r} is not on loopback, and whoever reaches it could steer this host;"
            f" write 127.0.0.1:{number}"
        )
    return Address(host=host, port=number)


def _split(text: str) -> tuple[str, str]:
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return host, rest.removeprefix(":") or str(DEFAULT_PORT)
    if text.count(":") > 1:
        return text, str(DEFAULT_PORT)
    host, _, port = text.partition(":")
    return host, port or str(DEFAULT_PORT)


@contextlib.asynccontextmanager
async def listening(
    app: web.Application, address: Address, unix_socket: Path | None
) -> AsyncIterator[Address]:
    """Answer while the block runs; yields the address with its real port.

    Raises:
        ListenError: an address is taken, or can't be made.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, address.host, address.port, backlog=BACKLOG)
        try:
            await site.start()
        except OSError as exc:
            raise ListenError(
                f"can't listen on {address}: {exc.strerror or exc}; is another gitopperd running? See -a"
            ) from exc
        if unix_socket is not None:
            await web.SockSite(runner, _bind_unix(unix_socket), backlog=BACKLOG).start()
        yield Address(host=address.host, port=runner.addresses[0][1])
    finally:
        await runner.cleanup()
        if unix_socket is not None:
            unix_socket.unlink(missing_ok=True)


def _bind_unix(path: Path) -> socket.socket:
    """Bind a Unix socket, in place of one that a crash left. Anybody may connect; the guard asks who."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        # The state directory is locked by now, so what is here is a crash's: nobody answers on it.
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            before = os.umask(0o111)
            try:
                listener.bind(str(path))
            finally:
                os.umask(before)
        except OSError:
            listener.close()
            raise
    except OSError as exc:
        raise ListenError(f"can't listen on {path}: {exc.strerror or exc}; see --socket") from exc
    return listener
