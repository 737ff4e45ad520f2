"""The state that an operator is shown: derived from what is wanted and what was seen; pure."""

from __future__ import annotations

from datetime import UTC, datetime

from attrs import frozen

from libgitopper.errors import CheckoutError, GitopperError, SourceError
from libgitopper.model import Attempt, Deployed, Intent, IntentKind, State
from libgitopper.requests import Drift

__all__ = ["SourceHealth", "derive", "drifted", "joined", "one_line"]

SHORT = 12


@frozen(kw_only=True)
class SourceHealth:
    """How the last poll of an upstream went."""

    polled: bool = False
    """False until the first poll has ended, well or not."""
    error: str | None = None
    """Why the last poll failed; None when it went well."""
    last_success: datetime | None = None
    """UTC; None when it never went well since the start."""


def derive(
    *,
    intent: Intent,
    deployed: Deployed | None,
    tip: str | None,
    source: SourceHealth,
    branch: str,
    error: GitopperError | None,
    waits: str = "",
    drift: Drift | None = None,
    unfinished: Attempt | None = None,
) -> tuple[State, str]:
    """Return the state and, in one line, why. A failure of the last pass outweighs all else.

    Args:
        intent: what the operator wants.
        deployed: what the service took.
        tip: the tip of its branch, where it is known.
        source: how the last poll went.
        branch: its branch.
        error: why the last pass failed.
        waits: what a commit that is not deployed yet waits for.
        drift: how the published files differ from their revision.
        unfinished: what is published, where the service has not taken that.
    """
    if error is not None:
        state = State.DIFF if isinstance(error, SourceError | CheckoutError) else State.BROKEN
        what = one_line(str(error)) or type(error).__name__
        return state, joined(_wanted(intent, deployed), what, _source_note(source, error))
    if unfinished is not None:
        told = f"{unfinished.revision[:SHORT]} is published, and its deploy is not finished"
        return _on_the_way(intent, told, source)
    state, info = _without_error(intent, deployed, tip, source, branch, waits)
    if drift is not None and drift.changes:
        told = info if state is not State.OK else ""
        state, info = State.DIFF, joined(drifted(drift), told)
    return state, one_line(info)


def _on_the_way(intent: Intent, told: str, source: SourceHealth) -> tuple[State, str]:
    note = _source_note(source, None)
    if intent.kind is IntentKind.ROLLBACK:
        return State.ROLLBACK, one_line(joined(f"to {intent.revision}", told, note))
    return State.DIFF, one_line(joined(_wanted(intent, None), told, note))


def _without_error(
    intent: Intent,
    deployed: Deployed | None,
    tip: str | None,
    source: SourceHealth,
    branch: str,
    waits: str,
) -> tuple[State, str]:
    if intent.kind is IntentKind.FREEZE:
        if deployed is None:
            return State.DIFF, "frozen before its first deploy: nothing is published"
        return State.FREEZE, joined(_frozen(intent), deployed.note)
    if intent.kind is IntentKind.ROLLBACK:
        if deployed and deployed.revision == intent.revision:
            return State.FREEZE, joined(f"ROLLBACK: {intent.revision}", deployed.note)
        return State.ROLLBACK, joined(f"to {intent.revision}", _source_note(source, None))
    return _tracking(deployed, tip, source, branch, waits)


def _tracking(
    deployed: Deployed | None, tip: str | None, source: SourceHealth, branch: str, waits: str
) -> tuple[State, str]:
    if not source.polled:
        return State.DIFF, "not fetched yet"
    if source.error is not None:
        return State.DIFF, _source_note(source, None)
    if tip is None:
        where = f"; stays at {deployed.revision[:SHORT]}" if deployed else ""
        return State.DIFF, f"upstream has no branch {branch!r}{where}"
    if deployed is None or deployed.revision != tip:
        return (
            State.DIFF,
            f"{tip[:SHORT]} waits: {waits}" if waits else f"{tip[:SHORT]} is not deployed yet",
        )
    return State.OK, deployed.note


def drifted(drift: Drift) -> str:
    """Tell of drift, as ``drift: nginx.conf edited, and 2 more files``."""
    first, more = drift.changes[0], len(drift.changes) - 1
    others = f", and {more} more file{'s' if more > 1 else ''}" if more else ""
    left = "" if drift.complete else "; too large to be kept as a patch"
    return f"drift: {first.path} {first.kind.value}{others}{left}"


def _wanted(intent: Intent, deployed: Deployed | None) -> str:
    """What an operator asked for, beside what failed."""
    if intent.kind is IntentKind.ROLLBACK:
        to = (intent.revision or "nothing")[:SHORT]
        done = deployed is not None and deployed.revision == intent.revision
        return f"rolled back to {to}" if done else f"rollback to {to} failed"
    return _frozen(intent) or "frozen" if intent.kind is IntentKind.FREEZE else ""


def _frozen(intent: Intent) -> str:
    """Who froze it, until when and why, as ``frozen by alice until 2026-11-22T15:00Z: upgrade``."""
    by = f" by {intent.by}" if intent.by else ""
    until = f" until {_instant(intent.until)}" if intent.until else ""
    why = f": {intent.reason}" if intent.reason else ""
    return f"frozen{by}{until}{why}" if by or until or why else ""


def _instant(time: datetime) -> str:
    """A time in UTC to the second; without its seconds where they are zero."""
    time = time.astimezone(UTC)
    return time.strftime("%Y-%m-%dT%H:%M:%SZ" if time.second else "%Y-%m-%dT%H:%MZ")


def _source_note(source: SourceHealth, error: GitopperError | None) -> str:
    """The upstream's trouble, where it is not the very error that is shown already."""
    if source.error is None or isinstance(error, SourceError):
        return ""
    return one_line(source.error) or "upstream can't be polled"


def joined(*parts: str) -> str:
    """Return the parts that say something as one text."""
    return "; ".join(part for part in parts if part)


def one_line(text: str) -> str:
    """Return `text` as one line that is safe to print: no control characters, no runs of white space."""
    printable = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(printable.split())
