"""The user's own `ssh`, to reach the Unix socket of another machine.

A forwarded socket needs no program on the other side, and no port. What the user's ssh
configuration says (names, keys, agent, jump hosts) holds as ever; what would only be in the way of
a connection that lives for one question is switched off.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from gitopperd.ctl.errors import AskError
from gitopperd.ctl.places import Through
from gitopperd.ctl.text import visible

__all__ = ["Tunnel"]

GRACE_SECONDS = 2.0
LOOK_AGAIN_SECONDS = 0.02
WORDS_LIMIT_BYTES = 64 << 10
WORDS_LINES = 3
# In these paths ssh takes ":" for the end, and "%", "$" and "~" for something to put in their place.
SOCKET = re.compile(r"/[\w@+,./=-]*", re.ASCII)
OPTIONS = (
    # A shared connection would keep our socket after we are gone, or end up as somebody's master.
    "ControlPath=none",
    "ForwardAgent=no",
    "ForwardX11=no",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
    # The user's own forwardings for that host may have their ports taken by a session that is open.
    # Whether ours came about is seen in its socket.
    "ExitOnForwardFailure=no",
)


class Tunnel:
    """A Unix socket here, in a directory of its own, that leads to the one of `place`.

    `close` may be called by any thread and at any time, and leaves nothing behind.
    """

    def __init__(self, place: Through, *, timeout_seconds: float, interactive: bool) -> None:
        self._place = place
        self._timeout_seconds = timeout_seconds
        self._interactive = interactive
        self._lock = threading.Lock()
        self._closed = False
        self._directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def open(self, wait_seconds: float) -> str:
        """Start ssh, wait until it is through, and return the path of the socket here.

        Raises:
            AskError: ssh gave up; the text has its own words.
            TimeoutError: It was not through in time.
        """
        if not SOCKET.fullmatch(self._place.socket):
            raise AskError("ssh", f"ssh can't forward {self._place.socket!r}; its name has a strange sign")
        path, process = self._start()
        deadline = time.monotonic() + wait_seconds
        while not _is_listening(path):
            if process.poll() is not None:
                raise self._failed(process.returncode)
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(LOOK_AGAIN_SECONDS)
        return path

    def cut_off(self) -> AskError:
        """Return the error for a connection through the tunnel that ended before anything was said."""
        words = self._words()
        said = f" (ssh: {words})" if words else ""
        # sshd gives the same answer to a socket that is not there and one that it does not allow.
        return AskError(
            "ssh",
            f"ssh got through, but not to {self._place.socket} there{said}; is gitopperd running there,"
            " may the user that ssh logs in as use that socket, and does its sshd allow"
            " AllowStreamLocalForwarding?",
        )

    def close(self) -> None:
        """End ssh, and remove what was made for it."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._end(self._process)
            if self._directory is not None:
                shutil.rmtree(self._directory, ignore_errors=True)

    def _start(self) -> tuple[str, subprocess.Popen[bytes]]:
        with self._lock:
            if self._closed:
                raise TimeoutError
            self._directory = Path(tempfile.mkdtemp(prefix="gitopperctl-", dir=_short_directory()))
            path = str(self._directory / "sock")
            with (self._directory / "words").open("wb") as words:
                try:
                    self._process = subprocess.Popen(
                        self._argv(path),
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=None if self._interactive else words,
                        # To ask for a password, ssh must stay in the foreground of our terminal.
                        start_new_session=not self._interactive,
                    )
                except OSError as exc:
                    why = (
                        "there is no ssh here; install it"
                        if isinstance(exc, FileNotFoundError)
                        else str(exc)
                    )
                    raise AskError("ssh", f"can't start ssh: {why}") from exc
            return path, self._process

    def _argv(self, path: str) -> list[str]:
        ssh = self._place.ssh
        options = [
            *OPTIONS,
            f"BatchMode={'no' if self._interactive else 'yes'}",
            # INFO tells why a socket there can't be reached, but also shows banners, which belong
            # into an error's text and not onto a terminal.
            f"LogLevel={'ERROR' if self._interactive else 'INFO'}",
            f"ConnectTimeout={max(1, round(self._timeout_seconds))}",
        ]
        argv = ["ssh", "-N", "-T", *(word for option in options for word in ("-o", option))]
        argv += ["-L", f"{path}:{self._place.socket}"]
        argv += ["-p", str(ssh.port)] if ssh.port else []
        argv += ["-l", ssh.user] if ssh.user else []
        # Should we be killed in a way that leaves no time to end ssh, the kernel does.
        guard = ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else []
        return [*guard, *argv, "--", ssh.name]

    def _failed(self, code: int) -> AskError:
        words = self._words()
        by_hand = f"ssh {f'-p {self._place.ssh.port} ' if self._place.ssh.port else ''}{self._place.ssh}"
        if self._interactive:
            return AskError(
                "ssh", f"ssh gave up (exit code {code}), and said why above; does `{by_hand}` work?"
            )
        # Several hosts at once can't each ask for a password, and a script can't answer.
        return AskError(
            "ssh",
            f"ssh gave up: {words or f'exit code {code}'}; see to it that `{by_hand}` works without asking"
            " anything (host key accepted, key in the agent)",
        )

    def _words(self) -> str:
        """Return the last of what ssh said, on one line."""
        if self._directory is None:
            return ""
        with contextlib.suppress(OSError), (self._directory / "words").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - WORDS_LIMIT_BYTES))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
            return visible("; ".join([line for line in lines if line][-WORDS_LINES:]))
        return ""

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Ask it to end, and its jump hosts with it; then make it."""
        if process.poll() is None:
            self._signal(process, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_SECONDS)
        if process.poll() is None or not self._interactive:
            self._signal(process, signal.SIGKILL)
        process.wait()

    def _signal(self, process: subprocess.Popen[bytes], number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self._interactive:
                process.send_signal(number)
            else:
                os.killpg(process.pid, number)


def _short_directory() -> str:
    """Return where sockets are made: their paths have room for 107 bytes, and some TMPDIR are long."""
    directory = tempfile.gettempdir()
    return directory if len(os.fsencode(directory)) < 60 and SOCKET.fullmatch(directory) else "/tmp"  # noqa: S108


def _is_listening(path: str) -> bool:
    # To connect would open a channel to the other side, for nothing.
    return os.path.exists(path)  # noqa: PTH110
