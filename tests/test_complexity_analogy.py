"""What a recipe is to the networks, and what stands in for one that they were not trained on."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from cluster.training.table import read_table
from encoder.recipes import PRESETS, by_name
from ladder.complexity import analogy as module
from ladder.complexity.analogy import OF_DEVIATIONS, OF_PRESETS, Analogy, analogy
from ladder.complexity.recipe_inputs import (
    CODECS,
    DEVIATIONS,
    RECIPE_INPUTS,
    deviations,
    effort,
    recipe_inputs,
)
from ladder.complexity.scale import censored, warp
from ladder.profiles import load_profile, profile_names

TUNED = "psy-rd=0.4,0:ref=3:bframes=3:weightp=2"


@pytest.mark.parametrize("codec", CODECS)
def test_a_plain_medium_recipe_is_nothing_but_its_codec(codec: str) -> None:
    named = dict(zip(RECIPE_INPUTS, recipe_inputs(by_name(f"{codec}-medium")), strict=True))
    assert {name: value for name, value in named.items() if value} == {f"codec_{codec}": 1.0}


@pytest.mark.parametrize("codec", CODECS)
def test_effort_rises_with_the_preset(codec: str) -> None:
    efforts = [effort(by_name(f"{codec}-{preset}")) for preset in PRESETS]
    assert efforts == [float(n - PRESETS.index("medium")) for n in range(len(PRESETS))]


def test_fewer_references_than_the_presets_own_are_less_effort() -> None:
    assert effort(by_name("x264-slow+ref=5")) == effort(by_name("x264-slow"))
    tuned = [effort(by_name(f"x264-{p}+{TUNED}")) for p in ("medium", "slow", "veryslow")]
    assert tuned == sorted(tuned)
    assert tuned[0] == 0.0
    assert tuned[1] < effort(by_name("x264-slow"))
    assert tuned[2] < effort(by_name("x264-veryslow"))


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("x264-slow", (0, 0, 0)),
        (f"x264-slow+{TUNED}", (-0.6, 0, 0)),
        ("x264-medium+psy=0", (-1, 0, 0)),
        ("x264-medium+psy-rd=1.5,0.2", (0.5, 0, 0)),
        ("x265-medium+psy-rd=1", (-0.5, 0, 0)),
        ("x264-medium+aq-strength=0.5", (0, -0.5, 0)),
        ("x264-medium+aq-mode=0", (0, -1, 0)),
        ("svtav1-fast+tune=2", (0, 0, 1)),
        ("svtav1-fast+tune=1", (0, 0, 0)),
        ("svtav1-fast+enable-variance-boost=1", (0, 1, 0)),
    ],
)
def test_deviations_are_shares_of_the_encoders_defaults(
    recipe: str, expected: tuple[float, ...]
) -> None:
    assert deviations(by_name(recipe)) == pytest.approx(expected)


def test_a_recipe_that_was_trained_on_is_its_own_analogy() -> None:
    trained = [by_name("x264-medium"), by_name(f"x264-slow+{TUNED}"), by_name("svtav1-medium")]
    for recipe in trained:
        assert analogy(recipe, trained) == Analogy(recipe)
    assert analogy(by_name("vp9-medium"), trained) is None
    assert analogy(by_name("x264-medium"), []) is None


@pytest.mark.parametrize(
    ("recipe", "nearest"),
    [
        ("x264-fast", "x264-medium"),
        ("x264-slow", "x264-medium"),
        (f"x264-slower+{TUNED}", f"x264-slow+{TUNED}"),
        (f"x264-medium+{TUNED}", f"x264-slow+{TUNED}"),
        ("x264-slow+psy-rd=0.4,0:ref=4", f"x264-slow+{TUNED}"),
        (f"x264-veryslow+{TUNED}", f"x264-slow+{TUNED}"),
        ("svtav1-veryfast+tune=2", "svtav1-fast+tune=2"),
        ("svtav1-slow", "svtav1-medium"),
    ],
)
def test_the_nearest_recipe_of_the_codec_stands_in(recipe: str, nearest: str) -> None:
    names = ("x264-medium", f"x264-slow+{TUNED}", "svtav1-medium", "svtav1-fast+tune=2")
    found = analogy(by_name(recipe), map(by_name, names))
    assert found is not None
    assert found.recipe.name == nearest
    assert min(found.deviations) > 0


def test_the_less_alike_two_recipes_are_the_less_is_the_analogy_trusted() -> None:
    medium = [by_name("x264-medium")]

    def uncertain(name: str) -> tuple[float, float]:
        found = analogy(by_name(name), medium)
        assert found is not None
        return found.deviations

    for nearer, farther in (
        ("x264-slow", "x264-veryslow"),
        ("x264-slow", "x264-slow+trellis=2"),
        ("x264-slow+trellis=2", "x264-slow+trellis=2:subme=7"),
        ("x264-medium+aq-strength=0.9", "x264-medium+aq-strength=0.5"),
    ):
        assert uncertain(nearer) < uncertain(farther)


def test_offsets_add_up_along_a_chain_of_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        module, "OF_PRESETS", {"x264": {"fast": (0.1, 0.3), "medium": (0.0, 0.0), "slow": (-1, 2)}}
    )
    monkeypatch.setattr(module, "OF_DEVIATIONS", {("x264", "psy"): (0.5, 0.1)})
    medium, slow = by_name("x264-medium"), by_name("x264-slow+psy-rd=0.4,0")
    there, back = analogy(slow, [medium]), analogy(medium, [slow])
    assert there is not None
    assert back is not None
    assert there.log_rate == pytest.approx(-1 - 0.6 * 0.5)
    assert there.warped_quality == pytest.approx(2 - 0.6 * 0.1)
    assert (back.log_rate, back.warped_quality) == (-there.log_rate, -there.warped_quality)
    beyond = analogy(by_name("x264-veryslow"), [medium])
    assert beyond is not None
    assert (beyond.log_rate, beyond.warped_quality) == (-1, 2)  # nothing is extrapolated


def test_recipes_of_the_built_in_profiles_have_measured_offsets() -> None:
    for name in profile_names():
        profile = load_profile(name)
        for codec in CODECS:
            recipe = profile.recipe(codec)
            ranks = [PRESETS.index(preset) for preset in OF_PRESETS[codec]]
            assert min(ranks) <= PRESETS.index(recipe.preset) <= max(ranks), recipe.name
            for deviation, units in zip(DEVIATIONS, deviations(recipe), strict=True):
                assert not units or (codec, deviation) in OF_DEVIATIONS, recipe.name


def measured(recipe: str, against: str) -> tuple[float, float]:
    """Mean over titles of how a recipe differs from another at the same cells."""
    rows = read_table(Path("data/presets.parquet"))
    cells = {(row.recipe, row.source, row.shot, row.size, row.crf): row for row in rows}
    by_title: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for (name, source, shot, size, crf), row in cells.items():
        other = cells.get((against, source, shot, size, crf))
        if name != recipe or other is None:
            continue
        scores = np.array([next(iter(each.quality.values())) for each in (row, other)])
        moved = float(np.subtract(*warp(scores))) if not censored(scores).any() else np.nan
        by_title[source].append((float(np.log(row.bits / other.bits)), moved))
    means = np.array([np.nanmean(np.array(found), axis=0) for found in by_title.values()])
    rate, quality = np.nanmean(means, axis=0)
    return float(rate), float(quality)


@pytest.mark.parametrize(
    ("codec", "preset"),
    [(codec, preset) for codec in CODECS for preset in OF_PRESETS[codec] if preset != "medium"],
)
def test_the_offsets_of_presets_are_those_of_the_table(codec: str, preset: str) -> None:
    found = measured(f"{codec}-{preset}", f"{codec}-medium")
    assert found == pytest.approx(OF_PRESETS[codec][preset], abs=0.001)


@pytest.mark.parametrize(
    ("recipe", "deviation"),
    [
        ("x264-medium+psy-rd=0.4,0", "psy"),
        ("x264-medium+aq-strength=0.5", "adaptive_quantisation"),
        ("svtav1-medium+tune=2", "tune"),
    ],
)
def test_the_offsets_of_deviations_are_those_of_the_table(recipe: str, deviation: str) -> None:
    tuned = by_name(recipe)
    units = deviations(tuned)[DEVIATIONS.index(deviation)]
    found = np.array(measured(recipe, tuned.plain.name)) / units
    assert found == pytest.approx(OF_DEVIATIONS[tuned.codec, deviation], abs=0.001)
