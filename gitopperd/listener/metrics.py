"""Metrics of the API itself: its certificate, and who is connected."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gitopperd.listener.listen import Listener

__all__ = ["ListenerCollector"]


class ListenerCollector(Collector):
    """Collects what is true of the listener at the moment of the scrape."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        tls = self._listener.tls
        if tls is not None and tls.expires is not None:
            yield GaugeMetricFamily(
                "gitopper_certificate_expiry_time_seconds",
                "When the certificate of the API expires.",
                value=tls.expires.timestamp(),
            )
        inside = GaugeMetricFamily(
            "gitopper_api_connections", "Connections to the API, now.", labels=["listener"]
        )
        ended = CounterMetricFamily(
            "gitopper_api_connections_ended",
            "Connections to the API that the daemon ended, or did not take.",
            labels=["listener", "reason"],
        )
        for door in self._listener.doors:
            inside.add_metric([door.kind], door.inside)
            for reason, count in door.turned_away.items():
                ended.add_metric([door.kind, reason], count)
        yield inside
        yield ended
