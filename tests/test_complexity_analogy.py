"""What a recipe is to the networks, and what stands in for one that they were not trained on."""

from __future__ import annotations

import pytest

from encoder.recipes import PRESETS, by_name
from ladder.complexity import analogy as module
from ladder.complexity.analogy import Analogy, analogy
from ladder.complexity.recipe_inputs import (
    CODECS,
    RECIPE_INPUTS,
    deviations,
    effort,
    recipe_inputs,
)

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
