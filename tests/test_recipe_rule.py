"""The rule for default recipes, the texture that it guards, and the command that applies it."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder.media import Shot
from encoder.recipes import by_name
from encoder.source.planning import plan_source
from ladder.bdrate import RatePoint
from ladder.evaluation.recipe_rule import decide, ratio_at_equal_rate
from tests import recipe_rule
from tests.recipe_material import ANCHOR, CPU_TITLES, OPTIONS, Kept, Row, percent, shots_of_both
from tests.recipe_tables import tables
from vmaf.texture import fine_energy, mean_fine_energy

JUDGES = ("a", "b", "c")


def rates(*means: float, titles: int = 2) -> dict[str, dict[str, float]]:
    return {
        judge: {f"t{number}": mean for number in range(titles)}
        for judge, mean in zip(JUDGES, means, strict=True)
    }


NOTHING = rates(0, 0, 0)


def test_an_option_that_helps_by_every_judge_is_taken():
    made = decide(rates(-9, -8, -10), NOTHING, texture=(0.97, 0.99))
    assert made.taken
    assert made.least == -8
    assert made.texture == pytest.approx(0.98)


def test_weaker_adaptive_quantisation_is_refused_although_vmaf_likes_it():
    made = decide(rates(-9, 5.2, 3.5), NOTHING)
    assert not made.taken
    assert any("least of the means is +5.2 %" in why for why in made.refusals)
    assert any("costs +5.2 points by b" in why for why in made.refusals)


def test_a_loss_behind_a_good_preset_is_still_a_loss_of_the_option():
    """The least of the means may rise while another judge loses what the preset had gained."""
    made = decide(rates(-19, -11, -11), rates(-10, -17, -10))
    assert made.least == -11
    assert made.refusals == ("the option costs +6.0 points by b",)


def test_an_option_may_give_back_a_little_by_the_judge_that_liked_its_absence():
    made = decide(rates(-35, -22, -32), rates(-39, -8, -30))
    assert made.taken
    assert made.changes == {"a": 4, "b": -14, "c": -2}


def test_one_title_that_loses_refuses_an_option():
    candidate = rates(-30, -20, -25)
    candidate["b"]["t1"] = 2.5
    made = decide(candidate, NOTHING)
    assert made.refusals == ("t1 needs +2.5 % by b",)
    assert (made.worst.title, made.worst.judge) == ("t1", "b")
    candidate["b"]["t1"] = 1.9
    assert decide(candidate, NOTHING).taken


def test_texture_that_goes_refuses_an_option():
    made = decide(rates(-9, -8, -10), NOTHING, texture=(0.99, 0.88))
    assert made.refusals == ("fine texture keeps 0.94 of plain medium's",)


def test_an_option_that_changes_nothing_is_not_taken():
    assert not decide(rates(-9, -8, -10), rates(-9, -8, -10)).taken


@pytest.mark.parametrize(
    "candidate", [{}, {"a": {}}, {"a": {"t0": 1.0}}, rates(-1, -1, -1, titles=3)]
)
def test_the_rule_refuses_unlike_tables(candidate):
    with pytest.raises(ValueError, match="same titles by the same judges"):
        decide(candidate, NOTHING)


curves = st.lists(
    st.tuples(st.floats(1, 1e6), st.floats(0.01, 10)),
    min_size=2,
    max_size=5,
    unique_by=lambda p: p[0],
).filter(
    lambda of: min(b / a for (a, _), (b, _) in zip(sorted(of), sorted(of)[1:], strict=False)) > 1.01
)


@given(curves, curves)
def test_a_ratio_at_equal_rate_is_the_mean_of_dense_samples(anchor, test):
    found = ratio_at_equal_rate([RatePoint(*p) for p in anchor], [RatePoint(*p) for p in test])
    both = [np.log(np.array(sorted(of))).T for of in (anchor, test)]
    low = max(of[0][0] for of in both)
    high = min(of[0][-1] for of in both)
    if found is None:
        assert low >= high
        return
    at = np.linspace(low, high, 40_001)
    values = [np.interp(at, *of) for of in both]
    assert math.log(found) == pytest.approx(float(np.mean(values[1] - values[0])), abs=2e-3)


def test_a_ratio_needs_curves():
    good = [RatePoint(1, 1), RatePoint(2, 1)]
    for bad in ([RatePoint(1, 1)], [RatePoint(1, 1), RatePoint(1, 2)], [RatePoint(1, 0)] * 2):
        with pytest.raises(ValueError, match="two points of different rates"):
            ratio_at_equal_rate(good, bad)
    assert ratio_at_equal_rate(good, [RatePoint(3, 1), RatePoint(4, 1)]) is None
    assert ratio_at_equal_rate(good, [RatePoint(1, 0.9), RatePoint(2, 0.9)]) == pytest.approx(0.9)


@pytest.mark.parametrize("shape", [(64, 96), (63, 97)])
def test_fine_energy_counts_what_lies_above_a_quarter_of_the_sampling_rate(shape):
    height, width = shape
    y, x = np.mgrid[:height, :width]
    for fy, fx in ((0.0, 0.2), (0.15, 0.15)):
        wave = 100 + 10 * np.sin(2 * np.pi * (fy * y + fx * x))
        assert fine_energy(wave) < 0.05
    for fy, fx in ((0.0, 0.32), (0.4, 0.0), (0.25, 0.25), (0.3, -0.3)):
        wave = 100 + 10 * np.sin(2 * np.pi * (fy * y + fx * x))
        assert fine_energy(wave) == pytest.approx(50, rel=0.02)


def test_fine_energy_of_white_noise_is_the_share_of_the_spectrum():
    noise = np.random.default_rng(1).normal(128, 3, (8, 128, 160))
    assert mean_fine_energy(noise) == pytest.approx(9 * (1 - math.pi / 16), rel=0.05)


def test_fine_energy_equals_the_sum_over_the_whole_spectrum():
    picture = np.random.default_rng(2).integers(0, 255, (11, 14)).astype(np.uint8)
    window = np.outer(np.hanning(11), np.hanning(14))
    whole = np.abs(np.fft.fft2((picture - picture.mean()) * window)) ** 2
    expected = sum(
        whole[i, j]
        for i in range(11)
        for j in range(14)
        if math.hypot(np.fft.fftfreq(11)[i], np.fft.fftfreq(14)[j]) > 0.25
    )
    expected /= picture.size * np.square(window).sum()
    assert fine_energy(picture) == pytest.approx(expected)


def test_fine_energy_needs_pictures():
    with pytest.raises(ValueError, match="8x8 pixels or more"):
        fine_energy(np.zeros((4, 100)))
    with pytest.raises(ValueError, match="one picture or more"):
        mean_fine_energy([])


# -- the command ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*OPTIONS, *OPTIONS.values()])
def test_every_option_is_a_recipe_with_something_to_compare(name):
    assert by_name(name).name == name
    assert recipe_rule.plain(name) in (ANCHOR, by_name(name).plain.name)


def row(recipe: str, start: int, end: int, bits: tuple[int, ...], **more: object) -> Row:
    fields: dict[str, object] = {
        "title": "t.mp4", "title_frames": 90, "width": 64, "height": 48,
        "crfs": (20.0, 30.0), "encode_seconds": 1.0, "configurations": ("c",),
        "quality": {"vmaf_v1": (90.0, 60.0)},
    }  # fmt: skip
    return Row(recipe=recipe, start=start, end=end, bits=bits, **(fields | more))  # type: ignore[arg-type]


def test_rows_come_back_as_they_were_kept(tmp_path: Path):
    path = tmp_path / "data" / "kept.jsonl"
    first = row(ANCHOR, 0, 40, (1000, 500))
    bare = row("x264-slow", 0, 40, (900, 450), quality={}, texture=(0.5, 0.25))
    for each in (first, bare):
        Kept(path).put(each)
    kept = Kept(path)
    assert {first.recipe: first, bare.recipe: bare} == {r.recipe: r for r in kept.rows()}
    assert kept.get(bare.shot, "x264-slow") == bare
    assert len(path.read_text().splitlines()) == 2


def test_only_shots_of_both_recipes_are_compared_and_none_twice():
    rows = [
        row(ANCHOR, 0, 40, (1000, 500)),
        row(ANCHOR, 0, 80, (9000, 8000)),
        row(ANCHOR, 80, 90, (100, 50)),
        row("x264-slow", 0, 40, (900, 450)),
        row("x264-slow", 80, 90, (90, 45)),
    ]
    pairs = shots_of_both(rows, "t.mp4", ANCHOR, "x264-slow")
    assert [(a.start, a.end, b.end) for a, b in pairs] == [(0, 40, 40), (80, 90, 90)]
    assert percent(rows, "t.mp4", "vmaf_v1", ANCHOR, "x264-slow") == pytest.approx(-10)
    (alone,) = [a for (a,) in shots_of_both(rows, "t.mp4", ANCHOR)][:1]
    assert alone.end == 80
    assert percent(rows, "t.mp4", "vmaf_v1", ANCHOR, "x264-fast") is None


def test_the_tables_say_what_was_measured_and_no_more():
    better = {"quality": {"vmaf_v1.0.16_3d0h": (90.0, 60.0), "ssim": (15.0, 9.0)}}
    rows = [
        row(ANCHOR, 0, 40, (1000, 500), **better, texture=(0.9, 0.4)),
        row("x264-slow", 0, 40, (900, 450), **better, encode_seconds=1.5, texture=(0.9, 0.4)),
        row(ANCHOR, 0, 24, (1, 1), title=CPU_TITLES[0], quality={}),
        row("x264-slow", 0, 24, (1, 1), title=CPU_TITLES[0], quality={}, encode_seconds=1.25),
    ]
    options = {"x264-slow": ANCHOR, "x264-slow+ref=3": "x264-slow"}
    made = tables(rows, options)
    assert "| t | 64x48 | 40 of 90 |" in made
    assert "| `x264-slow` | -10.0 / -10.0 | -10.0 / -10.0 |" in made
    assert "| `x264-slow` | `x264-medium` | -10.0 | -10.0 / -10.0 |" in made
    assert "| 1.50 | taken |" in made
    assert "ref=3" not in made
    assert re.search(r"\| `x264` \|.* \| 1.00 \| 1.25 \|", made)
    assert re.search(r"`x264-slow` \| 1.\d\d", made)


def test_a_small_title_is_measured_and_judged(
    tiny_title: Path, tmp_path: Path, monkeypatch, capsys
):
    kept, work = tmp_path / "kept.jsonl", tmp_path / "work"
    command = [
        "recipe_rule", "--kept", str(kept), "--work", str(work), "--titles", str(tiny_title),
        "--recipes", "x264-medium+ref=1", "--pieces", "1", "--frames", "6",
    ]  # fmt: skip
    monkeypatch.setattr("sys.argv", [*command, "--encode-only"])
    assert recipe_rule.main() == 0
    assert all(not each.quality for each in Kept(kept).rows())
    monkeypatch.setattr("sys.argv", command)
    assert recipe_rule.main() == 0
    rows = Kept(kept).rows()
    assert {each.recipe for each in rows} == {ANCHOR, "x264-medium+ref=1"}
    assert all(len(each.configurations) == 1 for each in rows)
    out = capsys.readouterr().out
    assert "`x264-medium+ref=1` | `x264-medium`" in out
    assert "6 of 72" in out
    before = kept.read_bytes()
    assert recipe_rule.main() == 0
    assert kept.read_bytes() == before


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["--recipes", "x264-medium+threads=4"], "cannot set 'threads'"),
        (["--titles", "missing.mp4"], "missing.mp4"),
    ],
)
def test_the_command_says_what_is_wrong(tmp_path: Path, monkeypatch, capsys, more, why):
    kept = tmp_path / "kept.jsonl"
    monkeypatch.setattr(
        "sys.argv", ["recipe_rule", "--kept", str(kept), "--work", str(tmp_path / "work"), *more]
    )
    assert recipe_rule.main() == 1
    assert why in capsys.readouterr().err
    assert not kept.exists()


def test_a_worse_encode_keeps_less_texture(tiny_title: Path, tmp_path: Path):
    source = plan_source(tiny_title, tmp_path)
    made = recipe_rule.encoded(tmp_path, source, "tiny.mp4", Shot(0, 12), ANCHOR)
    texture = recipe_rule.textured(tmp_path, source, made).texture
    assert 0.8 < texture[0] < 1.1
    assert texture[-1] < 0.9 * texture[0]
