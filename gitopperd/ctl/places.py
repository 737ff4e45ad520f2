"""Where and how a host is asked: what was written, and what the settings say, put together."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field, replace

from gitopperd.ctl.errors import AskError
from gitopperd.ctl.hosts import SYSTEM_SOCKET, Host, Ssh, Tcp, Unix, default_sockets
from gitopperd.ctl.settings import Settings, Token

__all__ = ["Place", "Port", "Target", "Through", "Tls"]

DEFAULT_PORT = 8000


@dataclass(frozen=True, kw_only=True, slots=True)
class Tls:
    """What a TLS connection is made with; each a path, or None."""

    ca: str | None = None
    certificate: str | None = None
    key: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Port:
    """A port to connect to, and what to say there."""

    name: str
    port: int
    known_as: str
    """The name that its certificate must have."""
    tls: Tls | None = None
    token: Token | None = None
    untold: bool = False
    """We have a token, and keep it to ourselves."""

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Through:
    """A Unix socket of another machine, through ssh. No token: there the kernel tells who asks."""

    ssh: Ssh
    socket: str

    def __str__(self) -> str:
        return f"{self.ssh}: {self.socket}"


Place = Port | Unix | Through


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A host, and the settings that hold for it."""

    host: Host
    settings: Settings = field(default_factory=Settings)

    @property
    def places(self) -> tuple[Place, ...]:
        """Where to look for its daemon, in order.

        Raises:
            AskError: Its token would have to go over the network in plain sight.
        """
        match self.host.address:
            case Unix() as unix:
                return (unix,)
            case Ssh() as ssh:
                return (Through(ssh=ssh, socket=self.settings.socket or SYSTEM_SOCKET),)
            case Tcp() as tcp if self.host.socket_first:
                own = self.settings.socket
                sockets = (own,) if own else default_sockets()
                return (*(Unix(path=path) for path in sockets), self._last_resort(tcp))
            case Tcp() as tcp:
                return (self._port(tcp),)

    def _last_resort(self, tcp: Tcp) -> Port:
        """The port of this machine, where no socket answered. Anybody could listen there: no token.

        Who means the port, names it: `@localhost:8000`.
        """
        port = self._port(tcp)
        return port if port.tls else replace(port, token=None, untold=port.token is not None)

    def _port(self, tcp: Tcp) -> Port:
        settings = self.settings
        secure = self._is_secure(tcp)
        if settings.token and not secure and not _is_loopback(tcp.name):
            raise AskError(
                "credentials",
                f"the token of {settings.token.origin} is not sent over plain http, where others could"
                " read it; use @https://, or @ssh://, or ask without a token",
            )
        tls = Tls(ca=settings.ca, certificate=settings.certificate, key=settings.key) if secure else None
        port = tcp.port or settings.port or DEFAULT_PORT
        known_as = "localhost" if self.host.socket_first else tcp.name
        return Port(name=tcp.name, port=port, known_as=known_as, tls=tls, token=settings.token)

    def _is_secure(self, tcp: Tcp) -> bool:
        """Whoever has a CA or a secret for a host means TLS, except on this machine."""
        for said in (tcp.tls, self.settings.tls):
            if said is not None:
                return said
        meant = self.settings.ca or self.settings.token or self.settings.certificate
        return bool(meant) and not _is_loopback(tcp.name)


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name.lower().removesuffix(".") == "localhost"
