"""Values of everything that the state keeps, with something in every field."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from attrs import evolve

from libgitopper import (
    Attempt,
    ChangeKind,
    Content,
    Credentials,
    Deploy,
    Deployed,
    DriftRecord,
    FileChange,
    Intent,
    IntentKind,
    Mapping,
    Rejection,
    Result,
    Service,
    Source,
    TreeEntry,
)

THEN = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
A, B = "a" * 40, "b" * 40
SERVICE = Service(
    name="web",
    source=Source(
        upstream="https://example.net/r",
        branch="main",
        credentials=Credentials(
            userinfo="me:hunter2", file=Path("/etc/secret-file"), ssh_key=Path("/etc/secret-key")
        ),
    ),
    mappings=(
        Mapping(link="web/größe", local=Path("/etc/web dir")),
        Mapping(link="cert.pem", local=Path("/etc/cert.pem"), file=True),
    ),
    mount=Path("/mount"),
    user="nobody",
    publish="symlink",
    readonly=True,
    command=("reload", "--token", "hunter3"),
)
CONTENT = Content(
    revision=A,
    entries=(
        TreeEntry(link="web/größe", id="1" * 40, mode=0o040000),
        TreeEntry(link="cert.pem", id="2" * 40, mode=0o100644),
    ),
)
DEPLOYED = Deployed(revision=A, release="r1", content=CONTENT, service=SERVICE, at=THEN, note="a note")
ATTEMPT = Attempt(revision=B, release="r2", content=evolve(CONTENT, revision=B), service=SERVICE)
FREEZE = Intent(kind=IntentKind.FREEZE, since=THEN)
CHANGES = (
    FileChange(path="web/größe/\udcff", kind=ChangeKind.EDITED),
    FileChange(path="web/mode", kind=ChangeKind.MODE, detail="0600 instead of 0644"),
)
REJECTION = Rejection(
    service="web", release="r2", revision=B, fingerprint="f" * 16, step="check",
    reason="nginx: [emerg] größe", at=THEN,
)  # fmt: skip
DEPLOY = Deploy(
    service="web", at=THEN, before=A, after=B, release="r2", asked="poll", why="mapped paths changed: web",
    files=CHANGES, files_total=2, seconds={"verify": 0.5, "checkout": 1.25, "reload": 0.001},
    result=Result.FAILED, error="exit code 1",
)  # fmt: skip
DRIFT = DriftRecord(
    service="web",
    release="r1",
    revision=A,
    at=THEN,
    changes=CHANGES,
    patch=b"--- a\n+++ b\n\xff\x00",
    complete=False,
)
