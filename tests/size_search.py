"""What one more size costs the search: ``python -m tests.size_search``.

On every title of two shots or more whose full grid is in the table, the predict search is simulated
with all measured sizes, and with each of those between the smallest and the title's own left out.
The table shows encodes and CPU (of encodes and scores) of all titles together. The packaged weights
were trained on these titles, so the search asks for less than on new ones.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cluster.stages.prediction import packaged_weights
from cluster.training.dataset import TableTitle, current, shot_inputs, table_titles
from cluster.training.table import read_table
from ladder.complexity.model import ComplexityModel, load_model
from ladder.evaluation.simulate import Simulated, Truth, simulate
from ladder.profiles import load_profile
from ladder.search.predict import PredictSearch

PROFILE = load_profile("default-0.1")
"""The profile whose grid the table holds."""


def searched(title: TableTitle, model: ComplexityModel, without: int | None) -> tuple[int, float]:
    """Return how many encodes the search asks for without one height, and their CPU seconds."""
    sizes = tuple(size for size in title.shape.sizes if min(size) != without)
    fewer = replace(title, shape=replace(title.shape, sizes=sizes))
    grid = PROFILE.crf_grid["x264"]
    inputs = [shot_inputs(row) for row in title.shot_rows]
    prediction = model.predict(
        inputs, sizes, title.shape.recipe, title.quality_model, (grid[0], grid[-1])
    )
    truth = Truth.of(fewer.with_grid(PROFILE))
    ended = simulate(PredictSearch(prediction), truth, PROFILE)
    if not isinstance(ended, Simulated):
        raise ValueError(f"{title.name}: {ended}")
    return len(ended.measured), truth.cpu(ended.measured) or 0.0


def lines(path: Path) -> Iterator[str]:
    """Yield the table as Markdown, one row per height that is left out."""
    rows = current(read_table(path))
    titles = [one for one in table_titles(rows) if not one.missing(PROFILE)]
    titles = [one for one in titles if len(one.shape.shots) > 1 and len(one.shape.sizes) > 2]
    model = load_model(packaged_weights("x264"))
    yield "| left out | titles | shots | encodes: with, without | CPU s: with, without |"
    yield "|---|---|---|---|---|"
    whole = {one.name: searched(one, model, None) for one in titles}
    inner = {min(size) for one in titles for size in one.shape.sizes[1:-1]}
    for height in sorted(inner):
        having = [one for one in titles if height in map(min, one.shape.sizes[1:-1])]
        fewer = [searched(one, model, height) for one in having]
        encodes = sum(whole[one.name][0] for one in having), sum(count for count, _ in fewer)
        cpu = sum(whole[one.name][1] for one in having), sum(seconds for _, seconds in fewer)
        shots = sum(len(one.shape.shots) for one in having)
        yield (
            f"| {height} | {len(having)} | {shots} | {encodes[0]}, {encodes[1]} | "
            f"{cpu[0]:.0f}, {cpu[1]:.0f} |"
        )


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", type=Path, default=Path("data/cells.parquet"))
    for line in lines(parser.parse_args().table):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
