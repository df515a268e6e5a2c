"""The maker of the evidence on recipes, and the evidence that ships."""

from __future__ import annotations

import math

import pytest

from cluster.stages.prediction import packaged_weights
from ladder.profiles import load_profile
from ladder.recipe_evidence import REGION, read_evidence
from tests.recipe_evidence import evidence_on, features_of, pairs_of
from tests.recipe_material import Row

V1 = "vmaf_v1.0.16_3d0h"
TUNED, PLAIN, AV1 = "x264-slow+ref=3", "x264-slow", "svtav1-fast"
CRFS = (20.0, 26.0, 32.0)


def row(title: str, recipe: str, **percents: float) -> Row:
    """A shot whose score by each judge is a line over log bits, moved by a factor on bits."""
    bits = [2.0 ** (16 - crf / 6) * 1000 for crf in CRFS]
    quality = {
        judge.replace("v1", V1): tuple(
            50 + 6 * (math.log2(each) - math.log2(1 + percent / 100)) for each in bits
        )
        for judge, percent in percents.items()
    }
    return Row(
        title=title,
        start=0,
        end=48,
        title_frames=48,
        width=320,
        height=180,
        recipe=recipe,
        crfs=CRFS,
        bits=tuple(map(round, bits)),
        encode_seconds=1.0,
        configurations=("c",),
        quality=quality,
    )


ROWS = [
    *(row(title, PLAIN, v1=0, xpsnr=0, ssim=0) for title in "abc"),
    row("a", TUNED, v1=-10, xpsnr=-8, ssim=-6),
    row("b", TUNED, v1=-8, xpsnr=1, ssim=-4),
    row("c", TUNED, v1=-30, xpsnr=-30, ssim=-30),
    row("a", AV1, v1=-30, xpsnr=5, ssim=-10),
    row("b", AV1, v1=-30, xpsnr=-5, ssim=-10),
]
FEATURES = {"a": {"noise": 0.1, "flat": 3.0}, "b": {"noise": 0.4, "flat": 2.0}}


def test_what_titles_gained_and_where_they_lie() -> None:
    found = evidence_on(TUNED, PLAIN, ROWS, FEATURES)
    assert found is not None
    assert found.titles == ["a", "b"]  # the third has no features
    assert found.frames == 2 * 48
    assert found.region == {"noise": (0.1, 0.4), "flat": (2.0, 3.0)}
    assert set(found.judges) == {V1, "xpsnr", "ssim"}
    assert found.judges[V1].mean == pytest.approx(-9, abs=0.01)
    assert found.judges["xpsnr"].worst == pytest.approx(1, abs=0.01)
    assert found.loss.titles == 2
    assert found.loss.worst == pytest.approx(1, abs=0.01)  # by xpsnr
    assert found.loss.mean == pytest.approx((1 - 6) / 2, abs=0.01)


def test_a_further_codec_is_judged_by_its_least_content_judge() -> None:
    found = evidence_on(AV1, PLAIN, ROWS, FEATURES)
    assert found is not None
    assert found.loss.worst == pytest.approx(5, abs=0.01)
    assert found.loss.mean == pytest.approx(0, abs=0.01)


def test_a_single_title_is_no_evidence() -> None:
    assert evidence_on(TUNED, PLAIN, ROWS, {"a": FEATURES["a"]}) is None
    assert evidence_on(TUNED, "x264-medium", ROWS, FEATURES) is None


def test_pairs_are_those_that_a_run_compares() -> None:
    pairs = pairs_of([load_profile("default"), load_profile("auto"), load_profile("default-0.1")])
    x264, av1 = (load_profile("auto").recipe(codec) for codec in ("x264", "svtav1"))
    assert pairs == [
        (x264.name, "x264-slow"),
        (av1.name, "svtav1-fast"),
        (av1.name, x264.name),
    ]


def test_the_evidence_that_ships_is_readable() -> None:
    """Its recipes are those of profiles, and its regions state features that are known."""
    for one in read_evidence(packaged_weights()).recipes:
        assert set(one.region) == set(REGION)
        assert all(low <= high for low, high in one.region.values())
        assert one.loss.titles == len(one.titles)


def test_features_come_from_the_tables_of_the_project() -> None:
    from tests.recipe_evidence import DATA

    found = features_of([DATA / "grids.parquet"])
    assert found
    assert all(set(of) == set(REGION) for of in found.values())
