"""Services as the API shows them: one, and all of them."""

from __future__ import annotations

from datetime import UTC, datetime

from gitopperd.plaintext import as_json
from gitopperd.work.daemon import Daemon
from libgitopper import Identity, Intent, IntentKind, Role, Status

__all__ = ["Listing", "member", "rfc3339"]


class Listing:
    """The list of all services, kept as it is sent until anything on the board is another."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._kept: tuple[int, bytes] | None = None

    def text(self, asker: Identity) -> bytes:
        """Return what `asker` may see of it, as JSON on one line."""
        board = self._daemon.board
        if not asker.may_everywhere(Role.READ):
            return self._text([status for status in board if asker.may(Role.READ, status.service)])
        if self._kept is None or self._kept[0] != board.version:
            self._kept = board.version, self._text(list(board))
        return self._kept[1]

    def _text(self, statuses: list[Status]) -> bytes:
        members = [member(self._daemon, status) for status in statuses]
        return f"{as_json({'services': members})}\n".encode()


def member(daemon: Daemon, status: Status) -> dict[str, object]:
    """Return a service as the API shows it. `change` is RFC 1123, as clients have always read it."""
    name = status.service
    source = daemon.service(name).source
    told: dict[str, object] = {
        "service": name,
        "hash": status.hash,
        "state": status.state.value,
        "stateinfo": status.info,
        **_wanted(daemon.board.intent(name)),
        "change": status.change.strftime("%a, %d %b %Y %H:%M:%S UTC"),
        "upstream": source.upstream,
        "branch": source.branch,
    }
    if waits := daemon.board.waits(name):
        told["waits"] = waits
    return told


def _wanted(intent: Intent) -> dict[str, str]:
    """Who froze a service or rolled it back, until when and why; as far as it is known."""
    if intent.kind is IntentKind.TRACK:
        return {}
    members = {"reason": intent.reason, "until": rfc3339(intent.until), "by": intent.by}
    return {name: value for name, value in members.items() if value}


def rfc3339(time: datetime | None) -> str:
    """Return a time in UTC as ``2026-11-22T15:00:00Z``; empty for none."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if time else ""
