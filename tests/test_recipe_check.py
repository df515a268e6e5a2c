"""Do no harm: when a title keeps the plain recipe, and when a further codec is left out."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder.media import OperatingPoint, Size
from encoder.recipes import x264
from ladder.recipe_check import (
    HARM_PERCENT,
    Judged,
    codec_loss,
    compare,
    further_options_loss,
    heaviest,
    options_loss,
    sample_at,
    sample_of_plan,
)
from ladder.recipe_evidence import (
    LEAST_TITLES,
    Evidence,
    RecipeEvidence,
    bound_for_another,
    read_evidence,
    settled,
    spread,
    title_features,
)

SMALL, LARGE = Size(320, 180), Size(640, 360)
MIDDLE = (26.0, 30.0)


def request(shot: int, size: Size, crf: float) -> tuple[int, OperatingPoint]:
    return shot, OperatingPoint(x264(), *size, crf)


# -- what is encoded ---------------------------------------------------------------------------


def test_the_sample_lies_where_the_plan_spends_most_bits() -> None:
    bits = {request(shot, SMALL, 36.0): 10.0 for shot in range(5)}
    bits |= {
        request(shot, LARGE, crf): spent / crf
        for shot, spent in enumerate([900.0, 100.0, 800.0, 700.0, 50.0])
        for crf in (20.0, 24.0 + shot, 33.0, 38.0)
    }
    sample = sample_of_plan(bits, MIDDLE)
    assert sample.size == LARGE
    assert sample.crfs == {0: (24.0, 33.0), 2: (26.0, 33.0), 3: (27.0, 33.0)}


def test_a_shot_with_a_single_planned_point_takes_the_middle_of_the_grid() -> None:
    planned = [request(0, LARGE, 22.0), request(1, LARGE, 22.0), request(1, LARGE, 28.0)]
    sample = sample_at(planned, (0, 1, 7), LARGE, MIDDLE)
    assert sample.crfs == {0: MIDDLE, 1: (22.0, 28.0), 7: MIDDLE}


def test_three_points_give_the_two_worse_ones() -> None:
    planned = [request(0, LARGE, crf) for crf in (18.0, 24.0, 30.0)]
    assert sample_at(planned, (0,), LARGE, MIDDLE).crfs == {0: (24.0, 30.0)}


@given(st.dictionaries(st.integers(0, 9), st.floats(1, 1e6), min_size=1))
def test_the_heaviest_shots(bits: dict[int, float]) -> None:
    found = heaviest(bits)
    assert list(found) == sorted(found)
    assert len(found) == min(3, len(bits))
    lightest = min(bits[shot] for shot in found)
    assert all(bits[shot] <= lightest for shot in bits.keys() - set(found))


# -- what follows ------------------------------------------------------------------------------


def judged(frames: int, scale: float, **offsets: float) -> tuple[Judged, Judged]:
    """A shot whose scores are logarithms of its bits; an offset acts as a factor on bits."""

    def at(bits: float) -> Judged:
        scores = {judge: 20 + 6 * math.log2(bits) - off for judge, off in offsets.items()}
        return Judged(frames, bits * scale, scores)

    return at(2000.0), at(1000.0)


@given(
    st.lists(st.integers(1, 90), min_size=1, max_size=3),
    st.floats(-30, 30),
    st.floats(-30, 30),
)
def test_rates_at_equal_score(frames: list[int], more: float, worse: float) -> None:
    """A factor on bits is found, and an offset of scores is stated as the bits that it costs."""
    anchor = [judged(count, 1.0, v1=0.0, xpsnr=0.0) for count in frames]
    offset = 6 * math.log2(1 + worse / 100)
    test = [judged(count, 1 + more / 100, v1=0.0, xpsnr=offset) for count in frames]
    found = compare(anchor, test)
    assert found["v1"] == pytest.approx(more, abs=1e-6)
    expected = ((1 + more / 100) * (1 + worse / 100) - 1) * 100
    assert found["xpsnr"] == pytest.approx(expected, abs=1e-6)


def test_scores_at_the_end_of_the_scale_tell_nothing() -> None:
    saturated = [(Judged(24, 2000.0, {"v1": 100.0}), Judged(24, 1000.0, {"v1": 100.0}))]
    assert compare(saturated, saturated) == {"v1": None}
    assert options_loss({"v1": None, "ssim": None}, "v1") is None
    assert codec_loss({"v1": None}) is None


@pytest.mark.parametrize(
    ("percents", "loss"),
    [
        ({"v1": -8.0, "xpsnr": 1.9, "ssim": -1.0}, 1.9),  # within what is allowed
        ({"v1": -9.0, "xpsnr": 5.0, "ssim": 3.5}, 5.0),  # weaker adaptive quantisation
        ({"v1": 2.5, "xpsnr": -1.0, "ssim": -1.0}, 2.5),  # fidelity gains too little
        ({"v1": 6.6, "xpsnr": -15.0, "ssim": -12.0}, -3.4),  # SVT-AV1's tune=2
        ({"v1": 6.6, "xpsnr": -15.0, "ssim": -6.0}, 2.6),  # any fidelity judge can refuse
        ({"v1": 6.6, "xpsnr": None, "ssim": None}, 6.6),
        ({"v1": None, "xpsnr": -1.0, "ssim": None}, -1.0),
    ],
)
def test_what_options_lose(percents: dict[str, float | None], loss: float) -> None:
    assert options_loss(percents, "v1") == pytest.approx(loss)


PERCENT = st.one_of(st.none(), st.floats(-50, 50))


@given(PERCENT, PERCENT, PERCENT)
def test_the_loss_says_what_the_rule_says(
    v1: float | None, xpsnr: float | None, ssim: float | None
) -> None:
    """In plain words: fidelity may not lose 2 %; v1 may, where all fidelity gains as much."""
    fidelity = [one for one in (xpsnr, ssim) if one is not None]
    harm = any(one > HARM_PERCENT for one in fidelity)
    if v1 is not None and v1 > HARM_PERCENT:
        harm |= not fidelity or any(-one < v1 - 1e-9 for one in fidelity)
    loss = options_loss({"v1": v1, "xpsnr": xpsnr, "ssim": ssim}, "v1")
    at_the_edge = loss is not None and abs(loss - HARM_PERCENT) < 1e-6
    assert at_the_edge or harm == (loss is not None and loss > HARM_PERCENT)


def test_a_further_codec_has_to_save_by_every_judge() -> None:
    assert codec_loss({"v1": -30.0, "xpsnr": 1.0, "ssim": -9.0}) == 1.0
    assert codec_loss({"v1": -30.0, "xpsnr": -0.1, "ssim": None}) == -0.1


def test_options_of_a_further_codec_are_judged_by_the_least_saving_over_the_first() -> None:
    """SVT-AV1's tune=2 on a title where the plain recipe saves nothing by fidelity."""
    plain = {"v1": -15.1, "xpsnr": 4.4, "ssim": 2.0}
    tuned = {"v1": -5.1, "xpsnr": -3.0, "ssim": -1.6}
    assert further_options_loss(tuned, plain) == pytest.approx(100 * (0.984 / 1.044 - 1))
    assert further_options_loss(plain, tuned) == pytest.approx(100 * (1.044 / 0.984 - 1))
    assert further_options_loss({"v1": None}, plain) is None


# -- evidence ----------------------------------------------------------------------------------

JUDGES = ("v1", "xpsnr", "ssim")
GAINS = [-8.0, -7.0, -9.0, -8.5, -7.5, -8.0]


def evidence(titles: int = len(GAINS), loss: list[float] = GAINS) -> RecipeEvidence:
    gains = spread(GAINS).model_copy(update={"titles": titles})
    return RecipeEvidence(
        recipe="x264-slow+ref=3",
        against="x264-slow",
        titles=[f"title{number}" for number in range(titles)],
        frames=480,
        judges=dict.fromkeys(JUDGES, gains),
        loss=spread(loss),
        region={"noise_fine_p50": (0.1, 0.5)},
    )


INSIDE = {"noise_fine_p50": 0.3}


def test_evidence_settles_a_title_like_those_that_were_judged() -> None:
    assert settled(evidence(), JUDGES, INSIDE, HARM_PERCENT)
    assert settled(evidence(), JUDGES, {"noise_fine_p50": 0.5}, HARM_PERCENT)


@pytest.mark.parametrize(
    ("found", "features"),
    [
        (None, INSIDE),
        (evidence(), {"noise_fine_p50": 0.51}),
        (evidence(), {"noise_fine_p50": 0.09}),
        (evidence(), {}),
        (evidence(titles=LEAST_TITLES - 1), INSIDE),
        (evidence(loss=[*GAINS, 2.5]), INSIDE),  # a title lost
        (evidence(loss=[1.9, -3.0, -3.0, 0.0, 1.0, -6.0]), INSIDE),  # one more may lose
        (evidence().model_copy(update={"region": {}}), INSIDE),
    ],
)
def test_evidence_that_settles_nothing(
    found: RecipeEvidence | None, features: dict[str, float]
) -> None:
    assert not settled(found, JUDGES, features, HARM_PERCENT)


def test_a_judge_without_evidence_settles_nothing() -> None:
    assert not settled(evidence(), (*JUDGES, "another"), INSIDE, HARM_PERCENT)


@pytest.mark.parametrize(("titles", "student"), [(5, 2.13185), (8, 1.89458), (30, 1.69913)])
def test_the_bound_for_another_title(titles: int, student: float) -> None:
    """Against the tables of Student's t: 95 %, one-sided."""
    gains = spread([0.0, 2.0] * 50).model_copy(update={"titles": titles, "mean": -3.0, "sd": 1.0})
    expected = -3 + student * math.sqrt(1 + 1 / titles)
    assert bound_for_another(gains) == pytest.approx(expected, abs=0.01)


def test_features_of_a_title_are_means_over_frames() -> None:
    from encoder.analysis.features import FEATURE_NAMES

    low, high = [1.0] * len(FEATURE_NAMES), [4.0] * len(FEATURE_NAMES)
    assert title_features([(10, low), (20, high)], ["luma_mean"]) == {"luma_mean": 3.0}


def test_evidence_is_read_from_beside_the_weights(tmp_path) -> None:
    from encoder.errors import BadInput

    weights = tmp_path / "own.safetensors"
    assert read_evidence(weights) == Evidence()
    written = Evidence(recipes=[evidence()])
    (tmp_path / "recipes.json").write_text(written.to_json())
    assert read_evidence(weights) == written
    assert written.of("x264-slow+ref=3", "x264-slow") == evidence()
    assert written.of("x264-slow+ref=3", "x264-medium") is None
    (tmp_path / "recipes.json").write_text("{")
    with pytest.raises(BadInput, match=r"recipes\.json cannot be read.*remove the file"):
        read_evidence(weights)
