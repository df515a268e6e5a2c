"""Policies in numbers: probabilities and draws, what is learned, estimates, the gate, contrasts."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder.arrays import Float64
from recommender.policy import drawing, exploring, gate
from recommender.policy.contrast import contrast
from recommender.policy.drift import drift
from recommender.policy.effects import Effects, Priors
from recommender.policy.estimates import (
    Interval,
    Judged,
    crossed,
    doubly_robust,
    estimate,
    interval,
    student_quantile,
)
from recommender.policy.features import FEATURES, pictures_of, pool_version
from recommender.policy.learning import Learner
from recommender.policy.trials import Pictures, Trials, centred
from tests.service_material import written_artwork, written_package

CHI_SQUARE_11, CHI_SQUARE_15 = 31.3, 37.7  # 0.1 % points, by degrees of freedom
SIMULATORS = Path(__file__).parent.parent.parent / "shared" / "sim"


# -- probabilities and draws -----------------------------------------------------------------


@given(
    quality=st.lists(st.floats(0, 1), min_size=1, max_size=48),
    data=st.data(),
)
def test_an_untrained_policy_chooses_among_a_dozen_that_are_allowed(
    quality: list[float], data: st.DataObject
) -> None:
    flags = data.draw(st.lists(st.booleans(), min_size=len(quality), max_size=len(quality)))
    allowed = np.array(flags)
    if not allowed.any():
        return
    chances = exploring.untrained(np.array(quality), allowed)
    assert chances.sum() == pytest.approx(1)
    assert (chances[~allowed] == 0).all()
    tried = min(12, int(allowed.sum()))
    assert (chances > 0).sum() == tried
    assert chances[chances > 0].min() >= 0.1 / tried - 1e-12


def test_softmax_is_that_of_a_case_computed_by_hand() -> None:
    # Scores of 0 and ln 3 at step 1: 1/4 and 3/4, of which 80 %, and 10 % each.
    found = exploring.softmax(np.log([1.0, 3.0]), np.ones(2, np.bool_), 1.0, 0.2)
    assert found == pytest.approx([0.3, 0.7])


def test_a_trained_policy_never_shows_what_is_not_allowed() -> None:
    rng = np.random.default_rng(1)
    allowed = np.arange(20) % 3 > 0
    chances = exploring.trained(rng.normal(size=(20, 5)), rng.normal(size=4), allowed)
    assert chances.sum() == pytest.approx(1)
    assert (chances[~allowed] == 0).all()
    assert chances[allowed].min() >= exploring.UNIFORM / allowed.sum() - 1e-12


def test_probabilities_are_those_drawn_given_the_earlier_slots() -> None:
    """100,000 draws in rows of two: chi-square against the product of the stated propensities."""
    rng = np.random.default_rng(4)
    everything = np.ones(4, np.bool_)
    first, second = (exploring.softmax(rng.normal(size=4), everything, 1.0, 0.1) for _ in range(2))
    looks = np.eye(4)
    given = [drawing.unlike(second, looks, [looks[one]]) for one in range(4)]
    rows, counts = 50_000, np.zeros((4, 4))
    for number in range(rows):
        one = drawing.draw(first, drawing.luck_of(b"1 %d" % number))
        two = drawing.draw(given[one.index], drawing.luck_of(b"2 %d" % number))
        assert two.propensity == given[one.index][two.index]
        counts[one.index, two.index] += 1
    wanted = rows * first[:, None] * np.array(given)
    assert wanted.sum() == pytest.approx(rows)
    assert ((counts - wanted) ** 2 / wanted).sum() < CHI_SQUARE_15


def test_neighbours_that_look_alike_are_rare() -> None:
    looks = np.eye(3)
    even = np.full(3, 1 / 3)
    given = drawing.unlike(even, looks, [looks[1]])
    assert given == pytest.approx([10 / 21, 1 / 21, 10 / 21])
    assert drawing.unlike(even, None, [looks[1]]) is even
    assert drawing.unlike(even, looks, [np.full(3, 9.0)]) is even


def test_luck_is_even_and_never_finds_what_has_no_chance() -> None:
    luck = np.array([drawing.luck_of(str(number).encode()) for number in range(20_000)])
    counts = np.bincount((luck * 12).astype(int), minlength=12)
    assert ((counts - 20_000 / 12) ** 2 / (20_000 / 12)).sum() < CHI_SQUARE_11
    chances = np.array([0.0, 0.4, 0.6, 0.0])
    for value in (0.0, 0.39, 0.4, 1 - 2**-53):
        assert chances[drawing.draw(chances, value).index] > 0
    assert drawing.draw(np.array([0.5, 0.5]), 0.5).index == 1


# -- what is learned -------------------------------------------------------------------------


def trials(rng: np.random.Generator, count: int, weights: Float64) -> Trials:
    """Pictures of ten titles with features of which the first has an effect."""
    features, context = rng.normal(size=(count, 3)), rng.normal(size=(count, 2))
    logits = -1 + features @ weights[0] + (features @ weights[1]) * context[:, 0]
    taken = rng.random(count) < 1 / (1 + np.exp(-logits))
    titles = rng.integers(10, size=count)
    return Trials(
        tuple(f"t{one}" for one in titles),
        tuple(
            f"a{one}-{two}" for one, two in zip(titles, rng.integers(5, size=count), strict=True)
        ),
        features,
        context,
        taken.astype(np.float64),
    )


def test_effects_of_features_and_of_context_are_found() -> None:
    rng = np.random.default_rng(3)
    weights = np.array([[0.8, 0.0, -0.4], [0.0, 0.7, 0.0]])
    effects = Effects.untrained(3, 2, Priors(feature=0.5, feature_context=0.5))
    for _ in range(20):
        effects.learn(trials(rng, 200, weights))
    found = effects.shared.mean[:9].reshape(3, 3)
    assert found[:, 0] == pytest.approx(weights[0], abs=0.15)
    assert found[:, 1] == pytest.approx(weights[1], abs=0.15)
    assert abs(found[:, 2]).max() < 0.15
    assert effects.seen == 4000


def test_learning_is_bayes_on_a_case_of_one_effect() -> None:
    """Against the posterior mode and curvature of a logistic regression, by brute force."""
    priors = Priors(title=1e-6, title_context=1e-6, picture=1e-6, picture_context=1e-6,
                    base=1.0, base_logit=0.0, base_context=1e-6, feature=1e-6,
                    feature_context=1e-6, drift=0)  # fmt: skip
    effects = Effects.untrained(1, 1, priors)
    rewards = np.array([1.0, 1.0, 0.0, 1.0, 1.0])
    zero = np.zeros((5, 1))
    effects.learn(Trials(("t",) * 5, ("a",) * 5, zero, zero, rewards))
    grid = np.linspace(-3, 3, 60001)
    log_posterior = -(grid**2) / 2 + 4 * grid - 5 * np.logaddexp(0, grid)
    mode = grid[np.argmax(log_posterior)]
    chance = 1 / (1 + np.exp(-mode))
    assert effects.shared.mean[2] == pytest.approx(mode, abs=1e-3)
    wanted = 1 / (1 + 5 * chance * (1 - chance))
    assert effects.shared.covariance[2, 2] == pytest.approx(wanted, rel=1e-3)


def test_a_picture_starts_from_its_features_and_learns_its_own() -> None:
    rng = np.random.default_rng(5)
    effects = Effects.untrained(3, 2, Priors(feature=0.5))
    effects.learn(trials(rng, 2000, np.array([[0.8, 0.0, 0.0], [0.0, 0.0, 0.0]])))
    features = np.array([[1.0, 0, 0], [1.0, 0, 0], [-2.0, 0, 0]])
    new = Pictures("new", "pool", ("x", "y", "z"), centred(features), np.ones(3))
    before = effects.picture_effects(new)
    assert before[0] == pytest.approx(before[1])
    assert before[0, 0] > before[2, 0] + 1
    shown = Trials(("new",) * 60, ("x",) * 60, np.tile(new.features[0], (60, 1)),
                   np.zeros((60, 2)), np.zeros(60))  # fmt: skip
    effects.learn(shown)
    after = effects.picture_effects(new)
    assert after[0, 0] < after[1, 0] - 0.1  # nobody took it, so it lost more than its likeness
    # Another pool of the title: what was learned stays with the picture, and what is gone is gone.
    later = Pictures("new", "pool2", ("x", "w"), centred(features[:2]), np.ones(2))
    kept = effects.picture_effects(later)
    assert kept[0, 0] - kept[1, 0] == pytest.approx(after[0, 0] - after[1, 0])


def test_what_nobody_is_shown_any_more_is_forgotten() -> None:
    effects = Effects.untrained(3, 2)
    for name, days in (("old", 1.0), ("kept", 100.0), ("new", 100.0)):
        one = Trials((name,), (f"{name}-1",), np.ones((1, 3)), np.zeros((1, 2)), np.ones(1))
        effects.learn(one, days=days)
    effects.forget(150.0)
    assert set(effects.titles) == {"kept", "new"}
    assert set(effects.pictures) == {"kept-1", "new-1"}


def test_the_scale_of_effects_is_found() -> None:
    """Strong effects keep the learner that expects them, and none the other one."""
    rng = np.random.default_rng(7)
    for size, scale in ((0.25, 1.0), (0.0, 0.4)):
        learner = Learner.untrained(3, 2)
        for _ in range(6):
            weights = np.array([[size, -size, size], [size, size, -size]])
            learner.learn(trials(rng, 250, weights))
        assert learner.best.priors.feature == pytest.approx(scale * Priors().feature)


# -- estimates -------------------------------------------------------------------------------


def judged(rewards: list[float], weights: list[float], clusters: list[int]) -> Judged:
    ones = np.ones((len(rewards), 1))
    return Judged(np.array(rewards), np.array(weights), np.array(clusters), ones, ones)


def test_estimates_of_two_records_are_those_computed_by_hand() -> None:
    # Weights 2 and 1, rewards 1 and 0: IPS is 1, SNIPS 2/3; (2 + 1)^2 / (4 + 1) decisions.
    ips, snips, _ = estimate(judged([1, 0], [2, 1], [0, 1]))
    assert ips.interval.mean == pytest.approx(1)
    assert snips.interval.mean == pytest.approx(2 / 3)
    assert ips.effective_size == pytest.approx(9 / 5)
    assert (ips.mean_weight, ips.max_weight) == (1.5, 2)


def test_a_target_that_repeats_the_log_earns_what_the_log_earned() -> None:
    rng = np.random.default_rng(2)
    rewards = (rng.random(400) < 0.3).astype(float)
    shown = crossed(rng.normal(size=(400, 2)), rng.normal(size=(400, 1)))
    values = doubly_robust(Judged(rewards, np.ones(400), np.arange(400) // 4, shown, shown))
    assert values == pytest.approx(rewards)


def test_doubly_robust_is_cross_fitted_by_cluster() -> None:
    """By brute force: each fold's model is fitted on all other clusters."""
    rng = np.random.default_rng(8)
    clusters = np.arange(60) // 3
    rewards, weights = rng.random(60), rng.random(60) * 2
    shown = crossed(rng.normal(size=(60, 2)), rng.normal(size=(60, 1)))
    expected = crossed(rng.normal(size=(60, 2)), rng.normal(size=(60, 1)))
    found = doubly_robust(Judged(rewards, weights, clusters, shown, expected), 5, 30.0)
    penalty = 30 * np.eye(6)
    penalty[-1, -1] = 1e-6
    for row in range(60):
        rest = clusters % 5 != clusters[row] % 5
        model = np.linalg.solve(
            shown[rest].T @ shown[rest] + penalty, shown[rest].T @ rewards[rest]
        )
        wanted = expected[row] @ model + weights[row] * (rewards[row] - shown[row] @ model)
        assert found[row] == pytest.approx(wanted)


@pytest.mark.parametrize("skewed", [False, True])
def test_intervals_hold_the_truth_as_often_as_they_say(skewed: bool) -> None:
    rng = np.random.default_rng(9)
    held, times, clusters = 0, 1500, np.repeat(np.arange(60), 5)
    for _ in range(times):
        shift = rng.exponential(1, 60) ** (1.5 if skewed else 1) if skewed else rng.normal(size=60)
        values = np.repeat(shift, 5) + rng.normal(size=300)
        truth = math.gamma(2.5) if skewed else 0.0
        found = interval(values, clusters)
        held += found.low <= truth <= found.high
    assert 0.87 <= held / times <= 0.93


def test_too_few_clusters_are_an_error() -> None:
    with pytest.raises(ValueError, match="2 or more"):
        interval(np.ones(3), np.zeros(3, np.int64))


def test_student_quantiles_are_those_of_the_tables() -> None:
    assert student_quantile(0.95, 10) == pytest.approx(1.812, abs=2e-3)
    assert student_quantile(0.975, 30) == pytest.approx(2.042, abs=2e-3)
    assert student_quantile(0.05, 200) == pytest.approx(-1.653, abs=2e-3)


# -- gate ------------------------------------------------------------------------------------


def test_the_gate_says_everything_that_speaks_against() -> None:
    verdict = gate.judge(Interval(0.01, -0.002, 0.02, 40), 300, 0.6, 1)
    assert not verdict.passed
    assert [reason.split()[1] for reason in verdict.reasons] == ["effective", "log", "mean", "gain"]
    assert gate.judge(Interval(0.01, 0.002, 0.02, 400), 5000, 1.0, 1).passed


def test_asking_again_costs_confidence_and_all_questions_together_err_as_allowed() -> None:
    errors = [(1 - gate.confidence_of(asked)) / 2 for asked in range(1, 2000)]
    assert all(later < earlier for earlier, later in itertools.pairwise(errors))
    assert sum(errors) == pytest.approx(gate.ERROR, rel=1e-3)


# -- contrasts and drift ---------------------------------------------------------------------


def test_a_contrast_is_what_the_draws_show_and_names_what_comes_with_it() -> None:
    """Eyes come with close-ups, and only close-ups earn."""
    rng = np.random.default_rng(10)
    count = 20_000
    close = rng.random((count, 6)) < 0.5
    eyes = rng.random((count, 6)) < np.where(close, 0.9, 0.1)
    chances = rng.dirichlet(np.ones(6), size=count)
    chosen = np.array([rng.choice(6, p=row) for row in chances])
    at = np.arange(count)
    taste = rng.normal(size=(count, 1))
    rate = np.clip(0.3 + 0.1 * close[at, chosen] + 0.1 * taste[:, 0], 0, 1)
    rewards = (rng.random(count) < rate).astype(float)
    both = np.stack([eyes, close], axis=2).astype(float)
    shown, expected = both[at, chosen], np.einsum("np,npf->nf", chances, both)
    found = contrast("eyes", ("eyes", "close"), shown, expected, taste, rewards, at // 4)
    assert found.difference.low > 0.02
    assert found.confounded_with[0][0] == "close"
    assert found.confounded_with[0][1] == pytest.approx(0.8, abs=0.05)
    assert found.adjusted.low < 0 < found.adjusted.high
    with pytest.raises(ValueError, match="never varies"):
        contrast("eyes", ("eyes", "close"), shown * 0, expected * 0, taste, rewards, at // 4)


def test_drift_is_of_the_feature_that_moved() -> None:
    rng = np.random.default_rng(11)
    before, now = rng.normal(size=(4000, 2)), rng.normal([0, 0.7], size=(3000, 2))
    moved, still = drift(("still", "moved"), before, now)
    assert (moved.name, moved.shifted, still.shifted) == ("moved", True, False)
    assert moved.shift == pytest.approx(0.7, abs=0.1)


# -- pools as numbers ------------------------------------------------------------------------


def test_pictures_of_a_pool_have_every_feature_and_names_that_last() -> None:
    ladder, _ = written_package("title")
    artwork = written_artwork("pool", ladder)
    pictures = pictures_of(artwork, "film")
    assert pictures.features.shape == (6, len(FEATURES))
    assert pictures.features.mean(axis=0) == pytest.approx(0, abs=1e-9)
    assert pictures.pool == artwork.pool
    renamed = artwork.candidates[0].model_copy(update={"action_id": "0123456789abcdef"})
    other = artwork.model_copy(update={"candidates": [renamed, *artwork.candidates[1:]]})
    assert pool_version(other).startswith(f"{artwork.pool}-")


# -- the simulator ---------------------------------------------------------------------------


@pytest.mark.skipif(not SIMULATORS.exists(), reason="../shared/sim is not there")
def test_the_policy_learns_in_the_simulator(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few days of the yardstick: far above uniform (0.2), with propensities that are true."""
    monkeypatch.syspath_prepend(str(SIMULATORS))
    import artwork_sim  # type: ignore[import-not-found] # on the path only here

    from tests.policy_plugs import Policy

    takes, weight = artwork_sim.run(artwork_sim.World("easy", 21), Policy(), 21, 2)
    assert takes[-1] > 0.36
    assert 0.5 < weight < 1.4
