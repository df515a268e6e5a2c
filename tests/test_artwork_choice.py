"""Filters, clusters and the choice: pure, so properties over made stills."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder.media import Shot
from recommender.artwork.descriptors import distances, hash_distance
from recommender.artwork.diversity import DUPLICATE_BITS, choose, cluster
from recommender.artwork.filters import FILTERS, QUOTA, TitleStills, apply_filters
from recommender.artwork.pool import MAX_SIZE, make_pool, pool_size
from recommender.artwork.quality import all_percentiles, percentiles, quality
from recommender.artwork.stills import MEASURES
from tests.artwork_material import GOOD, make_title, stills
from tests.artwork_measures import Planted, analyse, overlap, plant, planted_row

RATE = Fraction(12)

BAD = {
    "black": {"bright": 0.02, "exposure": 0.0, "contrast": 0.1},
    "uniform": {"uniform": 0.99, "contrast": 0.1},
    "blurred": {"blur": 0.8, "sharpness": 2.0},
    "transition": {"blend": 0.9},
    "text": {"text": 1.0},
    "near_cut": {"cut_distance": 0.0},
    "moving": {"change": 90.0, "blur": 0.45, "motion_blur": 0.3},
}

rows = st.lists(
    st.one_of(
        st.sampled_from([{}, *BAD.values()]),
        st.fixed_dictionaries(
            {}, optional={name: st.floats(0, 2 * GOOD[name] + 1) for name in MEASURES}
        ),
    ),
    min_size=1,
    max_size=60,
)


def filtered(made: list[dict[str, float]]):  # type: ignore[no-untyped-def]
    found = stills(made)
    worth = quality(found, all_percentiles(found))
    return found, worth, apply_filters(TitleStills(found, 3 * len(made), RATE), worth)


@given(rows)
@settings(max_examples=60, deadline=None)
def test_no_filter_drops_more_than_its_quota_and_one_still_stays(
    made: list[dict[str, float]],
) -> None:
    found, _, result = filtered(made)
    for name in FILTERS:
        assert result.dropped_by.count(name) <= QUOTA * len(made)
        flagged = sum(name in flags for flags in result.flags)
        assert result.dropped_by.count(name) + flagged <= max(1, result.found[name])
    assert result.kept.any()
    assert not (result.kept & ~result.kept).any()
    assert len(result.dropped_by) == len(result.flags) == len(found)


@pytest.mark.parametrize("name", BAD)
def test_each_filter_finds_what_it_is_for(name: str) -> None:
    made: list[dict[str, float]] = [{} for _ in range(40)]
    for at in (10, 20, 30):
        made[at] = BAD[name]
    _, _, result = filtered(made)
    dropped = [at for at, reason in enumerate(result.dropped_by) if reason]
    if name == "transition":  # what is beside one may be its beginning
        assert {10, 20, 30} <= set(dropped)
        assert all(min(abs(at - bad) for bad in (10, 20, 30)) <= 2 for at in dropped)
    else:
        assert dropped == [10, 20, 30]
        assert result.found[name] == 3


def test_the_worst_are_dropped_and_the_others_flagged() -> None:
    made: list[dict[str, float]] = [{} for _ in range(20)]
    for at, blend in enumerate((0.95, 0.6, 0.9, 0.5, 0.85)):
        made[4 * at] = {"blend": blend}
    _, _, result = filtered(made)
    transitions = [at for at, reason in enumerate(result.dropped_by) if reason == "transition"]
    assert transitions == [0, 8, 16]
    assert result.flags[4] == result.flags[12] == ("transition",)
    assert sum(map(bool, result.flags)) > 2  # their neighbours, too


def test_letters_and_logos_count_more_at_head_and_tail() -> None:
    made: list[dict[str, float]] = [{} for _ in range(100)]
    for at in (1, 50, 97):
        made[at] = {"text": 0.3, "uniform": 0.5}
    _, _, result = filtered(made)
    assert [result.dropped_by[at] for at in (1, 50, 97)] == ["credits", None, "credits"]


def test_a_title_that_is_all_bad_still_has_its_best_picture() -> None:
    made = [{"bright": 0.05, "exposure": 0.01, "uniform": 0.99, "text": 1.0} for _ in range(3)]
    made[1]["sharpness"] = 40.0
    found = stills(made)
    pool = make_pool(found, [Shot(0, 9)], 9, RATE)
    assert len(pool.chosen) >= 1
    one = make_pool(stills([BAD["black"]]), [Shot(0, 1)], 1, RATE)
    assert [still.frame for still in one.chosen] == [0]


def test_percentiles_are_shares_of_the_others() -> None:
    values = np.array([3, 1, 2, 2, 9], np.float32)
    assert percentiles(values).tolist() == pytest.approx([0.75, 0, 0.375, 0.375, 1])
    assert percentiles(np.array([7], np.float32)).tolist() == [0.5]


def test_rest_counts_within_a_shot_and_an_empty_shot_is_not_the_best() -> None:
    lively: list[dict[str, float]] = [
        {"unrest": value, "change": 20.0, "subject": 0.3} for value in (60.0, 20.0, 50.0, 40.0)
    ]
    empty: list[dict[str, float]] = [{"unrest": 0.0, "change": 0.0, "subject": 0.2}] * 4
    found = stills(lively + empty)
    shots = np.repeat([0, 1], 4)
    worth = quality(found, all_percentiles(found), shots)
    assert int(np.argmax(worth)) == 1
    assert worth[:4].argsort().tolist() == [0, 2, 3, 1]
    # As one shot, the stills of the empty one would be its quietest moments.
    assert (quality(found, all_percentiles(found))[4:] > worth[4:]).all()


# -- clusters and choice -----------------------------------------------------------------------


def grouped(sizes: list[int], seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings around as many centres as there are sizes, and the centre of each."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(len(sizes), 24))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    noise = rng.normal(size=(len(labels), 24)) * 0.01
    return (centres[labels] + noise).astype(np.float32), labels


@pytest.mark.parametrize("sizes", [[5], [8, 5, 12], [6] * 9])
def test_clusters_are_the_groups(sizes: list[int]) -> None:
    vectors, labels = grouped(sizes)
    found = cluster(vectors, 48)
    assert found.tolist() == labels.tolist()
    order = np.random.default_rng(2).permutation(len(vectors))
    shuffled = cluster(vectors[order], 48)
    assert len({(a, b) for a, b in zip(shuffled, labels[order], strict=True)}) == len(sizes)


def test_what_is_seen_for_an_instant_is_no_cluster() -> None:
    vectors, _ = grouped([9, 1, 9])
    assert cluster(vectors, 48).max() == 1


@given(st.integers(1, 12), st.integers(1, 40), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_there_are_never_more_clusters_than_asked_for(most: int, count: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)
    found = cluster(vectors, most)
    assert sorted(set(found.tolist())) == list(range(int(found.max()) + 1))
    assert found.max() < most


@given(st.lists(st.integers(3, 9), min_size=1, max_size=8), st.integers(1, 30), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_every_cluster_before_any_twice_and_no_duplicates(
    sizes: list[int], size: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors, labels = grouped(sizes, seed)
    worth = rng.random(len(labels)).astype(np.float32)
    hashes = [int(value) for value in rng.integers(0, 2**63, len(labels), dtype=np.uint64)]
    vectors += (rng.normal(size=vectors.shape) * 0.1).astype(np.float32)
    chosen = choose(worth, labels, hashes, vectors, size)
    assert len(chosen) == len(set(chosen)) <= size
    assert chosen
    of = labels[chosen].tolist()
    assert len(set(of[: len(set(of))])) == len(set(of))
    for one, other in ((a, b) for n, a in enumerate(chosen) for b in chosen[:n]):
        assert hash_distance(hashes[one], hashes[other]) > DUPLICATE_BITS
        assert distances(vectors[one], vectors[other][None])[0] >= 0.10


def test_of_equal_pictures_one_is_chosen() -> None:
    vectors, labels = grouped([6, 6])
    hashes = [1] * 6 + [2**64 - 1] * 6
    worth = np.linspace(0.1, 0.9, 12).astype(np.float32)
    assert sorted(labels[choose(worth, labels, hashes, vectors, 12)]) == [0, 1]


def test_what_is_held_back_comes_last() -> None:
    vectors, labels = grouped([4, 4, 4])
    vectors += (np.random.default_rng(5).normal(size=vectors.shape) * 0.2).astype(np.float32)
    held = labels == 1
    worth = np.where(held, 1.0, 0.5).astype(np.float32)
    hashes = [int(v) for v in np.random.default_rng(3).integers(0, 2**63, 12, dtype=np.uint64)]
    chosen = choose(worth, labels, hashes, vectors, 12, held)
    assert [bool(held[at]) for at in chosen] == [False] * (len(chosen) - 1) + [True]


def test_pool_sizes() -> None:
    assert pool_size(1, 0.1) == 4
    assert pool_size(3, 30) == 12
    assert pool_size(2000, 7200) == MAX_SIZE
    assert all(a <= b for a, b in pairwise(pool_size(n, n * 3.0) for n in range(1, 60)))


# -- a whole title -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Planted]:
    folder = tmp_path_factory.mktemp("planted")
    title = make_title(folder / "title.mp4", range(8), seconds=3)
    return title, folder / "planted.mp4", plant(title, folder / "planted.mp4")


def test_no_planted_frame_is_chosen(planted: tuple[Path, Path, Planted], tmp_path: Path) -> None:
    _, path, facts = planted
    found = analyse(path, tmp_path)
    cells = [cell.strip() for cell in planted_row("", facts, found).split("|")[4:]]
    assert cells[:8] == ["0"] * 8, planted_row("title", facts, found)
    covered, clusters = cells[8].split("/")
    assert covered == clusters
    # All eight scenes are there: each is 36 frames, somewhat moved by what was planted.
    assert len(found.frames) >= 8
    assert cells[9] == "0"


def test_the_pool_of_an_encode_is_that_of_its_source(
    planted: tuple[Path, Path, Planted], tmp_path: Path
) -> None:
    from tests.artwork_measures import encode_again

    title = planted[0]
    encode_again(title, tmp_path / "again.mp4")
    both = overlap(analyse(title, tmp_path), analyse(tmp_path / "again.mp4", tmp_path))
    assert both.same_still >= 0.8
    assert both.same_cluster_top >= 0.8
