"""Anything in any order: pushes, operators, crashes, reboots, new settings, failures. Hypothesis looks."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from libgitopper import IntentKind, PublishError, ReloadError, Service
from tests.support.simulated import BRANCH, Crash
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
FAILURES = {"reload web": ReloadError("refused"), "publish web": PublishError("in the way")}


class Host(RuleBasedStateMachine):
    """One service on one host. After whatever happened, a pass in which nothing fails mends all."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="gitopper-machine-"))
        self.host = SimulatedHost(self.directory)
        self.service: Service = self.host.service()
        self.rebooted_since_deployed = False

    @initialize()
    def start(self) -> None:
        self.host.upstream.commit({"web/conf": "1", "webapp/conf": "1"})

    @rule(path=st.sampled_from(["web/conf", "webapp/conf", "else"]), text=st.sampled_from("123"))
    def push(self, path: str, text: str) -> None:
        self.host.upstream.commit({path: text})

    @rule(back=st.integers(0, 3))
    def force_push(self, back: int) -> None:
        line = self.host.upstream.branches[BRANCH]
        self.host.upstream.force(BRANCH, line[max(0, len(line) - 1 - back)])

    @rule(links=LINKS, publish=st.sampled_from(["simulated", "other"]), readonly=st.booleans())
    def change_settings(self, links: dict[str, str], publish: str, readonly: bool) -> None:
        self.service = self.host.service(links=links, publish=publish, readonly=readonly)
        self.host.restart()

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

    @rule(step=st.integers(0, 20))
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
        """A pass with everything at hand ends with everything in line."""
        outcome = self.host.pass_(self.service)
        assert outcome.error is None
        intent, tip = self.host.state.intent("web"), self.host.upstream.branches[BRANCH][-1]
        deployed = self.host.state.deployed("web")
        if intent.kind is IntentKind.TRACK:
            self.host.assert_in_line(self.service, tip)
        elif intent.revision:
            self.host.assert_in_line(self.service, intent.revision)
        elif deployed:
            self.host.assert_in_line(self.service, deployed.revision)
        else:
            assert self.host.mounts.shown == {}
        again = self.host.pass_(self.service)
        assert again.plan is not None
        assert again.plan.verb.value in {"keep", "wait"}

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

    def teardown(self) -> None:
        self.host.close()
        shutil.rmtree(self.directory)


TestAnythingInAnyOrder = Host.TestCase
TestAnythingInAnyOrder.settings = settings(
    max_examples=120,
    stateful_step_count=25,
    deadline=None,  # each step is a few commits to a disk
    suppress_health_check=[HealthCheck.too_slow],
)
