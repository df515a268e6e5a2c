"""What placed rungs save on titles whose fixed ladder and full grid are measured.

``python -m tests.placement_study`` simulates the exhaustive search of ``data/cells.parquet`` (plain
x264 medium) by several profiles, and states the viewers' claim against the fixed ladders of
``data/fixed_ladders.jsonl`` (plain x264 medium, two passes, scored by VMAF v1). With ``--predict``
it simulates the predict search with the packaged weights instead, which were trained on these
titles, and states its encodes for all titles that have a full grid. Rungs are *near* that are
within 1.25 in rate and 2 points of a neighbour; ``unmerged`` is the default without merging.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
from collections import defaultdict
from pathlib import Path

from cluster.stages.prediction import packaged_weights
from cluster.training.dataset import TableTitle, current, shot_inputs, table_titles
from cluster.training.table import read_table
from encoder.media import Size
from ladder.baselines import fixed_rungs
from ladder.bdrate import RatePoint
from ladder.claims import ViewersClaim, viewers_claim
from ladder.complexity.model import ComplexityModel, load_model
from ladder.evaluation.losses import rung_losses
from ladder.evaluation.simulate import Simulated, Steps, Truth, simulate
from ladder.profiles import Profile, load_profile
from ladder.reference_ladder import predicted
from ladder.search.predict import PredictSearch
from ladder.search.steps import ExhaustiveSearch
from ladder.tracks import TitleTracks, tracks_of
from ladder.viewers import MEDIANS
from vmaf import models

DATA = Path(__file__).parent.parent / "data"
SPACED = load_profile("default-0.1")


def plain(name: str) -> Profile:
    """Return a profile with the recipe and sizes of the measured grids."""
    return dataclasses.replace(
        load_profile(name), name=f"plain-{name}", recipes=SPACED.recipes, heights=SPACED.heights
    )


def main() -> None:
    """Print one line for each title and profile, and the means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--predict", action="store_true", help="simulate the predict search")
    predict = parser.parse_args().predict
    model = load_model(packaged_weights()) if predict else None
    measured: dict[str, list[RatePoint]] = defaultdict(list)
    for line in (DATA / "fixed_ladders.jsonl").read_text().splitlines():
        row = json.loads(line)
        measured[row["title"]].append(RatePoint(row["bitrate"], row["quality"]))
    profiles = {
        "spaced": SPACED,
        "default": plain("default"),
        "unmerged": dataclasses.replace(plain("default"), merge_within=()),
        "replace": plain("replace-fixed"),
    }
    sums: dict[str, list[list[ViewersClaim]]] = defaultdict(list)
    encodes: dict[str, list[tuple[int, int]]] = defaultdict(list)
    near: dict[str, int] = defaultdict(int)
    lost: dict[str, list[float]] = defaultdict(list)
    for title in table_titles(current(read_table(DATA / "cells.parquet"))):
        if title.missing(SPACED):
            continue
        truth = Truth.of(title.with_grid(SPACED))
        fixed = _fixed(title, truth, sorted(measured.get(title.name, [])))
        if not fixed and model is None:
            continue
        print(f"{title.name}, {len(title.shape.shots)} shots")
        for name, profile in profiles.items():
            done = simulate(_search(model, title, profile), truth, profile)
            assert isinstance(done, Simulated)
            claim = ""
            if fixed:
                claims = [viewers_claim(done.plan.rate_points, fixed, m) for m in MEDIANS]
                sums[name].append(claims)
                claim = _line([claims])
            made, delivered = len(done.measured), len(done.plan.points)
            encodes[name].append((made, delivered))
            near[name] += _near(done)
            lost[name] += _loss(truth, done, profile)
            print(f"  {name:8} {len(done.plan.rungs)} rungs, {made}/{delivered} encodes {claim}")
            for note in done.plan.notes:
                print(f"           {note}")
    for name, rows in sums.items():
        print(f"mean of {len(rows)}, {name}: {_line(rows)}")
    for name, counts in encodes.items():
        made, delivered = map(sum, zip(*counts, strict=True))
        print(
            f"{len(counts)} titles, {name}: {made / delivered:.2f} encodes for each delivered, "
            f"{near[name]} near rungs, loss {100 * sum(lost[name]) / len(lost[name]):.2f} %"
        )


def _near(done: Simulated) -> int:
    pairs = itertools.pairwise(done.plan.rungs)
    return sum(b.rate < a.rate * 1.25 and b.quality < a.quality + 2 for a, b in pairs)


def _loss(truth: Truth, done: Simulated, profile: Profile) -> list[float]:
    """Return the mean loss of a title's rungs that are not saturated, a share of their bits."""
    found = rung_losses(truth, done.plan.rungs, profile)
    losses = [one.loss for one in found if one.loss is not None and not one.saturated]
    return [sum(losses) / len(losses)] if losses else []


def _search(model: ComplexityModel | None, title: TableTitle, profile: Profile) -> Steps:
    """Return the predict search where there is a model, else the exhaustive one."""
    if model is None:
        return ExhaustiveSearch()
    grid = profile.crf_grid[title.shape.recipe.codec]
    prediction = model.predict(
        [shot_inputs(row) for row in title.shot_rows],
        title.shape.sizes,
        title.shape.recipe,
        title.quality_model,
        (grid[0], grid[-1]),
        models.similar_models(title.quality_model),
    )
    return PredictSearch(prediction)


def _fixed(title: TableTitle, truth: Truth, fixed: list[RatePoint]) -> list[RatePoint]:
    """Return the measured fixed ladder where it is complete, saying how well it is predicted."""
    display: Size = truth.curves.sizes[-1]
    rungs = fixed_rungs(*display)
    if len(fixed) < max(2, len(rungs)):
        return []
    found = tracks_of(truth.curves, [[size] for size in truth.curves.sizes], None)
    assert isinstance(found, TitleTracks)
    offers = predicted(rungs, truth.curves.sizes, found.tracks, title.shape.recipe)
    missed = [o.quality - f.quality for o, f in zip(offers, fixed, strict=True)]
    print(f"{title.name}: predicted too high by {' '.join(f'{m:+.2f}' for m in missed)}")
    return fixed


def _line(rows: list[list[ViewersClaim]]) -> str:
    def means(of: str) -> str:
        values = [sum(getattr(row[n], of) for row in rows) / len(rows) for n in range(len(MEDIANS))]
        return "/".join(f"{value:+.1f}" for value in values)

    worse = [100 * sum(row[n].worse_off for row in rows) / len(rows) for n in range(len(MEDIANS))]
    worst = max(claim.worst_loss for row in rows for claim in row)
    return (
        f"bits {means('received_percent')} %, at no worse quality {means('matched_percent')} %, "
        f"worse off {'/'.join(f'{w:.0f}' for w in worse)} %, at worst -{worst:.2f}"
    )


if __name__ == "__main__":
    main()
