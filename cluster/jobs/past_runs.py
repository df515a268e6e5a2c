"""What earlier runs of a store took, beside what was expected of them.

``run.json`` notes both, and the manifest of a run keeps it. Only runs that encoded everything
themselves tell how far expectations are off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cluster import events
from cluster.jobs.cost_ranges import Correction, correction
from cluster.jobs.expected import expect, fixed_seconds, stage_seconds
from cluster.jobs.setup import CodecSetup
from cluster.stages.measurer import Measurer
from cluster.store import Store, manifests

NAMES = ("encode", "vmaf", "rest", "delivered_bytes")
"""What is expected of a run and corrected; times are CPU seconds."""


def announce(
    setups: Sequence[CodecSetup], measurer: Measurer, analysis_seconds: float
) -> dict[str, Any] | None:
    """Report how long the stages of a run are expected to take, by earlier runs too.

    The store is looked at apart from what the measurer knows: that decides what a search asks for,
    and has to be the same in a run that goes on.

    Args:
        setups: Setups of all codecs.
        measurer: Of the run.
        analysis_seconds: CPU seconds that the analysis took in this run.

    Returns:
        What ``run.json`` notes of what was expected; None where the store has some of it, or
        nothing was predicted.
    """
    shots = len(setups[0].title.shots)
    whole = expect(setups, shots)
    missing = replace(measurer, known={}).missing(whole.requests)
    left = expect(setups, shots, missing)
    known = corrections(measurer.store, [setup.recipe.name for setup in setups])
    factors = {name: known[name].factor for name in ("encode", "vmaf", "rest")}
    seconds = stage_seconds(left, setups[0], measurer.executor.slots, factors)
    measurer.on_event(events.WorkPlanned(seconds, round(left.encodes)))
    predicted = all(setup.prediction is not None for setup in setups)
    if not predicted or len(missing) < len(whole.requests):
        return None
    return {
        "recipes": sorted(setup.recipe.name for setup in setups),
        "analysis": round(analysis_seconds, 3),
        "encode": round(whole.encode_seconds, 3),
        "vmaf": round(whole.vmaf_seconds, 3),
        "rest": round(whole.care_seconds + fixed_seconds(setups[0]), 3),
        "delivered_bytes": round(whole.delivered_bytes or 0),
    }


def taken(run: Mapping[str, Any]) -> dict[str, float]:
    """Return what a run took, by :data:`NAMES`, from its ``run.json`` with a note of what was
    expected."""
    spent = run["cpu_seconds"]
    check = run.get("recipe_check", {}).get("cpu_seconds", {})
    return {
        "encode": spent["encode"] - check.get("encode", 0.0),
        "vmaf": spent["vmaf"] - check.get("vmaf", 0.0),
        "rest": spent["verify"] + spent["other"] - run["planned"]["analysis"],
        "delivered_bytes": run["delivered_bytes"],
    }


def corrections(store: Store, recipes: Sequence[str]) -> dict[str, Correction]:
    """Return how expectations are to be corrected, by :data:`NAMES`.

    Runs with the same recipes tell about encoding where there are any, else all do.
    """
    runs = [one.costs for one in manifests.list_runs(store) if one.state == "finished"]
    told = [run for run in runs if run.get("planned") and "delivered_bytes" in run]
    same = [run for run in told if run["planned"].get("recipes") == sorted(recipes)]
    found = {}
    for name in NAMES:
        of = told if name == "rest" else same or told
        found[name] = correction([_ratio(run, name) for run in of])
    return found


def _ratio(run: Mapping[str, Any], name: str) -> float:
    planned = float(run["planned"].get(name) or 0.0)
    return taken(run)[name] / planned if planned > 0 else 0.0
