"""Ways to a git server: which one an upstream needs, and those that are one stream in both directions.

http is in `http`, since it has so much of its own.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shlex
import shutil
import socket
import sys
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO, Protocol

from attrs import define, frozen

from gitopper_plugins.dulwich.access import Access
from gitopper_plugins.dulwich.channel import Channel, Deadline, dial
from gitopper_plugins.dulwich.failures import DeniedError, UnusableError
from gitopper_plugins.dulwich.pkt import GarbledError, Mark, framed, readable
from gitopper_plugins.dulwich.protocol import Advertisement, Session, read_advertisement

__all__ = ["CommandTransport", "GitTransport", "SshAddress", "Transport", "git_environment", "parse_ssh"]

SAID_BYTES = 1024 * 1024
"""What a program that speaks for a server may write to any file: its complaints must not fill the disk."""

# What git itself calls its local variables: inherited from a hook, they would point it elsewhere.
_LOCAL_VARIABLES = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_CONFIG", "GIT_DIR", "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_NAMESPACE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX",
    "GIT_SHALLOW_FILE", "GIT_WORK_TREE",
)  # fmt: skip


class Transport(Protocol):
    """A way to one upstream, for any number of sessions, from any thread."""

    def session(self, access: Access, deadline: Deadline) -> contextlib.AbstractContextManager[Session]:
        """Connect, and read what the server says of itself.

        Raises:
            UnusableError: the server can't be reached, or is none; also DeniedError.
            OSError: the network failed; TimeoutError when the deadline passed.
            GarbledError: what it says is not git's protocol.
            RefusedError: it said no.
        """

    def close(self) -> None:
        """Drop connections that are kept for later."""


@define
class StreamSession:
    """A session over one stream, where answers follow requests."""

    channel: Channel
    reader: BinaryIO
    advertisement: Advertisement

    @contextlib.contextmanager
    def ask(self, request: bytes) -> Iterator[BinaryIO]:
        """Send `request`, and hand out the stream for its answer."""
        self.channel.sendall(request)
        yield self.reader

    @classmethod
    @contextlib.contextmanager
    def over(
        cls, sock: socket.socket, deadline: Deadline, greeting: bytes = b""
    ) -> Iterator[StreamSession]:
        """A session over `sock`, which is closed at its end."""
        with sock:
            channel = Channel(sock, deadline)
            if greeting:
                channel.sendall(greeting)
            with channel.makefile("rb") as reader:
                yield cls(channel, reader, read_advertisement(reader))
                # A flush in place of a request says goodbye; without it servers log an error.
                with contextlib.suppress(OSError):
                    channel.sendall(Mark.FLUSH.value)


@frozen(kw_only=True)
class GitTransport:
    """``git://host[:port]/path``: no encryption, no credentials."""

    host: str
    port: int
    path: str

    @contextlib.contextmanager
    def session(self, access: Access, deadline: Deadline) -> Iterator[Session]:  # noqa: ARG002
        """See `Transport`."""
        where = f"{self.host}:{self.port}"
        hello = f"git-upload-pack {self.path}\0host={where}\0\0version=2\0".encode()
        with StreamSession.over(dial(self.host, self.port, deadline), deadline, framed(hello)) as session:
            yield session

    def close(self) -> None:
        """Nothing is kept."""


@frozen(kw_only=True)
class SshAddress:
    """Where an ssh upstream is."""

    host: str
    path: str
    user: str | None = None
    port: int | None = None


def parse_ssh(upstream: str) -> SshAddress | None:
    """The parts of ``ssh://[user@]host[:port]/path`` or ``[user@]host:path``; None when it is neither."""
    if "://" in upstream:
        url = urllib.parse.urlsplit(upstream)
        if url.scheme != "ssh" or not url.hostname:
            return None
        path = urllib.parse.unquote(url.path)
        path = path[1:] if path.startswith("/~") else path
        user = urllib.parse.unquote(url.username) if url.username else None
        return SshAddress(host=url.hostname, path=path, user=user, port=url.port)
    found = re.fullmatch(r"(?:([^@/:]+)@)?(\[[^\]]+\]|[^/:@]+):([^:].*)", upstream)
    if not found:
        return None
    return SshAddress(host=found[2].strip("[]"), path=found[3], user=found[1])


@frozen(kw_only=True)
class CommandTransport:
    """A program that speaks for the server on its standard streams: ssh, or upload-pack itself."""

    upstream: str
    ssh: SshAddress | None = None
    """None for a repository of this host, at `path`."""
    path: str = ""

    @contextlib.contextmanager
    def session(self, access: Access, deadline: Deadline) -> Iterator[Session]:
        """See `Transport`."""
        argv = _ssh_argv(self.ssh, access, deadline) if self.ssh else _upload_pack_argv(self.path)
        # Not above: the fetcher has to do with a library of some megabytes only if an upstream takes ssh.
        from libgitopper import ended, spawn

        # One socket for both directions: then deadlines work as they do for a network connection.
        ours, theirs = socket.socketpair()
        with ours, theirs, os.fdopen(_nameless(), "w+b") as stderr:
            stream = theirs.fileno()
            with spawn(argv, stdin=stream, stdout=stream, stderr=stderr, env=git_environment()) as process:
                theirs.close()
                with contextlib.suppress(OSError):  # it has ended already
                    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (SAID_BYTES, SAID_BYTES))
                try:
                    with StreamSession.over(ours, deadline) as session:
                        yield session
                except (GarbledError, ConnectionError) as exc:
                    stderr.seek(0)
                    said = stderr.read(64 * 1024).decode(errors="replace")
                    raise self._explained(said, exc) from exc
                with contextlib.suppress(TimeoutError):
                    ended(process, min(1.0, deadline.remaining()))

    def close(self) -> None:
        """Nothing is kept."""

    def _explained(self, said: str, exc: Exception) -> UnusableError:
        words = [readable(line) for line in said.splitlines() if line.strip()]
        what = "; ".join(words[-3:]) or str(exc)
        if "Permission denied" in said and self.ssh:
            hint = "check `ssh_key`, and that the upstream knows its public half"
            return DeniedError(f"{self.upstream}: ssh was refused: {what}; {hint}")
        if "Host key verification failed" in said and self.ssh:
            hint = (
                f"add the key of {self.ssh.host} to /etc/ssh/ssh_known_hosts (ssh-keyscan shows it;"
                " compare it with what the host's owner tells)"
            )
            return DeniedError(f"{self.upstream}: its host key is not known or has changed; {hint}")
        return UnusableError(f"{self.upstream}: {what}")


def _nameless() -> int:
    """Open a file in memory that has no name, for what a program complains of.

    Not by `tempfile`: that first tries out a directory, and leaves that file when it is killed there.
    """
    try:
        return os.memfd_create("said")
    except PermissionError:  # the fetcher, which has a directory in memory
        from gitopper_plugins.dulwich import sandbox

        path = f"{sandbox.HOME}/{os.urandom(8).hex()}"
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.unlink(path)  # noqa: PTH108 - the fetcher has no need of pathlib for this
        return file


def _ssh_argv(address: SshAddress, access: Access, deadline: Deadline) -> list[str]:
    argv = shlex.split(os.environ.get("GIT_SSH_COMMAND", "")) or ["ssh"]
    seconds = max(1, int(deadline.remaining()))
    argv += ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={seconds}", "-o", "SendEnv=GIT_PROTOCOL"]
    if access.ssh_key:
        argv += ["-i", access.ssh_key, "-o", "IdentitiesOnly=yes"]
    if access.known_hosts:
        argv += ["-o", f"UserKnownHostsFile={access.known_hosts}"]
    if address.port:
        argv += ["-p", str(address.port)]
    user = address.user or access.user
    where = f"{user}@{address.host}" if user else address.host
    # "--": a host that begins with a dash is no option.
    return [*argv, "--", where, f"git-upload-pack {shlex.quote(address.path)}"]


def _upload_pack_argv(path: str) -> Sequence[str]:
    if git := shutil.which("git"):
        return [git, "upload-pack", "--timeout=600", path]
    return [sys.executable, "-m", "gitopper_plugins.dulwich.serve", path]


def git_environment() -> Mapping[str, str]:
    """Our environment, made fit for git: it asks for protocol 2, and points to no other repository.

    Systemd gives root's services no HOME. Where git refuses, it says what to set in there.
    """
    keep = {name: value for name, value in os.environ.items() if name not in _LOCAL_VARIABLES}
    keep.setdefault("HOME", os.path.expanduser("~"))  # noqa: PTH111 - the fetcher has no need of pathlib here
    return keep | {"GIT_PROTOCOL": "version=2", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
