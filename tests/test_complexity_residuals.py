"""What a measurement says about everything else, against brute force over the whole title."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest

from encoder.arrays import Float64
from ladder.complexity.residual_fit import fit
from ladder.complexity.residuals import (
    QUALITY,
    RATE,
    SCALES,
    TERMS,
    Cells,
    Posterior,
    ResidualModel,
    ShotResiduals,
    condition,
)
from tests.complexity_synthetic import (
    cells_at,
    draw_shot,
    draw_terms,
    grid_cells,
    random_cells,
    residual_model,
    with_noise,
)

ASKED = cells_at(
    [-0.9, -0.2, 0.3, 0.8, -0.2, 0.6], [0.0, -1.62, -0.42, 0.0, -0.42, -1.0], [0, 1, 0, 1, 1, 0]
)


def any_model(seed: int) -> ResidualModel:
    """Full covariances, so that no entry could be mixed up unseen."""
    random = np.random.default_rng(seed)

    def covariance(size: float) -> Float64:
        root = random.standard_normal((2 * TERMS, 3 * TERMS))
        return np.asarray(size * root @ root.T / (3 * TERMS))

    return ResidualModel(
        title=covariance(0.3),
        bends=np.array([0.02, 0.05]),
        shot=covariance(0.1),
        local=np.array([0.01, 0.03]),
        noise=np.array([0.002, 0.004]),
    )


def any_observations(seed: int) -> list[ShotResiduals]:
    """Shots with many, few and no observations."""
    random = np.random.default_rng(100 + seed)
    observed = []
    for count in (5, 0, 1, 7, 0, 2):
        position, size = random.uniform(-1, 1, count), random.choice([0.0, -0.42, -1.62], count)
        kind = random.integers(0, 2, count)
        observed.append(ShotResiduals(Cells(position, size, kind), random.standard_normal(count)))
    return observed


def together(model: ResidualModel, scale: float, one: list[Cells], other: list[Cells]) -> Float64:
    """Joint covariance of the residuals of all shots, term by term as the model is written."""
    title = scale * model.title_covariance()
    blocks = [
        [
            a.title_phi() @ title @ b.title_phi().T
            + (
                scale * a.phi() @ model.shot @ b.phi().T + model.local_covariance(a, b)
                if first == second
                else 0.0
            )
            for second, b in enumerate(other)
        ]
        for first, a in enumerate(one)
    ]
    return np.block(blocks)


def conditioned(
    model: ResidualModel, scale: float, observed: list[ShotResiduals], asked: list[Cells]
) -> tuple[Float64, float]:
    seen = [shot.cells for shot in observed]
    values = np.concatenate([shot.values for shot in observed])
    noise = model.noise[np.concatenate([cells.kind for cells in seen])]
    own = together(model, scale, seen, seen) + np.diag(noise)
    link = together(model, scale, asked, seen)
    mean = link @ np.linalg.solve(own, values)
    covariance = together(model, scale, asked, asked) - link @ np.linalg.solve(own, link.T)
    evidence = -0.5 * np.linalg.slogdet(own)[1] - 0.5 * values @ np.linalg.solve(own, values)
    return mean, covariance, float(evidence)


@pytest.mark.parametrize(("seed", "scale"), [(0, 1.0), (1, 9.0), (2, 0.35)])
def test_conditioning_equals_brute_force_over_the_whole_title(seed: int, scale: float) -> None:
    model, observed = any_model(seed), any_observations(seed)
    mean, covariance, evidence = conditioned(model, scale, observed, [ASKED] * len(observed))
    posterior = Posterior(model, observed, scale)
    count = len(ASKED)
    for shot in range(len(observed)):
        of = slice(shot * count, (shot + 1) * count)
        np.testing.assert_allclose(posterior.mean(shot, ASKED), mean[of], rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(
            posterior.covariance(shot, ASKED), covariance[of, of], rtol=1e-6, atol=1e-8
        )
    for one, other in itertools.combinations(range(len(observed)), 2):
        np.testing.assert_allclose(
            posterior.shared(one, ASKED)
            @ posterior.title_covariance
            @ posterior.shared(other, ASKED).T,
            covariance[one * count : (one + 1) * count, other * count : (other + 1) * count],
            rtol=1e-6,
            atol=1e-8,
        )
    assert posterior.evidence == pytest.approx(evidence, abs=1e-6)


def test_without_observations_it_is_the_prior() -> None:
    model = any_model(3)
    empty = ShotResiduals(cells_at([], [], []), np.empty(0))
    posterior = condition(model, [empty, empty])
    assert posterior.scale == 1.0
    assert posterior.evidence == pytest.approx(0.0, abs=1e-6)
    for shot in range(2):
        np.testing.assert_allclose(posterior.mean(shot, ASKED), 0.0, atol=1e-12)
        np.testing.assert_allclose(
            posterior.covariance(shot, ASKED), together(model, 1.0, [ASKED], [ASKED]), atol=1e-9
        )


def test_the_order_of_observations_and_of_shots_says_nothing() -> None:
    model, observed = any_model(4), any_observations(4)
    random = np.random.default_rng(0)
    mixed = []
    for shot in observed:
        order = random.permutation(len(shot.cells))
        cells = shot.cells
        mixed.append(
            ShotResiduals(
                Cells(cells.position[order], cells.log2_scale[order], cells.kind[order]),
                shot.values[order],
            )
        )
    plain, other = condition(model, observed), condition(model, mixed[::-1])
    assert plain.scale == other.scale
    assert plain.evidence == pytest.approx(other.evidence, abs=1e-8)
    for shot in range(len(observed)):
        mirrored = len(observed) - 1 - shot
        np.testing.assert_allclose(plain.mean(shot, ASKED), other.mean(mirrored, ASKED), atol=1e-9)
        np.testing.assert_allclose(
            plain.covariance(shot, ASKED), other.covariance(mirrored, ASKED), atol=1e-9
        )


def test_observations_are_exact_up_to_their_noise() -> None:
    model, observed = any_model(5), any_observations(5)
    posterior = Posterior(model, observed)
    for number, shot in enumerate(observed):
        if not len(shot.cells):
            continue
        covariance = posterior.covariance(number, shot.cells)
        assert (np.diag(covariance) <= model.noise[shot.cells.kind]).all()
        assert (np.linalg.eigvalsh(covariance) > -1e-9).all()


def test_every_observation_narrows() -> None:
    model, observed = any_model(6), any_observations(6)
    fewer = [*observed[:3], ShotResiduals(cells_at([], [], []), np.empty(0)), *observed[4:]]
    for shot in range(len(observed)):
        before = Posterior(model, fewer).covariance(shot, ASKED)
        after = Posterior(model, observed).covariance(shot, ASKED)
        assert np.linalg.eigvalsh(before - after).min() > -1e-9


@functools.cache
def drawn(titles: int, seed: int, scale: float = 1.0) -> list[list[ShotResiduals]]:
    """Titles of five shots, drawn from the planted model."""
    model = residual_model()
    random = np.random.default_rng(seed)
    found = []
    for _ in range(titles):
        terms = draw_terms(model, random, scale)
        shots = []
        for _ in range(5):
            cells = random_cells(random, 7)
            values = draw_shot(model, terms, cells, random, scale)
            shots.append(with_noise(model, cells, values, random))
        found.append(shots)
    return found


def test_for_another_quality_model_only_quality_is_trusted_less() -> None:
    model = residual_model()
    other = model.for_similar_model()
    cells = grid_cells(np.array([-0.6, 0.0, 0.6]), np.array([0.0, -1.0]))
    nothing = ShotResiduals(cells_at([], [], []), np.empty(0))
    before, after = (np.diag(Posterior(m, [nothing]).covariance(0, cells)) for m in (model, other))
    assert after[cells.kind == RATE] == pytest.approx(before[cells.kind == RATE])
    assert (np.sqrt(after - before)[cells.kind == QUALITY] > 0.19).all()
    # One score tells most of the level, and of every shot.
    first = cells_at([0.0], [0.0], [QUALITY])
    seen = Posterior(other, [ShotResiduals(first, np.array([0.7])), nothing])
    assert seen.mean(1, first)[0] == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("planted", SCALES)
def test_a_surprising_title_gets_a_larger_scale(planted: float) -> None:
    model = residual_model()
    found = [condition(model, title).scale for title in drawn(8, 7, planted)]
    # One step off now and then: a title has not much more than two hundred terms to tell it by.
    steps = [abs(SCALES.index(scale) - SCALES.index(planted)) for scale in found]
    assert max(steps) <= 1
    assert np.mean(steps) < 0.5


def test_an_unlikely_title_leaves_wider_intervals_than_a_likely_one() -> None:
    model = residual_model()
    usual, unusual = drawn(1, 8)[0][:2], drawn(1, 8, 27.0)[0][:2]
    empty = ShotResiduals(cells_at([], [], []), np.empty(0))
    likely = condition(model, [*usual, empty]).covariance(2, ASKED)
    unlikely = condition(model, [*unusual, empty]).covariance(2, ASKED)
    assert np.trace(unlikely) > 4 * np.trace(likely)


@functools.cache
def fitted() -> ResidualModel:
    return fit(drawn(30, 1), rounds=10)


def test_fit_recovers_the_covariances_that_residuals_were_drawn_from() -> None:
    planted, found = residual_model(), fitted()
    for kind in (RATE, QUALITY):
        position, size = (axis.ravel() for axis in np.meshgrid([-0.8, 0, 0.8], [0.0, -0.42, -1.62]))
        cells = Cells(position, size, np.full(len(position), kind, dtype=np.intp))
        shares = []
        for model in (planted, found):
            phi, title_phi = cells.phi(), cells.title_phi()
            shared = np.trace(title_phi @ model.title_covariance() @ title_phi.T)
            own = np.trace(phi @ model.shot @ phi.T + model.local_covariance(cells, cells))
            shares.append((shared, own, model.local[kind] + model.noise[kind]))
        for truth, recovered in zip(*shares, strict=True):
            assert 0.5 < recovered / truth < 2.0
    rate, quality = 0, TERMS  # what both levels have in common, -0.4 where it was planted
    for covariance in (found.title, found.shot):
        tied = covariance[rate, quality] / np.sqrt(
            covariance[rate, rate] * covariance[quality, quality]
        )
        assert -0.75 < tied < -0.1


def test_fit_is_deterministic() -> None:
    once, twice = (fit(drawn(4, 2), rounds=2) for _ in range(2))
    for name in ("title", "bends", "shot", "local", "noise"):
        assert np.array_equal(getattr(once, name), getattr(twice, name))


def test_what_fit_finds_are_covariances() -> None:
    found = fit(drawn(2, 3), rounds=2)
    for covariance in (found.title, found.shot):
        np.testing.assert_allclose(covariance, covariance.T, atol=1e-12)
        assert np.linalg.eigvalsh(covariance).min() > 0
    assert min(*found.bends, *found.local, *found.noise) > 0


def test_fit_bears_titles_and_shots_without_residuals() -> None:
    empty = ShotResiduals(cells_at([], [], []), np.empty(0))
    rate_only = [
        ShotResiduals(cells_at([0.1, 0.5], [0.0, -1.0], [0, 0]), np.array([0.1, 0.2])),
        empty,
    ]
    found = fit([rate_only, *drawn(2, 3)], rounds=2)
    assert np.isfinite(found.title).all()
    with pytest.raises(ValueError, match="no residuals"):
        fit([[empty], []])


def test_fitted_intervals_hold_what_they_say_on_other_titles() -> None:
    """80 % intervals for cells and shots that were not measured, titles that were not fitted."""
    model, truth = fitted(), residual_model()
    random = np.random.default_rng(9)
    inside = {0.5: 0, 0.8: 0, 0.95: 0}
    reach = {0.5: 0.6745, 0.8: 1.2816, 0.95: 1.96}
    asked = 0
    for _ in range(40):
        terms = draw_terms(truth, random)
        observed, wanted = [], []
        for measured in (3, 2, 0):
            cells = random_cells(random, measured + 4)
            values = with_noise(truth, cells, draw_shot(truth, terms, cells, random), random)
            seen = np.tile(np.arange(measured + 4) < measured, 2)
            observed.append(
                ShotResiduals(
                    Cells(cells.position[seen], cells.log2_scale[seen], cells.kind[seen]),
                    values.values[seen],
                )
            )
            wanted.append(
                ShotResiduals(
                    Cells(cells.position[~seen], cells.log2_scale[~seen], cells.kind[~seen]),
                    values.values[~seen],
                )
            )
        posterior = condition(model, observed)
        for number, (cells, values) in enumerate((w.cells, w.values) for w in wanted):
            spread = np.diag(posterior.covariance(number, cells)) + model.noise[cells.kind]
            off = np.abs(values - posterior.mean(number, cells)) / np.sqrt(spread)
            for share in inside:
                inside[share] += int((off < reach[share]).sum())
            asked += len(cells)
    held = {share: count / asked for share, count in inside.items()}
    assert 0.40 < held[0.5] < 0.62
    assert 0.72 < held[0.8] < 0.88
    assert 0.90 < held[0.95] < 0.985
