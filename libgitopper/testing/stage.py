"""A part of a file system for a publisher to play on: the host's paths, and releases to show at them."""

# ruff: noqa: S101 - these are tests, though they are shipped

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import field, frozen

from libgitopper import Content, Mapping, Release, Service, Source, TreeEntry

__all__ = ["Stage", "contents", "put", "seen"]


@frozen(kw_only=True)
class Stage:
    """A part of a file system to play on: a directory for the host's paths, and one for the releases."""

    root: Path
    publish: str
    """What `Service.publish` is, for the plugin under test to take it."""
    _numbers: itertools.count[int] = field(factory=lambda: itertools.count(1))

    @property
    def host(self) -> Path:
        """The directory that stands for ``/`` of the host."""
        return self.root / "host"

    def service(self, name: str = "web", **fields: Any) -> Service:
        """Return a service that maps two directories and a file; `fields` are those of `Service`."""
        mount = self.root / "var"
        mount.mkdir(exist_ok=True)
        defaults: dict[str, Any] = {
            "source": Source(upstream="https://git.example.net/config", branch="main"),
            "mappings": (
                Mapping(link=f"{name}/etc", local=self.host / "etc" / name),
                Mapping(link="shared/rules", local=self.host / "srv" / "deep" / name / "rules"),
                Mapping(link=f"{name}/main.conf", local=self.host / "etc" / f"{name}.conf", file=True),
            ),
            "mount": mount,
            "publish": self.publish,
        }
        return Service(name=name, **{**defaults, **fields})

    def release(
        self, service: Service, generation: str, files: Sequence[str] = ("a", "b", "sub/c")
    ) -> Release:
        """Write a release of `service`; every file in it holds `generation`."""
        entries = tuple(
            TreeEntry(
                link=mapping.link,
                id=f"{next(self._numbers):040x}",
                mode=0o100644 if mapping.file else 0o040000,
            )
            for mapping in service.mappings
        )
        content = Content(revision=f"{next(self._numbers):040x}", entries=entries)
        identity = content.release_id(service)
        path = service.releases / identity
        for mapping in service.mappings:
            for name in ("",) if mapping.file else files:
                file = path / mapping.link / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(generation)
        return Release(service=service.name, id=identity, path=path, content=content)


def contents(path: Path) -> dict[str, str]:
    """Return what is at or below `path`, by relative name: the text, or where a symlink points."""
    if path.is_symlink():
        return {"": f"-> {path.readlink()}"}
    if path.is_file():
        return {"": path.read_text()}
    below = sorted(path.rglob("*")) if path.is_dir() else []
    return {
        str(p.relative_to(path)): f"-> {p.readlink()}"
        if p.is_symlink()
        else p.read_text()
        if p.is_file()
        else "/"
        for p in below
    }


def seen(service: Service) -> set[str]:
    """Return what the files that `service` sees hold; a directory that is missing or empty is an error."""
    found: set[str] = set()
    for mapping in service.mappings:
        files = [mapping.local] if mapping.file else [p for p in mapping.local.rglob("*") if p.is_file()]
        assert files, f"{mapping.local} shows no file"
        found.update(file.read_text() for file in files)
    return found


def put(kind: str, path: Path) -> None:
    """Put something of somebody's at `path`: a `kind` of file, symlink, directory or empty directory."""
    path.parent.mkdir(parents=True)
    if kind == "file":
        path.write_text("somebody's")
    elif kind == "symlink":
        elsewhere = path.with_name("elsewhere")
        elsewhere.mkdir()
        path.symlink_to(elsewhere)
    else:
        path.mkdir()
        if kind == "directory":
            (path / "precious").write_text("somebody's")
