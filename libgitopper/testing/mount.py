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

import os
import pwd
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from attrs import evolve

from libgitopper import Hooks, Mapping, MountRequest, MountVerb, Published, PublishError
from libgitopper.testing.contract import PluginContract, needs_root
from libgitopper.testing.readers import reading
from libgitopper.testing.stage import Stage, contents, put, seen

__all__ = ["MountContract", "Stage", "contents"]

PUBLISHED_WHILE_READ = 60


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

    def test_files_are_shown_as_the_release_has_them(self, hooks: Hooks, stage: Stage) -> None:
        """Permissions too; and a symlink as one, wherever it leads: what it leads to is not in git."""
        service = stage.service()
        release = stage.release(service, "one")
        made, shown = release.path / service.mappings[0].link, service.mappings[0].local
        (made / "a").chmod(0o750)
        (made / "sub").chmod(0o700)
        (made / "empty").touch()
        for name, target in (
            ("link", "a"),
            ("up", "sub"),
            ("out", "/etc/hostname"),
            ("dangling", "nowhere"),
        ):
            (made / name).symlink_to(target)
        hooks.publish(service, release)
        assert contents(shown.resolve()) == contents(made)
        assert [(shown / name).stat().st_mode for name in ("a", "sub", "empty")] == [
            (made / name).stat().st_mode for name in ("a", "sub", "empty")
        ]

    @needs_root
    def test_files_belong_to_whom_they_belong_in_the_release(self, hooks: Hooks, stage: Stage) -> None:
        """`user` of the service: the checkout saw to it."""
        service = stage.service(user="nobody")
        release = stage.release(service, "one")
        owner = pwd.getpwnam("nobody")
        for mapping in service.mappings:
            top = release.path / mapping.link
            for path in (top, *top.rglob("*")):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        hooks.publish(service, release)
        for mapping in service.mappings:
            for path in (mapping.local.resolve(), *mapping.local.rglob("*")):
                assert (path.stat().st_uid, path.stat().st_gid) == (owner.pw_uid, owner.pw_gid), path

    def test_live_link_leads_to_the_release(self, hooks: Hooks, stage: Stage) -> None:
        """There an operator runs ``git log``; relative: so one publisher knows the link of another."""
        service = stage.service()
        for generation in ("one", "two"):
            release = stage.release(service, generation)
            hooks.publish(service, release)
            assert service.live.is_symlink()
            assert not service.live.readlink().is_absolute()
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
        found = hooks.observe(service)
        assert (found.release, found.partly) == (None, True)

    def test_what_is_shown_is_looked_at_and_not_remembered(self, hooks: Hooks, stage: Stage) -> None:
        """Somebody moves a path away, and back: what is told was observed, not assumed."""
        service = stage.service()
        release = stage.release(service, "one")
        hooks.publish(service, release)
        parent, away = service.mappings[1].local.parent, stage.root / "away"
        parent.rename(away)
        found = hooks.observe(service)
        assert (found.release, found.partly) == (None, True)
        away.rename(parent)
        assert hooks.observe(service).release == release.id

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

    @pytest.mark.parametrize("kind", ["directory", "empty directory", "symlink", "file"])
    def test_withdraw_takes_nothing_that_somebody_else_put(
        self, hooks: Hooks, stage: Stage, kind: str
    ) -> None:
        """As where a publish was refused because of it."""
        service = stage.service()
        local = service.mappings[-1 if kind == "file" else 0].local
        put(kind, local)
        before = contents(local)
        assert not hooks.withdraw(service).changed
        assert os.path.lexists(local)
        assert contents(local) == before

    def test_a_path_that_another_service_has_by_now_stays_with_it(self, hooks: Hooks, stage: Stage) -> None:
        """Its former holder neither shows it nor takes it away."""
        web = stage.service("web")
        hooks.publish(web, stage.release(web, "web"))
        hooks.withdraw(evolve(web, mappings=web.mappings[:1]), keep_live=True)
        heir = stage.service("heir", mappings=(Mapping(link="heir/etc", local=web.mappings[0].local),))
        release = stage.release(heir, "heir")
        hooks.publish(heir, release)
        assert hooks.observe(web).release is None
        hooks.withdraw(web)
        assert seen(heir) == {"heir"}
        assert hooks.observe(heir).release == release.id

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
        put(kind, local)
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

    def test_a_publish_that_fails_at_one_path_leaves_the_former_release_at_all(
        self, hooks: Hooks, stage: Stage
    ) -> None:
        """Here: the last mapping joins, and can't be made."""
        whole = stage.service()
        service = evolve(whole, mappings=whole.mappings[:2])
        first = stage.release(service, "one")
        hooks.publish(service, first)
        blocker = stage.host / "blocker"
        blocker.touch()
        joined = evolve(service, mappings=(*service.mappings, Mapping(link="more", local=blocker / "more")))
        with pytest.raises(PublishError, match=str(blocker)):
            hooks.publish(joined, stage.release(joined, "two"))
        assert seen(service) == {"one"}
        assert hooks.observe(service).release == first.id
        assert service.live.resolve() == first.path.resolve()

    def test_whoever_reads_meanwhile_sees_one_release_or_the_other(
        self, hooks: Hooks, stage: Stage
    ) -> None:
        """Never a path that is not there, an empty file, or files of both.

        Also who opened a directory before it was replaced: what it had is still there.
        """
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

    def test_services_are_published_side_by_side(self, hooks: Hooks, stage: Stage) -> None:
        """From several threads at once, below directories that none of them finds."""
        services = [stage.service(f"web{number}") for number in range(8)]
        for generation in ("one", "two"):
            releases = [stage.release(service, f"{generation} {service.name}") for service in services]
            with ThreadPoolExecutor(len(services)) as pool:
                list(pool.map(hooks.publish, services, releases))
            for service, release in zip(services, releases, strict=True):
                assert seen(service) == {f"{generation} {service.name}"}
                assert hooks.observe(service).release == release.id

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
