"""Where the daemon answers: a TCP address, on loopback unless TLS protects it, and a Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import os
import socket
import stat
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from aiohttp import web
from attrs import frozen

from gitopperd.claims import lock
from gitopperd.listener.door import Door, open_door
from gitopperd.listener.limits import Limits
from gitopperd.listener.tls import Tls, TlsFiles
from libgitopper import Api, Config, GitopperError

__all__ = [
    "Address",
    "ExposedError",
    "ListenError",
    "Listener",
    "check_exposure",
    "listening",
    "parse_address",
]

log = logging.getLogger(__name__)

DEFAULT_PORT = 8000
BACKLOG = 1024
"""Connections that may wait to be accepted; whoever comes then, tries again only after a second."""
LIMITS = Limits()


class ListenError(GitopperError):
    """An address that the daemon can't answer on."""


class ExposedError(ListenError):
    """An address that others reach, with nothing to protect what is said there."""


@frozen(kw_only=True)
class Address:
    """An IP address and a port; port 0 takes any that is free."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def on_loopback(self) -> bool:
        """True when only this host reaches it."""
        return ipaddress.ip_address(self.host).is_loopback


def parse_address(text: str) -> Address:
    """Read ``ADDR:PORT``, ``:PORT``, ``ADDR`` or ``[ADDR]:PORT``; without an address, 127.0.0.1.

    Raises:
        ValueError: it is none of these.
    """
    host, port = _split(text)
    host = {"": "127.0.0.1", "localhost": "127.0.0.1"}.get(host, host)
    try:
        host, number = str(ipaddress.ip_address(host)), int(port)
    except ValueError:
        raise ValueError(
            f"{text!r} is no address; write 127.0.0.1:8000, 0.0.0.0:8000 or [::]:8000"
        ) from None
    if not 0 <= number <= 65535:
        raise ValueError(f"{text!r}: port {number} is not between 0 and 65535")
    return Address(host=host, port=number)


def check_exposure(address: Address, api: Api) -> None:
    """Refuse plain http where others could listen, unless the config asks for it.

    Raises:
        ExposedError: `address` is not on loopback, and ``[api]`` has neither TLS nor ``insecure``.
    """
    if address.on_loopback or TlsFiles.of(api) or api.insecure:
        return
    raise ExposedError(
        f"{address} can be reached from other hosts, and nothing said there would be encrypted: write"
        f" certificate and key in [api], or listen on 127.0.0.1:{address.port}; insecure = true in [api] if"
        " something else protects it"
    )


def _split(text: str) -> tuple[str, str]:
    host, bracket, rest = text.removeprefix("[").partition("]")
    if text.startswith("[") and bracket and rest[:1] in ("", ":"):
        return host, rest[1:] or str(DEFAULT_PORT)
    if text.count(":") > 1:
        return text, str(DEFAULT_PORT)
    host, _, port = text.partition(":")
    return host, port or str(DEFAULT_PORT)


class Listener:
    """Where the daemon answers now, and with which certificate."""

    def __init__(self, address: Address, api: Api, tls: Tls | None, doors: Sequence[Door]) -> None:
        self.address = address
        """With its real port."""
        self.doors = doors
        self.tls = tls
        self._api = api

    def __str__(self) -> str:
        return f"{self.address} (TLS)" if self.tls else str(self.address)

    def apply(self, config: Config) -> None:
        """Go over to the certificate, key and CA of another configuration; no connection is dropped.

        Files that can't be used are told of, and those of before stay. Another address, or TLS where there
        was none, waits for the next start.
        """
        api, before = config.api, self._api
        files = TlsFiles.of(api)
        if self.tls and files:
            self.tls.go_over(files)
        if (api.listen, files is None) != (before.listen, TlsFiles.of(before) is None):
            log.warning("[api]: another address, and TLS on or off, come with the next start")
        try:
            check_exposure(self.address, api)
        except ExposedError as exc:
            log.warning("[api]: gitopperd would not start again: %s", exc)
        self._api = api


@contextlib.asynccontextmanager
async def listening(
    app: web.Application,
    address: Address,
    unix_socket: Path | None,
    *,
    api: Api,
    limits: Limits = LIMITS,
) -> AsyncIterator[Listener]:
    """Answer while the block runs.

    Raises:
        ListenError: an address is taken, can't be made, or may not be used in this way.
    """
    check_exposure(address, api)
    if api.insecure and not address.on_loopback and not TlsFiles.of(api):
        log.warning(
            "INSECURE: answering on %s in plain http, as [api] insecure = true asks for: whoever is on the"
            " way reads every token, and can steer this host with it", address
        )  # fmt: skip
    files = TlsFiles.of(api)
    tls = Tls(files) if files else None
    runner = web.AppRunner(app, shutdown_timeout=2.0)
    async with contextlib.AsyncExitStack() as stack:
        await runner.setup()
        # Last, when nobody comes in any more.
        stack.push_async_callback(runner.cleanup)
        tcp = stack.enter_context(_bind_tcp(address))
        real = Address(host=address.host, port=tcp.getsockname()[1])
        doors = [_door(str(real), tcp, runner, limits, tls)]
        if unix_socket is not None:
            unix = stack.enter_context(_unix(unix_socket))
            # A door of its own, so that no crowd on the network keeps the operator out.
            doors.append(_door(str(unix_socket), unix, runner, limits.for_unix_socket(), None))
        for door in doors:
            await stack.enter_async_context(open_door(door))
        if tls is not None:
            await stack.enter_async_context(_watched(tls))
        yield Listener(real, api, tls, doors)


def _door(name: str, sock: socket.socket, runner: web.AppRunner, limits: Limits, tls: Tls | None) -> Door:
    assert runner.server is not None, "it was set up"  # noqa: S101 - for the type checker
    return Door(name, sock, runner.server, limits=limits, tls=tls)


@contextlib.asynccontextmanager
async def _watched(tls: Tls) -> AsyncIterator[None]:
    watching = asyncio.create_task(tls.watch())
    try:
        yield
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


def _bind_tcp(address: Address) -> socket.socket:
    six = ":" in address.host
    try:
        return socket.create_server(
            (address.host, address.port),
            family=socket.AF_INET6 if six else socket.AF_INET,
            backlog=BACKLOG,
            # As one expects of [::]: it is every address of the host.
            dualstack_ipv6=address.host == "::" and socket.has_dualstack_ipv6(),
        )
    except OSError as exc:
        why = os.strerror(exc.errno or 0)
        raise ListenError(
            f"can't listen on {address}: {why}; is another gitopperd running? See -a"
        ) from exc


@contextlib.contextmanager
def _unix(path: Path) -> Iterator[socket.socket]:
    """Listen on a Unix socket, in place of one that a crash left, and remove it at the end.

    Anybody may connect; the guard asks who.
    """
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            _refuse_to_replace(path)
            # Of a file beside it, since the socket itself comes and goes: who holds it may answer here.
            stack.callback(os.close, lock(path.with_name(f"{path.name}.lock")))
            path.unlink(missing_ok=True)
            listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            before = os.umask(0o111)
            try:
                listener.bind(str(path))
            finally:
                os.umask(before)
            stack.callback(_remove, path, _identity(path))
        except BlockingIOError:
            raise ListenError(
                f"can't listen on {path}: another gitopperd answers there; stop that one, or name"
                " another --socket"
            ) from None
        except OSError as exc:
            raise ListenError(f"can't listen on {path}: {exc.strerror or exc}; see --socket") from exc
        listener.listen(BACKLOG)
        yield listener


def _refuse_to_replace(path: Path) -> None:
    """Refuse what is no socket: it is somebody's, as the configuration by a slip of the hand.

    Raises:
        FileExistsError: there is such a thing.
    """
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(errno.EEXIST, "something else is there, which is no socket")


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino


def _remove(path: Path, identity: tuple[int, int]) -> None:
    """Remove what is at `path`, if it is still what was made there."""
    with contextlib.suppress(OSError):
        if _identity(path) == identity:
            path.unlink()
