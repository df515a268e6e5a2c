"""What is asked of the rungs: the same words for a question, a run and a job, and it holds."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import shlex
from pathlib import Path
from typing import Any

import pytest

from cluster.cli import main
from cluster.cli.views.whatif import shell_lines
from cluster.jobs.options import DEFAULTS, LIMIT_NAMES
from cluster.jobs.request import LadderRequest, RunOptions
from cluster.package.package import Package
from cluster.service.options import JobOptions
from cluster.service.queue.work import run_options
from encoder.errors import BadInput
from ladder.adjustments import ADJUSTMENTS, adjusted
from ladder.bdrate import RatePoint
from ladder.constraints import InfeasibleResult
from ladder.placement import Rules, place
from ladder.profiles import Profile, load_profile, profile_document, profile_from_document
from ladder.rungs import LadderPlan, RungPlan, solve
from ladder.search.steps import full_grid, measured_title
from ladder.spacing import kept_apart
from ladder.viewers import Offer, population
from tests.cli_material import hand_made, hand_made_measurements
from tests.ladder_synthetic import known, shape
from tests.test_ladder_predict import TITLE as PREDICTED
from tests.test_ladder_predict import check_ladder, drive, search_for
from tests.test_ladder_predict import known as asked_of

PLACED = dataclasses.replace(
    load_profile(), name="placed", recipes={"x264": "medium"}, heights=(234, 360, 540, 720)
)
SPACED = dataclasses.replace(load_profile("default-0.1"), name="spaced", heights=PLACED.heights)
GRID = full_grid(shape(), PLACED)
TITLE = measured_title(known(GRID), GRID)


def rungs(profile: Profile = PLACED, **asked: Any) -> tuple[RungPlan, ...]:
    return plan(profile, **asked).rungs


def plan(profile: Profile = PLACED, **asked: Any) -> LadderPlan:
    found = solve(TITLE, adjusted(profile, asked))
    assert isinstance(found, LadderPlan)
    return found


def lines(of: tuple[RungPlan, ...]) -> list[int]:
    return [min(rung.size) for rung in of]


# -- each of them holds ------------------------------------------------------------------------


def test_every_limit_is_an_adjustment() -> None:
    assert set(LIMIT_NAMES) == set(ADJUSTMENTS)
    assert adjusted(PLACED, {name: getattr(DEFAULTS, name) for name in LIMIT_NAMES}) is PLACED


def test_rungs_are_listed_by_rate_by_quality_and_by_height() -> None:
    by_rate = rungs(rates=(5e5, 5.2e5, 2e6))
    assert [rung.rate for rung in by_rate] == pytest.approx([5e5, 5.2e5, 2e6], rel=0.02)
    by_quality = rungs(qualities=(70, 71, 90))
    assert [rung.quality for rung in by_quality] == pytest.approx([70, 71, 90], abs=0.1)
    by_height = rungs(rung_heights=(234, 540, 720))
    assert lines(by_height) == [234, 540, 720]
    for low, high in itertools.pairwise(by_height):
        assert high.quality > low.quality
        other = rungs(rates=(low.rate * 0.98,), rung_heights=(min(high.size),))[0]
        if other.rate < low.rate:
            assert low.quality >= other.quality - 0.1, "each has the rates at which it looks best"
    both = rungs(rung_heights=(234, 234, 720), qualities=(70, 72, 90))
    assert lines(both) == [234, 234, 720]
    assert [rung.quality for rung in both] == pytest.approx([70, 72, 90], abs=0.1)


def test_what_is_left_out_of_a_list_is_said() -> None:
    beyond = plan(rates=(1.0, 5e5, 9e9))
    assert len(beyond.rungs) == 2
    assert [note.split(":")[0] for note in beyond.notes] == [
        "no rung at 0 kbit/s",
        "no rung at 9000000 kbit/s",
    ]
    notes = " ".join(plan(qualities=(10, 80, 99.9)).notes)
    assert "no rung at quality 10" in notes
    assert "quality 99.9 is out of reach" in notes
    assert "it would be no better" in plan(rates=(5e5, 5.0001e5)).notes[-1]
    raised = plan(rung_heights=(234, 720), rates=(1.4e5, 1.45e5)).rungs[1]
    assert raised.notes[0].startswith("720 lines take 562 kbit/s at least, more than the 145 for")


@pytest.mark.parametrize("profile", [PLACED, SPACED], ids=str)
def test_no_rung_is_below_or_above_what_is_asked(profile: Profile) -> None:
    free = rungs(profile)
    assert rungs(profile, max_rate=6e5)[-1].rate <= 6e5 < free[-1].rate
    assert rungs(profile, max_quality=80)[-1].quality <= 80.05 < free[-1].quality
    better = rungs(profile, min_quality=85)
    assert free[0].quality < 85 - 1
    assert better[0].quality >= 85 - 0.05
    assert len(better) > 1
    for asked, constraint in (
        ({"min_quality": 99.9, "max_quality": 100}, "lowest quality"),
        ({"min_quality": 90, "max_rate": 3e5}, "lowest quality"),
        ({"max_rate": 2e4}, "highest rate"),
    ):
        found = solve(TITLE, adjusted(profile, asked))
        assert isinstance(found, InfeasibleResult)
        assert found.constraint == constraint


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9, 12])
def test_there_are_as_many_rungs_as_are_asked_for(count: int) -> None:
    assert len(rungs(SPACED, rung_count=(count, count))) == count
    placed = rungs(PLACED, rung_count=(count, count), merge_within=())
    assert len(placed) == count


def test_rungs_are_as_far_apart_as_is_asked() -> None:
    for profile in (PLACED, SPACED):
        found = rungs(profile, least_ratio=1.8)
        for low, high in itertools.pairwise(found):
            assert high.rate >= low.rate * 1.8 * 0.99
    steps = [b.quality - a.quality for a, b in itertools.pairwise(rungs(jnd=3.0))]
    assert max(steps) <= 3.1


@pytest.mark.parametrize("profile", [PLACED, SPACED], ids=str)
def test_the_largest_size_at_a_rate_and_the_native_size_at_the_top(profile: Profile) -> None:
    limited = rungs(profile, size_limits=((6e5, 234), (1.5e6, 360)))
    for rung in limited:
        assert min(rung.size) <= (234 if rung.target_rate <= 6e5 else 720)
        assert min(rung.size) <= (360 if rung.target_rate <= 1.5e6 else 720)
    assert 360 in lines(rungs(profile)) or 540 in lines(rungs(profile))
    capped = {"max_quality": 84}
    assert lines(rungs(profile, **capped))[-1] < 720
    native = rungs(profile, native_top=True, **capped)
    assert lines(native)[-1] == 720
    assert all(a.quality < b.quality for a, b in itertools.pairwise(native))
    starved = plan(profile, native_top=True, max_rate=3e5)
    assert "the limits leave no room for the source's 720" in starved.notes[-1]


# -- merging -----------------------------------------------------------------------------------


def test_rungs_are_merged_only_where_they_are_near_in_rate_and_in_quality() -> None:
    candidates = [Offer(1e5 * 1.04**n, 40 + 0.7 * n) for n in range(60)]
    reference = [Offer(1.2e5, 43.0), Offer(2e5, 52.0), Offer(2.2e5, 53.2), Offer(9e5, 78.0)]
    audience = population(1e6)

    def chosen(**rules: Any) -> list[Offer]:
        found = place(candidates, reference, audience, Rules(counts=(6, 12), **rules))
        return [candidates[number] for number in found.chosen]

    near = [
        (low, high)
        for low, high in itertools.pairwise(chosen())
        if high.rate < low.rate * 1.25 and high.quality < low.quality + 6
    ]
    assert near
    merged = chosen(merge_ratio=1.25, merge_step=6.0)
    for low, high in itertools.pairwise(merged):
        assert high.rate >= low.rate * 1.25 or high.quality >= low.quality + 6


def test_merging_leaves_no_step_that_is_too_large_and_no_listed_rung_out() -> None:
    asked = {"merge_within": (1.5, 4.0), "jnd": 3.0}
    found = rungs(**asked)
    assert max(b.quality - a.quality for a, b in itertools.pairwise(found)) <= 3.2
    near = dataclasses.replace(PLACED, merge_within=(2.0, 50.0), rates=(5e5, 5.2e5, 2e6))
    assert len(plan(near).rungs) == 3
    spaced = dataclasses.replace(SPACED, merge_within=(1.25, 2.0))
    assert rungs(spaced) == rungs(SPACED), "steps of six points are far enough apart"
    assert load_profile().merge_within == load_profile("archive").merge_within == (1.25, 2.0)
    assert load_profile("archive-0.1").merge_within == ()


@pytest.mark.parametrize(
    ("points", "kept"),
    [
        ([(100, 50), (110, 51)], (0,)),
        ([(100, 50), (110, 53)], (0, 1)),
        ([(100, 50), (150, 52), (160, 53), (200, 55)], (0, 2, 3)),
        ([(100, 50), (180, 56), (200, 57.5), (390, 63)], (0, 1, 2, 3)),
        ([(100, 50), (105, 50.5), (110, 51), (115, 51.5)], (0,)),
    ],
)
def test_spaced_rungs_are_merged_as_far_as_the_steps_allow(
    points: list[tuple[float, float]], kept: tuple[int, ...]
) -> None:
    profile = dataclasses.replace(SPACED, merge_within=(1.25, 2.0))
    assert kept_apart([RatePoint(rate, quality) for rate, quality in points], profile) == kept


# -- and holds once it is measured -------------------------------------------------------------


@pytest.mark.parametrize(
    "asked",
    [
        {"qualities": (71, 74, 75, 85)},
        {"rung_heights": (234, 360, 540)},
        {"rung_heights": (234, 234, 540), "rates": (1.5e5, 3e5, 9e5)},
        {"max_rate": 5e5, "min_quality": 70},
        {"merge_within": (1.25, 2.0)},
        {"size_limits": ((5e5, 360),), "native_top": True},
        {"rung_count": (6, 6)},
    ],
    ids=lambda asked: ",".join(asked),
)
def test_what_is_asked_for_holds_for_what_is_delivered(asked: dict[str, Any]) -> None:
    base = dataclasses.replace(PLACED, heights=(234, 360, 540), peak_ratio=None)
    profile = adjusted(base, asked)
    for seed in range(2):
        outcome = drive(search_for(PREDICTED, seed), asked_of(profile=profile))
        check_ladder(outcome, PREDICTED, profile)
        found = outcome.plan.rungs
        if "qualities" in asked:
            assert [rung.quality for rung in found] == pytest.approx(asked["qualities"], abs=0.5)
        if "rung_heights" in asked:
            assert lines(found) == list(asked["rung_heights"])
        if "rates" in asked:
            for rung, rate in zip(found, asked["rates"], strict=True):
                assert 0.9 * rate < rung.rate <= rate * (1 + 1e-9)
        assert found[-1].rate <= asked.get("max_rate", math.inf)
        assert found[0].quality >= asked.get("min_quality", 0) - 0.15
        if "merge_within" in asked:
            for low, high in itertools.pairwise(found):
                assert high.rate >= low.rate * 1.25 or high.quality >= low.quality + 2
        if "native_top" in asked:
            assert lines(found)[-1] == 540
        for most, of in asked.get("size_limits", ()):
            assert all(min(r.size) <= of for r in found if r.rate <= most * 0.97)
        if "rung_count" in asked:
            assert len(found) == 6


# -- the same words everywhere -----------------------------------------------------------------

WORDS = [
    "--rates 400k,1.2M,3000100",
    "--qualities 60,75.5,90",
    "--rung-heights 234,360",
    "--rung-heights 234,360 --rates 200k,900k",
    "--max-rate 800k",
    "--min-quality 60 --max-quality 90",
    "--floor 40 --peak-ratio 1.5 --vbv-seconds 2 --placement spacing",
    "--jnd 4",
    "--rungs 3-5 --gap 1.3 --merge 1.4,3",
    "--rungs 4 --merge off",
    "--size-limits 300k=234,900k=360 --native-top",
    "--viewers 1M,3.3M --devices 720=0.3,360=0.1 --tolerance 0.2 --placement most-quality",
    "--viewers 1M=0.25,4M=0.75",
    "--heights 234,360 --max-rate 2M",
    "--profile archive --max-rate 500k",
    "--remove v2-360p --add 500k",
]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "ladder of mine"
    folder.mkdir()
    (folder / "ladder.json").write_text(hand_made().to_json())
    (folder / "measurements.json").write_text(hand_made_measurements().to_json())
    made = RunOptions(
        Path("clip.mp4"),
        folder,
        search="exhaustive",
        preset="medium",
        recipe_check="never",
        rung_count=(1, 9),
        peak_ratio=2.5,
    )
    run = {"schema": "shotladder/run/1", "source": "clip.mp4", "options": made.document()}
    (folder / "run.json").write_text(json.dumps(run))
    return folder


def run_by(line: list[str], monkeypatch: pytest.MonkeyPatch) -> RunOptions:
    """The options that ``shotladder run`` hands on."""
    asked: list[RunOptions] = []

    def stop(options: RunOptions, *_: Any) -> None:
        asked.append(options)
        raise BadInput("as far as this")

    monkeypatch.setattr("cluster.jobs.run.run_title", stop)
    assert main(line) == 2
    return asked[0]


@pytest.mark.parametrize("words", WORDS)
def test_what_if_ends_with_the_command_that_makes_its_answer(
    words: str, package: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "400")  # the paths of tests are long
    questions: list[Profile] = []
    monkeypatch.setattr(
        "cluster.jobs.whatif.solve", lambda *args: questions.append(args[1]) or solve(*args)
    )
    assert main(["what-if", str(package), *shlex.split(words)]) == 0
    shown = capsys.readouterr().out
    if "changes nothing" in " ".join(shown.split()):
        pytest.skip("the answer is the ladder as it is")
    line = shlex.split(shown.partition("To make it:\n")[2].replace("\\\n", ""))
    assert line[:4] == ["shotladder", "run", "clip.mp4", "--out"]
    assert line[4] == f"{package}-2"
    options = run_by(line[1:], monkeypatch)
    assert (options.search, options.preset) == ("exhaustive", "medium")
    made = LadderRequest.of(options).profile
    asked = questions[0]
    if asked.lists_rungs:  # how many rungs are placed means nothing then
        asked = dataclasses.replace(asked, rung_count=made.rung_count)
    assert profile_document(made) == profile_document(asked)


def test_a_command_is_shown_as_a_shell_takes_it() -> None:
    assert shell_lines("shotladder profiles 'a b' > mine.toml") == [
        "shotladder profiles 'a b' > mine.toml"
    ]
    lines = shell_lines("shotladder run 'a b.mp4' --out c --max-rate 4M", width=30)
    assert max(map(len, lines)) <= 30
    assert shlex.split("\n".join(lines).replace("\\\n", "")) == [
        *("shotladder", "run", "a b.mp4", "--out", "c", "--max-rate", "4M")
    ]


@pytest.mark.parametrize("words", [each for each in WORDS if "--remove" not in each])
def test_a_job_can_be_asked_for_what_a_run_can(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = run_by(["run", "a.mp4", "--out", "b", *shlex.split(words)], monkeypatch)
    sent = {name: value for name, value in options.document().items() if name in LIMIT_NAMES}
    if options.heights:
        sent["heights"] = list(options.heights)
    job = JobOptions.model_validate({**sent, "profile": options.profile})
    again = JobOptions.model_validate_json(job.model_dump_json())
    run = run_options(again, Path("a.mp4"), Path("b"))
    assert LadderRequest.of(run).profile == LadderRequest.of(options).profile


def test_what_was_asked_for_is_kept_and_is_no_option_where_it_was_not(package: Path) -> None:
    plain = RunOptions(Path("a"), Path("b"))
    assert not plain.document().keys() & {*LIMIT_NAMES, "encoder_params"}
    asked = dataclasses.replace(plain, max_rate=8e5, size_limits=((4e5, 360),), native_top=True)
    document = json.loads(json.dumps(asked.document()))
    assert document["size_limits"] == [[4e5, 360]]
    assert asked.like(type(asked).from_document(document)) == asked
    run = json.loads((package / "run.json").read_text())
    (package / "run.json").write_text(json.dumps({**run, "options": document}))
    assert Package(package).profile == LadderRequest.of(asked).profile


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"rates": (1e6,), "qualities": (80,)}, "rates and qualities both say"),
        ({"rates": (1e6,), "rung_heights": (360, 720)}, "2 rung_heights for 1 rates"),
        ({"rates": (1e6,), "jnd": 3.0}, "so jnd has no meaning"),
        ({"qualities": (80,), "rung_count": (3, 3)}, "so rung_count has no meaning"),
        ({"profile": "archive", "tolerance": 0.2}, "so tolerance has no meaning; add placement"),
        ({"min_quality": 99.0}, "min_quality 99 is not under max_quality 98"),
        ({"merge_within": (0.5, 2.0)}, "merge_within is a ratio"),
        ({"size_limits": ((9e5, 360), (4e5, 234))}, "size_limits are rising rates"),
        ({"heights": (360,), "rung_heights": (360, 720)}, "rung_heights has 720, which is not"),
        ({"max_rate": -1.0}, "max_rate have to be positive"),
        ({"viewers": (1e6, (2e6, 0.5))}, "viewers are"),
        ({"placement": "best"}, "no placement 'best'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_means_nothing_is_refused_in_words(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        LadderRequest.of(RunOptions(Path("a"), Path("b"), **asked))


def test_profiles_keep_their_limits_in_documents() -> None:
    profile = adjusted(
        PLACED,
        {"max_rate": 1e6, "min_quality": 40, "size_limits": ((5e5, 360),), "native_top": True},
    )
    assert profile_from_document(json.loads(json.dumps(profile_document(profile)))) == profile
    old = profile_document(load_profile("default-0.1"))
    new = {"qualities", "rung_heights", "max_rate", "quality_limits", "merge_within"}
    assert not old.keys() & {*new, "size_limits", "native_top"}
