"""Anything in any order: pushes, operators, crashes, reboots, new settings, failures, verdicts, edits."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from libgitopper import (
    Check,
    CheckError,
    DriftPolicy,
    Health,
    HealthError,
    Hold,
    IntentKind,
    Outcome,
    PublishError,
    Reason,
    ReloadError,
    Service,
    Verb,
)
from tests.support.simulated import BRANCH, Crash
from tests.support.simulatedguards import ILL, UNFIT
from tests.support.simulatedhost import SimulatedHost

LINKS = st.sampled_from(
    [
        {"/etc/web": "web"},
        {"/etc/web": "webapp"},
        {"/etc/web": "web", "/etc/app": "webapp"},
        {"/etc/web/below": "web"},
        {"/srv/web": "web", "/etc/web": "webapp"},
    ]
)
TEXTS = st.sampled_from(["1", "2", "3", UNFIT, ILL])
FAILURES = {
    "reload web": ReloadError("refused"),
    "publish web": PublishError("in the way"),
    "check web": CheckError("no such file"),
    "checkout web": CheckError("can't be judged now", retryable=True),
    "health web": HealthError("the database is down"),
}
GUARDS = {"check": Check(commands=(("check",),)), "health": Health(unit=True, within_seconds=1.0)}


class Host(RuleBasedStateMachine):
    """One service on one host. After whatever happened, a pass in which nothing fails mends all."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="gitopper-machine-"))
        self.host = SimulatedHost(self.directory)
        self.more: dict[str, Any] = {}
        self.service: Service = self.host.service()

    @initialize(guarded=st.booleans(), drift=st.sampled_from(DriftPolicy))
    def start(self, guarded: bool, drift: DriftPolicy) -> None:
        self.more = {"drift": drift} | (GUARDS if guarded else {})
        self.service = self.host.service(**self.more)
        self.host.upstream.commit({"web/conf": "1", "webapp/conf": "1"})

    @rule(path=st.sampled_from(["web/conf", "webapp/conf", "else"]), text=TEXTS)
    def push(self, path: str, text: str) -> None:
        self.host.upstream.commit({path: text})

    @rule(back=st.integers(0, 3))
    def force_push(self, back: int) -> None:
        line = self.host.upstream.branches[BRANCH]
        self.host.upstream.force(BRANCH, line[max(0, len(line) - 1 - back)])

    @rule(links=LINKS, publish=st.sampled_from(["simulated", "other"]), readonly=st.booleans())
    def change_settings(self, links: dict[str, str], publish: str, readonly: bool) -> None:
        settings: dict[str, Any] = {"publish": publish, "readonly": readonly} | self.more
        self.service = self.host.service(links=links, **settings)
        self.host.restart()

    @rule(text=st.sampled_from(["edited", "edited again"]))
    def edit(self, text: str) -> None:
        if self.host.shown(self.service):
            path = f"{self.service.mappings[0].link}/conf"
            self.host.edit(self.service, path, text)

    @rule()
    def retry(self) -> None:
        self.host.reconciler.retry("web")

    @rule(held=st.booleans())
    def open_or_close_the_window(self, held: bool) -> None:
        self.host.guards.held = Hold(reason="it is night") if held else None

    @rule()
    def freeze(self) -> None:
        self.host.freeze(self.service)

    @rule()
    def unfreeze(self) -> None:
        self.host.unfreeze(self.service)

    @rule(which=st.integers(0, 5))
    def roll_back(self, which: int) -> None:
        line = self.host.upstream.branches[BRANCH]
        self.host.roll_back(self.service, line[which % len(line)])

    @rule(reachable=st.booleans())
    def switch_upstream(self, reachable: bool) -> None:
        self.host.upstream.reachable = reachable

    @rule()
    def reboot(self) -> None:
        self.host.mounts.reboot()
        self.host.restart()

    @rule(step=st.integers(0, 45))
    def crash(self, step: int) -> None:
        self.host.script.clear()
        self.host.script.crash_at = step
        try:
            self.host.pass_(self.service)
        except Crash:
            self.host.restart()
        self.host.script.clear()

    @rule(step=st.sampled_from(sorted(FAILURES)))
    def fail(self, step: str) -> None:
        self.host.script.clear()
        self.host.script.on(step, FAILURES[step])
        self.host.pass_(self.service)
        self.host.script.clear()

    @rule()
    def reconcile(self) -> None:
        self.host.pass_(self.service)

    @rule()
    def restore(self) -> None:
        assert self.host.reconciler.restore(self.service).error is None

    @rule()
    @precondition(lambda self: self.host.upstream.reachable)
    def mend(self) -> None:
        """A pass with everything at hand ends with everything in line, or with a good reason against it."""
        self.host.guards.held = None
        outcome = self.host.pass_(self.service)
        if outcome.error and not self.is_bad(self.wanted()):
            # Something of ours failed once, and was taken for a fault of the commit.
            assert self.host.reconciler.retry("web")
            outcome = self.host.pass_(self.service)
        if outcome.error:
            self.assert_refused(outcome)
        else:
            self.assert_in_line(outcome)
        self.host.script.clear()
        again = self.host.pass_(self.service)
        if outcome.error is None:
            assert again.plan is not None
            assert again.plan.verb in {Verb.KEEP, Verb.WAIT}
        if self.service.drift is DriftPolicy.HEAL and again.error is None:
            self.assert_nothing_drifted()
        elif not again.drift:
            assert self.host.script.count("reload web") == 0

    def wanted(self) -> str | None:
        """The revision that the service should be at."""
        intent, deployed = self.host.state.intent("web"), self.host.state.deployed("web")
        if intent.kind is IntentKind.TRACK:
            return self.host.tip
        attempt = self.host.state.attempt("web")
        here = deployed.revision if deployed else None
        shown = attempt.revision if attempt and self.host.shown(self.service) == attempt.release else here
        return intent.revision or shown

    def should_read(self, revision: str) -> dict[str, str]:
        """What a revision has for the service."""
        tree = self.host.upstream.commits[revision]
        links = tuple(f"{mapping.link}/" for mapping in self.service.mappings)
        return {path: text for path, text in tree.items() if path.startswith(links)}

    def is_bad(self, revision: str | None) -> bool:
        """Tell whether a revision must not be deployed."""
        words = set(self.should_read(revision).values()) if revision else set()
        return self.service.check is not None and bool(words & {UNFIT, ILL})

    def assert_in_line(self, outcome: Outcome) -> None:
        intent, deployed = self.host.state.intent("web"), self.host.state.deployed("web")
        if intent.kind is IntentKind.TRACK:
            self.host.assert_in_line(self.service, self.host.tip)
        elif intent.revision:
            self.host.assert_in_line(self.service, intent.revision)
        elif deployed:
            self.host.assert_in_line(self.service, deployed.revision)
        else:
            # Frozen before its first deploy was taken: it shows that, or nothing.
            attempt = self.host.state.attempt("web")
            shown = {release for _, _, release, _ in self.host.mounts.shown.values()}
            assert shown <= ({attempt.release} if attempt else set())
        assert outcome.plan is not None
        if Reason.CONTENT in outcome.plan.reasons:
            assert not self.is_bad(self.wanted())

    def assert_refused(self, outcome: Outcome) -> None:
        assert isinstance(outcome.error, CheckError | HealthError)
        deployed = self.host.state.deployed("web")
        if deployed:
            placed = self.host.service(mappings=deployed.service.mappings, publish=deployed.service.publish)
            self.host.assert_in_line(placed, deployed.revision)

    def assert_nothing_drifted(self) -> None:
        deployed = self.host.state.deployed("web")
        if deployed and deployed.service.placement == self.service.placement:
            for path, text in self.should_read(deployed.revision).items():
                assert self.host.read(self.service, path) == text

    @invariant()
    def deployed_is_never_ahead_of_the_truth(self) -> None:
        deployed, attempt = self.host.state.deployed("web"), self.host.state.attempt("web")
        if attempt is None:
            taken = self.host.services.taken.get("web")
            assert taken == (deployed.release if deployed else None)
            assert {what[2] for what in self.host.mounts.shown.values()} <= {taken}

    @invariant()
    def what_is_deployed_can_be_shown(self) -> None:
        deployed = self.host.state.deployed("web")
        assert deployed is None or deployed.release_path.is_dir()

    @invariant()
    def what_failed_its_check_is_never_seen(self) -> None:
        if self.service.check is not None:
            for _, service, release, link in self.host.mounts.shown.values():
                text = (self.service.releases.parent / service / release / link / "conf").read_text()
                assert text != UNFIT

    def teardown(self) -> None:
        self.host.close()
        shutil.rmtree(self.directory)


TestAnythingInAnyOrder = Host.TestCase
TestAnythingInAnyOrder.settings = settings(
    max_examples=120,
    stateful_step_count=30,
    deadline=None,  # each step is a few commits to a disk
    suppress_health_check=[HealthCheck.too_slow],
)
