"""Many services on many upstreams, for a long time: what the daemon takes of its host stays flat.

One real gitopperd follows all of them, while commits arrive all the time, with whatever else happens in
months of a fleet (`longevents`). What it takes is measured as it goes (`longwatch`), and judged at the end
(`longjudge`). Then everything comes to rest, and each service has to show what its branch says.

``--fetches N`` alone does something else: so many fetches into one store (`longfetches`).
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from attrs import define, field

from tests.proof import longfetches
from tests.proof.longevents import Events
from tests.proof.longfleet import COMMON, KEEPS, Fleet, Repository, conf, fleet
from tests.proof.longjudge import judged
from tests.proof.longwatch import cpu_seconds, descendants, leftovers, on_disk, taken, zombies
from tests.proof.table import Row
from tests.support.daemon import wait_until
from tests.support.upstream import git

__all__ = ["run", "run_fleet"]

SETTLE_SECONDS = 120.0
SAMPLES = 200
"""How many samples are taken, but never more than one in `SHORTEST_SECONDS`."""
SHORTEST_SECONDS = 0.5
DISK_EVERY = 2
"""Samples between two that count files: that costs as much as many others."""
TELL_SECONDS = 60.0


def run(arguments: Sequence[str]) -> list[Row]:
    """Run the part, as the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof long", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long; 10 by default")
    parser.add_argument("--hours", type=float, default=0.0, help="and how long beyond that")
    parser.add_argument("--services", type=int, default=500)
    parser.add_argument("--upstreams", type=int, default=50)
    parser.add_argument("--rate", type=float, default=2.0, help="how much happens in a second")
    parser.add_argument("--interval", type=int, default=10, help="seconds between two polls of an upstream")
    parser.add_argument("--seed", type=int, default=0, help="what chance begins with")
    parser.add_argument("--fetches", type=int, help="only this many fetches into one store")
    options = parser.parse_args(arguments)
    if options.fetches:
        return [longfetches.prove(options.fetches)]
    rows = run_fleet(
        seconds=options.minutes * 60 + options.hours * 3600, services=options.services, seed=options.seed,
        upstreams=options.upstreams, rate=options.rate, interval_seconds=options.interval,
    )  # fmt: skip
    return [*rows, longfetches.prove(longfetches.FETCHES)]


def run_fleet(
    *, seconds: float, services: int, upstreams: int, rate: float, interval_seconds: int, seed: int = 0
) -> list[Row]:
    """Run a fleet for so long; return what was found."""
    with (
        tempfile.TemporaryDirectory(prefix="gitopper-long-") as home,
        fleet(
            Path(home), services=services, upstreams=upstreams, interval_seconds=interval_seconds
        ) as all_,
    ):
        events = Events(fleet=all_, chance=random.Random(seed))
        trial = _Trial(fleet=all_, events=events, every_seconds=max(SHORTEST_SECONDS, seconds / SAMPLES))
        all_.daemon.start()
        wait_until(lambda: not trial.not_in_line(), trial.told_not_in_line, SETTLE_SECONDS)
        trial.go_on(seconds, rate)
        rows = [judged(name, points) for name, points in trial.series.items()]
        return [*rows, trial.happened(), trial.rested(), trial.ended()]


@define(kw_only=True, eq=False)
class _Trial:
    """The fleet, what happens to it, and what is measured meanwhile."""

    fleet: Fleet
    events: Events
    every_seconds: float
    series: dict[str, list[tuple[float, float]]] = field(factory=dict)
    zombies: dict[int, int] = field(factory=dict)
    """In how many samples running a process was seen to be one."""
    _cpu: tuple[float, float] = (0.0, 0.0)
    _samples: int = 0

    def go_on(self, seconds: float, rate: float) -> None:
        """Let things happen at that rate, and measure; for so many seconds."""
        begin = told = time.monotonic()
        self._cpu = (begin, cpu_seconds(self.fleet.pid))
        next_event, next_sample, end = begin, begin, begin + seconds
        while (now := time.monotonic()) < end:
            if now >= next_event:
                self.events.happen()
                next_event = max(next_event + 1 / rate, now - 1.0)  # what can't be kept up with, is not
            if now >= next_sample:
                self._measure(now)
                next_sample = now + self.every_seconds
            self.events.look()
            if now > told + TELL_SECONDS:
                told = now
                print(f"{(now - begin) / 60:.0f} min: {self._last()}", file=sys.stderr)
            time.sleep(0.005)
        self.series["commit to published"] = self.events.latencies

    def _measure(self, now: float) -> None:
        self._samples += 1
        pid = self.fleet.pid
        for name, value in taken(pid, self.fleet.mount).items():
            self._note(name, now, value)
        (then, before), self._cpu = self._cpu, (now, cpu_seconds(pid))
        if now - then > self.every_seconds / 2:
            self._note("CPU", now, (self._cpu[1] - before) / (now - then))
        began = time.monotonic()
        self.fleet.daemon.ask("GET", "/list/services", tcp=True)
        self._note("answer of REST", now, time.monotonic() - began)
        dead = zombies(pid)
        self.zombies = {child: self.zombies.get(child, 0) + 1 for child in dead}
        if self._samples % DISK_EVERY == 1:
            self._measure_disk(now)
        self.fleet.forget_requests()

    def _measure_disk(self, now: float) -> None:
        found = on_disk(self.fleet.mount, self.fleet.home / "state")
        here = [repository for repository in self.fleet.repositories if not repository.away]
        share = len(here) / len(self.fleet.repositories)
        upstream = sum(repository.size_bytes() for repository in here) / share
        found["bytes per byte of upstream"] = found.pop("bytes of the stores") / upstream
        for name, value in found.items():
            self._note(name, now, value)

    def _note(self, name: str, now: float, value: float) -> None:
        self.series.setdefault(name, []).append((now, value))

    def _last(self) -> str:
        values = ", ".join(f"{name} {points[-1][1]:.4g}" for name, points in self.series.items())
        return f"{values}; {len(self.events.overdue)} overdue"

    def happened(self) -> Row:
        """Return the row of what happened: each commit published in time, and no zombie left."""
        failures = list(self.events.overdue)
        failures += [f"process {pid} stays a zombie" for pid, times in self.zombies.items() if times > 2]
        log = self.fleet.daemon.text()
        failures += [f"the log has {word!r}" for word in ("Traceback", "internal error") if word in log]
        counts = ", ".join(f"{name} {number}" for name, number in sorted(self.events.counts.items()))
        return Row(
            part="long", case=f"what happened: {counts}", points=sum(self.events.counts.values()),
            promises=self.events.noticed + 3, failures=failures,
        )  # fmt: skip

    def rested(self) -> Row:
        """Bring everything to rest; return the row of what each service shows then."""
        self.events.calm()
        failures = []
        try:
            wait_until(lambda: not self.not_in_line(), self.told_not_in_line, SETTLE_SECONDS)
        except AssertionError as exc:
            failures.append(f"it does not come to rest: {exc}")
        services = list(self.fleet.services())
        for repository in self.fleet.repositories:
            failures += _wrong_shown(self.fleet, repository)
        found = on_disk(self.fleet.mount, self.fleet.home / "state")
        if found["releases of one service"] > max(KEEPS):  # another `keep` holds from the next deploy on
            failures.append(f"{found['releases of one service']:.0f} releases of one service")
        return Row(
            part="long", case=f"{len(services)} services at rest", points=len(services),
            promises=4 * len(services) + 1, failures=failures,
        )  # fmt: skip

    def ended(self) -> Row:
        """End the daemon; return the row of what it left."""
        family = descendants(self.fleet.pid)
        code = self.fleet.daemon.stop(timeout=30)
        failures = [f"its exit code is {code}"] if code else []
        failures += [f"process {pid} outlived it" for pid in family if Path(f"/proc/{pid}").exists()]
        failures += [f"left behind: {path}" for path in leftovers(self.fleet.mount)]
        return Row(part="long", case="ended", points=1, promises=3, failures=failures)

    def not_in_line(self) -> list[str]:
        """Return the services that are not OK at the tip of their branch."""
        tips = {
            name: repository.tip()
            for repository in self.fleet.repositories
            for name in repository.services[:1]
        }
        tips = {name: tips[repository.services[0]] for name, repository in self.fleet.services()}
        shown = {entry["service"]: entry for entry in self.fleet.daemon.get("/list/services")["services"]}
        return [
            f"{name}: {shown.get(name)}, and its branch is at {tip}"
            for name, tip in tips.items()
            if name not in shown or (shown[name]["state"], shown[name]["hash"]) != ("OK", tip)
        ]

    def told_not_in_line(self) -> str:
        """Say who is not."""
        return "; ".join(self.not_in_line()[:5])


def _wrong_shown(fleet_: Fleet, repository: Repository) -> list[str]:
    """Return what services of `repository` show that is not what its branch has; asked of git."""
    wrong, shared = [], repository.text(COMMON)
    for name in repository.services:
        for path, text in (
            (fleet_.local(name), repository.text(conf(name))),
            (fleet_.shared(name), shared),
        ):
            shown = path.read_text().strip() if path.exists() else "nothing"
            if shown != text:
                wrong.append(f"{path} shows {shown!r}, and its branch has {text!r}")
        if status := git(fleet_.mount / name, "status", "--porcelain"):
            wrong.append(f"{name}: git status says {status!r}")
    return wrong
