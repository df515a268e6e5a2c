from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import typer

from cluster import events
from cluster.cli.progress import reporter
from cluster.cli.training import sweep as sweep_command
from cluster.execution.executor import InlineExecutor, Outcome, Task
from cluster.stages.analysis import find_features, find_shots
from cluster.stages.encodes import encode_key
from cluster.stages.title import open_title
from cluster.store import Store
from cluster.training.catalog import read_groups
from cluster.training.package_rows import add_packages
from cluster.training.sweep import SweepOptions, SweepResult, plan_sweep, sweep
from cluster.training.table import read_table
from encoder.analysis.features import FEATURES_VERSION
from encoder.augment import AUGMENTATIONS
from encoder.errors import BadInput, ShotladderError, ToolFailed
from fixtures.clips import FLAT, TEST_CARD, Recipe, Scene, make
from ladder import profiles
from ladder.document import Ladder, Measurements
from tests.running import profile_like, records, run_inline
from vmaf.models import V0, V1

CUT = Recipe((Scene(TEST_CARD, 12), Scene(FLAT, 12)), 192, 108, Fraction(12), audio=False)
"""Two shots of a second."""
ONE = replace(CUT, scenes=(Scene("mandelbrot=size={size}:rate={rate}:end_pts=40", 12),))
GRID = (26.0, 40.0)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    make(CUT, folder / "cut.mp4")
    make(ONE, folder / "one.mp4")
    (folder / "notes.mp4").write_text("no film")
    (folder / "catalog.csv").write_text("name,file,group\nx,cut.mp4,cards\ny,other.mp4,z\n")
    return folder


PROFILE = profile_like("test", crf_grid={"x264": list(GRID)}, source_cap=False)


def options(folder: Path, *files: Path, **changes: object) -> SweepOptions:
    asked = SweepOptions(
        files=files,
        table=folder / "cells.parquet",
        preset="ultrafast",
        profile=PROFILE,
        heights=(54,),
        store=folder / "store",
    )
    return replace(asked, **changes)  # type: ignore[arg-type]


def run(asked: SweepOptions, seen: list[events.Event] | None = None) -> SweepResult:
    return sweep(asked, (seen if seen is not None else []).append, InlineExecutor())


@dataclass(frozen=True)
class Swept:
    options: SweepOptions
    result: SweepResult


@pytest.fixture(scope="module")
def swept(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """The full grid of both clips."""
    folder = tmp_path_factory.mktemp("swept")
    files = (clips / "cut.mp4", clips / "one.mp4")
    asked = options(folder, *files, catalog=clips / "catalog.csv")
    return Swept(asked, run(asked))


def test_a_full_sweep_measures_the_grid(swept: Swept) -> None:
    rows = read_table(swept.options.table)
    assert len(rows) == swept.result.rows == 3 * 2 * len(GRID)  # shots, sizes, CRFs
    assert {(row.source, row.group, row.augmentation) for row in rows} == {
        ("cut.mp4", "cards", ""),
        ("one.mp4", "one", ""),
    }
    cells = {(r.source, r.start_frame, r.end_frame, r.width, r.height, r.crf) for r in rows}
    assert cells == {
        (source, start, start + 12, width, height, crf)
        for source, start in (("cut.mp4", 0), ("cut.mp4", 12), ("one.mp4", 0))
        for width, height in ((96, 54), (192, 108))
        for crf in GRID
    }
    first = rows[0]
    assert (first.title_width, first.title_height, first.title_frames) == (192, 108, 24)
    assert (first.frame_rate, first.recipe) == (12, "x264-ultrafast")
    assert (first.context_before, first.context_after) == (0, 4)
    assert first.source_bits > 0
    assert all(0 <= row.quality[V1] <= 100.5 for row in rows)
    for low, high in zip(rows[::2], rows[1::2], strict=True):
        assert low.point.crf < high.point.crf
        assert low.bits > high.bits or low.features[0] < 1  # nothing to save on a flat picture


def test_rows_say_what_the_store_holds(swept: Swept, tmp_path: Path) -> None:
    store = Store(swept.options.store or "")
    title = open_title(swept.options.files[0], tmp_path)
    shots = find_shots(title, str(store.root))
    features = find_features(title, str(store.root))
    rows = [row for row in read_table(swept.options.table) if row.source == "cut.mp4"]
    assert {row.title_id for row in rows} == {title.sha256[:16]}
    for row in rows:
        assert shots[row.shot] == row.shot_range
        assert (row.features, row.features_version) == (features[row.shot].values, FEATURES_VERSION)
        record = store.get(encode_key(title, row.shot_range, row.point))
        assert record is not None
        assert row.bits == 8 * record.blobs["media"].size
        assert row.encode_cpu_seconds == record.cpu_seconds["encode"]
    assert features[0].as_dict()["texture_mid_mean"] > features[1].as_dict()["texture_mid_mean"]


def test_a_sweep_again_changes_nothing(swept: Swept) -> None:
    assert swept.options.store is not None
    table, kept = swept.options.table.read_bytes(), records(swept.options.store)
    again = run(swept.options)
    assert [title.cached for title in again.titles] == [title.cells for title in again.titles]
    assert all(title.cpu_seconds == 0 for title in again.titles)
    assert swept.options.table.read_bytes() == table
    assert records(swept.options.store) == kept


def test_a_table_can_be_made_again_from_the_store(swept: Swept, tmp_path: Path) -> None:
    files = tuple(reversed(swept.options.files))
    run(replace(swept.options, table=tmp_path / "again", files=files))
    assert (tmp_path / "again").read_bytes() == swept.options.table.read_bytes()


def test_another_model_fills_its_column(swept: Swept, tmp_path: Path) -> None:
    table = tmp_path / "cells.parquet"
    table.write_bytes(swept.options.table.read_bytes())
    asked = replace(swept.options, table=table, files=swept.options.files[1:], also=(V0,))
    run(asked)
    with_both = [row for row in read_table(table) if V0 in row.quality]
    assert {row.source for row in with_both} == {"one.mp4"}
    assert all(V1 in row.quality for row in read_table(table))


class Stopped(InlineExecutor):
    """Is killed before its ``after``-th piece of work."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        for task in tasks:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            yield from super().run([task])


def test_a_stopped_sweep_goes_on(clips: Path, tmp_path: Path) -> None:
    asked = options(tmp_path, clips / "one.mp4", clips / "cut.mp4")
    with pytest.raises(KeyboardInterrupt):
        sweep(asked, lambda event: None, Stopped(after=4))
    # The first title (analysis and its shot) is in the table; one shot of the second is kept.
    assert {row.source for row in read_table(asked.table)} == {"one.mp4"}
    before = records(tmp_path / "store")
    finished = run(asked)
    assert finished.titles[0].cached == finished.titles[0].cells
    assert 0 < finished.titles[1].cached < finished.titles[1].cells
    assert before.items() <= records(tmp_path / "store").items()
    in_one_go = tmp_path / "again.parquet"
    run(replace(asked, table=in_one_go))
    assert in_one_go.read_bytes() == asked.table.read_bytes()


def test_a_sparse_sweep_of_new_content(clips: Path, tmp_path: Path) -> None:
    picture = replace(ONE, width=256, height=144)
    source = make(picture, tmp_path / "wide.mp4")
    asked = options(
        *(tmp_path, source),
        augmentations=("halfrate", "crop"),
        originals=False,
        cells=3,
        heights=(54, 72),
        augmented_seconds=0.5,
    )
    result = run(asked)
    rows = read_table(asked.table)
    assert [title.augmentation for title in result.titles] == ["halfrate", "crop"]
    assert {(row.source, row.group) for row in rows} == {("wide.mp4", "wide")}
    made = {row.augmentation: row for row in rows}
    assert (made["halfrate"].frame_rate, made["halfrate"].title_frames) == (6, 6)
    assert (made["crop"].frame_rate, made["crop"].title_frames) == (12, 6)
    assert (made["crop"].title_width, made["crop"].title_height) == (158, 90)
    assert len({row.source_sha256 for row in rows}) == 2
    for title in result.titles:
        cells = [row.point for row in rows if row.augmentation == title.augmentation]
        assert len(cells) == title.cells == 3 * title.shots
        assert len({point.height for point in cells}) > 1
    # More cells hold these, and cost only themselves.
    more = run(replace(asked, cells=5))
    assert [(title.cells, title.cached) for title in more.titles] == [(5, 3), (5, 3)]
    keys = {row.key for row in rows}
    assert keys < {row.key for row in read_table(asked.table)}


def test_a_plan_says_what_is_left(swept: Swept, clips: Path) -> None:
    quiet: list[events.Event] = []
    files = (*swept.options.files, clips / "notes.mp4")
    plan = plan_sweep(replace(swept.options, files=files), quiet.append)
    assert [(t.source, t.cells, t.cached, t.cpu_seconds) for t in plan.titles] == [
        ("cut.mp4", 8, 8, 0),
        ("one.mp4", 4, 4, 0),
    ]
    assert plan.rows == 12
    assert list(plan.skipped) == ["notes.mp4"]
    other = plan_sweep(replace(swept.options, preset="medium", cells=1), quiet.append)
    assert [(title.cells, title.cached) for title in other.titles] == [(2, 0), (1, 0)]
    assert all(title.cpu_seconds > 0 for title in other.titles)


def test_what_is_no_video_is_left_out_and_said(swept: Swept, clips: Path) -> None:
    seen: list[events.Event] = []
    files = (clips / "notes.mp4", clips / "one.mp4")
    result = run(replace(swept.options, files=files), seen)
    assert [title.source for title in result.titles] == ["one.mp4"]
    assert list(result.skipped) == ["notes.mp4"]
    (warned,) = [event.message for event in seen if isinstance(event, events.Warned)]
    assert warned.startswith("notes.mp4 is left out: cannot read")


class Failing(InlineExecutor):
    """Cannot do the work of one shot."""

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        for outcome_of in tasks:
            if "frames 12" in outcome_of.label:
                yield Outcome(outcome_of.id, error=ToolFailed("ffmpeg failed: no luck"))
            else:
                yield from super().run([outcome_of])


def test_a_title_that_fails_does_not_take_the_others_with_it(clips: Path, tmp_path: Path) -> None:
    asked = options(tmp_path, clips / "cut.mp4", clips / "one.mp4")
    with pytest.raises(ToolFailed, match=r"cut\.mp4: .*no luck.* everything else is in"):
        sweep(asked, lambda event: None, Failing())
    found = [(row.source, row.start_frame, row.height) for row in read_table(asked.table)]
    assert len(found) == 2 * 2 + 4
    assert {(file, start) for file, start, _ in found} == {("cut.mp4", 0), ("one.mp4", 0)}
    assert run(asked).rows == 12


def test_packages_are_labels_for_free(clips: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    run_inline(
        clips / "cut.mp4",
        tmp_path / "out",
        store,
        profile=PROFILE,
        heights=(54,),
        also=(V0,),
        search="exhaustive",
    )
    table = tmp_path / "cells.parquet"
    rows = add_packages(
        *([tmp_path / "out"], table, lambda event: None),
        catalog=clips / "catalog.csv",
        store=store,
    )
    measured = Measurements.model_validate_json(
        (tmp_path / "out" / "measurements.json").read_text()
    )
    ladder = Ladder.model_validate_json((tmp_path / "out" / "ladder.json").read_text())
    found = read_table(table)
    assert rows == len(found) == len(measured.cells) >= 8
    assert {row.group for row in found} == {"cards"}
    by_cell = {(row.shot, row.width, row.height, row.crf): row for row in found}
    for cell in measured.cells:
        row = by_cell[cell.shot, cell.width, cell.height, cell.crf]
        assert (row.bits, row.quality[V1]) == (8 * cell.bytes, cell.quality)
    for segment in (segment for rung in ladder.rungs for segment in rung.segments):
        row = by_cell[segment.shot, segment.width, segment.height, segment.crf]
        assert row.quality == segment.quality
        assert set(row.quality) == {V0, V1}
    # A sweep of the same title finds the same cells, and knows what they took.
    asked = options(tmp_path, clips / "cut.mp4", catalog=clips / "catalog.csv")
    result = run(asked)
    assert (result.titles[0].cached, result.rows) == (8, rows)
    after = {row.key: row for row in read_table(table)}
    assert {key: (row.bits, row.quality) for key, row in after.items()} == {
        row.key: (row.bits, row.quality) for row in found
    }
    assert sum(row.encode_cpu_seconds is not None for row in after.values()) == 8
    # In any order: the package again takes nothing away.
    before = table.read_bytes()
    add_packages([tmp_path / "out"], table, lambda event: None, catalog=asked.catalog, store=store)
    assert table.read_bytes() == before


def test_a_package_of_another_source_is_refused(clips: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    run_inline(clips / "one.mp4", tmp_path / "out", store, profile=PROFILE, heights=(54,))
    with pytest.raises(BadInput, match="is not the source that"):
        add_packages(
            *([tmp_path / "out"], tmp_path / "table", lambda event: None),
            source=clips / "cut.mp4",
            store=store,
        )
    with pytest.raises(BadInput, match=r"has no ladder\.json"):
        add_packages([clips], tmp_path / "table", lambda e: None, source=clips / "one.mp4")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"files": ()}, "nothing to sweep"),
        ({"originals": False}, "nothing to sweep"),
        ({"files": (Path("/no/film.mp4"),)}, "no such file: /no/film.mp4"),
        ({"cells": 0}, "asked for 0 cells"),
        ({"augmented_seconds": 0.0}, "augmentations of 0 s"),
        ({"augmentations": ("sepia",)}, "no augmentation is called 'sepia'"),
        ({"preset": "swift"}, "no preset 'swift'"),
        ({"also": ("psnr",)}, "unknown quality model"),
        ({"catalog": Path("/no/catalog.csv")}, r"catalogue /no/catalog\.csv cannot be read"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_makes_no_sense_is_said(
    change: dict[str, object], said: str, clips: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=said):
        run(options(tmp_path, clips / "one.mp4", **change))
    assert not (tmp_path / "store").exists()


def test_a_catalogue_without_groups(tmp_path: Path) -> None:
    (tmp_path / "catalog.csv").write_text("name,file\na,b\n")
    with pytest.raises(BadInput, match="needs the columns file and group"):
        read_groups(tmp_path / "catalog.csv")


def test_an_alien_table_is_found_before_anything_is_measured(clips: Path, tmp_path: Path) -> None:
    asked = options(tmp_path, clips / "one.mp4")
    asked.table.write_text("not mine")
    with pytest.raises(ShotladderError, match="is not a whole Parquet file"):
        run(asked)
    assert not (tmp_path / "store").exists()


def test_the_corpus_has_a_group_for_every_clip(corpus: Path) -> None:
    groups = read_groups(corpus / "catalog.csv")
    media = {path.name for path in corpus.iterdir() if path.suffix not in (".csv", ".md")}
    assert media == set(groups)
    assert len(set(groups.values())) >= 15
    assert groups["rollercoaster_540p.mp4"] == groups["davis_multishot_dev.mov"]
    assert profiles.load_profile().crf_grid["x264"][0] == 14


# -- the command -------------------------------------------------------------------------------


def command(*arguments: object, as_json: bool = False) -> None:
    app = typer.Typer()
    app.command()(sweep_command)
    with reporter(as_json=as_json, quiet=True) as report:
        app([str(argument) for argument in arguments], standalone_mode=False, obj=report)


def test_the_command_sweeps(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "test.toml"
    file.write_text(f"crf_grid = {{x264 = {list(GRID)}}}\nsource_cap = false\n")
    asked = [
        *(clips / "one.mp4", "--table", tmp_path / "cells", "--store", tmp_path / "store"),
        *("--preset", "ultrafast", "--profile", file, "--heights", "54", "--workers", "1"),
    ]
    command(*asked, "--cells", 1, "--json", as_json=True)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (lines[0]["type"], lines[0]["command"]) == ("started", "sweep")
    assert (lines[-2]["type"], lines[-2]["cells"], lines[-2]["group"]) == ("swept_title", 1, "one")
    assert lines[-1]["type"] == "done"
    assert lines[-1]["result"] == {
        "table": str(tmp_path / "cells"),
        "rows": 1,
        "titles": 1,
        "skipped": {},
    }
    command(*asked, "--plan")
    said = " ".join(capsys.readouterr().out.split())
    assert "one.mp4 one 1 4 0" in said  # shots, cells, kept: CRF of the sample is off the grid
    assert f"4 cells to measure, about 0 s of CPU; {tmp_path / 'cells'} has 1 rows" in said


def test_the_command_wants_a_table(clips: Path) -> None:
    with pytest.raises(BadInput, match="sweep needs --table FILE"):
        command(clips / "one.mp4")


def test_all_augmentations_are_in_the_help() -> None:
    (option,) = [p for p in typer_options() if "--augment" in p.opts]
    assert [name for name in AUGMENTATIONS if f"`{name}`" not in option.help] == []


def typer_options() -> list[Any]:
    app = typer.Typer()
    app.command()(sweep_command)
    return list(typer.main.get_command(app).params)
