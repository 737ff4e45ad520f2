"""The contract of `gitopper_mount`, as tests to run on a plugin of your own.

    class TestMyMount(MountContract):
        publish = "mine"

        @pytest.fixture
        def plugin(self):
            return my_package.my_plugin

A plugin that makes real mounts needs its tests run where they reach nobody: in a mount namespace
of their own.
"""

# ruff: noqa: S101 - these are tests, though they are shipped

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, field, frozen

from libgitopper import (
    Content,
    Hooks,
    Mapping,
    MountRequest,
    MountVerb,
    Published,
    PublishError,
    Release,
    Service,
    Source,
    TreeEntry,
)
from libgitopper.testing.contract import PluginContract
from libgitopper.testing.readers import reading

__all__ = ["MountContract", "Stage", "contents"]

PUBLISHED_WHILE_READ = 60


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


class MountContract(PluginContract):
    """Subclass it, name the subclass ``Test...``, and give it `publish` and the fixture `plugin`."""

    publish: str
    """The value of ``publish`` in the config that the plugin answers to."""

    @pytest.fixture
    def stage(self, tmp_path: Path) -> Stage:
        """Where the tests put the paths of the host and the releases."""
        return Stage(root=tmp_path, publish=self.publish)

    def test_first_publish_shows_every_mapping(self, hooks: Hooks, stage: Stage) -> None:
        """Directories and single files, missing parents included."""
        service = stage.service()
        release = stage.release(service, "one")
        published = hooks.publish(service, release)
        assert published.release == release.id
        assert published.changed
        assert seen(service) == {"one"}

    def test_live_link_leads_to_the_release(self, hooks: Hooks, stage: Stage) -> None:
        """There an operator runs ``git log``."""
        service = stage.service()
        for generation in ("one", "two"):
            release = stage.release(service, generation)
            hooks.publish(service, release)
            assert service.live.is_symlink()
            assert service.live.resolve() == release.path.resolve()

    def test_a_publish_replaces_the_whole_release(self, hooks: Hooks, stage: Stage) -> None:
        """No file of the former one is left, also none that the new one lacks."""
        service = stage.service()
        hooks.publish(service, stage.release(service, "one", files=("a", "only-in-one")))
        second = stage.release(service, "two", files=("a", "only-in-two"))
        published = hooks.publish(service, second)
        assert (published.release, published.changed) == (second.id, True)
        assert seen(service) == {"two"}
        assert sorted(p.name for p in service.mappings[0].local.iterdir()) == ["a", "only-in-two"]

    def test_going_back_is_a_publish_like_any_other(self, hooks: Hooks, stage: Stage) -> None:
        """A rollback to a kept release."""
        service = stage.service()
        one, two = stage.release(service, "one"), stage.release(service, "two")
        for release, generation in ((one, "one"), (two, "two"), (one, "one"), (two, "two")):
            assert hooks.publish(service, release).changed
            assert seen(service) == {generation}

    def test_publishing_what_is_shown_changes_nothing(self, hooks: Hooks, stage: Stage) -> None:
        """So that a pass, or a restart, does not disturb a service."""
        service = stage.service()
        release = stage.release(service, "one")
        hooks.publish(service, release)
        held = service.mappings[0].local.stat()
        again = hooks.publish(service, release)
        assert (again.release, again.changed) == (release.id, False)
        assert os.path.samestat(held, service.mappings[0].local.stat())

    def test_observe_tells_what_is_there(self, hooks: Hooks, stage: Stage) -> None:
        """Nothing, a release, another one, nothing; and looking changes nothing."""
        service = stage.service()
        assert hooks.observe(service) == Published(release=None)
        for generation in ("one", "two"):
            release = stage.release(service, generation)
            hooks.publish(service, release)
            for _ in range(2):
                assert hooks.observe(service).release == release.id
                assert not hooks.observe(service).changed
        hooks.withdraw(service)
        assert hooks.observe(service).release is None
        assert not service.mappings[0].local.is_symlink()

    def test_observe_names_no_release_when_one_mapping_lacks_it(self, hooks: Hooks, stage: Stage) -> None:
        """A release counts as published when all of it is."""
        service = stage.service()
        hooks.publish(service, stage.release(service, "one"))
        lost = evolve(service, mappings=service.mappings[:1])
        hooks.withdraw(lost, keep_live=True)
        assert hooks.observe(service).release is None

    def test_publish_repairs_one_lost_mapping(self, hooks: Hooks, stage: Stage) -> None:
        """Whoever took it away."""
        service = stage.service()
        release = stage.release(service, "one")
        hooks.publish(service, release)
        hooks.withdraw(evolve(service, mappings=service.mappings[:1]), keep_live=True)
        assert hooks.publish(service, release).changed
        assert seen(service) == {"one"}

    def test_withdraw_keeps_the_releases(self, hooks: Hooks, stage: Stage) -> None:
        """And takes away what was shown, once."""
        service = stage.service()
        release = stage.release(service, "one")
        before = contents(release.path)
        hooks.publish(service, release)
        assert hooks.withdraw(service).changed
        assert "one" not in {text for m in service.mappings for text in contents(m.local).values()}
        assert not os.path.lexists(service.live)
        assert contents(release.path) == before
        assert not hooks.withdraw(service).changed

    def test_withdraw_of_some_mappings_leaves_the_others(self, hooks: Hooks, stage: Stage) -> None:
        """As when the config drops one."""
        service = stage.service()
        release = stage.release(service, "one")
        hooks.publish(service, release)
        gone, stay = service.mappings[:1], evolve(service, mappings=service.mappings[1:])
        hooks.withdraw(evolve(service, mappings=gone), keep_live=True)
        assert seen(stay) == {"one"}
        assert service.live.resolve() == release.path.resolve()

    def test_a_mapping_can_join(self, hooks: Hooks, stage: Stage) -> None:
        """The others are swapped as ever."""
        service = stage.service()
        fewer = evolve(service, mappings=service.mappings[1:])
        hooks.publish(fewer, stage.release(fewer, "one"))
        hooks.publish(service, stage.release(service, "two"))
        assert seen(service) == {"two"}

    @pytest.mark.parametrize("kind", ["directory", "empty directory", "symlink", "file"])
    def test_what_stood_there_is_never_lost(self, hooks: Hooks, stage: Stage, kind: str) -> None:
        """Either it is refused, with its path, and nothing changes; or it is back after the withdrawal."""
        service = stage.service()
        local = service.mappings[-1 if kind == "file" else 0].local
        _put(kind, local)
        before = contents(local)
        try:
            hooks.publish(service, stage.release(service, "one"))
        except PublishError as refusal:
            assert str(local) in str(refusal)  # noqa: PT017 - both ways are right, each has its terms
            assert hooks.observe(service).release is None
            assert not os.path.lexists(service.live)
            assert not any(os.path.lexists(m.local) for m in service.mappings if m.local != local)
        else:
            assert seen(service) == {"one"}
            hooks.withdraw(service)
        assert contents(local) == before
        assert local.is_symlink() == (kind == "symlink")
        assert os.path.lexists(local)

    def test_a_refusal_leaves_the_former_release(self, hooks: Hooks, stage: Stage) -> None:
        """Here: the new release lacks a path that is mapped."""
        service = stage.service()
        first = stage.release(service, "one")
        hooks.publish(service, first)
        broken = stage.release(service, "two")
        shutil.rmtree(broken.path / service.mappings[1].link)
        with pytest.raises(PublishError, match=service.mappings[1].link):
            hooks.publish(service, broken)
        assert seen(service) == {"one"}
        assert hooks.observe(service).release == first.id

    def test_whoever_reads_meanwhile_sees_one_release_or_the_other(
        self, hooks: Hooks, stage: Stage
    ) -> None:
        """Never a path that is not there, an empty file, or files of both."""
        service, names = stage.service(), ("a", "b", "sub/c")
        releases = [stage.release(service, generation, files=names) for generation in ("one", "two")]
        hooks.publish(service, releases[0])
        with reading(service, names) as faults:
            for number in range(PUBLISHED_WHILE_READ):
                hooks.publish(service, releases[number % 2])
        assert not faults

    def test_to_judge_touches_nothing(self, hooks: Hooks, stage: Stage) -> None:
        """Neither before there is anything, nor what is shown; it only refuses what could not be shown."""
        service = stage.service()
        first, second, broken = (
            stage.release(service, generation) for generation in ("one", "two", "three")
        )
        shutil.rmtree(broken.path / service.mappings[1].link)
        hooks.judge(service, first, service)
        assert not any(
            os.path.lexists(path) for path in (service.live, *(m.local for m in service.mappings))
        )
        hooks.publish(service, first)
        hooks.judge(service, second, service)
        with pytest.raises(PublishError, match=service.mappings[1].link):
            hooks.judge(service, broken, service)
        assert seen(service) == {"one"}
        assert hooks.observe(service).release == first.id
        assert service.live.resolve() == first.path.resolve()

    def test_two_services_do_not_meet(self, hooks: Hooks, stage: Stage) -> None:
        """Names that begin alike included."""
        web, webapp = stage.service("web"), stage.service("webapp")
        one, two = stage.release(web, "web"), stage.release(webapp, "webapp")
        hooks.publish(web, one)
        hooks.publish(webapp, two)
        assert (seen(web), seen(webapp)) == ({"web"}, {"webapp"})
        hooks.withdraw(web)
        assert seen(webapp) == {"webapp"}
        assert hooks.observe(webapp).release == two.id

    @pytest.mark.parametrize("verb", list(MountVerb))
    def test_a_service_of_another_publisher_is_not_taken(
        self, hooks: Hooks, stage: Stage, verb: MountVerb
    ) -> None:
        """None, so that the next plugin is asked; and nothing is touched."""
        service = stage.service(publish="somebody-elses")
        release = stage.release(service, "one")
        request = MountRequest(service=service, verb=verb, release=release)
        assert hooks.manager.hook.gitopper_mount(request=request) is None
        assert not stage.host.exists()


def _put(kind: str, path: Path) -> None:
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
