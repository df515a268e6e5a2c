"""How searches are judged: losses by hand and by brute force, intervals of known errors, means."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterable, Mapping
from fractions import Fraction

import numpy as np
import pytest

from encoder.media import Shot, Size
from encoder.recipes import x264
from ladder.choices import Choice
from ladder.complexity.prediction import TitlePrediction
from ladder.constraints import InfeasibleResult
from ladder.curves import MeasuredPoints, Measurement
from ladder.evaluation.losses import RungLoss, bd_at_equal_rates, rung_losses
from ladder.evaluation.predictions import (
    LEVELS,
    Coverage,
    PredictionError,
    corrected_by_proxies,
    coverage,
    first_rung,
    prediction_error,
    shot_residuals,
)
from ladder.evaluation.simulate import MOST_ROUNDS, GridTitle, Simulated, Truth, simulate
from ladder.evaluation.verdicts import Summary, Verdict, judge
from ladder.profiles import Profile, load_profile
from ladder.rungs import LadderPlan, RungPlan
from ladder.search.predict import PredictSearch
from ladder.search.steps import (
    Done,
    ExhaustiveSearch,
    Known,
    Measure,
    Request,
    Step,
    TitleShape,
    full_grid,
)
from tests.complexity_synthetic import (
    cells_at,
    draw_shot,
    draw_terms,
    prediction_of,
    residual_model,
)
from tests.ladder_synthetic import SHOTS, SIZES, measure, shape

PROFILE = load_profile("default-0.1")
TITLE = shape(SHOTS[:4], SIZES[:3])
MODEL = residual_model(0.1)


def grid_title(title: TitleShape = TITLE, profile: Profile = PROFILE) -> GridTitle:
    grid = full_grid(title, profile)
    return GridTitle(
        name="a title",
        group="a group",
        shape=title,
        grid={request: measure(request) for request in grid},
        encode_seconds=dict.fromkeys(grid, 2.0),
        score_seconds=[1.0 + shot for shot in range(len(title.shots))],
    )


@functools.cache
def truth() -> Truth:
    return Truth.of(grid_title())


@functools.cache
def exhaustive() -> Simulated:
    found = simulate(ExhaustiveSearch(), truth(), PROFILE)
    assert isinstance(found, Simulated)
    return found


# -- a title whose numbers can be worked out by hand -------------------------------------------

SMALL, LARGE = Size(320, 180), Size(640, 360)
CRFS = (20.0, 20.5, 21.0)
PLAIN = dataclasses.replace(PROFILE, crf_grid={"x264": CRFS}, peak_ratio=None, source_cap=False)
ONE_SHOT = {
    SMALL: [((2000, 72.0), (1900, 72.0), (1000, 60.0))],
    LARGE: [((4000, 90.0), (2000, 80.0), (1600, 75.0))],
}
TWO_SHOTS = {
    SMALL: [
        ((1900, 71.0), (1500, 69.0), (1000, 60.0)),
        ((3000, 66.0), (2100, 61.0), (1700, 52.0)),
    ],
    LARGE: [
        ((4100, 90.0), (2300, 80.0), (1600, 70.0)),
        ((5200, 84.0), (3500, 75.0), (2700, 63.0)),
    ],
}
FRAMES = (100, 60)
Cells = Mapping[Size, list[tuple[tuple[int, float], ...]]]


def by_hand(cells: Cells) -> Truth:
    """Shots of 4 and 2.4 s with (bits, quality) at three neighbouring CRFs: all there is."""
    count = len(cells[SMALL])
    ends = [0, *itertools.accumulate(FRAMES[:count])]
    title = TitleShape(
        shots=tuple(Shot(a, b) for a, b in itertools.pairwise(ends)),
        frame_rate=Fraction(25),
        sizes=(SMALL, LARGE),
        recipe=x264(),
    )
    grid = {
        (shot, title.point(size, crf)): Measurement(*point)
        for size, shots in cells.items()
        for shot, points in enumerate(shots)
        for crf, point in zip(CRFS, points, strict=True)
    }
    return Truth.of(GridTitle("by hand", "own", title, grid, {}, [0.0] * count))


def a_rung(of: Truth, size: Size, crfs: Iterable[float]) -> RungPlan:
    """What a search delivers that chooses these."""
    shots = of.title.shape.shots
    choices = []
    for shot, crf in enumerate(crfs):
        point = of.title.shape.point(size, crf)
        made = of.measurements[shot, point]
        choices.append(Choice(float(made.bits), made.quality, point))
    bits = sum(choice.bits for choice in choices)
    frames = sum(shot.frames for shot in shots)
    total = sum(shot.frames * c.quality for shot, c in zip(shots, choices, strict=True))
    rate = bits / float(sum(of.curves.durations))
    return RungPlan(size, rate, 0.0, tuple(choices), bits, rate, total / frames, 0.0)


def test_a_bad_choice_loses_what_the_formula_says() -> None:
    of = by_hand(ONE_SHOT)
    rungs = [
        a_rung(of, LARGE, [20.5]),
        a_rung(of, SMALL, [20.0]),
        a_rung(of, SMALL, [20.5]),
    ]
    right, same_bits, fewer_bits = rung_losses(of, rungs, PLAIN)
    assert (right.loss, right.best_size) == (0.0, LARGE)
    # At 2000 bits 80 is to be had, and 2000 more bring 10 points: 800 / (0.5 x 2000).
    assert same_bits.loss == pytest.approx(0.8)
    assert (same_bits.size, same_bits.best_size, same_bits.best_quality) == (SMALL, LARGE, 80.0)
    # Within 1900 bits it is 75 for 1600, and 400 more bring 5: (300 + 1.25 x 300) / (1.25 x 1600).
    assert fewer_bits.loss == pytest.approx(675 / 2000)
    frames = of.title.shape.shots[0].frames
    assert (right.points, same_bits.points) == (0.0, pytest.approx(800 / frames))
    assert fewer_bits.points == pytest.approx(675 / frames)
    # e times the bits would gain 0.5 x 2000 points of frames.
    assert same_bits.points_per_fold == pytest.approx(1000 / frames)


def test_there_is_no_loss_where_more_bits_are_worth_nothing() -> None:
    (saturated,) = rung_losses(by_hand(ONE_SHOT), [a_rung(by_hand(ONE_SHOT), LARGE, [20])], PLAIN)
    assert saturated.loss is None
    assert (saturated.best_quality, saturated.points) == (90.0, 0.0)
    assert saturated.saturated


def test_there_is_no_loss_where_no_rung_keeps_the_constraints() -> None:
    of = by_hand(ONE_SHOT)
    floor = dataclasses.replace(PLAIN, floor=65.0)
    (under,) = rung_losses(of, [a_rung(of, SMALL, [21.0])], floor)
    assert under == RungLoss(under.rate, SMALL, 60.0, None, None, None)


def brute_force(of: Truth, rung: RungPlan) -> tuple[float, bool]:
    """Through every combination there is; the slope is where the dual has its least value. And
    whether equal slopes reach the best combination: else it is worth less than they promise."""
    frames = [shot.frames for shot in of.title.shape.shots]
    found: list[tuple[float, float, float, bool]] = []
    for size in of.title.shape.sizes:
        values = [
            [
                (float(m.bits), f * m.quality)
                for crf in CRFS
                for m in [of.measurements[shot, of.title.shape.point(size, crf)]]
            ]
            for shot, f in enumerate(frames)
        ]
        within = [
            (sum(v for _, v in pair), -sum(b for b, _ in pair))
            for pair in itertools.product(*values)
            if sum(b for b, _ in pair) <= rung.bits
        ]
        if not within:
            continue
        slopes = {0.0} | {
            (w - v) / (c - b)
            for points in values
            for (b, v), (c, w) in itertools.permutations(points, 2)
            if c > b and w > v
        }
        dual = {
            slope: slope * rung.bits + sum(max(v - slope * b for b, v in one) for one in values)
            for slope in slopes
        }
        least = min(dual.values())
        slope = min(slope for slope, value in dual.items() if value < least + 1e-6)
        value, bits = max(within)
        most = sum(max(v - slope * b for b, v in points) for points in values)
        found.append((value, -bits, slope, value + slope * bits > most - 1e-6))
    best, bits, slope, reached = max(found)
    if not slope:
        return math.nan, reached
    short = (best - slope * bits) - (rung.quality * sum(frames) - slope * rung.bits)
    return short / (slope * bits), reached


def test_loss_is_that_of_a_search_through_all_combinations() -> None:
    of = by_hand(TWO_SHOTS)
    rungs = [
        a_rung(of, size, crfs)
        for size in (SMALL, LARGE)
        for crfs in itertools.product(CRFS, repeat=2)
    ]
    exact = 0
    for rung, found in zip(rungs, rung_losses(of, rungs, PLAIN), strict=True):
        expected, reached = brute_force(of, rung)
        if reached:
            loss = math.nan if found.loss is None else found.loss
            assert loss == pytest.approx(expected, nan_ok=True)
            exact += loss > 0.02
        elif found.loss is not None:
            assert found.loss >= expected  # who beats equal slopes by luck is not paid for it
    assert exact == 3


# -- simulation --------------------------------------------------------------------------------


def test_the_truth_is_the_grid_and_what_lies_between() -> None:
    title = grid_title()
    of = truth()
    for request, made in title.grid.items():
        assert of.measurements[request] == made
    size, steps = TITLE.sizes[1], np.arange(14, 46.5, 0.5).tolist()
    between = [of.measurements[0, TITLE.point(size, crf)] for crf in steps]
    assert len(of.measurements) == len(TITLE.shots) * len(TITLE.sizes) * len(steps)
    assert all(a.bits > b.bits for a, b in itertools.pairwise(between))
    crf = steps[5]
    assert between[5].quality == pytest.approx(
        measure((0, TITLE.point(size, crf))).quality, abs=0.3
    )
    some = [(0, TITLE.point(size, 14.0)), (2, TITLE.point(size, 16.5))]
    assert of.cpu(some) == pytest.approx(2.0 + 1.0 + 2.0 + 3.0)
    assert Truth.of(dataclasses.replace(title, encode_seconds={})).cpu(some) is None


def test_the_exhaustive_ladder_loses_nothing() -> None:
    found = exhaustive()
    losses = rung_losses(truth(), found.plan.rungs, PROFILE)
    assert len(losses) > 4
    assert max(abs(one.loss or 0.0) for one in losses) < 2e-3
    assert all(one.size == one.best_size for one in losses)
    assert set(full_grid(TITLE, PROFILE)) <= found.measured
    assert found.plan.points <= found.measured


@dataclasses.dataclass(frozen=True)
class Asks:
    """A search that asks for the same again and again."""

    crf: float

    def step(self, known: Known) -> Step:
        return Measure(((0, known.title.point(known.title.sizes[0], self.crf)),))


@pytest.mark.parametrize("crf", [13.5, 46.5])
def test_nothing_is_handed_out_that_the_grid_does_not_hold(crf: float) -> None:
    with pytest.raises(ValueError, match="is not in the table"):
        simulate(Asks(crf), truth(), PROFILE)


def test_a_search_that_does_not_end_is_refused() -> None:
    with pytest.raises(ValueError, match=f"not done after {MOST_ROUNDS} rounds"):
        simulate(Asks(20.0), truth(), PROFILE)


@dataclasses.dataclass(frozen=True)
class Spies:
    """Says what it is told at each step, then what the exhaustive search says."""

    seen: list[set[Request]]

    def step(self, known: Known) -> Step:
        self.seen.append(set(known.measurements))
        return ExhaustiveSearch().step(known)


def test_a_search_starts_from_nothing_and_is_told_what_it_asked_for_only() -> None:
    spy = Spies([])
    found = simulate(spy, truth(), PROFILE)
    assert isinstance(found, Simulated)
    assert spy.seen[0] == set()
    assert spy.seen[1] == set(full_grid(TITLE, PROFILE))
    assert spy.seen[-1] == found.measured
    assert found.rounds == len(spy.seen) - 1


def test_a_title_without_a_ladder_has_a_verdict_that_says_why() -> None:
    floor = dataclasses.replace(PROFILE, floor=99.9)
    found = simulate(ExhaustiveSearch(), truth(), floor)
    assert isinstance(found, InfeasibleResult)
    verdict = judge("exhaustive", found, found, truth(), floor)
    assert verdict.failure.startswith("worst shot: ")
    assert (verdict.rungs, verdict.qualities, verdict.delivered) == ((), None, 0)
    assert all(map(math.isnan, (verdict.loss, verdict.worst, verdict.extra)))


# -- BD-rate -----------------------------------------------------------------------------------


def test_bd_rate_of_a_search_against_itself_is_nothing() -> None:
    found = bd_at_equal_rates(truth(), exhaustive(), exhaustive(), PROFILE)
    assert found is not None
    assert found.percent == pytest.approx(0.0, abs=1e-9)


def test_bd_rate_of_curves_that_mislead_is_a_loss() -> None:
    """The larger sizes are taken for poor ones."""
    best = exhaustive()
    poor = dataclasses.replace(
        best.curves,
        curves={
            size: tuple(
                MeasuredPoints(
                    curve.frames,
                    {
                        c.crf: Measurement(round(c.bits), c.quality - 25 * (size != TITLE.sizes[0]))
                        for c in curve.points()
                    },
                )
                for curve in curves
            )
            for size, curves in best.curves.curves.items()
        },
    )
    found = bd_at_equal_rates(truth(), dataclasses.replace(best, curves=poor), best, PROFILE)
    assert found is not None
    assert found.percent > 5


def test_there_is_no_bd_rate_of_a_single_rung() -> None:
    best = exhaustive()
    one = dataclasses.replace(best, plan=LadderPlan("locked", best.plan.rungs[:1]))
    assert bd_at_equal_rates(truth(), one, best, PROFILE) is None


# -- predictions -------------------------------------------------------------------------------


def test_off_is_delivered_minus_predicted() -> None:
    plan = exhaustive().plan
    right = prediction_error(prediction_of(TITLE, MODEL), truth(), plan)
    assert right is not None
    assert right.segments == len(plan.points)
    assert right.quality < 0.3
    assert right.rate < 0.03
    half = prediction_of(TITLE, MODEL, bias=(math.log(1.5), 0.0))
    more_bits = prediction_error(half, truth(), plan)
    assert more_bits is not None
    assert more_bits.rate_bias == pytest.approx(0.5, abs=0.03)
    assert more_bits.rate == pytest.approx(more_bits.rate_bias)
    better = prediction_error(prediction_of(TITLE, MODEL, bias=(0.0, 0.5)), truth(), plan)
    worse = prediction_error(prediction_of(TITLE, MODEL, bias=(0.0, -0.5)), truth(), plan)
    assert better is not None
    assert worse is not None
    assert 1 < better.quality_bias == pytest.approx(better.quality)
    assert -1 > worse.quality_bias == pytest.approx(-worse.quality)


def test_off_is_nothing_where_nothing_is_said() -> None:
    other = prediction_of(shape(SHOTS[:4], SIZES[3:]), MODEL)
    assert prediction_error(other, truth(), exhaustive().plan) is None


SOME = tuple(
    (shot, TITLE.point(size, crf))
    for shot in range(len(TITLE.shots))
    for size in TITLE.sizes
    for crf in (18.0, 26.0, 38.0, 44.0)
)


def made(requests: Iterable[Request]) -> dict[Request, Measurement]:
    return {request: measure(request) for request in requests}


GIVEN = tuple((shot, TITLE.point(TITLE.sizes[1], 30.0)) for shot in range(len(TITLE.shots)))


@functools.cache
def drawn(level: float, sure: float, number: int) -> tuple[TitlePrediction, ...]:
    """Predictions with errors of ``level`` at SOME and GIVEN, assumed to be of ``sure``."""
    model, right = residual_model(level), prediction_of(TITLE, residual_model(sure))
    asked = sorted({(point.width, point.height, point.crf) for _, point in (*SOME, *GIVEN)})
    sizes = [right.sizes.index(Size(width, height)) for width, height, _ in asked]
    columns = [right.scale.crfs.tolist().index(crf) for _, _, crf in asked]
    own = [right.log2_scale(right.sizes[size]) for size in sizes]
    place = right.scale.position(right.scale.crfs[columns])
    cells = cells_at([*place, *place], [*own, *own], [0] * len(asked) + [1] * len(asked))
    found = []
    for seed in range(number):
        random = np.random.default_rng(seed)
        terms = draw_terms(model, random)
        rate, quality = right.log_bpp.copy(), right.warped_quality.copy()
        for shot in range(len(TITLE.shots)):
            error = draw_shot(model, terms, cells, random).reshape(2, len(asked))
            rate[shot, sizes, columns] -= error[0]
            quality[shot, sizes, columns] -= error[1]
        found.append(dataclasses.replace(right, log_bpp=rate, warped_quality=quality))
    return tuple(found)


def shares(
    predictions: Iterable[TitlePrediction], given: Iterable[Request] = ()
) -> list[tuple[float, ...]]:
    """Of rate and of quality, over all predictions."""
    known = made(given)
    both = [coverage(one, TITLE, made(SOME), known) for one in predictions]
    return [sum((one[kind] for one in both), Coverage()).shares for kind in (0, 1)]


def test_intervals_hold_what_they_promise_where_errors_are_as_assumed() -> None:
    for found in shares(drawn(0.2, 0.2, 60)):
        assert found == pytest.approx(LEVELS, abs=0.07)


def test_intervals_hold_what_they_promise_after_a_measurement_too() -> None:
    for found in shares(drawn(0.2, 0.2, 60), GIVEN):
        assert found == pytest.approx(LEVELS, abs=0.09)


def test_intervals_of_who_is_too_sure_hold_too_little() -> None:
    for found in shares(drawn(0.2, 0.1, 20)):
        assert found[0] < 0.4
        assert found[2] < 0.85


def test_given_cells_and_scores_at_an_end_do_not_count() -> None:
    prediction = prediction_of(TITLE, MODEL, 0)
    cells = made(SOME)
    clear = coverage(prediction, TITLE, cells, {})
    assert [one.cells for one in clear] == [len(SOME), len(SOME)]
    given = dict(list(cells.items())[:5])
    rest = coverage(prediction, TITLE, cells, given)
    assert [one.cells for one in rest] == [len(SOME) - 5, len(SOME) - 5]
    cut = {SOME[0]: Measurement(cells[SOME[0]].bits, 100.0)}
    ends = coverage(prediction, TITLE, cells | cut, {})
    assert [one.cells for one in ends] == [len(SOME), len(SOME) - 1]
    assert all(map(math.isnan, Coverage().shares))


def test_the_first_rung_is_the_middle_of_the_predicted_ladder() -> None:
    found = first_rung(prediction_of(TITLE, MODEL), truth(), PROFILE)
    assert {shot for shot, _ in found} == set(range(len(TITLE.shots)))
    assert len({(point.width, point.height) for _, point in found}) == 1
    assert all(truth().measurements[request] == one for request, one in found.items())
    floor = dataclasses.replace(PROFILE, floor=99.9)
    assert first_rung(prediction_of(TITLE, MODEL), truth(), floor) == {}


def test_a_free_measurement_moves_the_expected_curves_towards_the_truth() -> None:
    shift = math.log(1.5)
    wrong = prediction_of(TITLE, residual_model(0.3), bias=(shift, 0.0))
    given = made((shot, TITLE.point(TITLE.sizes[0], 30.0)) for shot in range(len(TITLE.shots)))
    moved = corrected_by_proxies(wrong, TITLE, given)
    right = prediction_of(TITLE, MODEL)
    assert moved.log_bpp.shape == wrong.log_bpp.shape
    left = np.abs(moved.log_bpp - right.log_bpp)
    column = right.scale.crfs.tolist().index(30.0)
    assert left[:, 0, column].max() < 0.02
    assert left.mean() < 0.4 * shift
    assert corrected_by_proxies(wrong, TITLE, {}).log_bpp == pytest.approx(wrong.log_bpp)


def test_what_a_prediction_leaves_over_is_thinned_evenly() -> None:
    wrong = prediction_of(TITLE, MODEL, bias=(0.3, -0.2))
    found = shot_residuals(wrong, TITLE, made(SOME), most=6)
    assert len(found) == len(TITLE.shots)
    for shot in found:
        assert len(shot.cells) == 2 * 6
        assert shot.values[shot.cells.kind == 0] == pytest.approx(0.3, abs=1e-2)
        assert shot.values[shot.cells.kind == 1] == pytest.approx(-0.2, abs=1e-2)
        assert len(set(shot.cells.log2_scale.tolist())) == len(TITLE.sizes)


# -- verdicts ----------------------------------------------------------------------------------


def test_a_verdict_counts_what_the_search_did() -> None:
    prediction = prediction_of(TITLE, MODEL, 1)
    found = simulate(PredictSearch(prediction), truth(), PROFILE)
    assert isinstance(found, Simulated)
    verdict = judge("predict", found, exhaustive(), truth(), PROFILE, prediction=prediction)
    assert (verdict.encodes, verdict.delivered) == (len(found.measured), len(found.plan.points))
    assert verdict.extra == pytest.approx(verdict.encodes / verdict.delivered - 1)
    assert verdict.grid == len(full_grid(TITLE, PROFILE))
    assert verdict.saved == pytest.approx(1 - verdict.encodes / verdict.grid)
    assert verdict.exhaustive == len(exhaustive().measured)
    seconds = sum(2.0 + 1.0 + shot for shot, _ in found.measured)
    assert verdict.seconds == pytest.approx(seconds)
    all_seconds = sum(2.0 + 1.0 + shot for shot, _ in exhaustive().measured)
    assert verdict.cpu_saved == pytest.approx(1 - seconds / all_seconds)
    assert verdict.cpu_ratio is not None
    assert 1 <= verdict.cpu_ratio < 1.6
    assert verdict.off == prediction_error(prediction, truth(), found.plan)
    assert verdict.qualities == (found.plan.rungs[0].quality, found.plan.rungs[-1].quality)
    assert abs(verdict.loss) < 0.05
    assert verdict.bd_percent is not None
    assert abs(verdict.bd_percent) < 5


def a_verdict(title: str, losses: Iterable[float | None], **changes: object) -> Verdict:
    rungs = tuple(RungLoss(1e6, LARGE, 80.0, LARGE, 80.0, loss) for loss in losses)
    plain = Verdict(
        title=title,
        group="a group",
        search="predict",
        shots=3,
        rungs=rungs,
        encodes=12,
        delivered=10,
        grid=40,
        exhaustive=50,
        best_delivered=8,
        rounds=4,
        seconds=24.0,
        delivered_seconds=20.0,
        exhaustive_seconds=96.0,
        best_qualities=None,
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def test_means_are_over_titles_and_the_worst_is_named() -> None:
    verdicts = [
        a_verdict(
            "good", [0.01, 0.03], bd_percent=1.0, off=PredictionError(30, 1.0, 0.5, 0.1, -0.1)
        ),
        a_verdict(
            "bad",
            [0.10],
            encodes=20,
            seconds=None,
            rounds=8,
            off=PredictionError(10, 3.0, -1.5, 0.3, 0.3),
        ),
        a_verdict("none", [], encodes=0, delivered=0, failure="floor: too high"),
    ]
    found = Summary.of(verdicts)
    assert (found.search, found.titles, found.failed) == ("predict", 2, 1)
    assert found.loss == pytest.approx((0.02 + 0.10) / 2)
    assert (found.worst_loss, found.worst_title) == (pytest.approx(0.10), "bad")
    assert found.worst_rung == 0.10
    assert found.extra == pytest.approx((0.2 + 1.0) / 2)
    assert found.over_best == pytest.approx((0.5 + 1.5) / 2)
    assert found.saved == pytest.approx((0.7 + 0.5) / 2)
    assert (found.encodes, found.delivered, found.rounds) == (16, 10, 6)
    assert found.cpu_ratio == pytest.approx(1.2)  # of the one where it is known
    assert found.cpu_saved == pytest.approx(0.75)
    assert found.bd_percent == 1.0
    assert found.off == PredictionError(40, 2.0, -0.5, pytest.approx(0.2), pytest.approx(0.1))


def test_a_ladder_whose_rungs_have_no_loss_is_no_failure() -> None:
    """Where more bits bring nothing there is no loss; encodes count all the same."""
    found = Summary.of([a_verdict("black", [None]), a_verdict("other", [0.04], encodes=10)])
    assert (found.titles, found.failed) == (2, 0)
    assert found.loss == pytest.approx(0.04)
    assert found.extra == pytest.approx(0.1)


def test_a_saturated_rung_has_its_loss_in_points_alone() -> None:
    """A point of VMAF at 98 is as many bits as there are, and nobody sees it."""
    usual = RungLoss(1e6, LARGE, 80.0, LARGE, 80.5, 0.02, 0.5, 20.0)
    top = RungLoss(9e6, LARGE, 97.0, LARGE, 98.0, 0.98, 1.0, 1.02)
    verdict = a_verdict("bright", [], rungs=(usual, top))
    assert (verdict.losses, verdict.saturated) == ((0.02,), 1)
    assert verdict.points == pytest.approx(0.75)
    found = Summary.of([verdict])
    assert (found.loss, found.worst_rung) == (0.02, 0.02)
    assert (found.points, found.worst_points) == (pytest.approx(0.75), pytest.approx(0.75))


def test_titles_count_once_whatever_the_number_of_seeds() -> None:
    verdicts = [
        a_verdict("good", [0.01], seed=0),
        a_verdict("good", [0.03], seed=1),
        a_verdict("fair", [0.03], seed=0),
        a_verdict("bad", [0.08], seed=0),
        a_verdict("bad", [0.12], seed=1),
    ]
    found = Summary.of(verdicts)
    assert found.titles == 3
    assert found.loss == pytest.approx((0.02 + 0.03 + 0.10) / 3)
    assert found.median_loss == pytest.approx(0.03)
    assert (found.worst_loss, found.worst_title) == (pytest.approx(0.10), "bad")
    assert found.worst_rung == 0.12
    assert found.seed_losses == pytest.approx(((0.01 + 0.03 + 0.08) / 3, (0.03 + 0.12) / 2))


def test_a_search_that_never_finds_a_ladder_has_no_means() -> None:
    found = Summary.of([a_verdict("none", [], failure="floor: too high")])
    assert (found.titles, found.failed) == (0, 1)
    assert found.loss is None
    assert found.worst_loss is None
    assert found.extra is None


def test_done_is_what_a_simulation_ends_with() -> None:
    """A search that has its answer at once makes no encodes."""
    best = exhaustive()

    class Knows:
        def step(self, known: Known) -> Step:
            return Done(best.plan, best.curves)

    found = simulate(Knows(), truth(), PROFILE)
    assert isinstance(found, Simulated)
    assert (found.measured, found.rounds) == (frozenset(), 0)
