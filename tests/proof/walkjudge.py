"""Compares the host with the model: after each step, at every instant of a pass, and at rest."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import evolve

from libgitopper import CheckError, HealthError, IntentKind, Outcome, Verb, derive
from libgitopper import Mapping as Mapped
from libgitopper.testing.upstream import ENVIRONMENT
from tests.proof.walkgit import Files
from tests.proof.walkground import Ground
from tests.proof.walkhost import read
from tests.proof.walkpass import StandBy
from tests.proof.walkvalues import End, Key, Placed, Setup, Standing, Wish, World

__all__ = ["Judge"]


class Judge(Ground):
    """Knows what has to agree."""

    def look_around(self) -> None:
        """Every path of every service shows exactly what it should."""
        for name, standing in self.standings.items():
            if standing.shown:
                for mapping in standing.shown.mappings:
                    edits = standing.edits.get(standing.shown.key, {})
                    here, must = read(mapping.local) or {}, self.model.files(standing.shown, mapping, edits)
                    what = f"{name}: {mapping.local} shows exactly what it should: {here}, not {must}"
                    self.promise(here == must, what)

    def _witness(self, name: str, before: Standing, ends: Sequence[End], step: str) -> None:
        """At every instant each path shows all that one commit has, and all paths the same commit."""
        known = self._possible(name, before, ends)
        every = {mapping.local for placed in known for mapping in placed.mappings}
        here = {local: read(local) or {} for local in every}
        for local in every:
            shown = [self._reads(p, m, before) for p in known for m in p.mappings if m.local == local]
            follows = [files for end in ends for files in self._followed(before, end, local)]
            # It may show nothing only where it has, or gets, no place in the config.
            comes_or_goes = len(shown) < len(known) or before.shown is None or self._swaps(local, known)
            foreign = self.host.shown_by(local) not in (None, name)
            right = any(here[local] in either for either in shown)
            right = right or here[local] in follows or foreign or (not here[local] and comes_or_goes)
            self.promise(right, f"{name}: at {step}, {local} shows what no commit has: {here[local]}")
        if before.shown and len({placed.mappings for placed in known}) == 1:
            one = any(all(here[m.local] in self._reads(p, m, before) for m in p.mappings) for p in known)
            self.promise(one, f"{name}: at {step}, its paths show different commits: {here}")

    def _followed(self, before: Standing, end: End, local: Path) -> Iterator[Files]:
        """What a path that goes shows until then, where it is a link that follows to the new commit."""
        for known in filter(None, (before.shown, before.deployed, before.attempt)):
            for mapping in known.mappings:
                if end.target and mapping.local == local:
                    placed = self.model.placed(end.target, (mapping,))
                    if placed:
                        yield self.model.files(placed, mapping, {})

    def _possible(self, name: str, before: Standing, ends: Sequence[End]) -> list[Placed]:
        """Return all that the paths of a service may show during a pass."""
        found = [before.shown, before.deployed, before.attempt, self.unrecorded.get(name)]
        for end in ends:
            found += [end.standing.shown, end.standing.attempt, end.standing.deployed]
            if end.target:
                found.append(self.model.placed(end.target, self.config[name].mappings))
        return [placed for placed in found if placed]

    def _reads(self, placed: Placed, mapping: Mapped, before: Standing) -> list[Files]:
        """Return what is read at a mapping: as it was made, and as somebody left it."""
        return [self.model.files(placed, mapping, e) for e in ({}, before.edits.get(placed.key, {}))]

    @staticmethod
    def _swaps(local: Path, known: Sequence[Placed]) -> bool:
        """Tell whether a file takes the place of a directory there: no call of the kernel does that."""
        return len({m.file for placed in known for m in placed.mappings if m.local == local}) > 1

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
        return [
            f"{what}: {is_}, not {should} ({info})"
            for what, (is_, should) in pairs.items()
            if is_ != should
        ]

    def _state_of(self, outcome: Outcome, setup: Setup) -> tuple[object, str]:
        plan = outcome.plan
        return derive(
            intent=outcome.intent, deployed=outcome.deployed, tip=self.tips.get(setup.branch),
            source=self.host.source_of(setup.branch), branch=setup.branch, error=outcome.error,
            waits=plan.note if plan and plan.verb is Verb.WAIT else "", drift=outcome.drift,
            unfinished=outcome.unfinished,
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
        seen, state = self._seen(name), self.host.state
        possible = {_placement(placed) for placed in self._possible(name, before, ends)}
        for what in ("deployed", "attempt", "shown"):
            here = getattr(seen, what)
            fine = _placement(here) in possible or (
                here is None and not (what == "deployed" and before.deployed)
            )
            self.promise(fine, f"{name}: after it was cut short, {what} is {here}")
        branch = self.config[name].branch
        accepted = state.accepted(name, self.host.service(name, self.config[name]).source)
        known = {before.accepted.get(branch), *(end.standing.accepted.get(branch) for end in ends)}
        self.promise(accepted in known, f"{name}: after it was cut short, {accepted} is accepted")
        intent = state.intent(name)
        self._keep(
            name,
            seen,
            evolve(
                self.standing(name),
                accepted={**before.accepted} | ({branch: accepted} if accepted else {}),
                rejected={**before.rejected} | self._rejected(name, ends),
                wish=Wish(kind=intent.kind, revision=intent.revision, until=intent.until),
            ),
        )

    def _rejected(self, name: str, ends: Sequence[End]) -> dict[Key, tuple[object, str]]:
        """Return what may have been rejected in a pass, and was."""
        service = self.host.service(name, self.config[name])
        found = {}
        for key, verdict in (pair for end in ends for pair in end.standing.rejected.items()):
            content = self._content(name, key, verdict[1])
            release = content.release_id(service) if content else ""
            if self.host.state.rejection(name, release, service.fingerprint):
                found[key] = verdict
        return found

    def _at_rest(self, name: str, outcome: Outcome | None) -> None:
        assert outcome
        setup, standing = self.config[name], self.standing(name)
        service = self.host.service(name, setup)
        if outcome.error is None and not self._has_no_way_on(setup, standing):
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
            self.promise(
                not [n for n in names if n.startswith(".new")], f"{name}: nothing half made: {names}"
            )
            kept = self.host.state.releases(name, setup.keep)
            # What is there is to stay, from here on, as long as there is room for it.
            let_go = self.let_go.setdefault(name, set())
            let_go.difference_update(names)
            missing = [i for i, _ in kept if i not in {*names, *let_go}]
            if outcome.error is None:
                self.promise(not missing, f"{name}: what is to be kept is there: {missing} of {kept}")

    def _has_no_way_on(self, setup: Setup, standing: Standing) -> bool:
        """Tell whether an attempt has no commit to go on to.

        It is not shown where it is wanted; and its branch is gone, or it is frozen at nothing.
        """
        attempt = standing.attempt
        here = attempt is not None and attempt.mappings == setup.mappings and standing.shows(attempt)
        empty = standing.deployed is None and standing.former is None
        frozen = standing.wish.kind is IntentKind.FREEZE and empty
        return attempt is not None and not here and (frozen or setup.branch not in self.tips)


def _kind(outcome: Outcome) -> object:
    return type(outcome.error).__name__ if outcome.error else None


def _known(error: type[Exception], outcome: Outcome) -> str:
    """Return the name of the error that was seen, where it is one of the kind that must be."""
    either = (CheckError, HealthError) if error is StandBy else error
    return (type(outcome.error) if isinstance(outcome.error, either) else error).__name__


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
