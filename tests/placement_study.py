"""What placed rungs save on titles whose fixed ladder and full grid are measured.

``python -m tests.placement_study`` simulates the exhaustive search of ``data/cells.parquet`` (plain
x264 medium) by several profiles, and states the viewers' claim against the fixed ladders of
``data/fixed_ladders.jsonl`` (plain x264 medium, two passes, scored by VMAF v1).
"""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from pathlib import Path

from cluster.training.dataset import current, table_titles
from cluster.training.table import read_table
from encoder.media import Size
from ladder.baselines import fixed_rungs
from ladder.bdrate import RatePoint
from ladder.claims import ViewersClaim, viewers_claim
from ladder.evaluation.simulate import Simulated, Truth, simulate
from ladder.profiles import Profile, load_profile
from ladder.reference_ladder import predicted
from ladder.search.steps import ExhaustiveSearch
from ladder.tracks import TitleTracks, tracks_of
from ladder.viewers import MEDIANS

DATA = Path(__file__).parent.parent / "data"
SPACED = load_profile("default-0.1")


def plain(name: str) -> Profile:
    """Return a profile with the recipe and sizes of the measured grids."""
    return dataclasses.replace(
        load_profile(name), name=f"plain-{name}", recipes=SPACED.recipes, heights=SPACED.heights
    )


def main() -> None:
    """Print one line for each title and profile, and the means."""
    measured: dict[str, list[RatePoint]] = defaultdict(list)
    for line in (DATA / "fixed_ladders.jsonl").read_text().splitlines():
        row = json.loads(line)
        measured[row["title"]].append(RatePoint(row["bitrate"], row["quality"]))
    profiles = {"spaced": SPACED, "default": plain("default"), "replace": plain("replace-fixed")}
    sums: dict[str, list[list[ViewersClaim]]] = defaultdict(list)
    for title in table_titles(current(read_table(DATA / "cells.parquet"))):
        fixed = sorted(measured.get(title.name, []))
        if title.missing(SPACED) or len(fixed) < 2:
            continue
        truth = Truth.of(title.with_grid(SPACED))
        display: Size = truth.curves.sizes[-1]
        rungs = fixed_rungs(*display)
        if len(fixed) < len(rungs):
            continue
        found = tracks_of(truth.curves, [[size] for size in truth.curves.sizes], None)
        assert isinstance(found, TitleTracks)
        offers = predicted(rungs, truth.curves.sizes, found.tracks, title.shape.recipe)
        missed = [o.quality - f.quality for o, f in zip(offers, fixed, strict=True)]
        print(f"{title.name}: predicted too high by {' '.join(f'{m:+.2f}' for m in missed)}")
        for name, profile in profiles.items():
            done = simulate(ExhaustiveSearch(), truth, profile)
            assert isinstance(done, Simulated)
            claims = [viewers_claim(done.plan.rate_points, fixed, m) for m in MEDIANS]
            sums[name].append(claims)
            print(f"  {name:8} {len(done.plan.rungs)} rungs {_line([claims])}")
            for note in done.plan.notes:
                print(f"           {note}")
    for name, rows in sums.items():
        print(f"mean of {len(rows)}, {name}: {_line(rows)}")


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
