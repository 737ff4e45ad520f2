"""Reload by a command of the operator's, for hosts and services without systemd."""

from __future__ import annotations

import os
import shlex

from libgitopper import CommandError, Reloaded, ReloadError, ReloadRequest, hookimpl, run

# What systemd gave the daemon for itself. A command that inherits it would speak in the daemon's name.
DAEMONS_OWN = (
    "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID",
    "JOURNAL_STREAM", "INVOCATION_ID", "MAINPID",
)  # fmt: skip


@hookimpl
def gitopper_reload(request: ReloadRequest) -> Reloaded | None:
    """Run the service's command, and take its exit code 0 for "the release was taken".

    Raises:
        ReloadError: there is no command, it could not start, failed, or ran out of time.
    """
    service = request.service
    if service.reload != "command":
        return None
    if not service.command:
        raise ReloadError(
            'reload = "command" without a command; write command = ["/path/of/program", "argument"]',
            retryable=False,
        )
    try:
        run(
            service.command,
            timeout_seconds=service.timeout_seconds,
            env=_environment(request),
        ).check()
    except CommandError as exc:
        raise ReloadError(_with_last_words(exc), retryable=exc.retryable) from exc
    return Reloaded(did=shlex.join(service.command))


def _environment(request: ReloadRequest) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in DAEMONS_OWN}
    return {
        **inherited,
        "GITOPPER_SERVICE": request.service.name,
        "GITOPPER_REVISION": request.release.content.revision,
        "GITOPPER_RELEASE": str(request.release.path),
        "GITOPPER_FIRST": "1" if request.first else "0",
    }


def _with_last_words(exc: CommandError) -> str:
    """Add what the command printed last, which the error of one that ran out of time lacks."""
    last = next((line.strip() for line in reversed(exc.output.splitlines()) if line.strip()), "")
    return f"{exc}; it said last: {last}" if last and exc.code is None else str(exc)
