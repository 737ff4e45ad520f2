"""Drives a host and the model side by side, and compares them after each thing that happens."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path

from attrs import evolve

from libgitopper import (
    Attempt,
    Content,
    Deployed,
    Intent,
    IntentKind,
    Outcome,
    Service,
    UnknownRevision,
    Verb,
    derive,
)
from libgitopper import Mapping as Mapped
from libgitopper.testing.git import ENVIRONMENT
from tests.proof.walkgit import PLAIN, File
from tests.proof.walkhost import Crash, Host, read
from tests.proof.walkmodel import End, Model, Placed, Setup, Standing, Wish, World

__all__ = ["Walker"]

ROUNDS = 3
"""Of passes, until all is at rest: what one service has to give up, another one takes in the next."""


class Walker:
    """A host, what it should be like, and the steps from one to the next."""

    def __init__(self, counts: Counter[str]) -> None:
        self.counts = counts
        self.directory = Path(tempfile.mkdtemp(prefix="gitopper-walk-")).resolve()
        self.host = Host(self.directory)
        self.model = Model(self.host.upstream)
        self.config: dict[str, Setup] = {}
        self.standings: dict[str, Standing] = {}
        self.refs: dict[str, str] = {}
        """What the store has, by branch, polled for now or before."""
        self.tips: dict[str, str] = {}
        self.reloads = True
        self.edited: dict[tuple[str, object], Path] = {}

    def close(self) -> None:
        """Leave nothing."""
        self.host.close()
        shutil.rmtree(self.directory)

    def standing(self, name: str) -> Standing:
        """Return how a service is taken to stand."""
        return self.standings.setdefault(name, Standing())

    def services(self) -> tuple[Service, ...]:
        """Return what the config has."""
        return tuple(self.host.service(name, setup) for name, setup in self.config.items())

    def world(self, name: str) -> World:
        """Return what is around a service now."""
        host, every = self.host, [*self.config.values()]
        source = host.source_of(self.config[name].branch)
        shown = [s.mappings for st in self.standings.values() for s in (st.shown, st.attempt, st.deployed) if s]
        locals_ = {m.local for m in chain(*(setup.mappings for setup in every), *shown)}
        return World(
            now=host.clock, tips=self.tips, fetched=host.store is not None, reloads=self.reloads,
            polled=None if not source.polled else source.error is None,
            reachable=host.upstream.reachable,
            taken_paths=frozenset(str(p) for p in locals_ if host.shown_by(p) not in (None, name)),
        )  # fmt: skip

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
        inside = "extra" if how == "add" and not mapping.file else names[which % len(names)] if names else ""
        path = f"{mapping.link}/{inside}" if not mapping.file else mapping.link
        release = self.host.service(name, self.config[name]).releases
        release /= self.host.state.deployed(name).release  # type: ignore[union-attr]
        edits[path] = None if how == "remove" else File(PLAIN, b"edited")
        if (release / path).is_symlink() or (release / path).exists():
            (release / path).unlink()
        if how != "remove":
            (release / path).write_bytes(b"edited")
        (release / path).parent.mkdir(exist_ok=True)
        was = self.host.upstream.commits[here.revision].files
        edits = {p: file for p, file in edits.items() if was.get(p) != file}
        every = {key: e for key, e in standing.edits.items() if key != here.key}
        self.edited[name, here.key] = release
        self.standings[name] = evolve(standing, edits=every | ({here.key: edits} if edits else {}))

    def unlink(self, name: str, which: int) -> None:
        """Remove the link at one of a service's paths."""
        standing = self.standing(name)
        if standing.shown:
            mappings = standing.shown.mappings
            mappings[which % len(mappings)].local.unlink()
            self.standings[name] = evolve(standing, shown=None)

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
                self.promise(seen.shows(wanted.shown), f"{name}: its files are back after a restart")
        for name in self.standings.keys() - self.config.keys():
            self._adopt(name)
        self._withdraw_orphans()

    def pass_(
        self, name: str, at: int | None = None, action: Callable[[str], None] | None = None
    ) -> Outcome | None:
        """Make a pass; at the step of that number, do something in the middle of it (crash, if nothing)."""
        host, setup = self.host, self.config[name]
        before, world = self.standing(name), self.world(name)
        ends = list(self.model.ends(setup, before, world))
        host.steps.begin(at, action or _crash)
        host.steps.witness = lambda step: self._witness(name, before, ends, step)
        history = host.state.deploys(name)
        outcome = None
        try:
            outcome = host.reconciler.reconcile(host.service(name, setup), host.store, asked="walk")
        except Crash:
            pass
        finally:
            host.steps.witness = lambda step: None
        happened = at is not None and not host.steps.at
        host.steps.at = {}
        self._prune()
        if not happened:
            assert outcome
            self._compare(name, outcome, ends, world, before, history)
            return outcome
        self.counts["cut short" if outcome is None else "meddled with"] += 1
        if action:
            wish = self.standing(name).wish
            ends += self.model.ends(setup, evolve(before, wish=wish), world)
        self._compare_loosely(name, before, ends)
        if outcome is None:
            self.restart()
        return outcome

    def rest(self) -> None:
        """Let everything be well, and all come to rest; then nothing is owed and nothing left over."""
        self.host.upstream.switch(reachable=True)
        self.let_reload(True)
        self.poll()
        for _ in range(ROUNDS):
            ended = {}
            for name in self.config:
                ended[name] = self.pass_(name)
                touched = {step for step in self.host.steps.log if step.split()[1] in TOUCHING}
                if _ == ROUNDS - 1:
                    self.promise(not touched, f"{name}: a pass at rest does nothing: {touched}")
        for name, outcome in ended.items():
            self._at_rest(name, outcome)

    def let_reload(self, yes: bool) -> None:
        """Let services take reloads, or refuse them."""
        self.reloads = yes
        self.host.refuse(reloads=yes)

    # What is compared

    def promise(self, kept: bool, what: str) -> None:
        """Count a promise that was looked at; it has to be kept."""
        self.counts["promises"] += 1
        assert kept, what

    def look_around(self) -> None:
        """Every path of every service shows exactly what it should."""
        for name, standing in self.standings.items():
            if standing.shown:
                for mapping in standing.shown.mappings:
                    edits = standing.edits.get(standing.shown.key, {})
                    self.promise(
                        read(mapping.local) == (self.model.files(standing.shown, mapping, edits) or None),
                        f"{name}: {mapping.local} shows exactly what it should: {read(mapping.local)}",
                    )

    def _witness(self, name: str, before: Standing, ends: Sequence[End], step: str) -> None:
        """At every instant each path shows all that one commit has, or nothing where it had or gets nothing."""
        every = [before.shown, before.deployed, before.attempt]
        for end in ends:
            every += [end.standing.shown, end.standing.attempt, end.standing.deployed]
            if end.target:
                every.append(self.model.placed(end.target, self.config[name].mappings))
        known = [placed for placed in every if placed]
        for local in {mapping.local for placed in known for mapping in placed.mappings}:
            here = read(local) or {}
            allowed = []
            for placed in known:
                for mapping in placed.mappings:
                    if mapping.local == local:
                        allowed += [
                            self.model.files(placed, mapping, edits)
                            for edits in ({}, before.edits.get(placed.key, {}))
                        ]
            stays = before.shown is not None and all(
                any(m.local == local for m in placed.mappings) for placed in known
            ) and len({m.file for p in known for m in p.mappings if m.local == local}) == 1  # fmt: skip
            foreign = self.host.shown_by(local) not in (None, name)
            self.promise(
                here in allowed or foreign or (not here and not stays),
                f"{name}: at {step}, {local} shows what no commit has: {here}",
            )

    def _compare(
        self, name: str, outcome: Outcome, ends: Sequence[End], world: World, before: Standing,
        history: Sequence[object],
    ) -> None:  # fmt: skip
        seen = self._seen(name)
        found = [self._differences(name, outcome, end, world, seen, history) for end in ends]
        self.promise(
            [] in found,
            f"{name}: a pass ended otherwise than it must ({self.config[name]}, {before}): {found};"
            f" it told {outcome.error!r}, {outcome.plan and outcome.plan.why}",
        )
        end = ends[found.index([])]
        self._keep(name, seen, end.standing)
        self._check_records(name, end, outcome)

    def _differences(
        self, name: str, outcome: Outcome, end: End, world: World, seen: Standing, history: Sequence[object]
    ) -> list[str]:
        must, setup, state = end.standing, self.config[name], self.host.state
        shown_state, info = self._state_of(outcome, setup)
        newest = state.deploys(name, 1)
        intent = state.intent(name)
        pairs = {
            "error": (_kind(outcome), end.error and _known(end.error, outcome)),
            "state": (shown_state, self.model.state(setup, end, world)),
            "deployed": (_told(seen.deployed), _told(must.deployed)),
            "attempt": (_told(seen.attempt), _told(must.attempt)),
            "shown": (_placement(seen.shown), _placement(must.shown)),
            "accepted": (
                state.accepted(name, self.host.service(name, setup).source), must.accepted.get(setup.branch)
            ),
            "intent": ((intent.kind, intent.revision), (must.wish.kind, must.wish.revision)),
            "drift": (bool(outcome.drift and outcome.drift.changes), end.drifted),
            "reloaded": ("after reload" in self.host.steps.log, end.reloads),
            "history": (
                (newest[0].result.value if newest and state.deploys(name) != history else ""), end.result
            ),
        }  # fmt: skip
        return [f"{what}: {is_}, not {should} ({info})" for what, (is_, should) in pairs.items() if is_ != should]

    def _state_of(self, outcome: Outcome, setup: Setup) -> tuple[object, str]:
        plan = outcome.plan
        return derive(
            intent=outcome.intent, deployed=outcome.deployed, tip=self.tips.get(setup.branch),
            source=self.host.source_of(setup.branch), branch=setup.branch, error=outcome.error,
            waits=plan.note if plan and plan.verb is Verb.WAIT else "", drift=outcome.drift,
        )  # fmt: skip

    def _check_records(self, name: str, end: End, outcome: Outcome) -> None:
        """What is on record agrees with the host: what was taken, what is kept, what is told."""
        host, deployed = self.host, self.host.state.deployed(name)
        if end.result in {"deployed", "failed"}:
            newest = host.state.deploys(name, 1)[0]
            self.promise(newest.after == end.target, f"{name}: the history names what was tried")
        if deployed and not end.standing.attempt:
            self.promise(host.taken(name) == deployed.release, f"{name}: it took what is on record")
            self.promise(name not in host.steps.owed, f"{name}: no reload is owed")
        if deployed:
            self.promise(deployed.release_path.is_dir(), f"{name}: what is deployed is on disk")
        for rejected, (fitness, revision) in end.standing.rejected.items():
            content = self._content(name, rejected, revision)
            if fitness == self.config[name].fitness and content:
                service = host.service(name, self.config[name])
                told = host.state.rejection(name, content.release_id(service), service.fingerprint)
                self.promise(told is not None, f"{name}: what failed is remembered")

    def _compare_loosely(self, name: str, before: Standing, ends: Sequence[End]) -> None:
        """A pass that was cut short left what was before, or what was to be; that is where it goes on."""
        seen = self._seen(name)
        for what in ("deployed", "attempt", "shown"):
            allowed = [None] if what != "deployed" else []
            for standing in (before, *(end.standing for end in ends)):
                allowed += [standing.deployed, standing.attempt, standing.shown]
            for end in ends:
                if end.target:
                    allowed.append(self.model.placed(end.target, self.config[name].mappings))
            here = getattr(seen, what)
            ok = any(_placement(here) == _placement(placed) for placed in allowed)
            if what == "deployed" and before.deployed is None:
                ok = ok or here is None
            self.promise(ok, f"{name}: after it was cut short, {what} is {here}")
        branch, state = self.config[name].branch, self.host.state
        accepted = state.accepted(name, self.host.service(name, self.config[name]).source)
        known = {before.accepted.get(branch), *(end.standing.accepted.get(branch) for end in ends)}
        self.promise(accepted in known, f"{name}: accepted is {accepted}")
        standing = evolve(self.standing(name), accepted={**before.accepted} | (
            {branch: accepted} if accepted else {}))
        rejected = dict(before.rejected)
        for end in ends:
            for key, verdict in end.standing.rejected.items():
                content = self._content(name, key, verdict[1])
                service = self.host.service(name, self.config[name])
                if content and state.rejection(name, content.release_id(service), service.fingerprint):
                    rejected[key] = verdict
        intent = state.intent(name)
        wish = Wish(kind=intent.kind, revision=intent.revision, until=intent.until)
        self._keep(name, seen, evolve(standing, rejected=rejected, wish=wish))

    def _content(self, name: str, key: tuple[object, int], revision: str) -> Content | None:
        """Return the content of a release by the product's own reckoning."""
        store, service = self.host.store, self.host.service(name, self.config[name])
        placed = self.model.placed(revision, service.mappings)
        if store is None or placed is None or placed.key[0] != key[0]:
            return None
        return evolve(store.content(revision, service), generation=key[1])

    def _at_rest(self, name: str, outcome: Outcome | None) -> None:
        assert outcome
        setup, standing = self.config[name], self.standing(name)
        service = self.host.service(name, setup)
        if outcome.error is None:
            self.promise(standing.attempt is None, f"{name}: nothing is unfinished at rest")
        deployed = self.host.state.deployed(name)
        if deployed and standing.attempt is None:
            self.promise(standing.shows(standing.deployed), f"{name}: what is deployed is shown at rest")
            head = _git(service.live, "rev-parse", "HEAD")
            self.promise(head == deployed.revision, f"{name}: git names what is deployed: {head}")
            if standing.deployed and standing.deployed.key not in standing.edits:
                dirty = _git(service.live, "status", "--porcelain")
                self.promise(not dirty, f"{name}: git finds it clean: {dirty}")
        if service.releases.is_dir():
            names = [path.name for path in service.releases.iterdir()]
            self.promise(not [n for n in names if n.startswith(".new")], f"{name}: nothing half made: {names}")
            kept = self.host.state.releases(name, setup.keep)
            missing = [i for i, _ in kept if i not in names]
            if outcome.error is None:
                self.promise(not missing, f"{name}: what is to be kept is there: {missing} of {kept}")

    def _adopt(self, name: str) -> Standing:
        seen = self._seen(name)
        self._keep(name, seen, self.standing(name))
        return self.standing(name)

    def _keep(self, name: str, seen: Standing, must: Standing) -> None:
        """Go on from what was seen, and from what only the model can tell."""
        self.standings[name] = evolve(
            must, deployed=seen.deployed, attempt=seen.attempt, shown=seen.shown, former=seen.former,
            edits={k: e for k, e in must.edits.items() if (name, k) in self.edited},
        )  # fmt: skip

    def _seen(self, name: str) -> Standing:
        """Return how a service stands by the product's own records, and by what its paths show."""
        state = self.host.state
        deployed, attempt = state.deployed(name), state.attempt(name)
        shown = next((known for known in (deployed, attempt) if known and self.host.shows(known)), None)
        former = next((revision for _, revision in state.releases(name, 1)), None)
        return Standing(
            deployed=self._placed(deployed), attempt=self._placed(attempt), shown=self._placed(shown),
            former=former,
        )  # fmt: skip

    def _placed(self, known: Deployed | Attempt | None) -> Placed | None:
        if known is None:
            return None
        placed = self.model.placed(known.revision, known.service.mappings, known.content.generation)
        assert placed, f"{known.revision} lacks what is on record of it"
        return placed

    def _prune(self) -> None:
        self.edited = {key: path for key, path in self.edited.items() if path.is_dir()}


TOUCHING = {"publish", "withdraw", "reload", "checkout"}


def _crash(step: str) -> None:
    raise Crash(step)


def _kind(outcome: Outcome) -> object:
    return type(outcome.error).__name__ if outcome.error else None


def _known(error: type[Exception], outcome: Outcome) -> str:
    """Return the name of the error that was seen, where it is one of the kind that must be."""
    if outcome.error and (isinstance(outcome.error, error) or issubclass(error, type(outcome.error))):
        return type(outcome.error).__name__
    return error.__name__


def _placement(placed: Placed | None) -> tuple[object, tuple[Mapped, ...]] | None:
    return (placed.key[0], placed.mappings) if placed else None


def _told(placed: Placed | None) -> object:
    return (placed.revision, placed.mappings) if placed else None


def _git(path: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=path, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
