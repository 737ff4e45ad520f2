"""What the state store remembers of the past: each deploy, and the drift that was found."""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime
from typing import Any

from libgitopper.records import Deploy, DriftRecord, Result
from libgitopper.state import codec
from libgitopper.state.audit import AuditTrail

__all__ = ["History"]

KEPT_DEPLOYS = 200
KEPT_DRIFTS = 20
"""How many of each stay for a service; the oldest go first."""
KEPT_DRIFT_BYTES = 32 * 1024 * 1024
"""How much of it stays for a service in all; the newest stays, whatever it is. Who may write to published
files, as a service that logs there, makes more of it at each pass."""
OPERATORS = " by "
"""In what an operator asked for, as ``retry by alice (uid 1000)``."""

_DEPLOY = "at, before, after, release, asked, why, files, files_total, seconds, result, error, tries, last"


class History(AuditTrail):
    """The part of the state store that an operator asks for what happened."""

    def add_deploy(self, deploy: Deploy) -> None:
        """Persist a try to deploy; one that failed just as the one before it only raises its count.

        One that an operator asked for counts with those that the same operator asked for. Whatever else
        tries again, as a poll or another configuration, tries what was asked for before.
        """
        with self._write() as connection:
            self._enter_deploy(connection, deploy)

    def _enter_deploy(self, connection: sqlite3.Connection, deploy: Deploy) -> None:
        last = connection.execute(
            "SELECT id, after, release, result, error, asked FROM deploy WHERE service = ?"
            " ORDER BY id DESC LIMIT 1",
            (deploy.service,),
        ).fetchone()
        same = last is not None and last[1:5] == _kind(deploy)
        if deploy.error and same and (deploy.asked == last[5] or OPERATORS not in deploy.asked):
            connection.execute(
                "UPDATE deploy SET tries = tries + 1, last = ?, seconds = ? WHERE id = ?",
                (deploy.at.isoformat(), json.dumps(dict(deploy.seconds)), last[0]),
            )
        else:
            self._add(connection, deploy)

    def deploys(self, service: str, limit: int = KEPT_DEPLOYS) -> tuple[Deploy, ...]:
        """Return the last `limit` deploys of a service, newest first."""
        rows = self._all(
            f"SELECT {_DEPLOY} FROM deploy WHERE service = ? ORDER BY id DESC LIMIT ?",  # noqa: S608 - ours
            service, limit,
        )  # fmt: skip
        with self._translated("read"):
            return tuple(_deploy(service, row) for row in rows)

    def keep_drift(self, record: DriftRecord) -> bool:
        """Persist drift, unless it is what was found last; return whether it is new.

        Of what was found before, as much stays as `KEPT_DRIFTS` and `KEPT_DRIFT_BYTES` allow.
        """
        changes = codec.dump_changes(record.changes)
        with self._write() as connection:
            last = connection.execute(
                "SELECT release, patch, healed FROM drift WHERE service = ? ORDER BY id DESC LIMIT 1",
                (record.service,),
            ).fetchone()
            if last == (record.release, record.patch, 0):
                return False
            # Before the new one, which then takes their room in the file.
            connection.execute(
                "DELETE FROM drift WHERE service = ?1 AND id NOT IN (SELECT id FROM"
                " (SELECT id, row_number() OVER newer AS place,"
                " sum(length(patch) + length(changes)) OVER newer AS bytes"
                " FROM drift WHERE service = ?1 WINDOW newer AS (ORDER BY id DESC))"
                " WHERE place < ?2 AND bytes <= ?3)",
                (record.service, KEPT_DRIFTS, KEPT_DRIFT_BYTES - len(record.patch) - len(changes)),
            )
            connection.execute(
                "INSERT INTO drift (service, release, revision, at, changes, patch, complete, healed)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    record.service, record.release, record.revision, record.at.isoformat(),
                    changes, record.patch, record.complete, record.healed,
                ),
            )  # fmt: skip
        self._give_back()
        return True

    def drifts(self, service: str, limit: int = KEPT_DRIFTS) -> tuple[DriftRecord, ...]:
        """Return the last `limit` drifts of a service, newest first."""
        rows = self._all(
            "SELECT release, revision, at, changes, patch, complete, healed FROM drift WHERE service = ?"
            " ORDER BY id DESC LIMIT ?",
            service, limit,
        )  # fmt: skip
        with self._translated("read"):
            return tuple(_drift(service, row) for row in rows)

    def _heal(self, connection: sqlite3.Connection, service: str, release: str) -> None:
        connection.execute(
            "UPDATE drift SET healed = 1 WHERE service = ? AND release = ?", (service, release)
        )

    def _add(self, connection: sqlite3.Connection, deploy: Deploy) -> None:
        connection.execute(
            f"INSERT INTO deploy (service, {_DEPLOY})"  # noqa: S608 - ours
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                deploy.service, deploy.at.isoformat(), deploy.before, deploy.after, deploy.release,
                deploy.asked, deploy.why, codec.dump_changes(deploy.files), deploy.files_total,
                json.dumps(dict(deploy.seconds)), deploy.result.value, deploy.error, deploy.tries,
                deploy.last.isoformat() if deploy.last else None,
            ),
        )  # fmt: skip
        connection.execute(
            "DELETE FROM deploy WHERE service = ?1 AND id <="
            " (SELECT id FROM deploy WHERE service = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
            (deploy.service, KEPT_DEPLOYS),
        )


def _kind(deploy: Deploy) -> tuple[str, ...]:
    return deploy.after, deploy.release, deploy.result.value, deploy.error


def _deploy(service: str, row: tuple[Any, ...]) -> Deploy:
    at, before, after, release, asked, why, files, total, seconds, result, error, tries, last = row
    return Deploy(
        service=service, at=datetime.fromisoformat(at), before=before, after=after, release=release,
        asked=asked, why=why, files=codec.load_changes(files), files_total=total,
        seconds=json.loads(seconds), result=Result(result), error=error, tries=tries,
        last=datetime.fromisoformat(last) if last else None,
    )  # fmt: skip


def _drift(service: str, row: tuple[Any, ...]) -> DriftRecord:
    release, revision, at, changes, patch, complete, healed = row
    return DriftRecord(
        service=service, release=release, revision=revision, at=datetime.fromisoformat(at),
        changes=codec.load_changes(changes), patch=patch, complete=bool(complete), healed=bool(healed),
    )  # fmt: skip
