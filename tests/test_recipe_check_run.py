"""The check of recipes in real runs: what it refuses, what it costs, and what it leaves alone."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cluster import events
from cluster.cli.views.ladder import check_sentence
from cluster.execution.executor import InlineExecutor, Outcome, Task
from cluster.jobs.estimate import plan_run
from cluster.jobs.recipe_samples import sample_requests, samples_of
from cluster.jobs.request import LadderRequest, RunOptions
from cluster.jobs.run import RunResult, run_title
from cluster.jobs.setup import set_up
from cluster.stages.analysis import find_title
from cluster.stages.prediction import packaged_weights
from cluster.stages.title import open_title
from cluster.store import Store
from encoder.errors import ToolFailed
from encoder.source.reference import ReferenceSource
from fixtures.clips import CYCLE, MANDELBROT, Scene, make
from ladder.document import Ladder, Measurements
from ladder.profiles import load_profile
from ladder.recipe_evidence import REGION, Evidence, RecipeEvidence, spread
from tests.running import SMALL, contents
from vmaf.models import JUDGES, V1

MODELS = (V1, *JUDGES)
PROFILE = replace(
    load_profile("auto"),
    name="auto-small",
    crf_grid={"x264": (20, 28), "svtav1": (21, 33)},
    source_cap=False,
    jnd=25.0,  # few rungs
    max_rate_ratio=8.0,
)
TUNED, AV1 = (PROFILE.recipe(codec) for codec in PROFILE.codecs)
CYCLING = replace(
    SMALL, scenes=(Scene(CYCLE, 24), Scene(MANDELBROT, 24)), frame_rate=Fraction(24), audio=False
)


def asked(source: Path, out: Path, **options: Any) -> RunOptions:
    defaults: dict[str, Any] = {"profile": PROFILE, "search": "exhaustive", "heights": (180,)}
    defaults["recipe_check"] = "always"  # whatever evidence ships
    return RunOptions(source, out, **{**defaults, "store": out.parent / "store", **options})


@dataclass(frozen=True)
class Made:
    source: Path
    out: Path
    result: RunResult
    warnings: tuple[str, ...]

    @property
    def ladder(self) -> Ladder:
        return Ladder.model_validate_json((self.out / "ladder.json").read_bytes())

    @property
    def measurements(self) -> Measurements:
        return Measurements.model_validate_json((self.out / "measurements.json").read_bytes())


def run(options: RunOptions) -> Made:
    said: list[events.Event] = []
    result = run_title(options, said.append, InlineExecutor())
    warnings = tuple(one.message for one in said if isinstance(one, events.Warned))
    return Made(options.source, options.out, result, warnings)


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A title on which three reference frames are too few, and AV1 needs more bits than x264."""
    folder = tmp_path_factory.mktemp("refused")
    return run(asked(make(CYCLING, folder / "title.mp4"), folder / "out"))


def test_a_title_that_loses_keeps_the_plain_recipe_and_says_so(refused: Made) -> None:
    ladder = refused.ladder
    assert ladder.recipe == TUNED.plain.name == "x264-slow"
    assert {rung.recipe for rung in ladder.rungs} == {"x264-slow"}
    check = (ladder.recipe_checks or [])[0]
    assert (check.recipe, check.against, check.kept) == (TUNED.name, "x264-slow", False)
    assert (check.shots, check.width, check.height) == ([0, 1], 320, 180)
    assert tuple(check.percent) == MODELS
    assert min(percent for percent in check.percent.values() if percent is not None) > 2
    assert check.warning == refused.warnings[0]
    assert "the title is encoded with x264-slow" in refused.warnings[0]
    assert check_sentence(check) == f"{refused.warnings[0]}."


def test_a_codec_of_the_profile_that_saves_nothing_is_left_out(refused: Made) -> None:
    ladder = refused.ladder
    assert {rung.codec for rung in ladder.rungs} == {"x264"}
    check = (ladder.recipe_checks or [])[-1]
    assert (check.recipe.split("+")[0], check.against) == ("svtav1-fast", "x264-slow")
    assert not check.kept
    assert "at 4 CRFs of each shot" in refused.warnings[-1]
    assert "its rungs are left out; `--codec x264,svtav1` keeps them" in refused.warnings[-1]


def test_the_check_is_counted(refused: Made) -> None:
    cells = refused.measurements.cells
    ladder, spent = refused.ladder, refused.result.run
    assert ladder.search.encodes == len(cells) == spent["encoded_now"]
    by_recipe = {name: [c for c in cells if c.recipe == name] for name in {c.recipe for c in cells}}
    assert set(by_recipe) == {TUNED.name, "x264-slow", AV1.name, "svtav1-fast"}
    # Two shots at two CRFs, and no search; four CRFs of the codec that is left out.
    for name, encodes in ((TUNED.name, 4), (AV1.name, 4), ("svtav1-fast", 8)):
        assert len(by_recipe[name]) == encodes
        assert {cell.reason for cell in by_recipe[name]} == {"checks the recipe"}
    # The search measures the refused recipe's cells to see which shots are heaviest.
    assert spent["recipe_check"]["encoded_now"] == 12 + 8
    assert spent["recipe_check"]["scored_now"] == (16 + 8) * 3 - 4
    assert 0 < spent["recipe_check"]["cpu_seconds"]["encode"] < spent["cpu_seconds"]["encode"]


class Dying(InlineExecutor):
    """Fails after some tasks, as a run that is killed."""

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.left = tasks

    def run(self, tasks: Sequence[Task]) -> Any:
        for outcome in super().run(tasks):
            self.left -= 1
            if self.left < 0:
                raise ToolFailed("killed")
            yield cast(Outcome, outcome)


def test_the_same_bytes_after_a_kill_and_beside_what_others_left(
    refused: Made, tmp_path: Path
) -> None:
    """Other jobs left the refused ladder's encodes; the run itself died within its check."""
    source, store = refused.source, tmp_path / "store"
    run(asked(source, tmp_path / "other", store=store, codec="x264", recipe_check="never"))
    with pytest.raises(ToolFailed):
        run_title(asked(source, tmp_path / "out", store=store), lambda event: None, Dying(3))
    again = run(asked(source, tmp_path / "out", store=store))
    assert again.warnings == refused.warnings
    assert contents(again.out) == contents(refused.out)


def test_a_codec_that_the_user_names_stays_with_a_warning(refused: Made, tmp_path: Path) -> None:
    store = refused.out.parent / "store"
    made = run(asked(refused.source, tmp_path / "out", store=store, codec="x264,svtav1"))
    assert any("its rungs stay because --codec names svtav1" in said for said in made.warnings)
    assert [one.codec for one in made.ladder.codecs] == ["x264", "svtav1"]
    assert (made.ladder.recipe_checks or [])[-1].kept


def test_never_takes_recipes_as_they_are(refused: Made, tmp_path: Path) -> None:
    store = refused.out.parent / "store"
    options = asked(
        refused.source, tmp_path / "out", store=store, codec="x264", recipe_check="never"
    )
    made = run(options)
    assert made.ladder.recipe == TUNED.name
    assert made.ladder.recipe_checks is None
    assert "recipe_check" not in made.result.run
    assert not made.warnings


# -- a title that gains, and the prediction ----------------------------------------------------


@pytest.fixture(scope="module")
def gaining(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("gaining")
    source = make(replace(SMALL, audio=False), folder / "title.mp4")
    return run(asked(source, folder / "out", search="predict", codec="x264"))


def test_a_title_that_gains_keeps_its_recipe(gaining: Made) -> None:
    ladder = gaining.ladder
    assert ladder.search.mode == "predict"
    assert ladder.recipe == TUNED.name
    (check,) = ladder.recipe_checks or []
    assert check.kept
    assert check.warning is None
    assert f"{TUNED.name} against x264-slow, measured on 3 shots at " in check_sentence(check)


def test_the_search_starts_from_the_sample(gaining: Made) -> None:
    """The sample is measured before the search, which asks for none of it again."""
    cells = gaining.measurements.cells
    sample = [cell for cell in cells if cell.reason == "checks the recipe"]
    assert len([cell for cell in sample if cell.recipe == "x264-slow"]) == 6
    own = {(c.shot, c.width, c.height, c.crf) for c in sample if c.recipe == TUNED.name}
    delivered = {
        (segment.shot, segment.width, segment.height, segment.crf)
        for rung in gaining.ladder.rungs
        for segment in rung.segments
    }
    assert own & delivered
    assert all(cell.predicted_bytes for cell in cells if cell.recipe == TUNED.name)


def test_codecs_are_sampled_where_they_are_expected_to_look_alike(gaining: Made) -> None:
    """Otherwise there is no common range of quality to compare them over."""
    options = asked(gaining.source, gaining.out, search="predict", profile="auto")
    executor = InlineExecutor()
    with (
        contextlib.closing(Store(gaining.out.parent / "store")) as store,
        store.scratch() as workdir,
    ):
        source = open_title(gaining.source, workdir)
        title = find_title(gaining.source, source, store, executor, lambda event: None)
        request = LadderRequest.of(options)
        setups = set_up(request, title, store, executor, lambda event: None)
        samples = samples_of(setups, None)
    assert set(samples) == {"x264", "svtav1"}
    assert samples["x264"].size == samples["svtav1"].size
    assert samples["x264"].crfs.keys() == samples["svtav1"].crfs.keys()
    ours, theirs = (
        [
            expected.quality
            for found in sample_requests(samples[one.recipe.codec], one.recipe)
            if one.prediction is not None
            and (expected := one.prediction.expected(*found)) is not None
        ]
        for one in setups
    )
    assert len(ours) == len(theirs) == 6
    assert ours == pytest.approx(theirs, abs=1.0)


# -- evidence ----------------------------------------------------------------------------------


def covering(recipe: str, against: str, *, to: float = 1e9) -> Evidence:
    gains = spread([-8.0, -7.0, -9.0, -8.5, -7.5, -8.0])
    return Evidence(
        recipes=[
            RecipeEvidence(
                recipe=recipe,
                against=against,
                titles=list("abcdef"),
                frames=480,
                judges=dict.fromkeys(MODELS, gains),
                loss=gains,
                region=dict.fromkeys(REGION, (-1e9, to)),
            )
        ]
    )


def test_a_plan_counts_the_check_unless_evidence_covers_the_title(
    gaining: Made, tmp_path: Path
) -> None:
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(packaged_weights().read_bytes())
    evidence = tmp_path / "recipes.json"

    def planned(**options: Any) -> int:
        """Encodes beyond those of the search."""
        one = asked(gaining.source, tmp_path / "out", search="predict", weights=weights)
        chosen = {"codec": "x264", "recipe_check": "auto", **options}
        plan = plan_run(replace(one, **chosen), lambda event: None)
        found = plan.encodes - searched.encodes
        assert plan.cpu_hours["encode"] == searched.cpu_hours["encode"]
        assert (plan.cpu_hours.get("recipe check", 0) > 0) == (found > 0)
        return found

    never = asked(gaining.source, tmp_path / "out", search="predict", weights=weights)
    searched = plan_run(replace(never, codec="x264", recipe_check="never"), lambda event: None)

    assert 6 <= planned() <= 12  # six by the plain recipe; some of the others are planned anyway
    evidence.write_text(covering(TUNED.name, "x264-slow").to_json())
    assert planned() == 0
    assert planned(recipe_check="always") >= 6
    evidence.write_text(covering(TUNED.name, "x264-slow", to=-1e8).to_json())
    assert planned() >= 6
    evidence.write_text(covering(TUNED.name, "x264-medium").to_json())
    assert planned() >= 6


def test_a_title_that_evidence_covers_is_not_encoded_twice(gaining: Made, tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(packaged_weights().read_bytes())
    (tmp_path / "recipes.json").write_text(covering(TUNED.name, "x264-slow").to_json())
    store = gaining.out.parent / "store"
    options = asked(gaining.source, tmp_path / "out", codec="x264", weights=weights, store=store)
    made = run(replace(options, recipe_check="auto"))
    (check,) = made.ladder.recipe_checks or []
    assert check.by_evidence
    assert check.kept
    assert {cell.recipe for cell in made.measurements.cells} == {TUNED.name}
    assert "evidence that comes with the weights covers it" in check_sentence(check)


# -- requests ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hdr", "codec", "expected"),
    [
        (None, None, ["x264", "svtav1"]),
        ("pq", None, ["svtav1"]),
        ("hlg", "svtav1,x265", ["svtav1", "x265"]),
    ],
)
def test_codecs_of_the_profile_for_services(
    hdr: str | None, codec: str | None, expected: list[str], tmp_path: Path
) -> None:
    """A title of high dynamic range has AV1, and x265 where it is named."""
    options = RunOptions(tmp_path / "title.mp4", tmp_path / "out", profile="auto", codec=codec)
    source = cast(ReferenceSource, SimpleNamespace(hdr=hdr))
    request = LadderRequest.of(options).for_source(source)
    assert [recipe.codec for recipe in request.recipes] == expected
    assert request.recipes[-1].name == load_profile("auto").recipe(expected[-1]).name


def test_runs_of_earlier_releases_are_repeated_without_the_check(tmp_path: Path) -> None:
    options = RunOptions(tmp_path / "title.mp4", tmp_path / "out")
    document = json.loads(json.dumps(options.document()))
    assert document.pop("recipe_check") == "auto"
    assert type(options).from_document(document).recipe_check == "never"
