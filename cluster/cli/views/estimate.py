"""How the estimate of a run looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from cluster.cli.drawing import duration
from cluster.cli.views.tables import facts, size
from cluster.jobs.estimate import Estimate


def estimate_view(estimate: Estimate, cpu_price: float | None = None) -> list[RenderableType]:
    """Show what a run would cost, and its price if that of a CPU hour is given."""
    hours = estimate.cpu_hours
    parts = ", ".join(f"{duration(3600 * value)} {name}" for name, value in hours.items() if value)
    shots = f"{estimate.shots} shots"
    if estimate.sampled_frames is not None:
        shots = f"about {shots}, by a sample of {estimate.sampled_frames} frames"
    rows = {
        "title": f"{estimate.title}: {estimate.frames} frames in {shots}",
        "sizes": ", ".join(f"{width}x{height}" for width, height in estimate.sizes),
        "encodes": (
            f"about {estimate.encodes} by the {estimate.search} search (the full grid has "
            f"{estimate.grid_encodes}), {estimate.cached_encodes} of them in the store; "
            f"at most {estimate.delivered_encodes} delivered"
        ),
        "CPU": (
            f"about {duration(3600 * estimate.total_cpu_hours)}"
            f"{_between(estimate.cpu_hours_range, lambda each: duration(3600 * each))}: {parts}"
        ),
    }
    if cpu_price is not None:
        bounds = estimate.cpu_hours_range
        rows["price"] = f"about {estimate.total_cpu_hours * cpu_price:.2f}" + _between(
            bounds, lambda each: f"{each * cpu_price:.2f}"
        )
    if estimate.delivered_bytes is not None:
        rows["package"] = f"about {size(estimate.delivered_bytes)}" + _between(
            estimate.delivered_bytes_range, size
        )
    rows["store"] = f"about {size(estimate.store_bytes)} more"
    others = [
        f"{duration(seconds)} on {cores}"
        for cores, seconds in estimate.wall_seconds_on.items()
        if cores != str(estimate.workers)
    ]
    rows["time"] = (
        f"about {duration(estimate.wall_seconds)}"
        f"{_between(estimate.wall_seconds_range, duration)} on {estimate.workers} workers"
        f"{''.join(f'; {each}' for each in others)}"
    )
    return [facts(rows.items()), Text(_note(estimate), "dim")]


def _between(bounds: Any, text: Any) -> str:
    return "" if bounds is None else f" ({text(bounds[0])} to {text(bounds[1])})"


def _note(estimate: Estimate) -> str:
    note = "Four of five runs lie within the ranges"
    if estimate.past_runs:
        runs = "an earlier run" if estimate.past_runs == 1 else f"{estimate.past_runs} earlier runs"
        return f"{note}; corrected by {runs} of this store."
    return f"{note}; runs in this store will make them narrower."


def estimate_fields(estimate: Estimate, cpu_price: float | None = None) -> dict[str, Any]:
    """Return an estimate as JSON."""
    plan = {**asdict(estimate), "sizes": [list(size) for size in estimate.sizes]}
    if cpu_price is not None:
        plan["cpu_price"] = cpu_price
        plan["price"] = estimate.total_cpu_hours * cpu_price
    return {"plan": plan}


def service_estimate(plan: Mapping[str, Any]) -> Estimate:
    """Return the estimate that a service answered as JSON, of this or an earlier release."""
    names = {each.name for each in fields(Estimate)}
    known: dict[str, Any] = {
        name: tuple(value) if name.endswith("_range") and value is not None else value
        for name, value in plan.items()
        if name in names
    }
    known["sizes"] = tuple((width, height) for width, height in plan["sizes"])
    return Estimate(**known)
