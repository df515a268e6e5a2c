"""Metrics for Prometheus."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from typing_extensions import override

from cluster.service.documents import DeliveryState
from cluster.service.library.library import Library
from cluster.service.queue.deliveries import Deliveries
from cluster.service.queue.jobs import Jobs

_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0)


class Metrics(Collector):
    """The metrics of one service; those of the tables are read when they are collected."""

    def __init__(self, jobs: Jobs, library: Library, deliveries: Deliveries) -> None:
        self._jobs = jobs
        self._deliveries = deliveries
        self._library = library
        disable_created_metrics()  # type: ignore[no-untyped-call] # they double the output
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "shotladder_requests",
            "HTTP requests by route and status.",
            ("route", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "shotladder_request_seconds",
            "Seconds from a request until its response was handed to the network, by route.",
            ("route",),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._bound: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self.registry.register(self)

    def observe(self, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        bound = self._bound.get((route, status))
        if bound is None:
            bound = self._requests.labels(route, str(status)), self._seconds.labels(route)
            self._bound[route, status] = bound
        bound[0].inc()
        bound[1].observe(seconds)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format, of all processes of the service."""
        folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        if folder is None:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        MultiProcessCollector(together, path=folder)  # type: ignore[no-untyped-call] # its own
        together.register(self)
        return generate_latest(together)

    @override
    def collect(self) -> Iterator[Metric]:
        counts = self._jobs.counts()
        jobs = GaugeMetricFamily("shotladder_jobs", "Jobs in each state.", labels=["state"])
        for state in ("queued", "running", "succeeded", "failed", "cancelled"):
            jobs.add_metric([state], counts.get(state, 0))
        yield jobs
        told = self._deliveries.counts()
        deliveries = GaugeMetricFamily(
            "shotladder_deliveries", "Webhook deliveries in each state.", labels=["state"]
        )
        for state in get_args(DeliveryState):
            deliveries.add_metric([state], told.get(state, 0))
        yield deliveries
        yield GaugeMetricFamily("shotladder_titles", "Published titles.", value=len(self._library))
