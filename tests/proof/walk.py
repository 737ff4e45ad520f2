"""A random walk: anything that may happen to a host, in any order, compared with a model after each step.

    python -m tests.proof walk --seconds 600

Real are the reconciler, the state store, the plugins (dulwich, symlink, command, check, health, rewind) and
the upstream, which ``git`` makes. `walkmodel` says what must be; a failure prints the shortest walk to it.
"""

from __future__ import annotations

import argparse
import logging
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

from attrs import evolve
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from libgitopper import DriftPolicy, IntentKind
from libgitopper import Mapping as Mapped
from tests.proof.table import Row
from tests.proof.walker import Walker
from tests.proof.walkgit import EXECUTABLE, LINK, PLAIN, File, changed, renamed
from tests.proof.walkvalues import ILL, UNFIT, Setup, Wish

__all__ = ["Walk", "run"]

NAMES = ("web", "webapp", "db")
BRANCHES = ("main", "canary")
FIRST = {f"{top}/{name}": File(PLAIN, b"1") for top in (*NAMES, "common") for name in ("conf", "sub/deep")}
FIRST |= {"cert": File(PLAIN, b"1"), "README": File(PLAIN, b"1")}

names = st.sampled_from(NAMES)
numbers = st.integers(0, 5)
steps = st.integers(0, 30)
paths = st.sampled_from(["conf", "sub/deep", "ünï code", ""])
tops = st.sampled_from([*NAMES, "common", "cert", "README"])
files = st.sampled_from(
    [
        File(PLAIN, b"1"), File(PLAIN, b"2"), File(PLAIN, b"\0\xff" * 9), File(EXECUTABLE, b"2"),
        File(LINK, b"conf"), File(PLAIN, UNFIT), File(PLAIN, ILL), None,
    ]
)  # fmt: skip
layouts = st.sampled_from(["own", "common", "two", "shared", "file", "only file", "nested links"])


class Walk(RuleBasedStateMachine):
    """A few services of one upstream on one host."""

    counts: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.walker = Walker(self.counts)
        self.host, self.upstream = self.walker.host, self.walker.host.upstream
        self.locals = self.walker.directory / "etc"
        self.locals.mkdir()
        self.past: list[str] = []

    def teardown(self) -> None:
        self.counts["walks"] += 1
        self.walker.close()

    @initialize(
        guarded=st.booleans(), drift=st.sampled_from(DriftPolicy), several=st.booleans(), pull=st.booleans()
    )  # fmt: skip
    def start(self, guarded: bool, drift: DriftPolicy, several: bool, pull: bool) -> None:
        self.past.append(self.upstream.commit("main", FIRST, parent=None))
        config = {
            name: Setup(mappings=self.layout(name, "own"), check=guarded, health=guarded, drift=drift)
            for name in NAMES[: 3 if several else 1]
        }
        self.walker.configure(config)
        if pull:
            self.pull()

    # Upstream

    @rule(branch=st.sampled_from(BRANCHES), top=tops, path=paths, file=files)
    def commit(self, branch: str, top: str, path: str, file: File | None) -> None:
        self.count("commit")
        parent = self.upstream.branches.get(branch) or self.past[-1]
        where = f"{top}/{path}".rstrip("/")
        self.push(branch, changed(self.upstream.commits[parent].files, where, file), parent)

    @rule(branch=st.sampled_from(BRANCHES), tops=st.sets(tops, min_size=2), file=files)
    def commit_to_several(self, branch: str, tops: set[str], file: File | None) -> None:
        self.count("commit to several")
        parent = self.upstream.branches.get(branch) or self.past[-1]
        tree = self.upstream.commits[parent].files
        for top in sorted(tops):
            tree = changed(tree, top if top in {"cert", "README"} else f"{top}/conf", file)
        self.push(branch, tree, parent)

    @rule(top=st.sampled_from(NAMES), to=st.sampled_from(["moved", "sub/moved", "../common/moved"]))
    def commit_a_rename(self, top: str, to: str) -> None:
        self.count("commit a rename")
        parent = self.upstream.branches.get("main") or self.past[-1]
        new = f"{top}/{to}" if not to.startswith("..") else to.removeprefix("../")
        self.push("main", renamed(self.upstream.commits[parent].files, f"{top}/conf", new), parent)

    @rule(branch=st.sampled_from(BRANCHES), which=numbers)
    def force_push(self, branch: str, which: int) -> None:
        self.count("force-push")
        self.upstream.point(branch, self.past[-1 - which % len(self.past)])

    @rule(branch=st.sampled_from(BRANCHES))
    def delete_branch(self, branch: str) -> None:
        self.count("delete branch")
        if branch in self.upstream.branches:
            self.upstream.point(branch, None)

    def push(self, branch: str, tree: Mapping[str, File], parent: str) -> None:
        self.past.append(self.upstream.commit(branch, tree, parent=parent))

    # Operators

    @rule(name=names, what=st.sampled_from(["freeze", "freeze for an hour", "unfreeze", "retry"]))
    def operate(self, name: str, what: str) -> None:
        self.count(what)
        if what == "retry":
            self.walker.retry(name)
        elif what == "unfreeze":
            self.walker.want(name, Wish())
        else:
            until = self.host.clock + timedelta(hours=1) if what != "freeze" else None
            self.walker.want(name, Wish(kind=IntentKind.FREEZE, until=until))

    @rule(name=names, which=numbers)
    def roll_back(self, name: str, which: int) -> None:
        if name in self.walker.config:
            self.count("rollback")
            self.walker.roll_back(name, self.past[-1 - which % len(self.past)])

    @rule(name=names, which=numbers)
    def roll_back_to_a_kept_release(self, name: str, which: int) -> None:
        kept = self.host.state.releases(name, 3)
        if kept and name in self.walker.config:
            self.count("rollback to a kept release")
            self.walker.roll_back(name, kept[which % len(kept)][1])

    # The host

    @rule(name=names, which=numbers, how=st.sampled_from(["edit", "add", "remove"]))
    def drift(self, name: str, which: int, how: str) -> None:
        if name in self.walker.config:
            self.count("drift")
            self.walker.edit(name, which, how)

    @rule(name=names, which=numbers)
    def remove_a_link(self, name: str, which: int) -> None:
        self.count("remove a link")
        self.walker.unlink(name, which)

    @rule(what=st.sampled_from([
        "upstream gone", "upstream back", "reloads refused", "reloads taken", "the window closes",
        "the window opens", "an hour passes", "the clock is set back", "restart",
    ]))  # fmt: skip
    def something_happens(self, what: str) -> None:
        self.count(what)
        if what.startswith("upstream"):
            self.upstream.switch(reachable=what == "upstream back")
        elif what.startswith("reloads"):
            self.walker.let_reload(what == "reloads taken")
        elif what.startswith("the window"):
            self.host.window.closed = what == "the window closes"
        elif what == "restart":
            self.walker.restart()
        else:
            self.host.clock += timedelta(hours=1 if what == "an hour passes" else -30)

    # The config

    @rule(name=names, layout=layouts)
    def change_mappings(self, name: str, layout: str) -> None:
        if setup := self.walker.config.get(name):
            self.count("change mappings")
            self.configure(name, evolve(setup, mappings=self.layout(name, layout)))

    @rule(
        name=names, branch=st.sampled_from(BRANCHES), drift=st.sampled_from(DriftPolicy),
        check=st.booleans(), health=st.booleans(), no_rewind=st.booleans(), keep=st.sampled_from([1, 3]),
    )  # fmt: skip
    def change_settings(self, name: str, **settings: Any) -> None:
        if setup := self.walker.config.get(name):
            self.count("change settings")
            self.configure(name, evolve(setup, **settings))

    @rule(name=names, layout=layouts)
    def add_service(self, name: str, layout: str) -> None:
        if name not in self.walker.config:
            self.count("add service")
            self.configure(name, Setup(mappings=self.layout(name, layout)))

    @rule(name=names, crash_at=st.none() | st.integers(0, 6))
    def drop_service(self, name: str, crash_at: int | None) -> None:
        if name in self.walker.config:
            self.count("drop service")
            rest = {n: setup for n, setup in self.walker.config.items() if n != name}
            self.walker.configure(rest, crash_at)

    def configure(self, name: str, setup: Setup) -> None:
        """Give a service its settings; what it maps, no other one maps any more."""
        own = {mapping.local for mapping in setup.mappings}
        config = {}
        for other, old in self.walker.config.items():
            left = tuple(mapping for mapping in old.mappings if mapping.local not in own)
            if other != name and left:
                config[other] = evolve(old, mappings=left)
        self.walker.configure(config | {name: setup})

    def layout(self, name: str, layout: str) -> tuple[Mapped, ...]:
        """Return mappings; `shared` is at a path that any service may have, but one at a time."""
        one, two = self.locals / name / "one", self.locals / name / "two"
        pairs: dict[str, Sequence[tuple[str, Path]]] = {
            "own": [(name, one)],
            "common": [("common", one)],
            "two": [(name, one), ("common", two)],
            "shared": [(name, one), ("common", self.locals / "shared")],
            "file": [(name, one), ("cert", two)],
            "only file": [("cert", one)],
            "nested links": [(name, one), (f"{name}/sub", two)],
        }
        return tuple(Mapped(link=k, local=local, file=k == "cert") for k, local in pairs[layout])

    # The daemon

    @rule()
    def pull(self) -> None:
        self.count("pull")
        self.walker.poll()
        for name in self.walker.config:
            self.walker.pass_(name)

    @rule(top=tops, path=paths, file=files)
    def commit_and_pull(self, top: str, path: str, file: File | None) -> None:
        self.commit("main", top, path, file)
        self.pull()

    @rule(name=names, poll=st.booleans())
    def make_a_pass(self, name: str, poll: bool) -> None:
        if name in self.walker.config:
            self.count("pass")
            if poll:
                self.walker.poll()
            self.walker.pass_(name)

    @rule(name=names, at=steps, file=st.none() | files, poll=st.booleans())
    def crash(self, name: str, at: int, file: File | None, poll: bool) -> None:
        if name in self.walker.config:
            if file:
                self.commit("main", name, "conf", file)
            self.count("crash")
            if poll:
                self.walker.poll()
            self.walker.pass_(name, at)

    @rule(name=names, at=steps, back=st.none() | numbers)
    def change_of_mind(self, name: str, at: int, back: int | None) -> None:
        if name in self.walker.config:
            self.count("change of mind")
            self.walker.poll()
            if back is None or (revision := self.known(name, back)) is None:
                wish = Wish(kind=IntentKind.FREEZE) if back is None else Wish()
            else:
                wish = Wish(kind=IntentKind.ROLLBACK, revision=revision)
            self.walker.meddle(name, at, wish)

    def known(self, name: str, which: int) -> str | None:
        """Return a commit of the service's branch."""
        line = self.upstream.line(self.walker.tips.get(self.walker.config[name].branch))
        return line[which] if which < len(line) else None

    @rule(at=st.integers(0, 3))
    def crash_in_a_poll(self, at: int) -> None:
        self.count("crash in a poll")
        self.walker.poll(at)

    @rule()
    def rest(self) -> None:
        self.count("rest")
        self.walker.rest()

    @invariant()
    def everything_is_shown_as_it_should_be(self) -> None:
        self.counts["steps"] += 1
        self.walker.look_around()

    def count(self, what: str) -> None:
        self.counts[f"rule {what}"] += 1


def run(arguments: Sequence[str]) -> list[Row]:
    """Walk for a while, and tell how it went."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof walk", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--length", type=int, default=30, help="steps of one walk")
    parser.add_argument("--seed", type=int, default=None, help="begin with this one")
    options = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)  # what fails on purpose is no news
    until = time.monotonic() + options.seconds
    failures: list[str] = []
    number = options.seed if options.seed is not None else random.randrange(1 << 32)
    while time.monotonic() < until and not failures:
        try:
            _walk(number, options.length)
        except Exception as exc:  # noqa: BLE001 - whatever it is, it is told with the way to see it again
            again = f"walk --seed {number} --length {options.length}"
            failures += [f"{again}: {one!r}\n{_notes(one)}" for one in _each(exc)]
        number += 1
    counts = Walk.counts
    for what in sorted(counts):
        print(f"{what:35} {counts[what]:9}")
    case = f"{counts['walks']} walks"
    return [
        Row(part="walk", case=case, points=counts["steps"], promises=counts["promises"], failures=failures)
    ]


def _each(exc: Exception) -> Iterator[Exception]:
    """Yield what was found: several things at once, perhaps."""
    if isinstance(exc, ExceptionGroup):
        for one in exc.exceptions:
            yield from _each(one)
    else:
        yield exc


def _notes(exc: Exception) -> str:
    return "\n".join(getattr(exc, "__notes__", ()))


def _walk(number: int, length: int) -> None:
    chosen = settings(
        max_examples=25, stateful_step_count=length, deadline=None, database=None, derandomize=False,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink],
    )  # fmt: skip
    run_state_machine_as_test(seed(number)(Walk), settings=chosen)
