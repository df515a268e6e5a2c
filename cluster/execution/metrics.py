"""Prometheus metrics of a run, counted in the process that runs it.

Outcomes tell that process what the workers did, so its metrics cover the whole run, whatever
machines took part. `run --metrics-port N` serves them on the loopback.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from encoder.errors import BadInput

REGISTRY = CollectorRegistry()
QUEUE = Gauge(
    "shotladder_tasks_queued", "Tasks that wait for a core or run on one.", registry=REGISTRY
)
SLOTS = Gauge("shotladder_slots", "Cores that take tasks now.", registry=REGISTRY)
ENCODES = Counter("shotladder_encodes", "Encodes made.", registry=REGISTRY)
SCORES = Counter("shotladder_scores", "Scores made, by quality model each.", registry=REGISTRY)
CACHED = Counter("shotladder_cached", "Encodes that the store had already.", registry=REGISTRY)
RETRIES = Counter(
    "shotladder_retries", "Tasks that were started again, by why.", ("why",), registry=REGISTRY
)
CPU_SECONDS = Counter(
    "shotladder_cpu_seconds", "CPU seconds of finished work, by stage.", ("stage",),
    registry=REGISTRY,
)  # fmt: skip
BYTES = Counter("shotladder_encoded_bytes", "Bytes of encodes made.", registry=REGISTRY)
BUSY = Counter(
    "shotladder_worker_seconds", "Seconds that workers were busy, by worker.", ("worker",),
    registry=REGISTRY,
)  # fmt: skip


@contextlib.contextmanager
def served(port: int | None) -> Iterator[None]:
    """Serve the metrics at ``http://127.0.0.1:PORT/metrics``, if a port is given.

    Raises:
        BadInput: the port is taken.
    """
    if port is None:
        yield
        return
    try:
        server, thread = start_http_server(port, "127.0.0.1", registry=REGISTRY)
    except OSError as error:
        raise BadInput(f"cannot listen on port {port} ({error.strerror}); name another") from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
