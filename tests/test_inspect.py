"""Plots and numbers that are derived from the documents of a package."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.cli.views.plot import quality_ticks, rate_ticks, render
from cluster.package.documents import read_ladder
from cluster.package.plots import RateQuality, shot_plot, title_hull
from encoder.errors import BadInput
from ladder.document import Cell
from tests.cli_material import MODEL, NEG, hand_made, hand_made_measurements, hand_made_package


def cell(shot: int, num_bytes: int, quality: float) -> Cell:
    return Cell(shot=shot, width=640, height=360, crf=20, bytes=num_bytes, quality=quality)


def test_title_hull_by_hand() -> None:
    """Two shots of 24 and 72 frames in 4 s; the second's step from 200 to 300 bytes is steeper
    in total quality (72 x 10) than the first's from 100 to 200 (24 x 20)."""
    shots = [
        [cell(0, 100, 50), cell(0, 200, 70), cell(0, 250, 60)],
        [cell(1, 200, 40), cell(1, 300, 50)],
    ]
    rates, qualities = zip(*title_hull(shots, [24, 72], 4.0), strict=True)
    assert rates == (8 * 300 / 4, 8 * 400 / 4, 8 * 500 / 4)
    assert [96 * quality for quality in qualities] == [
        24 * 50 + 72 * 40, 24 * 50 + 72 * 50, 24 * 70 + 72 * 50,
    ]  # fmt: skip


def test_no_combination_of_measured_points_lies_above_the_title_hull() -> None:
    measurements = hand_made_measurements()
    by_shot = [[c for c in measurements.cells if c.shot == shot] for shot in range(3)]
    frames = [48, 60, 42]
    hull = title_hull(by_shot, frames, 6.25)
    rates, qualities = zip(*hull, strict=True)
    assert list(rates) == sorted(rates)
    for chosen in itertools.product(*by_shot):
        rate = 8 * sum(c.bytes for c in chosen) / 6.25
        quality = sum(c.quality * n for c, n in zip(chosen, frames, strict=True)) / 150
        assert quality <= interpolated(rate, rates, qualities) + 1e-9


def interpolated(x: float, xs: tuple[float, ...], ys: tuple[float, ...]) -> float:
    if x >= xs[-1]:
        return ys[-1]
    at = max(i for i, known in enumerate(xs) if known <= x)
    return ys[at] + (ys[at + 1] - ys[at]) * (x - xs[at]) / (xs[at + 1] - xs[at])


def test_a_shot_without_points_has_no_title_hull() -> None:
    assert title_hull([[cell(0, 100, 50)], []], [24, 24], 2.0) == ()


def test_slope_in_units_that_people_know() -> None:
    """0.0042 quality-frames per bit, 150 frames in 6.25 s: 100 kbit/s more are 625000 bits, which
    buy 2625 quality-frames, 17.5 for each of the 150 frames."""
    ladder = hand_made()
    assert ladder.marginal_quality(ladder.rungs[0]) == pytest.approx(17.5)
    assert ladder.marginal_quality(ladder.rungs[2]) is None


def test_only_models_that_measured_every_rung_are_listed() -> None:
    ladder = hand_made()
    assert ladder.quality_models == (MODEL, NEG)
    first, *others = ladder.rungs
    first = first.model_copy(update={"quality": {MODEL: first.quality[MODEL]}})
    partly = ladder.model_copy(update={"rungs": [first, *others]})
    assert partly.quality_models == (MODEL,)


def test_shot_plot_has_the_rungs_choices() -> None:
    plot = shot_plot(hand_made_package(), 1)
    assert plot.series[-1].points[0] == pytest.approx((8 * 45_500 / 2.5, 49.5))
    assert len(plot.series[-1].points) == 3
    assert all(series.points for series in plot.series)


def test_a_document_of_another_version_says_so(tmp_path: Path) -> None:
    text = hand_made().to_json().replace("shotladder/ladder/1", "shotladder/ladder/2")
    (tmp_path / "ladder.json").write_text(text)
    with pytest.raises(BadInput, match=r"schema.*shotladder/ladder/1"):
        read_ladder(tmp_path)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (49.5, 96.6, [50, 60, 70, 80, 90]),
        (90.2, 94.9, [91, 92, 93, 94]),
        (93.2, 93.4, [93.2, 93.4]),
    ],
)
def test_quality_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert quality_ticks(low, high) == expected


def test_rate_ticks_are_round_and_within() -> None:
    assert rate_ticks(90e3, 1.1e6) == [100e3, 200e3, 500e3, 1e6]
    assert rate_ticks(210e3, 230e3) == [210e3, 230e3]
    assert all(math.isfinite(tick) for tick in rate_ticks(1.0, 1.0))


def test_plot_of_a_single_point_can_be_drawn() -> None:
    plot = shot_plot(hand_made_package(), 0)
    lone = replace(plot, series=(replace(plot.series[-1], points=(RateQuality(1e5, 90.0),)),))
    assert render(lone, width=80).count("O") == 2  # in the legend and in the plot
