"""Releases whose files drift, and what stock git makes of the patch: fixtures, and ways to look at them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import define

from gitopper_plugins.dulwich import DulwichPlugin
from libgitopper import Drift, DriftRequest, FileChange, Hooks, Release, Service, Store
from libgitopper.testing.git import Stage
from tests.support.upstream import Upstream, git

__all__ = ["Host", "host", "plain_host", "plugin", "stage", "told", "tree"]


@define
class Host:
    """One release, and the ways to look at it."""

    stage: Stage
    service: Service
    store: Store
    release: Release

    @classmethod
    def deploy(cls, stage: Stage, service: Service) -> Host:
        """Check the tip of main out."""
        store = stage.fetch()
        return cls(stage, service, store, stage.checkout(service, store=store))

    @property
    def web(self) -> Path:
        """The mapped directory."""
        return self.release.path / "web"

    def drift(self, *, thorough: bool = False) -> Drift:
        """Compare the release with its revision."""
        request = DriftRequest(
            service=self.service, store=self.store, release=self.release, thorough=thorough
        )
        drift = self.stage.hooks.drift(request)
        assert drift
        return drift

    def found(self) -> list[tuple[str, str, str]]:
        """Path, kind and detail of what differs."""
        return told(self.drift().changes)

    def admin(self) -> Path:
        """What the store keeps of the release as a work tree."""
        return Path((self.release.path / ".git").read_text().strip().removeprefix("gitdir: "))

    def apply(self, patch: bytes, clean: Path, *options: str) -> Path:
        """Apply `patch` to a clean checkout at `clean`; return the mapped directory there."""
        git(clean.parent, "clone", "--quiet", str(self.stage.upstream.path), str(clean))
        git(clean, "checkout", "--quiet", self.release.content.revision)
        git(clean, "apply", "--whitespace=nowarn", *options, stdin=patch)
        return clean / "web"


def told(changes: tuple[FileChange, ...]) -> list[tuple[str, str, str]]:
    """Path, kind and detail of each."""
    return [(change.path, change.kind.value, change.detail) for change in changes]


def tree(top: Path) -> dict[str, tuple[str, bytes]]:
    """What is below `top` in the eyes of git: no empty directories, of the bits only the executable one."""
    looks: dict[int, Callable[[Path], tuple[str, bytes]]] = {
        stat.S_IFLNK: lambda path: ("symlink", os.fsencode(path.readlink())),
        stat.S_IFREG: lambda path: (
            "program" if path.stat().st_mode & 0o100 else "file",
            path.read_bytes(),
        ),
    }
    there = [top, *top.rglob("*")] if os.path.lexists(top) else []
    return {
        str(path.relative_to(top)): looks[stat.S_IFMT(path.lstat().st_mode)](path)
        for path in there
        if stat.S_IFMT(path.lstat().st_mode) in looks
    }


@pytest.fixture
def plugin() -> Iterator[DulwichPlugin]:
    """The git plugin, with stores of its own."""
    plugin = DulwichPlugin()
    yield plugin
    plugin.close()


@pytest.fixture
def stage(plugin: DulwichPlugin, tmp_path: Path) -> Stage:
    """An upstream with a file, a binary one, a program and a symlink below ``web``."""
    upstream = Upstream.create(tmp_path / "upstreams")
    files: dict[str, str | bytes]
    files = {"web/a": "1\n2\n3\n", "web/sub/b": b"\0binary", "web/run": "#!/bin/sh\n"}
    for name, data in files.items():
        upstream.write(name, data)
    (upstream.work / "web/run").chmod(0o755)
    (upstream.work / "web/link").symlink_to("a")
    upstream.commit({"other": "1"})
    hooks = Hooks()
    hooks.register(plugin, name="dulwich")
    return Stage(hooks=hooks, upstream=upstream, url=upstream.url, root=tmp_path)


@pytest.fixture
def host(stage: Stage) -> Host:
    """Its release of ``web``."""
    return Host.deploy(stage, stage.service("web"))


@pytest.fixture(name="host")
def plain_host(stage: Stage) -> Host:
    """Its release of ``web``, where that has three small files of text and nothing else."""
    stage.upstream.commit(
        {"web/a": "1\n", "web/sub/b": "2\n", "web/sub/c": "3\n", "web/run": None, "web/link": None}
    )
    return Host.deploy(stage, stage.service("web"))
