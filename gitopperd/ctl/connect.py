"""Connections: to the first place of a host that takes one, with errors that say what to do."""

from __future__ import annotations

import contextlib
import errno
import http.client
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gitopperd.ctl.errors import AskError
from gitopperd.ctl.hosts import Unix
from gitopperd.ctl.places import Place, Port, Through, Tls
from gitopperd.ctl.private import read_token, token_in
from gitopperd.ctl.settings import Token
from gitopperd.ctl.text import visible
from gitopperd.ctl.tls import explain, make_context, secured, speaks_tls

if TYPE_CHECKING:
    from gitopperd.ctl.ssh import Tunnel

__all__ = ["LOGIN_SECONDS", "Connector", "Line"]

LOGIN_SECONDS = 120.0
"""How long a person may take to answer ssh's questions: as long as sshd waits (LoginGraceTime)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A connection that stands."""

    connection: http.client.HTTPConnection
    headers: Mapping[str, str]
    """To send with each request: who we are."""
    place: Place

    @property
    def remedy(self) -> str:
        """What to do when the daemon does not know us."""
        if not isinstance(self.place, Port):
            return ""
        if self.place.token is not None:
            return (
                f"the token of {self.place.token.origin} may have expired, been revoked, or be another"
                " host's: `gitopperctl token list` on that host shows"
            )
        if self.place.untold:
            return (
                f"its Unix socket did not answer, and anybody could listen at {self.place}: no token was"
                f" sent; if that is the daemon, ask it by @localhost:{self.place.port}"
            )
        if self.place.tls and self.place.tls.certificate:
            return f"its [auth.mtls] gives no role to our certificate {self.place.tls.certificate}"
        return (
            "no token was sent: --token-file FILE, $GITOPPERCTL_TOKEN_FILE, or token_file in ctl.toml;"
            " or use the Unix socket, by @ssh:// or on the host itself"
        )


class Connector:
    """Opens connections for one command, and ends whatever was started for them.

    `interactive` lets ssh ask its questions on the terminal: for one host alone.
    """

    def __init__(self, *, timeout_seconds: float, interactive: bool = False) -> None:
        self.timeout_seconds = timeout_seconds
        self.interactive = interactive
        self._lock = threading.Lock()
        self._closing = contextlib.ExitStack()
        self._closed = False
        # What hosts have in common is read once.
        self._contexts: dict[Tls, ssl.SSLContext] = {}
        self._tokens: dict[Token, str] = {}

    def __enter__(self) -> Connector:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what was started; any thread may call it, and nothing more is started from then on."""
        with self._lock:
            self._closed = True
        self._closing.close()

    @contextlib.contextmanager
    def line(self, places: Sequence[Place]) -> Iterator[Line]:
        """Connect to the first of `places` that takes a connection; it is closed with the block.

        Once a connection stands, the next place is not tried, whatever happens: a POST that failed
        half-way may have been carried out. The timeout holds for each wait, not for all of them.

        Raises:
            AskError: No connection came about, or what was said on it is not HTTP.
            TimeoutError: A wait was too long, within the block too.
        """
        with contextlib.ExitStack() as stack:
            way = self._first(places, stack)
            try:
                yield Line(connection=way.connection, headers=self._headers(way.place), place=way.place)
            except TimeoutError:
                raise
            except (OSError, http.client.HTTPException, ValueError) as exc:
                raise way.explain(exc) from exc

    def _first(self, places: Sequence[Place], stack: contextlib.ExitStack) -> _Way:
        failures: list[tuple[Place, OSError]] = []
        for place in places:
            way = self._way(place, stack)
            try:
                way.connection.connect()
            except TimeoutError:
                # The time is up for the other places too.
                raise
            except ssl.SSLError as exc:
                raise (explain(exc, place) if isinstance(place, Port) else way.explain(exc)) from exc
            except OSError as exc:
                failures.append((place, exc))
            else:
                return way
        raise _unreachable(failures) from failures[-1][1]

    def _way(self, place: Place, stack: contextlib.ExitStack) -> _Way:
        seconds = self.timeout_seconds
        tunnel = None
        connection: http.client.HTTPConnection
        if isinstance(place, Unix):
            connection = _UnixConnection(place.path, seconds)
        elif isinstance(place, Through):
            tunnel = self._tunnel(place, stack)
            path = tunnel.open(LOGIN_SECONDS if self.interactive else seconds)
            connection = _UnixConnection(path, seconds)
        elif place.tls is None:
            connection = http.client.HTTPConnection(place.name, place.port, timeout=seconds)
        else:
            connection = _TlsConnection(place, self._context(place.tls), seconds)
        stack.callback(connection.close)
        return _Way(place=place, connection=connection, tunnel=tunnel)

    def _tunnel(self, place: Through, stack: contextlib.ExitStack) -> Tunnel:
        # Imported here alone: it costs those who need no ssh nothing.
        from gitopperd.ctl.ssh import Tunnel

        tunnel = Tunnel(place, timeout_seconds=self.timeout_seconds, interactive=self.interactive)
        with self._lock:
            if self._closed:
                raise TimeoutError
            # Should this thread be left behind at the deadline, the command ends the tunnel itself.
            self._closing.callback(tunnel.close)
        stack.callback(tunnel.close)
        return tunnel

    def _context(self, tls: Tls) -> ssl.SSLContext:
        with self._lock:
            if tls not in self._contexts:
                self._contexts[tls] = make_context(tls)
            return self._contexts[tls]

    def _headers(self, place: Place) -> Mapping[str, str]:
        token = place.token if isinstance(place, Port) else None
        if token is None:
            return {}
        with self._lock:
            if token not in self._tokens:
                text = token_in(token.text, token.origin) if token.text else read_token(token.file or "")
                self._tokens[token] = text
            return {"Authorization": f"Bearer {self._tokens[token]}"}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Way:
    """A connection that is made, or is about to be, and how to tell what went wrong with it."""

    place: Place
    connection: http.client.HTTPConnection
    tunnel: Tunnel | None = None

    def explain(self, exc: Exception) -> AskError:
        """Return what went wrong after the connection stood, and the remedy."""
        hung_up = isinstance(exc, ConnectionError | ssl.SSLEOFError)
        if self.tunnel is not None and hung_up:
            return self.tunnel.cut_off()
        if isinstance(self.place, Port):
            if self.place.tls is None:
                if _is_alert(exc) or (hung_up and speaks_tls(self.place)):
                    message = "what listens there speaks TLS, not plain http: write @https://, or --tls"
                    return AskError("tls", message)
            elif hung_up:
                return AskError("tls", f"it hung up after the TLS handshake; {_doubt(self.place.tls)}")
            elif isinstance(exc, ssl.SSLError):
                return explain(exc, self.place)
        reason = visible(str(exc)) or type(exc).__name__
        return AskError("bad-answer", f"what listens there does not speak HTTP properly: {reason}")


def _doubt(tls: Tls) -> str:
    # In TLS 1.3 a client hears what the server thinks of its certificate after the handshake, if at all.
    if tls.certificate is None:
        return "it may want a certificate of ours: --cert FILE, or certificate in ctl.toml"
    return f"is our certificate, {tls.certificate}, of the CA that the daemon knows (client_ca), and valid?"


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout_seconds: float) -> None:
        super().__init__("localhost", timeout=timeout_seconds)
        self._path = path

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(self.timeout)
            sock.connect(self._path)
        except BaseException:
            sock.close()
            raise
        self.sock = sock


class _TlsConnection(http.client.HTTPConnection):
    """HTTP over TLS."""

    def __init__(self, port: Port, context: ssl.SSLContext, timeout_seconds: float) -> None:
        super().__init__(port.name, port.port, timeout=timeout_seconds)
        self._port = port
        self._context = context

    def connect(self) -> None:
        super().connect()
        self.sock = secured(self.sock, self._port, self._context)


def _is_alert(exc: Exception) -> bool:
    """Tell whether the answer to our plain question was an alert of TLS (RFC 8446, 5.1: type 21)."""
    return isinstance(exc, http.client.BadStatusLine) and str(exc).startswith("\x15\x03")


def _unreachable(failures: Sequence[tuple[Place, OSError]]) -> AskError:
    tried = "; ".join(f"{place}: {exc.strerror or exc}" for place, exc in failures)
    if any(isinstance(exc, PermissionError) for _, exc in failures):
        remedy = "this user may not use that socket: try sudo, or ask whoever runs the machine"
    elif any(exc.errno in {errno.EMFILE, errno.ENFILE} for _, exc in failures):
        remedy = "ask fewer hosts at once, or raise the hard limit: ulimit -Hn"
    elif isinstance(failures[-1][1], socket.gaierror):
        remedy = "is the name right?"
    else:
        remedy = "is gitopperd running there?"
    return AskError("unreachable", visible(f"can't connect ({tried}); {remedy}"))
