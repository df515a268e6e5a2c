from __future__ import annotations

import random
from fractions import Fraction
from itertools import pairwise

import pytest

from encoder.media import Request, Shot, Size
from encoder.recipes import vp9, x264
from ladder.profiles import load_profile
from ladder.sampling import sparse_sample, spread
from ladder.search.steps import TitleShape

SIZES = tuple(Size(16 * h // 9 // 2 * 2, h) for h in (234, 360, 432, 540, 720, 1080))


def shape(*shots: Shot, sizes: tuple[Size, ...] = SIZES) -> TitleShape:
    return TitleShape(shots, Fraction(24), sizes, x264())


def sample(cells: int, *shots: Shot, seed: str = "a") -> tuple[Request, ...]:
    return sparse_sample(shape(*shots or (Shot(0, 48),)), load_profile(), cells, seed)


@pytest.mark.parametrize("cells", [1, 5, 6, 12, 13, 16, 40])
def test_sizes_and_crfs_are_spread(cells: int) -> None:
    for seed in "abcdef":
        points = [point for _, point in sample(cells, seed=seed)]
        assert len(set(points)) == cells
        by_size = [sorted(p.crf for p in points if p.height == size.height) for size in SIZES]
        counts = [len(crfs) for crfs in by_size]
        assert max(counts) - min(counts) <= 1
        crfs = sorted(point.crf for point in points)
        assert crfs[0] >= 14
        assert crfs[-1] <= 46
        if cells >= 12:
            # 32 CRFs wide: no gap as large as three times an even one, of any size.
            assert max(b - a for a, b in pairwise([14, *crfs, 46])) < 3 * 32 / cells + 1
            assert all(
                b - a > 32 / 10 for two in by_size if len(two) == 2 for a, b in pairwise(two)
            )


def test_a_larger_sample_holds_the_smaller() -> None:
    shots = (Shot(0, 48), Shot(48, 100))
    assert set(sample(12, *shots)) < set(sample(16, *shots)) < set(sample(33, *shots))


def test_samples_are_of_shots_and_seeds() -> None:
    first, other, later = Shot(0, 48), Shot(48, 100), Shot(100, 130)
    assert sample(12, first) == sample(12, first)
    assert sample(12, first) != sample(12, first, seed="b")
    by_shot = [{point for shot, point in sample(12, first, other) if shot == n} for n in (0, 1)]
    assert by_shot[0] != by_shot[1]
    # Whatever other shots there are.
    alone = {point for _, point in sample(12, other)}
    assert {point for shot, point in sample(12, first, other, later) if shot == 1} == alone


def test_crfs_are_the_codecs_own() -> None:
    title = TitleShape((Shot(0, 48),), Fraction(24), SIZES, vp9())
    crfs = [point.crf for _, point in sparse_sample(title, load_profile(), 40, "a")]
    assert all(crf.is_integer() for crf in crfs)
    assert min(crfs) >= 15
    assert 55 < max(crfs) <= 63


def test_never_more_than_there_is() -> None:
    drawn = spread(SIZES[:2], (14, 20, 0.5), 1000, random.Random(1))
    assert len(drawn) == len(set(drawn)) == 2 * 13
    assert {crf for _, crf in drawn} == {14 + n / 2 for n in range(13)}


def test_no_cells_is_no_sample() -> None:
    with pytest.raises(ValueError, match="asked for 0 cells"):
        sample(0)
