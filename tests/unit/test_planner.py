"""The planner: every reason has its case, and the properties that the reconciler builds on."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from libgitopper import (
    Attempt,
    Content,
    Deployed,
    Intent,
    IntentKind,
    Mapping,
    Plan,
    Published,
    Reason,
    Service,
    Source,
    TreeEntry,
    Verb,
    aim,
    make_plan,
)
from libgitopper.planner import Stale, in_line

A, B, C = "a" * 40, "b" * 40, "c" * 40
WEB = Mapping(link="web", local=Path("/etc/web"))
CERT = Mapping(link="cert.pem", local=Path("/etc/cert.pem"), file=True)


def service(**more: object) -> Service:
    values: dict[str, Any] = {
        "name": "web",
        "source": Source(upstream="https://example.net/r", branch="main"),
        "mappings": (WEB,),
        "mount": Path("/mount"),
    }
    return Service(**(values | more))


def content(revision: str, *ids: str, of: Service | None = None) -> Content:
    links = [mapping.link for mapping in (of or service()).mappings]
    entries = (TreeEntry(link=link, id=id_, mode=0o040000) for link, id_ in zip(links, ids, strict=True))
    return Content(revision=revision, entries=tuple(entries))


def deployed_of(what: Content, *, of: Service | None = None) -> Deployed:
    by = of or service()
    return Deployed(
        revision=what.revision,
        release=what.release_id(by),
        content=what,
        service=by,
        at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def attempt_of(what: Content, *, of: Service | None = None) -> Attempt:
    by = of or service()
    return Attempt(revision=what.revision, release=what.release_id(by), content=what, service=by)


def shows(what: Content | None, *, of: Service | None = None) -> Published:
    return Published(release=what.release_id(of or service()) if what else None)


OLD, NEW, SAME = content(A, "1"), content(B, "2"), content(B, "1")


@pytest.mark.parametrize(
    ("changes", "target", "verb", "reasons", "changed"),
    [
        pytest.param({}, OLD, Verb.KEEP, [Reason.IN_LINE], (), id="in line"),
        pytest.param({}, SAME, Verb.ADVANCE, [Reason.ELSEWHERE], (), id="elsewhere"),
        pytest.param({"deployed": None}, OLD, Verb.DEPLOY, [Reason.FIRST], (), id="first"),
        pytest.param({}, NEW, Verb.DEPLOY, [Reason.CONTENT], ("web",), id="content"),
        pytest.param(
            {"service": service(user="nobody")}, OLD, Verb.DEPLOY,
            [Reason.SETTINGS], (), id="another owner",
        ),
        pytest.param(
            {
                "deployed": evolve(deployed_of(OLD), release="named otherwise"),
                "published": Published(release="named otherwise"),
            },
            OLD, Verb.DEPLOY, [Reason.SETTINGS], (), id="another way to name releases",
        ),
        pytest.param(
            {"service": service(readonly=True)}, OLD, Verb.DEPLOY, [Reason.SETTINGS], (), id="read-only",
        ),
        pytest.param(
            {"service": service(publish="symlink")}, OLD, Verb.DEPLOY, [Reason.SETTINGS], (),
            id="another publisher",
        ),
        pytest.param(
            {"service": service(mount=Path("/elsewhere"))}, OLD, Verb.DEPLOY, [Reason.SETTINGS], (),
            id="another mount directory",
        ),
        pytest.param(
            {"service": service(action="restart", interval_seconds=1.0, keep=1, command=("true",))},
            OLD, Verb.KEEP, [Reason.IN_LINE], (), id="settings that place nothing",
        ),
        pytest.param(
            {"published": shows(None)}, OLD, Verb.DEPLOY, [Reason.UNPUBLISHED], (), id="unpublished",
        ),
        pytest.param(
            {"published": Published(release="alien")}, OLD, Verb.DEPLOY, [Reason.UNPUBLISHED], (),
            id="shows something else",
        ),
        pytest.param(
            {"attempt": attempt_of(OLD)}, OLD, Verb.DEPLOY, [Reason.UNFINISHED], (), id="reload owed",
        ),
        pytest.param(
            {"attempt": attempt_of(NEW), "published": shows(NEW)}, NEW, Verb.DEPLOY,
            [Reason.CONTENT, Reason.UNFINISHED], ("web",), id="content, unfinished",
        ),
        pytest.param(
            {"attempt": attempt_of(NEW), "published": shows(NEW)}, OLD, Verb.DEPLOY,
            [Reason.UNFINISHED], (), id="the tip went back before a deploy was finished",
        ),
        pytest.param(
            {"published": shows(None)}, NEW, Verb.DEPLOY, [Reason.CONTENT, Reason.UNPUBLISHED], ("web",),
            id="content, unpublished",
        ),
    ],
)  # fmt: skip
def test_each_reason_has_its_case(
    changes: dict[str, Any], target: Content, verb: Verb, reasons: list[Reason], changed: tuple[str, ...]
) -> None:
    values: dict[str, Any] = {
        "service": service(),
        "deployed": deployed_of(OLD),
        "attempt": None,
        "published": shows(OLD),
    }
    plan = make_plan(target=target, **(values | changes))
    assert plan == Plan(verb=verb, reasons=tuple(reasons), target=target, changed=changed)


def test_a_plan_says_why_in_one_line_with_the_links_that_changed() -> None:
    both = service(mappings=(WEB, CERT))
    old, new = content(A, "1", "1", of=both), content(B, "2", "1", of=both)
    plan = make_plan(
        service=both,
        target=new,
        deployed=deployed_of(old, of=both),
        attempt=None,
        published=shows(old, of=both),
    )
    assert plan.why == "mapped paths changed: web"
    assert Plan(verb=Verb.KEEP, reasons=(Reason.IN_LINE,)).why == "its commit is deployed"
    two = Plan(verb=Verb.DEPLOY, reasons=(Reason.CONTENT, Reason.UNPUBLISHED), changed=("web", "cert.pem"))
    assert two.why == f"mapped paths changed: web, cert.pem; {Reason.UNPUBLISHED.value}"


def test_a_mode_that_changes_is_a_change() -> None:
    executable = evolve(OLD, entries=(evolve(OLD.entries[0], mode=0o100755),))
    plan = make_plan(
        service=service(), target=executable, deployed=deployed_of(OLD), attempt=None, published=shows(OLD)
    )
    assert plan.reasons == (Reason.CONTENT,)


TRACK, FREEZE = Intent(), Intent(kind=IntentKind.FREEZE)
BACK = Intent(kind=IntentKind.ROLLBACK, revision=C)


@pytest.mark.parametrize(
    ("intent", "tip", "deployed", "attempt", "published", "expected"),
    [
        pytest.param(TRACK, B, deployed_of(OLD), None, OLD, B, id="track the tip"),
        pytest.param(TRACK, B, None, None, None, B, id="track from nothing"),
        pytest.param(TRACK, None, deployed_of(OLD), None, OLD, A, id="no tip: stay"),
        pytest.param(TRACK, None, None, None, None, Reason.NO_TIP, id="nothing at all"),
        pytest.param(TRACK, None, None, attempt_of(NEW), NEW, B, id="no tip, after a first publish"),
        pytest.param(TRACK, None, deployed_of(OLD), attempt_of(NEW), NEW, B, id="no tip, after a publish"),
        pytest.param(TRACK, None, deployed_of(OLD), attempt_of(NEW), OLD, A, id="no tip, before a publish"),
        pytest.param(FREEZE, B, deployed_of(OLD), None, OLD, A, id="frozen stays"),
        pytest.param(FREEZE, B, None, None, None, Reason.FROZEN_EMPTY, id="frozen before the first"),
        pytest.param(FREEZE, B, None, attempt_of(NEW), NEW, B, id="frozen after a first publish"),
        pytest.param(FREEZE, C, deployed_of(OLD), attempt_of(NEW), NEW, B, id="frozen after a publish"),
        pytest.param(FREEZE, C, deployed_of(OLD), attempt_of(NEW), OLD, A, id="frozen before a publish"),
        pytest.param(FREEZE, C, None, attempt_of(NEW), None, Reason.FROZEN_EMPTY, id="nothing came of it"),
        pytest.param(BACK, B, deployed_of(OLD), attempt_of(NEW), NEW, C, id="rollback wins over all"),
        pytest.param(BACK, None, None, None, None, C, id="rollback with nothing known"),
    ],
)
def test_aim(
    intent: Intent,
    tip: str | None,
    deployed: Deployed | None,
    attempt: Attempt | None,
    published: Content | None,
    expected: str | Reason,
) -> None:
    unfinished = attempt if attempt and attempt.content == published else None
    aimed = aim(intent=intent, tip=tip, deployed=deployed, unfinished=unfinished)
    assert aimed == expected


# Few values, so that they often agree: what matters is which are equal.
REVISIONS = st.sampled_from([A, B, C])
SERVICES = st.builds(
    service,
    mappings=st.sampled_from([(WEB,), (CERT,), (WEB, CERT), (CERT, WEB)]),
    mount=st.sampled_from([Path("/mount"), Path("/other")]),
    publish=st.sampled_from(["bind", "symlink"]),
    user=st.sampled_from([None, "web"]),
    readonly=st.booleans(),
)


@st.composite
def contents(draw: st.DrawFn, of: Service) -> Content:
    ids = [draw(st.sampled_from("12")) for _ in of.mappings]
    return content(draw(REVISIONS), *ids, of=of)


@st.composite
def situations(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments of `make_plan`, as they can occur and as they can't."""
    then, tried, now = draw(SERVICES), draw(SERVICES), draw(SERVICES)
    deployed = draw(st.none() | contents(then).map(lambda c: deployed_of(c, of=then)))
    attempt = draw(st.none() | contents(tried).map(lambda c: attempt_of(c, of=tried)))
    target = draw(contents(now))
    releases = [None, "alien", target.release_id(now)]
    releases += [deployed.release] if deployed else []
    releases += [attempt.release] if attempt else []
    published = Published(release=draw(st.sampled_from(releases)))
    return {
        "service": now,
        "target": target,
        "deployed": deployed,
        "attempt": attempt,
        "published": published,
    }


@given(situation=situations())
def test_to_keep_means_that_everything_agrees(situation: dict[str, Any]) -> None:
    plan = make_plan(**situation)
    if plan.verb in {Verb.KEEP, Verb.ADVANCE}:
        target, deployed, now = plan.target, situation["deployed"], situation["service"]
        assert target is not None
        assert situation["attempt"] is None
        assert situation["published"].release == deployed.release == target.release_id(now)
        assert deployed.service.placement == now.placement
        assert (target.revision == deployed.revision) == (plan.verb is Verb.KEEP)


@given(situation=situations())
def test_a_plan_always_names_its_target_and_a_reason(situation: dict[str, Any]) -> None:
    plan = make_plan(**situation)
    assert plan.reasons
    assert plan.why
    assert "\n" not in plan.why
    assert plan.target == situation["target"]
    assert plan.verb is not Verb.WAIT


@given(situation=situations())
def test_a_plan_that_was_carried_out_leaves_nothing_to_do(situation: dict[str, Any]) -> None:
    plan = make_plan(**situation)
    target = plan.target
    now, deployed = situation["service"], situation["deployed"]
    assert isinstance(now, Service)
    assert isinstance(target, Content)
    if plan.verb is Verb.DEPLOY:
        situation |= {
            "deployed": deployed_of(target, of=now),
            "attempt": None,
            "published": shows(target, of=now),
        }
    elif plan.verb is Verb.ADVANCE:
        assert isinstance(deployed, Deployed)
        situation |= {"deployed": evolve(deployed, revision=target.revision, content=target)}
    assert make_plan(**situation).verb is Verb.KEEP


@given(situation=situations())
def test_to_plan_is_pure(situation: dict[str, Any]) -> None:
    assert make_plan(**situation) == make_plan(**situation)


INTENTS = st.builds(Intent, kind=st.sampled_from(IntentKind), revision=st.none() | REVISIONS)


@given(intent=INTENTS, tip=st.none() | st.just("f" * 40), situation=situations())
def test_aim_is_total_and_never_aims_at_what_nobody_named(
    intent: Intent, tip: str | None, situation: dict[str, Any]
) -> None:
    deployed, attempt = situation["deployed"], situation["attempt"]
    aimed = aim(intent=intent, tip=tip, deployed=deployed, unfinished=attempt)
    known = {seen.revision for seen in (deployed, attempt) if seen}
    if intent.kind is IntentKind.TRACK:
        assert tip is None or aimed == tip
    elif intent.kind is IntentKind.FREEZE or intent.revision is None:
        assert aimed != tip, "a frozen service never follows the tip"
        assert aimed in known | {Reason.FROZEN_EMPTY}
    else:
        assert aimed == intent.revision
    assert isinstance(aimed, Reason) or aimed in known | {tip, intent.revision}


def placed(*locals_: str, **more: object) -> Service:
    mappings = tuple(Mapping(link=local.strip("/"), local=Path(local)) for local in locals_)
    return service(mappings=mappings, **more)


@pytest.mark.parametrize(
    ("old", "new", "in_the_way", "aside"),
    [
        pytest.param(["/a", "/b"], ["/a", "/b"], [], [], id="the same"),
        pytest.param(["/a", "/b"], ["/b"], [], ["/a"], id="one is gone"),
        pytest.param(["/a"], ["/b"], [], ["/a"], id="moved"),
        pytest.param(["/a/b"], ["/a"], ["/a/b"], [], id="below a new one"),
        pytest.param(["/a"], ["/a/b"], ["/a"], [], id="above a new one"),
        pytest.param(["/a", "/c"], ["/a/b"], ["/a"], ["/c"], id="both"),
        pytest.param(["/ab"], ["/a"], [], ["/ab"], id="a longer name is not below"),
        pytest.param(["/a"], ["/a", "/b"], [], [], id="one more"),
    ],
)
def test_what_is_stale(old: list[str], new: list[str], in_the_way: list[str], aside: list[str]) -> None:
    stale = Stale.of(placed(*old), placed(*new))
    assert ([str(m.local) for m in stale.in_the_way.mappings] if stale.in_the_way else []) == in_the_way
    assert ([str(m.local) for m in stale.aside.mappings] if stale.aside else []) == aside
    assert not stale.moved


def test_a_path_that_turns_from_a_directory_into_a_file_is_in_the_way() -> None:
    old = service(mappings=(Mapping(link="a", local=Path("/a")),))
    new = service(mappings=(Mapping(link="a", local=Path("/a"), file=True),))
    assert Stale.of(old, new) == Stale(in_the_way=old)


def test_another_publisher_or_mount_directory_makes_all_of_the_old_stale() -> None:
    old = placed("/a")
    assert Stale.of(old, placed("/a", publish="symlink")) == Stale(in_the_way=old, moved=True)
    assert Stale.of(old, placed("/a", mount=Path("/other"))) == Stale(in_the_way=old, moved=True)


def test_nothing_is_stale_before_the_first_deploy() -> None:
    assert Stale.of(None, placed("/a")) == Stale()


@pytest.mark.parametrize(
    ("intent", "tip", "deployed", "attempt", "expected"),
    [
        pytest.param(Intent(), A, deployed_of(OLD), None, True, id="at the tip"),
        pytest.param(Intent(), B, deployed_of(OLD), None, False, id="behind"),
        pytest.param(Intent(), None, deployed_of(OLD), None, True, id="at what is known"),
        pytest.param(Intent(), A, None, None, False, id="nothing deployed"),
        pytest.param(Intent(), None, deployed_of(OLD), attempt_of(NEW), False, id="not finished"),
        pytest.param(Intent(kind=IntentKind.FREEZE), B, deployed_of(OLD), None, True, id="frozen"),
        pytest.param(
            Intent(kind=IntentKind.ROLLBACK, revision=B),
            A,
            deployed_of(OLD),
            None,
            False,
            id="on its way back",
        ),
    ],
)
def test_those_that_come_after_wait_for_one_that_is_not_in_line(
    intent: Intent, tip: str | None, deployed: Deployed | None, attempt: Attempt | None, expected: bool
) -> None:
    assert in_line(intent=intent, tip=tip, deployed=deployed, attempt=attempt) is expected
