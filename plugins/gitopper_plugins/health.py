"""Health: a unit that stays up, a port that accepts, a URL that answers, a command that ends well.

Everything that a service asks for must hold in the same probe. What only some of it needs is imported
where it is used: a host without health pays nothing for it.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterator
from typing import TypeAlias

from gitopper_plugins.command import DAEMONS_OWN
from libgitopper import (
    Accepted,
    CommandError,
    Health,
    HealthError,
    HealthRequest,
    ReloadError,
    hookimpl,
    run,
)

LAST_SECONDS = 0.05
"""What there is for the rest where one part of a probe has used up its time."""

WORDS_LIMIT = 300
"""Characters that are shown of what one part of a probe has seen."""

Look: TypeAlias = Callable[[HealthRequest, float], str]
"""Looks at one thing, within so many seconds; returns what is wrong, or nothing."""


@hookimpl
def gitopper_health(request: HealthRequest) -> Accepted | None:
    """Look once at everything that the service's health is made of.

    Raises:
        HealthError: some of it does not hold; the text tells which, and what was seen.
    """
    if request.service.health is None:
        return None
    until = time.monotonic() + request.timeout_seconds
    seen = [look(request, max(until - time.monotonic(), LAST_SECONDS)) for look in _looks(request)]
    if troubles := [_one_line(words) for words in seen if words]:
        raise HealthError("; ".join(troubles))
    return Accepted(judged=("health",))


def _looks(request: HealthRequest) -> Iterator[Look]:
    """What is to be looked at; what answers soonest comes first."""
    wanted = _wanted(request)
    looks = ((wanted.unit, _unit), (wanted.tcp, _tcp), (wanted.http, _http), (wanted.command, _command))
    return (look for given, look in looks if given)


def _unit(request: HealthRequest, seconds: float) -> str:
    from gitopper_plugins._units import PROPERTIES, Unit, unit_name

    try:
        name = unit_name(request.service)
    except ReloadError as exc:
        return str(exc)
    argv = ("systemctl", "--no-pager", "show", f"--property={','.join(PROPERTIES)}", "--", name)
    try:
        unit = Unit.parse(name, run(argv, timeout_seconds=round(seconds, 2)).check().output)
    except CommandError as exc:
        why = _last_words(exc) or str(exc).removeprefix(f"{shlex.join(argv)}: ")
        return f"unit {name}: systemctl show: {why}"
    if not unit.runs:
        return f"unit {name} is {unit.state}"
    # Only so a unit is found out that fails and is started again, over and over.
    after = unit.up_since / 1e6 - request.since_monotonic
    return f"unit {name} was started again {after:.1f}s after its reload" if after > 0 else ""


def _tcp(request: HealthRequest, seconds: float) -> str:
    from gitopper_plugins._channel import Deadline, dial, reason

    where = _wanted(request).tcp
    host, _, port = where.rpartition(":")
    try:
        dial(host.removeprefix("[").removesuffix("]"), int(port), Deadline.after(seconds)).close()
    except (OSError, ValueError, OverflowError) as exc:
        return f"tcp {where}: {reason(exc, seconds)}"
    return ""


def _http(request: HealthRequest, seconds: float) -> str:
    from gitopper_plugins._http import look

    return look(_wanted(request).http, seconds)


def _command(request: HealthRequest, seconds: float) -> str:
    try:
        run(_wanted(request).command, timeout_seconds=round(seconds, 2), env=_environment(request)).check()
    except CommandError as exc:
        said = _last_words(exc)
        return f"{exc}; it said last: {said}" if said and exc.code is None else str(exc)
    return ""


def _environment(request: HealthRequest) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in DAEMONS_OWN}
    return {
        **inherited,
        "GITOPPER_SERVICE": request.service.name,
        "GITOPPER_REVISION": request.release.content.revision,
        "GITOPPER_RELEASE": str(request.release.path),
    }


def _wanted(request: HealthRequest) -> Health:
    return request.service.health or Health()


def _last_words(exc: CommandError) -> str:
    return next((line.strip() for line in reversed(exc.output.splitlines()) if line.strip()), "")


def _one_line(text: str) -> str:
    """Return `text` as it can stand beside a state: printable, and not too long."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= WORDS_LIMIT else f"{line[: WORDS_LIMIT - 1]}…"
