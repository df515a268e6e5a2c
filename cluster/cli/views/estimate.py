"""How the estimate of a run looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from cluster.cli.progress import duration
from cluster.cli.views.tables import facts, size
from cluster.jobs.estimate import Estimate


def estimate_view(estimate: Estimate) -> list[RenderableType]:
    """Show what a run would cost."""
    hours = estimate.cpu_hours
    parts = ", ".join(f"{duration(3600 * value)} {name}" for name, value in hours.items())
    rows = {
        "title": f"{estimate.title}: {estimate.frames} frames in {estimate.shots} shots",
        "sizes": ", ".join(f"{width}x{height}" for width, height in estimate.sizes),
        "encodes": (
            f"about {estimate.encodes} by the {estimate.search} search (the full grid has "
            f"{estimate.grid_encodes}), {estimate.cached_encodes} of them in the store; at most "
            f"{estimate.delivered_encodes} delivered"
        ),
        "CPU": f"about {duration(3600 * sum(hours.values()))}: {parts}",
        "store": f"about {size(estimate.store_bytes)} more",
        "time": f"about {duration(estimate.wall_seconds)} on {estimate.workers} workers",
    }
    note = "Times and sizes are estimates, right within a factor of about two."
    return [facts(rows.items()), Text(note, "dim")]


def estimate_fields(estimate: Estimate) -> dict[str, Any]:
    """Return an estimate as JSON."""
    return {"plan": {**asdict(estimate), "sizes": [list(size) for size in estimate.sizes]}}


def service_estimate(plan: Mapping[str, Any]) -> Estimate:
    """Return the estimate that a service answered as JSON."""
    sizes = tuple((width, height) for width, height in plan["sizes"])
    return Estimate(**{**plan, "sizes": sizes})
