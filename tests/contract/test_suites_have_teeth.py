"""A suite that a wrong plugin passes would be no contract."""

from __future__ import annotations

import hmac
import shutil
from pathlib import Path

import pytest
from attrs import evolve

from gitopper_plugins import symlink
from libgitopper import (
    AccessDenied,
    AuthRequest,
    Grant,
    Hooks,
    Identity,
    MountRequest,
    MountVerb,
    Published,
    PublishError,
    Reloaded,
    ReloadRequest,
    Role,
    hookimpl,
)
from libgitopper.testing.auth import AuthContract, request_for_tests
from libgitopper.testing.contract import needs_root
from libgitopper.testing.mount import MountContract, Stage
from libgitopper.testing.reload import ReloadContract, service_for_tests


class Torn:
    """Copies a release over the one before, and takes a question for an order."""

    @hookimpl
    def gitopper_mount(self, request: MountRequest) -> Published | None:
        release = request.release
        if release and request.verb in (MountVerb.PUBLISH, MountVerb.JUDGE):
            for mapping in request.service.mappings:
                source, local = release.path / mapping.link, mapping.local
                local.parent.mkdir(parents=True, exist_ok=True)
                if mapping.file:
                    shutil.copyfile(source, local)
                else:
                    shutil.rmtree(local, ignore_errors=True)
                    shutil.copytree(source, local)
        return Published(release=release.id if release else None, changed=True)


@pytest.fixture
def torn() -> Hooks:
    hooks = Hooks()
    hooks.register(Torn())
    return hooks


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(root=tmp_path, publish="torn")


def test_a_publisher_that_tears_is_seen_by_who_reads_meanwhile(torn: Hooks, stage: Stage) -> None:
    with pytest.raises(AssertionError):
        MountContract().test_whoever_reads_meanwhile_sees_one_release_or_the_other(torn, stage)


def test_a_publisher_that_shows_what_it_is_to_judge_is_told(torn: Hooks, stage: Stage) -> None:
    with pytest.raises(AssertionError):
        MountContract().test_to_judge_touches_nothing(torn, stage)


class Telling:
    """The builtin publisher of symlinks, but for what a subclass does wrong."""

    @hookimpl
    def gitopper_mount(self, request: MountRequest) -> Published | None:
        published = symlink.gitopper_mount(request)
        return published and self.spoiled(request, published)

    def spoiled(self, request: MountRequest, published: Published) -> Published:
        raise NotImplementedError


class Remembering(Telling):
    """Tells what it did last, and does not look."""

    def __init__(self) -> None:
        self._last = Published(release=None)

    def spoiled(self, request: MountRequest, published: Published) -> Published:
        if request.verb is not MountVerb.OBSERVE:
            self._last = evolve(published, changed=False)
        return self._last


class Silent(Telling):
    """Keeps to itself that something is shown in part."""

    def spoiled(self, request: MountRequest, published: Published) -> Published:
        return evolve(published, partly=False)


class Greedy(Telling):
    """Takes away whatever stands where it once showed something."""

    def spoiled(self, request: MountRequest, published: Published) -> Published:
        for mapping in request.service.mappings if request.verb is MountVerb.WITHDRAW else ():
            if mapping.local.is_dir() and not mapping.local.is_symlink():
                shutil.rmtree(mapping.local)
            else:
                mapping.local.unlink(missing_ok=True)
        return published


class Absolute(Telling):
    """Leads to the live release by a link that no other publisher takes for one."""

    def spoiled(self, request: MountRequest, published: Published) -> Published:
        target = request.service.live.resolve()
        request.service.live.unlink()
        request.service.live.symlink_to(target)
        return published


class HalfWay(Torn):
    """Goes from path to path, and leaves them at the first that it can't write."""

    @hookimpl
    def gitopper_mount(self, request: MountRequest) -> Published | None:
        try:
            return super().gitopper_mount(request)
        except OSError as exc:
            raise PublishError(str(exc)) from exc


def hooked(plugin: object) -> Hooks:
    hooks = Hooks()
    hooks.register(plugin)
    return hooks


@pytest.fixture
def linked(tmp_path: Path) -> Stage:
    return Stage(root=tmp_path, publish="symlink")


@pytest.mark.parametrize("plugin", [Remembering, Silent])
def test_a_publisher_that_does_not_look_or_tell_is_told(plugin: type, linked: Stage) -> None:
    with pytest.raises(AssertionError):
        MountContract().test_what_is_shown_is_looked_at_and_not_remembered(hooked(plugin()), linked)


def test_a_publisher_whose_live_link_no_other_one_knows_is_told(linked: Stage) -> None:
    with pytest.raises(AssertionError):
        MountContract().test_live_link_leads_to_the_release(hooked(Absolute()), linked)


@pytest.mark.parametrize("kind", ["directory", "empty directory", "symlink", "file"])
def test_a_publisher_that_takes_what_is_not_its_own_is_told(linked: Stage, kind: str) -> None:
    with pytest.raises(AssertionError):
        MountContract().test_withdraw_takes_nothing_that_somebody_else_put(hooked(Greedy()), linked, kind)


def test_a_publisher_that_takes_what_went_to_another_service_is_told(linked: Stage) -> None:
    with pytest.raises(AssertionError):
        MountContract().test_a_path_that_another_service_has_by_now_stays_with_it(hooked(Greedy()), linked)


def test_a_publisher_that_follows_symlinks_is_told(torn: Hooks, stage: Stage) -> None:
    with pytest.raises((AssertionError, shutil.Error)):
        MountContract().test_files_are_shown_as_the_release_has_them(torn, stage)


@needs_root
def test_a_publisher_that_changes_owners_is_told(torn: Hooks, stage: Stage) -> None:
    with pytest.raises(AssertionError):
        MountContract().test_files_belong_to_whom_they_belong_in_the_release(torn, stage)


def test_a_publisher_that_stops_half_way_is_told(stage: Stage) -> None:
    with pytest.raises(AssertionError):
        MountContract().test_a_publish_that_fails_at_one_path_leaves_the_former_release_at_all(
            hooked(HalfWay()), stage
        )


class Waiting:
    """Starts what does not run where a release is taken back, and not where it is the first."""

    @hookimpl
    def gitopper_reload(self, request: ReloadRequest) -> Reloaded:
        return Reloaded(did="looked", idle=not request.start)


def test_a_plugin_that_leaves_a_service_stopped_at_its_first_release_is_told() -> None:
    with pytest.raises(AssertionError):
        ReloadContract().test_what_does_not_run_is_started_with_its_first_release(
            hooked(Waiting()), service_for_tests("app")
        )


class Lenient:
    """Takes what a secret begins with for the secret."""

    @hookimpl
    def gitopper_auth(self, request: AuthRequest) -> Identity | None:
        given = request.headers.get("x-badge")
        if given is None:
            return None
        if not self.fits(given):
            raise AccessDenied("no such badge")
        return Identity(name="badge", grants=(Grant(role=Role.OPERATE),))

    def fits(self, given: str) -> bool:
        return "correct horse".startswith(given)


class Strict(Lenient):
    """Fails at what is no UTF-8."""

    def fits(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), b"correct horse")


class Judged(AuthContract):
    name = "badge"
    __test__ = False


KNOWN = request_for_tests(headers={"x-badge": "correct horse"})


def test_a_plugin_that_takes_a_part_for_the_whole_is_told() -> None:
    hooks = Hooks()
    hooks.register(Lenient(), name="badge")
    with pytest.raises(AssertionError, match="x-badge"):
        Judged().test_a_part_of_a_secret_lets_nobody_in(hooks, KNOWN, {})
    with pytest.raises(AssertionError, match="x-badge"):
        Judged().test_no_value_of_its_own_headers_makes_it_fail_or_lets_anybody_in(hooks, KNOWN, {}, "")


def test_a_plugin_that_fails_at_what_anybody_may_send_is_told() -> None:
    hooks = Hooks()
    hooks.register(Strict(), name="badge")
    Judged().test_a_part_of_a_secret_lets_nobody_in(hooks, KNOWN, {})
    with pytest.raises(UnicodeEncodeError):
        Judged().test_no_value_of_its_own_headers_makes_it_fail_or_lets_anybody_in(
            hooks, KNOWN, {}, "Bearer \udcff"
        )
