"""systemd's notification protocol: readiness, status, watchdog. Silent where systemd did not start us.

Source: sd_notify(3), sd_watchdog_enabled(3).
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Mapping, MutableMapping

__all__ = ["Notifier"]

log = logging.getLogger(__name__)


class Notifier:
    """Tells the service manager how we are.

    It takes the manager's variables out of `environ`: they are for this process, and a program that
    it runs would speak for it.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._watchdog_seconds = _watchdog_seconds(environ)
        self._address = environ.pop("NOTIFY_SOCKET", "")
        for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
            environ.pop(name, None)

    def send(self, *assignments: str) -> None:
        """Send such as ``READY=1``; a manager that does not listen is no reason to fail."""
        if not self._address:
            return
        # A leading @ stands for the NUL byte of an abstract socket's name.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.connect(address)
                channel.sendall("\n".join(assignments).encode())
        except OSError as exc:
            log.warning("the service manager can't be told %s: %s", assignments[0], exc)

    def reloading(self) -> None:
        """Tell that the configuration is loaded again; `ready` must follow, however that ends."""
        # The time tells the manager which of its requests this answers (Type=notify-reload).
        self.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def ready(self, services: int | None) -> None:
        """Tell that we work, with so many services; None: as many as before."""
        status = () if services is None else (f"STATUS={services} services",)
        self.send("READY=1", *status)

    async def watchdog(self) -> None:
        """Ping from the event loop, twice in each period: a loop that hangs stops the pings."""
        if self._watchdog_seconds is None:
            return
        while True:
            self.send("WATCHDOG=1")
            await asyncio.sleep(self._watchdog_seconds / 2)


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdigit() and int(microseconds) else None
