"""What the walk stands on: a host, the model of it, and how every service is taken to stand."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections import Counter
from itertools import chain
from pathlib import Path

from attrs import evolve

from libgitopper import Attempt, Content, Deployed, Service
from tests.proof.walkhost import Host
from tests.proof.walkmodel import Model
from tests.proof.walkvalues import Placed, Setup, Standing, World

__all__ = ["Ground"]


class Ground:
    """A host, what it should be like, and what is known of it."""

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
        self.let_go: dict[str, set[str]] = {}
        """Releases, by service, that its config once had no more room for."""
        self.unrecorded: dict[str, Placed] = {}
        """What a service showed last, where the attempt of it gave way to one that came to show nothing."""
        self.breaches: list[str] = []

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
        shown = [
            s.mappings for st in self.standings.values() for s in (st.shown, st.attempt, st.deployed) if s
        ]
        locals_ = {m.local for m in chain(*(setup.mappings for setup in every), *shown)}
        return World(
            now=host.clock, tips=self.tips, fetched=host.store is not None, reloads=self.reloads,
            polled=None if not source.polled else source.error is None,
            reachable=host.upstream.reachable, held=host.window.closed,
            taken_paths=frozenset(str(p) for p in locals_ if host.shown_by(p) not in (None, name)),
        )  # fmt: skip

    def promise(self, kept: bool, what: str) -> None:
        """Count a promise that was looked at; it has to be kept."""
        self.counts["promises"] += 1
        if not kept and not self.counts["broken"]:
            self.counts["broken"] += 1
            print(f"broken, and the shortest walk to it is looked for: {what}", file=sys.stderr, flush=True)
        if not kept:
            self.breaches.append(what)
        # In the middle of a pass this is one more error that the product survives: see `pass_`.
        assert kept, what

    def _adopt(self, name: str) -> Standing:
        seen = self._seen(name)
        self._keep(name, seen, self.standing(name))
        return self.standing(name)

    def _keep(self, name: str, seen: Standing, must: Standing) -> None:
        """Go on from what was seen, and from what only the model can tell."""
        if seen.shown:
            self.unrecorded.pop(name, None)
        elif last := self.standing(name).shown:
            self.unrecorded[name] = last
        self.standings[name] = evolve(
            must, deployed=seen.deployed, attempt=seen.attempt, shown=seen.shown, partly=seen.partly,
            former=seen.former,
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
            partly=self._shows_partly(name), former=former,
        )  # fmt: skip

    def _shows_partly(self, name: str) -> bool:
        deployed = self.host.state.deployed(name)
        return deployed is not None and self.host.hooks.observe(deployed.service).partly

    def _placed(self, known: Deployed | Attempt | None) -> Placed | None:
        if known is None:
            return None
        placed = self.model.placed(known.revision, known.service.mappings, known.content.generation)
        assert placed, f"{known.revision} lacks what is on record of it"
        return placed

    def _content(self, name: str, key: tuple[object, int], revision: str) -> Content | None:
        """Return the content of a release by the product's own reckoning."""
        store, service = self.host.store, self.host.service(name, self.config[name])
        placed = self.model.placed(revision, service.mappings)
        if store is None or placed is None or placed.key[0] != key[0]:
            return None
        return evolve(store.content(revision, service), generation=key[1])

    def _prune(self) -> None:
        self.edited = {key: path for key, path in self.edited.items() if path.is_dir()}
