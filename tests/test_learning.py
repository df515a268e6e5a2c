"""What jobs leave for training, the weights made of it, and which of two models takes over."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster import events
from cluster.cli import main
from cluster.execution.executor import InlineExecutor
from cluster.jobs.request import RunOptions
from cluster.jobs.run import run_title
from cluster.store import Store
from cluster.training.feedback import drift_of, feedback_in, rows_in
from cluster.training.promote import WeightsComparison, compare_weights, promote
from cluster.training.table import Row, write_table
from cluster.training.train import TrainOptions, train, training_rows
from encoder.errors import BadInput
from fixtures.clips import make
from ladder.complexity import training
from ladder.complexity.drift import Miss, compare
from ladder.complexity.model import load_model
from ladder.profiles import load_profile
from tests.running import SMALL, SMALL_HEIGHTS, SmallRun, run_inline
from vmaf.models import V1

GROUPS = 6


@pytest.fixture(scope="module")
def job(small_run: SmallRun) -> tuple[Path, dict[str, Any], list[Row]]:
    """A store in which one job has run twice, its run.json and the rows that it left.

    The second run found everything made.
    """
    store = small_run.store
    again = run_inline(small_run.source, store.parent / "two", store, heights=SMALL_HEIGHTS)
    return store, again.run, list(rows_in(Store(store)))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "STEPS", 30)
    monkeypatch.setattr(training, "MEMBERS", 2)
    monkeypatch.setattr(training, "FOLDS", 2)


def groups_of(rows: list[Row], bits: Callable[[int], float] = lambda group: 1.0) -> list[Row]:
    """The same title under other names: as many groups, with other features."""
    return [
        replace(
            row,
            group=f"group {group}",
            source=f"{group}.mp4",
            source_sha256=f"{group:064x}",
            title_id=f"{group:016x}",
            bits=round(row.bits * bits(group)),
            features=tuple(value + 0.1 * group for value in row.features),
        )
        for group in range(GROUPS)
        for row in rows
    ]


def test_a_job_leaves_every_cell_that_it_measured_once(
    job: tuple[Path, dict[str, Any], list[Row]],
) -> None:
    place, run, rows = job
    (feedback,) = feedback_in(Store(place))
    assert feedback.predictor is not None
    assert feedback.miss is not None
    recipe = load_profile().recipe("x264", "ultrafast").name
    assert (feedback.predictor.recipe, feedback.predictor.quality_model) == (recipe, V1)
    assert run["missed"]["cells"] == len(rows) == len({row.key for row in rows})
    assert run["missed"]["rate"] == pytest.approx(feedback.miss.log_rate_error, abs=1e-3)
    assert {row.recipe for row in rows} == {recipe}
    assert drift_of(Store(place), feedback.predictor) is None  # of one title nobody can tell


def test_rows_of_a_table_keep_their_group_over_those_of_a_job(
    job: tuple[Path, dict[str, Any], list[Row]], tmp_path: Path
) -> None:
    place, _, rows = job
    known = [replace(row, group="of a catalogue") for row in rows[:1]]
    write_table(tmp_path / "table.parquet", known)
    merged = training_rows((tmp_path / "table.parquet",), place)
    assert len(merged) == len(rows)
    assert {row.group for row in merged} == {"of a catalogue"}
    assert {row.group for row in training_rows((), place)} == {rows[0].title_id}
    with pytest.raises(BadInput, match="nothing to train on"):
        training_rows((), tmp_path / "empty")


def test_training_repeats_itself_and_writes_a_card(
    job: tuple[Path, dict[str, Any], list[Row]], quick: None, tmp_path: Path
) -> None:
    table = tmp_path / "table.parquet"
    write_table(table, groups_of(job[2]))
    made = train(TrainOptions(tmp_path / "a.safetensors", (table,)))
    again = train(TrainOptions(tmp_path / "b.safetensors", (table,)))
    assert made.weights.read_bytes() == again.weights.read_bytes()
    card = made.card.read_text()
    for fact in (made.model, "x264-ultrafast", V1, f"{GROUPS} groups", "group 3"):
        assert fact in card
    assert load_model(made.weights).facts["sources"] == [f"{n:064x}" for n in range(GROUPS)]
    part = train(TrainOptions(tmp_path / "c.safetensors", (table,), leave_out=("group 3",)))
    assert "group 3" not in part.facts["groups"]
    judges = tmp_path / "judges.parquet"
    write_table(judges, [replace(row, group="seaside") for row in job[2]])
    said: list[str] = []
    same = train(TrainOptions(tmp_path / "e.safetensors", (table, judges)), said.append)
    assert same.weights.read_bytes() == made.weights.read_bytes()
    assert f"{len(job[2])} cells of seaside are not trained on: these titles are judges" in said
    with pytest.raises(BadInput, match="no group 'nobody'"):
        train(TrainOptions(tmp_path / "d.safetensors", (table,), leave_out=("nobody",)))
    assert not (tmp_path / "d.safetensors").exists()


def test_only_titles_that_neither_has_seen_are_judged_and_the_better_takes_over(
    job: tuple[Path, dict[str, Any], list[Row]], quick: None, tmp_path: Path
) -> None:
    rows = groups_of(job[2])
    for name, factor in (("right", 1.0), ("wrong", 20.0)):
        learned = [
            replace(row, bits=round(row.bits * factor))
            for row in rows
            if row.group in ("group 0", "group 1", "group 2")
        ]
        write_table(tmp_path / f"{name}.parquet", learned)
        train(TrainOptions(tmp_path / f"{name}.safetensors", (tmp_path / f"{name}.parquet",)))
    right, wrong = tmp_path / "right.safetensors", tmp_path / "wrong.safetensors"
    to = tmp_path / "current.safetensors"
    found = compare_weights(wrong, right, rows)
    assert found.seen == 3
    assert [one.title for one in found.titles] == ["3.mp4", "4.mp4", "5.mp4"]
    assert not promote(right, wrong, rows, to).better
    assert not to.exists()
    assert promote(wrong, right, rows, to).better
    assert to.read_bytes() == right.read_bytes()


def test_weights_that_are_worse_for_a_recipe_do_not_take_over() -> None:
    def misses(log_score: float) -> list[Miss]:
        scores = [log_score + 0.01 * number for number in range(6)]
        return [Miss(10, 0.1, 0.5, 1.0, (0.0, 0.0), score) for score in scores]

    current, better, worse = misses(-1.0), misses(-0.2), misses(-1.5)
    by_recipe = {"x264-medium": compare(current, better), "svtav1-medium": compare(current, worse)}
    over_all = compare([*current, *current], [*better, *worse], [*"abcdef", *"abcdef"])
    found = WeightsComparison((), 0, over_all, by_recipe)
    assert found.comparison.better
    assert found.worse_for == ("svtav1-medium",)
    assert not found.better
    kept = {name: one for name, one in by_recipe.items() if name == "x264-medium"}
    assert replace(found, by_recipe=kept).better


def test_titles_are_compared_recipe_by_recipe(
    job: tuple[Path, dict[str, Any], list[Row]], quick: None, tmp_path: Path
) -> None:
    rows = groups_of(job[2])
    slow = [replace(row, recipe="x264-slow") for row in rows]
    write_table(tmp_path / "table.parquet", [row for row in rows if row.group < "group 3"])
    weights = tmp_path / "some.safetensors"
    train(TrainOptions(weights, (tmp_path / "table.parquet",)))
    found = compare_weights(weights, weights, [*rows, *slow])
    assert found.comparison.titles == 3  # of six predictions
    counts = {name: one.titles for name, one in found.by_recipe.items()}
    assert counts == {rows[0].recipe: 3, "x264-slow": 3}


def test_the_commands_and_their_exit_status(
    job: tuple[Path, dict[str, Any], list[Row]],
    quick: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table, out = tmp_path / "table.parquet", tmp_path / "own.safetensors"
    write_table(table, groups_of(job[2]))
    assert main(["train", "--out", str(out), "--table", str(table), "--json"]) == 0
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (done["type"], done["result"]["model"]) == ("done", load_model(out).identity)
    against = ["promote", str(out), "--over", str(out), "--table", str(table)]
    assert main([*against, "--json"]) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["result"]["seen"] == GROUPS
    assert main(against) == 1
    assert "not better" in capsys.readouterr().out
    for wrong in (["train"], ["train", "--out", str(out)], ["promote"], ["promote", str(out)]):
        assert main(wrong) != 0
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_drift_is_a_warning_that_says_what_to_do(
    job: tuple[Path, dict[str, Any], list[Row]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three titles that take twice what was predicted, by a preset that was not learned."""
    from cluster.training import feedback

    seen: list[events.Event] = []
    monkeypatch.setattr(feedback, "drift_of", _always(feedback, job[0]))
    source = make(SMALL, tmp_path / "title.mp4")
    options = RunOptions(source, tmp_path / "out", preset="ultrafast", heights=(90,), store=job[0])
    run_title(options, seen.append, InlineExecutor())
    analogous, warning = [e.message for e in seen if isinstance(e, events.Warned)]
    assert analogous.startswith("the weights do not know the recipe x264-ultrafast+")
    assert warning.startswith("drift: 3 titles")
    assert "train --from-store" in warning
    assert "\n" not in warning


def _always(feedback: Any, place: Path) -> Callable[..., Any]:
    """Drift as three titles like the job's own would be, were they as far off."""
    (one,) = feedback_in(Store(place))
    assert one.miss is not None
    far = replace(one.miss, surprise=(6.0, 1.0))
    return lambda store, predictor: feedback.drift([far] * 3)
