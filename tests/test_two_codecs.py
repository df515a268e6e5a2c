"""What is made of a package of two codecs afterwards: every number stays with its own recipe."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cluster.execution.executor import InlineExecutor
from cluster.jobs.estimate import plan_run
from cluster.jobs.request import RunOptions
from cluster.jobs.run import RunResult
from cluster.training.package_rows import add_packages
from cluster.training.table import read_table
from encoder.recipes import recipe
from fixtures.clips import make
from ladder.document import Measurements
from ladder.profiles import Profile
from tests.running import SMALL, profile_like, run_inline

CODECS = ("x264", "svtav1")
ASKED = {"codec": ",".join(CODECS), "preset": "ultrafast", "heights": (180,)}


@dataclass
class Made:
    folder: Path
    title: Path
    profile: Profile
    result: RunResult

    @property
    def measurements(self) -> Measurements:
        return Measurements.model_validate_json(
            (self.folder / "out" / "measurements.json").read_text()
        )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Both codecs are measured at the same CRFs, so that one's row could pass for the other's."""
    folder = tmp_path_factory.mktemp("two")
    title = make(replace(SMALL, scenes=SMALL.scenes[:2]), folder / "title.mp4")
    grid = {codec: [24, 40] for codec in CODECS}
    profile = profile_like("two", crf_grid=grid, source_cap=False)
    store = folder / "store"
    result = run_inline(title, folder / "out", store, search="exhaustive", profile=profile, **ASKED)
    return Made(folder, title, profile, result)


def test_rows_of_a_package_have_the_recipes_of_their_cells(made: Made, tmp_path: Path) -> None:
    table = tmp_path / "cells.parquet"
    add_packages([made.folder / "out"], table, lambda event: None, store=made.folder / "store")
    rows = {
        (row.recipe, row.shot, row.crf): (row.bits, row.quality[made.result.ladder.quality_model])
        for row in read_table(table)
    }
    cells = {
        (cell.recipe, cell.shot, cell.crf): (8 * cell.bytes, cell.quality)
        for cell in made.measurements.cells
    }
    assert {recipe for recipe, _, _ in cells} == {f"{codec}-ultrafast" for codec in CODECS}
    assert rows == cells


def test_delivered_qualities_go_to_the_rows_of_their_own_recipe(made: Made, tmp_path: Path) -> None:
    """Every further quality model was measured on delivered segments only."""
    out, store = tmp_path / "out", made.folder / "store"
    run_inline(
        made.title,
        out,
        store,
        search="exhaustive",
        profile=made.profile,
        also=("vmaf_v0.6.1",),
        **ASKED,
    )
    table = tmp_path / "cells.parquet"
    add_packages([out], table, lambda event: None, store=store)
    segments = {
        (rung.recipe, segment.shot, segment.crf): segment.quality
        for rung in made.result.ladder.rungs
        for segment in rung.segments
    }
    found = {(r.recipe, r.shot, r.crf) for r in read_table(table) if "vmaf_v0.6.1" in r.quality}
    assert found == segments.keys()


def test_a_plan_of_two_codecs_states_both_grids(made: Made, tmp_path: Path) -> None:
    asked = RunOptions(
        made.title,
        tmp_path / "out",
        search="exhaustive",
        profile=made.profile,
        store=tmp_path / "store",
        **ASKED,  # type: ignore[arg-type]
    )
    plan = plan_run(asked, lambda event: None, InlineExecutor())
    assert plan.grid_encodes == made.result.ladder.search.grid_encodes == 8
    assert {recipe(codec, "ultrafast").name for codec in CODECS} == {
        one.recipe for one in made.result.ladder.codecs
    }
