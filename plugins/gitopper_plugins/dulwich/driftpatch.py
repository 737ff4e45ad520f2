"""Drift as a patch, from what the revision has to what is there.

What a patch can't tell, owners and other bits than those of git, stands in lines before its first diff;
`git apply` skips them. Content that can't be in it makes it incomplete, and is named there, too.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence

from attrs import evolve, frozen

from gitopper_plugins.dulwich import ondisk
from gitopper_plugins.dulwich.blobs import bring_blobs
from gitopper_plugins.dulwich.compare import Version
from gitopper_plugins.dulwich.findings import Finding
from gitopper_plugins.dulwich.objects import BLOB, Objects
from gitopper_plugins.dulwich.patch import LIMIT_BYTES, Side, comment, file_patch, quoted
from gitopper_plugins.dulwich.store import SharedStore
from gitopper_plugins.dulwich.tree import SUBMODULE
from libgitopper import ChangeKind, CheckoutError, Drift, Service, SourceError

__all__ = ["written"]

log = logging.getLogger(__name__)

FETCH_SECONDS = 10.0
"""How long to wait for former contents that the store lacks. The patch can do without."""


@frozen
class _Part:
    """What a patch says of one path."""

    diff: bytes = b""
    missing: str = ""
    """Why its content is not there; empty when it is."""


def written(store: SharedStore, service: Service, top: int, findings: Sequence[Finding]) -> Drift:
    """The findings, with their patch; `top` is a descriptor of the release.

    Raises:
        ondisk.Moved: something changed since it was found.
    """
    _bring(store, service, findings)
    diffs: list[bytes] = []
    remarks: list[bytes] = []
    room, complete = LIMIT_BYTES, True
    for finding in findings:
        part = _part(store.objects, top, finding, room)
        diffs.append(part.diff)
        room -= len(part.diff)
        complete = complete and not (part.missing or finding.lost)
        remarks += _remarks(finding, part)
    text = b"".join(diffs)
    if remarks:
        text = comment(b"Not told by this patch:\n" + b"\n".join(remarks)) + text
    return Drift(changes=tuple(finding.change for finding in findings), patch=text, complete=complete)


def _remarks(finding: Finding, part: _Part) -> Iterable[bytes]:
    name = quoted(os.fsencode(finding.change.path))
    return [name + b": " + os.fsencode(why) for why in (finding.untold, part.missing) if why]


def _bring(store: SharedStore, service: Service, findings: Iterable[Finding]) -> None:
    blobs = [it.before.id for it in findings if it.before and it.before.mode != SUBMODULE]
    try:
        bring_blobs(
            store, blobs, evolve(service, timeout_seconds=min(service.timeout_seconds, FETCH_SECONDS))
        )
    except (SourceError, CheckoutError) as exc:
        log.info("%s: the patch of its drift can't show what was there before: %s", service.name, exc)


def _part(objects: Objects, top: int, finding: Finding, room: int) -> _Part:
    try:
        after = _after(top, finding)
    except OSError as exc:
        return _Part(missing=f"it can't be read: {exc.strerror or exc}")
    except _TooLargeError as exc:
        return _Part(missing=f"its content, {exc.size} bytes, is too large")
    before = _before(objects, finding.before) if finding.before else None
    if before is None and after is None:
        return _Part()
    path = os.fsencode(finding.change.path)
    diff = file_patch(path, before, after)
    if len(diff) > room and before:
        # Without the former content it is as good, and shorter.
        diff = file_patch(path, evolve(before, data=None), after)
    if len(diff) > room:
        return _Part(missing=f"the patch would be longer than {LIMIT_BYTES} bytes with its content")
    return _Part(diff)


class _TooLargeError(Exception):
    def __init__(self, size: int) -> None:
        self.size = size


def _before(objects: Objects, version: Version) -> Side:
    if version.mode == SUBMODULE:
        return Side(version.mode, version.id)
    try:
        return Side(version.mode, version.id, objects.find(version.id, BLOB, LIMIT_BYTES))
    except CheckoutError as exc:
        log.warning("%s", exc)
        return Side(version.mode, version.id)


def _after(top: int, finding: Finding) -> Side | None:
    if finding.after is None:
        return None
    before = finding.before
    if finding.change.kind is ChangeKind.MODE and before:
        return Side(finding.after, before.id)
    content = ondisk.read(top, finding.change.path, limit=LIMIT_BYTES)
    if content.data is None:
        raise _TooLargeError(content.size)
    if before and (content.id, finding.after) == (before.id, before.mode):
        raise ondisk.Moved  # it is what it should be, after all
    return Side(finding.after, content.id, content.data)
