"""Values to JSON and back. Only what a later run needs is written, and never a credential."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from libgitopper.model import Content, Mapping, Service, Source, TreeEntry
from libgitopper.repository import ChangeKind, FileChange

__all__ = ["dump_changes", "dump_content", "dump_service", "load_changes", "load_content", "load_service"]


def dump_content(content: Content) -> str:
    """Return `content` as JSON."""
    entries = [[entry.link, entry.id, entry.mode] for entry in content.entries]
    data: dict[str, object] = {"revision": content.revision, "entries": entries}
    if content.generation:
        data["generation"] = content.generation
    return json.dumps(data)


def load_content(text: str) -> Content:
    """Return what `dump_content` wrote."""
    data: dict[str, Any] = json.loads(text)
    entries = tuple(TreeEntry(link=link, id=id_, mode=mode) for link, id_, mode in data["entries"])
    return Content(revision=data["revision"], entries=entries, generation=data.get("generation", 0))


def dump_changes(changes: Iterable[FileChange]) -> str:
    """Return file changes as JSON; bytes of a path that are not UTF-8 survive, as escaped surrogates."""
    return json.dumps([[change.path, change.kind.value, change.detail] for change in changes])


def load_changes(text: str) -> tuple[FileChange, ...]:
    """Return what `dump_changes` wrote."""
    return tuple(
        FileChange(path=path, kind=ChangeKind(kind), detail=detail)
        for path, kind, detail in json.loads(text)
    )


def dump_service(service: Service) -> str:
    """Return where and how `service` is shown, as JSON; enough to withdraw it, without credentials."""
    mappings = [[mapping.link, str(mapping.local), mapping.file] for mapping in service.mappings]
    data = {
        "name": service.name,
        "upstream": service.source.upstream,
        "branch": service.source.branch,
        "mappings": mappings,
        "mount": str(service.mount),
        "user": service.user,
        "publish": service.publish,
        "readonly": service.readonly,
    }
    return json.dumps(data)


def load_service(text: str) -> Service:
    """Return what `dump_service` wrote; all else has its default."""
    data: dict[str, Any] = json.loads(text)
    return Service(
        name=data["name"],
        source=Source(upstream=data["upstream"], branch=data["branch"]),
        mappings=tuple(
            Mapping(link=link, local=Path(local), file=file) for link, local, file in data["mappings"]
        ),
        mount=Path(data["mount"]),
        user=data["user"],
        publish=data["publish"],
        readonly=data["readonly"],
    )
