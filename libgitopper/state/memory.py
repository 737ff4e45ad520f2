"""What the state store remembers of revisions: which were accepted, and which contents were rejected."""

from __future__ import annotations

from datetime import datetime

from libgitopper.model import Source
from libgitopper.records import Rejection
from libgitopper.state.history import History

__all__ = ["Memory"]

KEPT_REJECTIONS = 50
"""For each service; the oldest go first."""


class Memory(History):
    """The part of the state store that remembers verdicts."""

    def accepted(self, service: str, source: Source) -> str | None:
        """Return the revision of `source` that was last accepted for `service`; None for none."""
        row = self._one(
            "SELECT revision FROM accepted WHERE service = ? AND upstream = ? AND branch = ?",
            service, source.upstream, source.branch,
        )  # fmt: skip
        return str(row[0]) if row else None

    def accept(self, service: str, source: Source, revision: str) -> None:
        """Persist that `revision` was accepted: it is verified, and history may go on from there."""
        with self._write() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO accepted (service, upstream, branch, revision) VALUES (?, ?, ?, ?)",
                (service, source.upstream, source.branch, revision),
            )

    def rejection(self, service: str, release: str, fingerprint: str) -> Rejection | None:
        """Return why a release was rejected under these settings; None where it was not."""
        row = self._one(
            "SELECT revision, step, reason, at FROM rejection"
            " WHERE service = ? AND release = ? AND fingerprint = ?",
            service, release, fingerprint,
        )  # fmt: skip
        if row is None:
            return None
        with self._translated("read"):
            revision, step, reason, at = row
            return Rejection(
                service=service, release=release, revision=revision, fingerprint=fingerprint, step=step,
                reason=reason, at=datetime.fromisoformat(at),
            )  # fmt: skip

    def reject(self, rejection: Rejection) -> None:
        """Persist that a release is not to be tried again."""
        with self._write() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO rejection"
                " (service, release, revision, fingerprint, step, reason, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    rejection.service, rejection.release, rejection.revision, rejection.fingerprint,
                    rejection.step, rejection.reason, rejection.at.isoformat(),
                ),
            )  # fmt: skip
            connection.execute(
                "DELETE FROM rejection WHERE service = ?1 AND rowid NOT IN"
                " (SELECT rowid FROM rejection WHERE service = ?1 ORDER BY rowid DESC LIMIT ?2)",
                (rejection.service, KEPT_REJECTIONS),
            )

    def pardon(self, service: str, revision: str | None = None) -> int:
        """Persist that what was rejected for `service` may be tried again; return how much it was.

        With `revision`, only what that commit brought.
        """
        with self._write() as connection:
            return connection.execute(
                "DELETE FROM rejection WHERE service = ?1 AND (?2 IS NULL OR revision = ?2)",
                (service, revision),
            ).rowcount
