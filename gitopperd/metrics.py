"""Metrics. What is true now is collected from the board at each scrape, so no series outlives its truth."""

from __future__ import annotations

import platform
import threading
from collections import Counter as Tally
from collections.abc import Iterator, Set
from itertools import product

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gitopperd.work.board import Board
from gitopperd.work.daemon import Daemon
from libgitopper import DriftPolicy, Event, IntentKind, State, __version__, hookimpl

__all__ = ["DaemonCollector", "Exposition", "Meters"]

GIT_EVENTS = frozenset({"poll", "poll-failed", "deployed", "advanced"})
DEPLOYS = frozenset({"deployed", "rejected", "taken-back", "healed"})
"""Kinds of events that are counted as results of deploys, by service."""
GIT_ERRORS = frozenset({"SourceError", "AuthError", "CheckoutError"})
DURATION_BUCKETS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 90)


class Meters:
    """What is counted as it happens; an observer like any plugin."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._ops = Counter("gitopper_machine_git_ops_total", "Polls and checkouts.", registry=registry)
        self._errors = Counter(
            "gitopper_machine_git_error_total", "Polls and checkouts that failed.", registry=registry
        )
        self._seconds = Histogram(
            "gitopper_reconcile_duration_seconds",
            "Duration of one pass of one service.",
            registry=registry,
            buckets=DURATION_BUCKETS,
        )

        self.deploys = 0
        """How many deploys ended, of whichever service and in whichever way."""
        self._deploys: Tally[tuple[str, str]] = Tally()
        self._lock = threading.Lock()
        self._config_is_good = Gauge(
            "gitopper_config_last_reload_success",
            "1 if the configuration that was looked at last is in force, 0 if it was refused.",
            registry=registry,
        )
        self._config_since = Gauge(
            "gitopper_config_last_reload_success_time_seconds",
            "When a configuration was last loaded.",
            registry=registry,
        )

    @hookimpl
    def gitopper_event(self, event: Event) -> None:
        """Count git operations, those that failed, and deploys; note how the configuration is."""
        if event.kind in DEPLOYS and event.service is not None:
            with self._lock:
                self._deploys[event.service, event.kind] += 1
                self.deploys += 1
        if event.kind == "config-loaded":
            self._config_is_good.set(1)
            self._config_since.set_to_current_time()
        elif event.kind == "config-refused":
            self._config_is_good.set(0)
        failed = event.kind == "failed" and event.details.get("kind_of_error") in GIT_ERRORS
        if event.kind in GIT_EVENTS or failed:
            self._ops.inc()
        if event.kind == "poll-failed" or failed:
            self._errors.inc()

    def observe_seconds(self, seconds: float) -> None:
        """Note how long a pass took."""
        self._seconds.observe(seconds)

    def deploys_of(self, services: Set[str]) -> Metric:
        """Return how often deploys ended in which way; what other services did is forgotten."""
        counted = CounterMetricFamily(
            "gitopper_deploys",
            "How often a deploy of a service ended in which way.",
            labels=["service", "result"],
        )
        with self._lock:
            for service in {service for service, _ in self._deploys} - services:
                for kind in DEPLOYS:
                    self._deploys.pop((service, kind), None)
            # From 0 on: Prometheus sees no increase in a series that comes with its first one.
            for service, kind in product(sorted(services), sorted(DEPLOYS)):
                counted.add_metric([service, kind], self._deploys[service, kind])
        return counted


class Exposition:
    """What a scrape gets. Of a thousand services that is a megabyte, and mostly what it was before."""

    def __init__(self, registry: CollectorRegistry, board: Board, meters: Meters) -> None:
        """`registry` has everything but the services' own series."""
        self._registry = registry
        self._board = board
        self._meters = meters
        self._services = CollectorRegistry()
        self._services.register(BoardCollector(board, meters))
        self._kept: tuple[tuple[int, int], bytes] | None = None

    def text(self) -> bytes:
        """Return all series in Prometheus' text format."""
        version = self._board.version, self._meters.deploys
        if self._kept is None or self._kept[0] != version:
            self._kept = version, generate_latest(self._services)
        return self._kept[1] + generate_latest(self._registry)


class BoardCollector(Collector):
    """Collects the state of every service at the moment of the scrape, and how its deploys ended."""

    def __init__(self, board: Board, meters: Meters) -> None:
        self._board = board
        self._meters = meters

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges."""
        info = GaugeMetricFamily(
            "gitopper_service_info",
            "1 for the commit and the state that a service is in.",
            labels=["service", "hash", "state"],
        )
        states = GaugeMetricFamily(
            "gitopper_service_state",
            "1 for the state that a service is in, 0 for the others.",
            labels=["service", "state"],
        )
        change = GaugeMetricFamily(
            "gitopper_service_change_time_seconds",
            "Since when a service is in its state at its commit.",
            labels=["service"],
        )
        for status in self._board:
            info.add_metric([status.service, status.hash, status.state.value], 1)
            change.add_metric([status.service], status.change.timestamp())
            for state in State:
                states.add_metric([status.service, state.value], state is status.state)
        yield info
        yield states
        yield change
        yield from self._freezes()
        yield self._drift()
        yield self._meters.deploys_of({service.name for service in self._board.services})

    def _freezes(self) -> Iterator[Metric]:
        """What is frozen or rolled back; a service that tracks has none of these series."""
        info = GaugeMetricFamily(
            "gitopper_service_freeze_info",
            "1 for a service that is frozen or rolled back, with who asked for it and why.",
            labels=["service", "by", "reason"],
        )
        since = GaugeMetricFamily(
            "gitopper_service_freeze_since_time_seconds",
            "Since when a service is frozen or rolled back.",
            labels=["service"],
        )
        until = GaugeMetricFamily(
            "gitopper_service_freeze_until_time_seconds",
            "When a freeze ends by itself; absent where it has no end.",
            labels=["service"],
        )
        for status in self._board:
            intent = self._board.intent(status.service)
            if intent.kind is IntentKind.TRACK:
                continue
            info.add_metric([status.service, intent.by, intent.reason], 1)
            if intent.since:
                since.add_metric([status.service], intent.since.timestamp())
            if intent.until:
                until.add_metric([status.service], intent.until.timestamp())
        yield info
        yield since
        yield until

    def _drift(self) -> Metric:
        drift = GaugeMetricFamily(
            "gitopper_service_drift_files",
            "How many published files differ from their revision, as the last pass saw them.",
            labels=["service"],
        )
        for service in self._board.services:
            if service.drift is not DriftPolicy.OFF:
                found = self._board.outcome(service.name).drift
                drift.add_metric([service.name], len(found.changes) if found else 0)
        return drift


class DaemonCollector(Collector):
    """Collects the state of every upstream, and what this is."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def collect(self) -> Iterator[Metric]:
        """Yield what is no service's own."""
        yield self._sources()
        yield self._build()

    def _sources(self) -> Metric:
        success = GaugeMetricFamily(
            "gitopper_source_last_success_time_seconds",
            "When an upstream was last polled with success; absent before the first.",
            labels=["upstream"],
        )
        oldest: dict[str, float] = {}
        for follower in self._daemon.followers:
            if follower.health.last_success is not None:
                # An upstream with a store below two mounts has two followers, and one series.
                upstream, when = follower.watch.upstream, follower.health.last_success.timestamp()
                oldest[upstream] = min(when, oldest.get(upstream, when))
        for upstream, when in oldest.items():
            success.add_metric([upstream], when)
        return success

    def _build(self) -> Metric:
        build = GaugeMetricFamily(
            "gitopper_build_info", "1, labelled with the versions.", labels=["version", "python"]
        )
        build.add_metric([__version__, platform.python_version()], 1)
        return build
