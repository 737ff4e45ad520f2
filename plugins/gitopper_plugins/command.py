"""Reload by a command of the operator's, for hosts and services without systemd."""

from __future__ import annotations

import shlex

from gitopper_plugins._programs import DAEMONS_OWN, environment, last_words
from libgitopper import CommandError, Reloaded, ReloadError, ReloadRequest, hookimpl, run

__all__ = ["DAEMONS_OWN", "gitopper_reload"]


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
            env=environment(service, request.release, GITOPPER_FIRST="1" if request.first else "0"),
        ).check()
    except CommandError as exc:
        raise ReloadError(_with_last_words(exc), retryable=exc.retryable) from exc
    return Reloaded(did=shlex.join(service.command))


def _with_last_words(exc: CommandError) -> str:
    """Add what the command printed last, which the error of one that ran out of time lacks."""
    said = last_words(exc.output) if exc.code is None else ""
    return f"{exc}; it said last: {said}" if said else str(exc)
