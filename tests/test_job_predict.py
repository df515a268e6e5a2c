"""The main job by its default search: what it delivers was measured, whatever was predicted."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from cluster import events
from cluster.cli import main
from cluster.execution.executor import InlineExecutor
from cluster.jobs import setup as run_setup
from cluster.jobs.estimate import plan_run
from cluster.jobs.request import LadderRequest, RunOptions
from cluster.jobs.run import run_title
from cluster.jobs.setup import CodecSetup, set_up
from cluster.jobs.solve import REASONS_SHOWN
from cluster.jobs.whatif import WhatIfOptions, what_if
from cluster.stages import prediction
from cluster.stages.analysis import find_title
from cluster.stages.measurer import Measurer
from cluster.stages.title import open_title
from cluster.store import Store
from encoder import ffmpeg
from encoder.errors import BadInput
from fixtures.clips import make
from ladder.document import Ladder, Measurements
from ladder.profiles import load_profile
from ladder.search.steps import Done, Measure
from tests.running import (
    SHORT,
    SMALL_HEIGHTS,
    SmallRun,
    contents,
    quick_profile,
    records,
    run_inline,
)
from tests.test_job import check_package
from vmaf.models import V1, V1_HIGH_FRAME_RATE

INLINE = InlineExecutor()


def asked(source: Path, out: Path, store: Path, **others: Any) -> RunOptions:
    defaults = {"preset": "ultrafast", "recipe_check": "never"}  # tests/test_recipe_check.py
    return RunOptions(
        source, out, **{**defaults, "heights": SMALL_HEIGHTS, "store": store, **others}
    )


def nothing(event: events.Event) -> None:
    pass


@pytest.fixture(scope="module")
def finished(small_run: SmallRun) -> SmallRun:
    """The run that many tests look at."""
    return small_run


def measured_by(finished: SmallRun) -> Measurements:
    return Measurements.model_validate_json((finished.out / "measurements.json").read_bytes())


UNKNOWN_RECIPE = "the weights do not know the recipe"


def warnings(seen: list[events.Event]) -> list[str]:
    """All warnings but the one about the fast preset of these tests."""
    return [text for text in all_warnings(seen) if not text.startswith(UNKNOWN_RECIPE)]


def all_warnings(seen: list[events.Event]) -> list[str]:
    return [event.message for event in seen if isinstance(event, events.Warned)]


def check_measured(out: Path, run: dict[str, Any]) -> None:
    """Every delivered segment is an encode that was measured, and its numbers are those."""
    ladder = Ladder.model_validate_json((out / "ladder.json").read_bytes())
    known = Measurements.model_validate_json((out / "measurements.json").read_bytes())
    cells = {(c.shot, c.width, c.height, c.crf): (c.bytes, c.quality) for c in known.cells}
    delivered = set()
    for rung in ladder.rungs:
        for segment in rung.segments:
            place = (segment.shot, segment.width, segment.height, segment.crf)
            assert cells[place] == (segment.bytes, segment.quality[ladder.quality_model])
            delivered.add(place)
    search = ladder.search
    assert search.encodes == len(cells) == run["encoded_now"] == run["scored_now"]
    assert search.delivered_encodes == len(delivered)


# -- the package -------------------------------------------------------------------------------


def test_the_package_is_what_was_measured(finished: SmallRun, tmp_path: Path) -> None:
    ladder = check_package(finished.out, 36, tmp_path)
    check_measured(finished.out, finished.result.run)
    assert ladder.search.mode == "predict"
    assert ladder.search.grid_encodes == 2 * 3 * 9
    assert len(ladder.rungs) >= 2
    assert warnings(finished.events) == []


def test_what_was_predicted_stands_beside_what_was_measured(finished: SmallRun) -> None:
    weights = hashlib.sha256(prediction.packaged_weights().read_bytes()).hexdigest()[:16]
    known = measured_by(finished)
    assert known.weights == finished.result.ladder.search.weights == weights
    for cell in known.cells:
        assert cell.predicted_bytes is not None
        assert cell.predicted_bytes > 0
        assert cell.predicted_quality is not None
        assert 0 <= cell.predicted_quality <= 100
        assert cell.reason
    for rung in finished.result.ladder.rungs:
        of = {(c.shot, c.width, c.crf): c.predicted_quality for c in known.cells}
        expected = [of[s.shot, s.width, s.crf] for s in rung.segments]
        # Shots of 12 frames each: the mean of the title is the mean of its shots.
        assert rung.predicted_quality == pytest.approx(np.mean(expected), abs=1e-3)


def test_what_one_size_per_rung_costs_is_one_number(finished: SmallRun) -> None:
    """Said by the run, and asked later of what it left."""
    asked = WhatIfOptions(finished.out, policy="mixed", store=finished.store)
    found, cost = what_if(asked), finished.result.ladder.locked_cost
    assert found.basis == "predicted"
    assert cost is not None
    assert cost.bd_rate_percent is not None
    assert found.locked_bd_rate == pytest.approx(cost.bd_rate_percent, abs=0.01)


def test_rounds_say_why_in_one_line(finished: SmallRun) -> None:
    rounds = [event for event in finished.events if isinstance(event, events.Round)]
    assert [event.number for event in rounds] == [*range(1, len(rounds) + 1)]
    assert sum(event.wanted for event in rounds) == finished.result.ladder.search.encodes
    reasons = {cell.reason for cell in measured_by(finished).cells}
    for event in rounds:
        said = event.reason.split("; ")
        assert "\n" not in event.reason
        assert 1 <= len(said) <= REASONS_SHOWN + 1
        assert set(said[:REASONS_SHOWN]) <= reasons


# -- the same again ----------------------------------------------------------------------------


def test_two_fresh_runs_give_the_same_bytes(finished: SmallRun, tmp_path: Path) -> None:
    again = run_inline(finished.source, tmp_path / "out", tmp_path / "store", heights=SMALL_HEIGHTS)
    assert again.run["encoded_now"] == finished.result.run["encoded_now"]
    assert contents(tmp_path / "out") == contents(finished.out)
    assert records(tmp_path / "store").keys() == records(finished.store).keys()


@contextlib.contextmanager
def resolved(finished: SmallRun) -> Iterator[tuple[CodecSetup, Measurer]]:
    """The finished job's title and search, in its store."""
    with contextlib.closing(Store(finished.store)) as store, store.scratch() as workdir:
        options = asked(finished.source, finished.out, finished.store)
        source = open_title(finished.source, workdir)
        title = find_title(finished.source, source, store, INLINE, nothing)
        (setup,) = set_up(LadderRequest.of(options), title, store, INLINE, nothing)
        yield setup, Measurer(title, (setup.quality_model,), store, INLINE, nothing)


def test_plans_do_not_depend_on_the_order_of_results(finished: SmallRun) -> None:
    """The job's own results, in the search's hands in random order and a part at a time."""
    with resolved(finished) as (setup, measurer):
        made = records(finished.store, "encode")
        orders = []
        for seed in range(3):
            chance = random.Random(seed)
            step = setup.search.step(setup.known({}))
            requests: set[object] = set()
            known: dict[Any, Any] = {}
            while isinstance(step, Measure):
                requests |= {*step.requests}
                part = chance.sample(step.requests, chance.randint(1, len(step.requests)))
                measurer.measure(part, "again")
                arrived = [
                    *known.items(),
                    *((request, measurer.known[request]) for request in part),
                ]
                chance.shuffle(arrived)
                known = dict(arrived)
                step = setup.search.step(setup.known(known))
            assert isinstance(step, Done)
            assert len(requests) == finished.result.ladder.search.encodes
            orders.append((frozenset(requests), step.plan))
        assert orders[0] == orders[1] == orders[2]
        assert records(finished.store, "encode") == made
    rungs = [[choice.point.crf for choice in rung.choices] for rung in orders[0][1].rungs]
    assert rungs == [
        [segment.crf for segment in rung.segments] for rung in finished.result.ladder.rungs
    ]


def test_a_prediction_is_the_same_on_any_number_of_threads(finished: SmallRun) -> None:
    before = torch.get_num_threads()
    with resolved(finished) as (setup, _):
        kept = setup.prediction
        assert kept is not None
        grid = setup.profile.crf_grid["x264"]
        work = prediction.PredictionWork(
            source=setup.title.source,
            shots=setup.title.shots,
            sizes=setup.sizes,
            recipe=setup.recipe,
            quality_model=setup.quality_model,
            crfs=(grid[0], grid[-1]),
            weights=str(prediction.packaged_weights()),
            store=str(finished.store),
        )
        try:
            for threads in (1, 3):
                torch.set_num_threads(threads)
                made = prediction.compute_prediction(work)
                assert made.log_bpp.tobytes() == kept.log_bpp.tobytes()
                assert made.warped_quality.tobytes() == kept.warped_quality.tobytes()
        finally:
            torch.set_num_threads(before)


def test_a_run_says_how_long_its_stages_will_take(finished: SmallRun) -> None:
    (planned,) = [each for each in finished.events if isinstance(each, events.WorkPlanned)]
    assert set(planned.seconds) == {"encode", "artwork", "package", "verify", "report"}
    assert min(planned.seconds.values()) > 0
    assert planned.encodes > 0
    run = finished.result.run
    assert set(run["planned"]) >= {"analysis", "encode", "vmaf", "rest", "delivered_bytes"}
    assert run["planned"]["analysis"] > 0
    assert run["delivered_bytes"] > 0


# -- what it would cost ------------------------------------------------------------------------


def test_a_plan_of_a_predicting_run(finished: SmallRun, tmp_path: Path) -> None:
    options = asked(finished.source, tmp_path / "out", tmp_path / "store")
    plan = plan_run(options, nothing)
    assert (plan.search, plan.frames, plan.shots) == ("predict", 36, 3)
    assert plan.grid_encodes == finished.result.ladder.search.grid_encodes
    assert 0 < plan.encodes <= plan.delivered_encodes
    assert plan.cpu_hours_range[0] < plan.total_cpu_hours < plan.cpu_hours_range[1]
    low, high = plan.delivered_bytes_range
    assert low < plan.delivered_bytes < high
    assert plan.sampled_frames is None
    assert plan.delivered_encodes >= finished.result.ladder.search.delivered_encodes
    assert plan.cached_encodes == 0
    assert plan.cpu_hours["encode"] > 0
    assert plan.cpu_hours["vmaf"] > 0
    assert plan.wall_seconds > 0
    assert plan.store_bytes > 0
    assert not options.out.exists()
    # The shots, their features and stills, the prediction.
    assert len(records(tmp_path / "store")) == 4
    # Less than measuring everything, and less again where some of it is there.
    everything = plan_run(replace(options, search="exhaustive"), nothing)
    assert everything.encodes == everything.grid_encodes == plan.grid_encodes
    assert sum(plan.cpu_hours.values()) < sum(everything.cpu_hours.values())
    partly = plan_run(replace(options, store=finished.store), nothing)
    assert partly.encodes == plan.encodes
    assert partly.past_runs == 1
    assert 0 < partly.cached_encodes <= partly.encodes
    assert sum(partly.cpu_hours.values()) < sum(plan.cpu_hours.values())


# -- weights that cannot be used ---------------------------------------------------------------


def missing(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def noise(path: Path) -> None:
    path.write_bytes(random.Random(0).randbytes(5000))


def rewritten(change: Callable[[dict[str, Any], dict[str, torch.Tensor]], None]) -> Any:
    def damage(path: Path) -> None:
        with safe_open(path, framework="pt") as file:
            own = json.loads(file.metadata()["shotladder"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        change(own, tensors)
        save_file(tensors, path, {"shotladder": json.dumps(own)})

    return damage


@rewritten
def of_another_version(own: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    own["features_version"] += 1


@rewritten
def with_no_number(own: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    tensors["offsets"][0] = float("nan")


@rewritten
def without_this_quality_model(own: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    own["qualities"] = [name.replace(V1, "another") for name in own["qualities"]]
    for name in [*tensors]:
        tensors[name.replace(V1, "another")] = tensors.pop(name)


@dataclass(frozen=True)
class Sparse:
    """A title, and what the sparse search made of it."""

    source: Path
    out: Path
    store: Path


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Sparse:
    folder = tmp_path_factory.mktemp("sparse")
    source = make(SHORT, folder / "title.mp4")
    name = quick_profile()
    run_inline(
        source, folder / "out", folder / "store", heights=(60,), profile=name, search="sparse"
    )
    return Sparse(source, folder / "out", folder / "store")


DAMAGES = [
    (missing, "no weights at"),
    (cut, "are damaged"),
    (noise, "are damaged"),
    (of_another_version, r"are for features version \d+, this is version \d+; train again"),
    (with_no_number, "contain NaN or infinite values in offsets"),
    (without_this_quality_model, f"was not trained on {V1}"),
]


@pytest.mark.parametrize(
    ("damage", "says"),
    DAMAGES,
    ids=["missing", "cut", "noise", "another version", "no number", "another quality model"],
)
def test_without_usable_weights_the_sparse_search_takes_over_and_says_so(
    damage: Callable[[Path], None],
    says: str,
    sparse: Sparse,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(prediction.packaged_weights().read_bytes())
    damage(weights)
    monkeypatch.setattr(run_setup, "packaged_weights", lambda: weights)
    name = quick_profile()
    options = asked(sparse.source, tmp_path / "out", sparse.store, heights=(60,), profile=name)
    seen: list[events.Event] = []
    made = run_title(options, seen.append, INLINE)
    (warning,) = warnings(seen)
    assert "\n" not in warning
    assert warning.endswith("; the sparse search takes over")
    with pytest.raises(BadInput, match=says) as named:
        run_title(replace(options, weights=weights, out=tmp_path / "other"), nothing, INLINE)
    assert re.search(says, warning)
    assert "\n" not in named.value.message
    assert not (tmp_path / "other").exists()
    assert made.ladder.search.mode == "sparse"
    assert made.ladder.search.weights is None
    assert contents(tmp_path / "out") == contents(sparse.out)

    # As people see it: one line on stderr.
    file = tmp_path / "two-crfs.toml"
    file.write_text("crf_grid = {x264 = [24, 40]}\nsource_cap = false\n")
    line = ["run", str(sparse.source), "--plan", "--preset", "ultrafast", "--profile", str(file)]
    assert main([*line, "--heights", "60", "--store", str(sparse.store)]) == 0
    shown = capsys.readouterr()
    assert shown.err.count("the sparse search takes over") == 1
    assert "by the sparse search" in " ".join(shown.out.split())


@pytest.mark.parametrize("codec", ["x265", "svtav1", "vp9"])
def test_every_codec_is_predicted(codec: str, tmp_path: Path) -> None:
    """By the weights that come with the product, at CRFs that differ to the codec."""
    source = make(SHORT, tmp_path / "title.mp4")
    seen: list[events.Event] = []
    options = asked(source, tmp_path / "out", tmp_path / "store", codec=codec)
    made = run_title(options, seen.append, INLINE)
    recipe = load_profile().recipe(codec, "ultrafast").name
    (warning,) = all_warnings(seen)
    assert warning.startswith(f"{UNKNOWN_RECIPE} {recipe}: its curves are predicted from those of ")
    check_measured(tmp_path / "out", made.run)
    assert made.ladder.search.mode == "predict"
    assert {rung.recipe for rung in made.ladder.rungs} == {recipe}


def test_scores_of_a_model_that_was_not_learned_are_predicted_as_those_of_one_akin(
    tmp_path: Path,
) -> None:
    source = tmp_path / "title.mkv"
    graph = ("-f", "lavfi", "-i", "testsrc2=s=320x180:r=60:d=0.6,format=yuv420p")
    ffmpeg.run(ffmpeg.Command.of(["-v", "error", *graph, "-c:v", "ffv1", source]))
    seen: list[events.Event] = []
    options = asked(source, tmp_path / "out", tmp_path / "store")
    made = run_title(options, seen.append, INLINE)
    (warning,) = warnings(seen)
    assert f"do not know {V1_HIGH_FRAME_RATE}" in warning
    assert f"predicted as those of {V1}, " in warning
    ladder = made.ladder
    assert (ladder.quality_model, ladder.search.mode) == (V1_HIGH_FRAME_RATE, "predict")
    check_measured(tmp_path / "out", made.run)
    # A stored prediction still says whose scores it is about.
    again: list[events.Event] = []
    run_title(replace(options, out=tmp_path / "again"), again.append, INLINE)
    assert warnings(again) == [warning]
    assert contents(tmp_path / "again") == contents(tmp_path / "out")


# -- titles unlike any it was trained on -------------------------------------------------------

TITLES = {
    "noise": "nullsrc=s=320x180:r=24:d=0.5,geq=random(1)*255:128:128",
    "black": "color=black:s=320x180:r=24:d=1",
    "screen text": "color=white:s=320x180:r=24:d=1,drawgrid=w=8:h=12:t=1:c=black,scroll=v=0.02",
    "12 fps": "testsrc2=s=320x180:r=12:d=1",
}


@pytest.mark.parametrize("kind", TITLES)
def test_a_title_unlike_any_it_was_trained_on(kind: str, tmp_path: Path) -> None:
    source = tmp_path / "title.mkv"
    graph = ("-f", "lavfi", "-i", f"{TITLES[kind]},format=yuv420p")
    ffmpeg.run(ffmpeg.Command.of(["-v", "error", *graph, "-c:v", "ffv1", source]))
    made = run_inline(source, tmp_path / "out", tmp_path / "store", heights=SMALL_HEIGHTS)
    ladder = check_package(tmp_path / "out", made.ladder.title.frames, tmp_path)
    check_measured(tmp_path / "out", made.run)
    assert ladder.search.mode == "predict"
    for rung in ladder.rungs:
        assert rung.predicted_quality is not None
        assert rung.slope is None or rung.slope >= 0
