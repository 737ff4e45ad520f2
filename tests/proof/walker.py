"""Drives a host and the model side by side: what operators, config and daemon do."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import evolve

from libgitopper import Intent, IntentKind, Outcome, UnknownRevision
from tests.proof.walkgit import PLAIN, File
from tests.proof.walkhost import Crash
from tests.proof.walkjudge import Judge
from tests.proof.walkvalues import End, Setup, Standing, Wish, World

__all__ = ["Walker"]

ROUNDS = 3
"""Of passes, until all is at rest: what one service has to give up, another one takes in the next."""

MOST = 1000
"""More releases than a walk makes of a service."""

TOUCHING = {"publish", "withdraw", "reload", "checkout"}
OPEN = {"verify", "check", "reload", "health", "drift"}
"""Steps during which an operator need not wait: else one thread can't be both."""


class Walker(Judge):
    """Does what may happen, and has each step judged."""

    # What operators and config do

    def want(self, name: str, wish: Wish) -> None:
        """Tell what an operator wants."""
        host, standing = self.host, self.standing(name)
        host.reconciler.want(name, Intent(kind=wish.kind, revision=wish.revision, until=wish.until))
        pardoned = wish.kind is IntentKind.ROLLBACK
        rejected = {k: v for k, v in standing.rejected.items() if not (pardoned and v[1] == wish.revision)}
        self.standings[name] = evolve(standing, wish=wish, rejected=rejected)

    def roll_back(self, name: str, revision: str) -> bool:
        """Ask for a commit as an operator does; tell whether it was one that the service may go to."""
        host, setup = self.host, self.config[name]
        service = host.service(name, setup)
        kept = dict(host.state.releases(name, setup.keep))
        in_line = revision in host.upstream.line(self.tips.get(setup.branch)) and host.store is not None
        must = in_line or any(r == revision and (service.releases / i).is_dir() for i, r in kept.items())
        try:
            found = host.reconciler.resolve(service, revision, host.store)
        except UnknownRevision:
            assert not must, "it is in the history, or kept, and yet refused"
            return False
        assert found == revision
        self.want(name, Wish(kind=IntentKind.ROLLBACK, revision=revision))
        return True

    def retry(self, name: str) -> None:
        """Let everything be tried again."""
        assert self.host.reconciler.retry(name) == len(self.standing(name).rejected)
        self.standings[name] = evolve(self.standing(name), rejected={})

    def configure(self, config: Mapping[str, Setup], crash_at: int | None = None) -> None:
        """Go over to another config: what it dropped is withdrawn."""
        for name, setup in self.config.items():
            older = self.host.state.releases(name, MOST)[setup.keep :]
            self.let_go.setdefault(name, set()).update(release for release, _ in older)
        self.config = dict(config)
        self.host.steps.begin(crash_at, _crash)
        try:
            self._withdraw_orphans()
        except Crash:
            self.restart()
        self.host.steps.begin()

    def _withdraw_orphans(self) -> None:
        for orphan in self.host.reconciler.orphans(self.services()):
            name = orphan.service.name
            assert self.host.reconciler.withdraw(orphan)
            self.standings[name] = evolve(self.standing(name), deployed=None, attempt=None, shown=None)
            self.host.steps.owed.discard(name)

    def edit(self, name: str, which: int, how: str) -> None:
        """Change files of a release that is published, as somebody on the host might."""
        standing = self.standing(name)
        here = standing.deployed
        if here is None or standing.attempt or not standing.shows(here):
            return
        mapping = here.mappings[which % len(here.mappings)]
        edits = dict(standing.edits.get(here.key, {}))
        names = sorted(self.model.files(here, mapping, edits))
        if not names and mapping.file:
            return
        inside = names[which % len(names)] if names and how != "add" else "extra"
        path = mapping.link if mapping.file else f"{mapping.link}/{inside}"
        deployed = self.host.state.deployed(name)
        assert deployed is not None
        release = self.host.service(name, self.config[name]).releases / deployed.release
        edits[path] = None if how == "remove" else File(PLAIN, b"edited")
        (release / path).unlink(missing_ok=True)
        if how != "remove":
            (release / path).write_bytes(b"edited")
        was = self.host.upstream.commits[here.revision].files
        edits = {p: file for p, file in edits.items() if was.get(p) != file}
        every = {key: e for key, e in standing.edits.items() if key != here.key}
        self.edited[name, here.key] = release
        shown = standing.shown if self.model.whole(here, edits) else None
        every |= {here.key: edits} if edits else {}
        self.standings[name] = evolve(standing, edits=every, shown=shown)

    def unlink(self, name: str, which: int) -> None:
        """Remove the link at one of a service's paths."""
        standing = self.standing(name)
        if standing.shown:
            mappings = standing.shown.mappings
            mappings[which % len(mappings)].local.unlink()
            self.standings[name] = evolve(standing, shown=None, partly=self._shows_partly(name))

    # What the daemon does

    def poll(self, crash_at: int | None = None) -> None:
        """Poll upstream for all services."""
        if not self.config:
            return
        host = self.host
        branches = {setup.branch for setup in self.config.values()}
        heads = {b: tip for b, tip in host.upstream.branches.items() if b in branches}
        after = {b: tip for b, tip in self.refs.items() if b not in branches} | heads
        host.steps.begin(crash_at, _crash)
        try:
            host.poll(self.services())
        except Crash:
            host.restart()
            host.poll(self.services(), offline=True)
            seen = dict(host.store.tips) if host.store else {}
            former = {b: tip for b, tip in self.refs.items() if b in branches}
            assert seen in (heads, former), "a poll that was cut short left tips that never were"
            self.refs = after if seen == heads else self.refs
            self.restart()
        host.steps.begin()
        if host.upstream.reachable and host.source.polled:
            assert host.source.error is None, host.source.error
            self.refs, self.tips = after, heads
            assert dict(host.store.tips if host.store else {}) == heads

    def restart(self) -> None:
        """End the process, and let the next one do what the daemon does at its start."""
        self.counts["restarts"] += 1
        host = self.host
        host.restart()
        branches = {setup.branch for setup in self.config.values()}
        if self.config:
            host.poll(self.services(), offline=True)
        self.tips = {b: tip for b, tip in self.refs.items() if b in branches}
        if host.store:
            assert dict(host.store.tips) == self.tips
        for name, setup in self.config.items():
            self._adopt(name)
            wanted = self.model.restored(setup, self.standing(name), self.world(name))
            host.reconciler.restore(host.service(name, setup))
            seen = self._adopt(name)
            if wanted.deployed and not wanted.attempt:
                same = seen.shows(wanted.shown) or seen.shown is wanted.shown is None
                self.promise(same, f"{name}: its files are back after a restart")
        for name in self.standings.keys() - self.config.keys():
            self._adopt(name)
        self._withdraw_orphans()

    def pass_(
        self, name: str, at: int | None = None, action: Callable[[str], None] | None = None
    ) -> Outcome | None:
        """Make a pass; at the step of that number, do something in the middle of it (crash, if nothing)."""
        host, setup = self.host, self.config[name]
        before, world = self.standing(name), self.world(name)
        host.steps.begin(at, action or _crash)
        host.steps.witness = lambda step: self._witness(name, before, self._ends(name, before, world), step)
        history = host.state.deploys(name)
        outcome = None
        try:
            outcome = host.reconciler.reconcile(host.service(name, setup), host.store, asked="walk")
        except Crash:
            pass
        finally:
            host.steps.witness = lambda step: None
        assert not self.breaches, self.breaches[0]
        ends = self._ends(name, before, world)
        happened = at is not None and not host.steps.at
        host.steps.at = {}
        self._prune()
        if not happened:
            assert outcome
            self._compare(name, outcome, ends, world, before, history)
            return outcome
        self.counts["cut short" if outcome is None else "meddled with"] += 1
        self._compare_loosely(name, before, ends)
        if outcome is None:
            self.restart()
        return outcome

    def _ends(self, name: str, before: Standing, world: World) -> list[End]:
        """Return the right ends of a pass, for what was wanted when it began and for what is wanted now."""
        now = self.standing(name)
        ends = list(self.model.ends(self.config[name], before, world))
        return ends if now is before else [*ends, *self.model.ends(self.config[name], now, world)]

    def meddle(self, name: str, at: int, wish: Wish) -> None:
        """Make a pass; in the middle of it an operator wants something else."""

        def act(step: str) -> None:
            if step.split()[1] in OPEN:
                self.want(name, wish)
            else:
                self.host.steps.at[self.host.steps.count] = act

        self.pass_(name, at, act)

    def rest(self) -> None:
        """Let everything be well, and all come to rest; then nothing is owed and nothing left over."""
        self.host.upstream.switch(reachable=True)
        self.let_reload(True)
        self.host.window.closed = False
        self.poll()
        ended: dict[str, Outcome | None] = {}
        for number in range(ROUNDS):
            for name in self.config:
                ended[name] = self.pass_(name)
                touched = {step for step in self.host.steps.log if step.split()[1] in TOUCHING}
                if number == ROUNDS - 1:
                    self.promise(not touched, f"{name}: a pass at rest does nothing: {touched}")
        for name, outcome in ended.items():
            self._at_rest(name, outcome)

    def let_reload(self, yes: bool) -> None:
        """Let services take reloads, or refuse them."""
        self.reloads = yes
        self.host.refuse(reloads=yes)


def _crash(step: str) -> None:
    raise Crash(step)
