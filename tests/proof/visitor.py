"""Somebody who visits a daemon that runs: asks it for something, and remembers what it acknowledged."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

from attrs import define, field

from tests.proof.heldup import GoneError, HeldUp
from tests.proof.victim import Host

__all__ = ["Visitor"]

PATIENCE_SECONDS = 20.0
_STEP_SECONDS = 0.01


@define(kw_only=True)
class Visitor:
    """One visit. `receive` is called in a thread; the rest of it is for `errand`."""

    host: Host
    errand: Callable[[Visitor], None]
    """What there is to do; until then nothing counts."""
    acknowledged: list[str] = field(factory=list)
    """What the daemon said yes to."""
    trouble: str = ""
    """Why the visit failed although the daemon was there."""
    _held: HeldUp = field(init=False)

    def receive(self, held: HeldUp) -> None:
        """Wait until the daemon is ready; do the errand; wait for its end; stop the daemon."""
        self._held = held
        try:
            self.until(self._is_ready, "ready")
            held.quiet()
            held.counts = True
            self.errand(self)
            held.quiet()
        except GoneError:
            return
        except Exception as exc:  # noqa: BLE001 - it is told by whoever reads it
            self.trouble = f"{type(exc).__name__}: {exc}"
        with contextlib.suppress(ProcessLookupError):
            os.kill(held.pid, signal.SIGTERM)

    def post(self, path: str) -> None:
        """Ask for something.

        Raises:
            GoneError: the daemon ended before it answered.
        """
        status = self._ask("POST", path)
        assert status in {200, 202}, f"POST {path}: {status}"
        self.acknowledged.append(path)

    def hang_up(self) -> None:
        """Have it load its configuration again."""
        self._held.check()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._held.pid, signal.SIGHUP)

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until `holds`.

        Raises:
            GoneError: the daemon ended before that.
        """
        until = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            assert time.monotonic() < until, f"it never came to this: {what}"
            time.sleep(_STEP_SECONDS)
            self._held.check()

    def shows(self, version: str, place: str = "etc") -> None:
        """Wait until the service shows a version."""

        def holds() -> bool:
            path = self.host.home / place / "web.conf"
            return path.exists() and path.read_text().strip() == version

        self.until(holds, f"{place}/web.conf shows {version}")

    def _is_ready(self) -> bool:
        return self.host.socket.exists() and self._ask("GET", "/readyz") == 200

    def _ask(self, method: str, path: str) -> int | None:
        """Return the status of the answer; None while nobody listens yet."""
        connection = _Connection(self.host.socket)
        try:
            connection.request(method, path)
            return connection.getresponse().status
        except (ConnectionRefusedError, FileNotFoundError):
            if method == "GET":
                return None
            raise GoneError from None
        except (OSError, http.client.HTTPException):
            self._wait_for_end()
            raise GoneError from None
        finally:
            connection.close()

    def _wait_for_end(self) -> None:
        """The connection was cut: then the daemon has ended, or is about to."""
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until and self._held.ended is None:
            time.sleep(_STEP_SECONDS)
        assert self._held.ended is not None, "it hung up, and went on"


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
