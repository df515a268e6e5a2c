"""Training, on tiny tables: what is split, what a bound may teach, and that it can be repeated."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from encoder.analysis.features import FEATURE_NAMES
from encoder.media import Size
from encoder.recipes import by_name, x264
from ladder.complexity import training
from ladder.complexity.inputs import INPUT_NAMES, ShotInputs
from ladder.complexity.residuals import QUALITY, RATE
from ladder.complexity.scale import INFORMATIVE_SCORES, warp
from ladder.complexity.training import (
    Example,
    arrays,
    folds,
    held_out,
    title_residuals,
    train,
    train_networks,
)

SIZES = (Size(320, 180), Size(640, 360))
CRFS = (14.0, 24.0, 34.0, 44.0)


def examples(
    groups: int = 4, titles: int = 1, shots: int = 2, recipes: Sequence[str] = ("x264-medium",)
) -> list[Example]:
    """Busier shots take more bits and look worse, as their first feature says."""
    numbers = np.random.default_rng(5)
    found = []
    for group in range(groups):
        for title in range(titles):
            for shot in range(shots):
                features = 0.3 * numbers.standard_normal(len(FEATURE_NAMES))
                busy = float(features[0])
                inputs = ShotInputs(640, 360, 25.0, 50, 0, tuple(features.tolist()))
                for size in SIZES:
                    for crf in CRFS:
                        per_pixel = 0.3 * np.exp(busy - 0.12 * (crf - 14))
                        score = 99 - 0.07 * (crf - 14) ** 1.9 - 12 * (size.height == 180)
                        found += [
                            Example(
                                group=f"group {group}",
                                title=f"title {group}.{title}",
                                shot=f"shot {group}.{title}.{shot}",
                                inputs=inputs,
                                recipe=by_name(recipe),
                                width=size.width,
                                height=size.height,
                                crf=crf,
                                bits=round(per_pixel * 50 * size.width * size.height),
                                quality={"vmaf": score - 3 * busy},
                            )
                            for recipe in recipes
                        ]
    return found


def scored(example: Example, **quality: float) -> Example:
    return Example(
        example.group,
        example.title,
        example.shot,
        example.inputs,
        example.recipe,
        example.width,
        example.height,
        example.crf,
        example.bits,
        quality,
    )


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "STEPS", 12)


@pytest.mark.usefixtures("short")
def test_the_same_examples_give_the_same_model_in_any_order() -> None:
    table = examples()
    said: list[str] = []
    once = train(table, report=said.append)
    mixed = list(table)
    random.Random(3).shuffle(mixed)
    assert train(mixed).to_bytes() == once.to_bytes()
    assert train(table, seed=1).identity != once.identity
    assert train(table[:-1]).identity != once.identity
    assert len([line for line in said if "fold" in line]) == 4
    assert once.facts["groups"] == [f"group {n}" for n in range(4)]
    assert (once.facts["titles"], once.facts["shots"], once.facts["cells"]) == (4, 8, 64)


@pytest.mark.usefixtures("short")
def test_recipes_are_apart_in_all_but_the_networks() -> None:
    """A sparse sweep of a codec weighs as much, shot by shot, as the full one of another."""
    full = examples()
    sparse = [e for e in examples(recipes=("svtav1-medium",)) if e.crf == 24.0]
    data = arrays([*full, *sparse])
    assert [len(title) for title in title_residuals(data, data.targets, 0)] == [2] * 8
    shots = {shot: data.weight[data.shot == shot].sum() for shot in np.unique(data.shot)}
    assert list(shots.values()) == pytest.approx([data.weight.sum() / 16] * 16)
    model = train([*full, *sparse])
    assert model.recipes == ("svtav1-medium", "x264-medium")
    assert (model.facts["titles"], model.facts["shots"]) == (4, 8)
    missed = model.facts["held_out"]
    assert {recipe: of["cells"] for recipe, of in missed.items()} == {
        "svtav1-medium": 16,
        "x264-medium": 64,
    }
    assert all(np.isfinite(of["rate_error_percent"]) for of in missed.values())


@given(
    st.lists(st.integers(0, 8), min_size=1, max_size=40),
    st.integers(1, 6),
)
def test_a_group_is_on_one_side_of_every_fold(numbers: list[int], count: int) -> None:
    groups = np.array([f"g{number}" for number in numbers])
    parts = folds(groups, count)
    assert sum(parts).tolist() == [1] * len(numbers)  # every row is held out once
    for out in parts:
        assert out.any()
        assert not set(groups[out]) & set(groups[~out])
    assert len(parts) == min(count, len(set(numbers)))


def test_folds_are_of_about_equal_size() -> None:
    groups = np.repeat([f"g{n}" for n in range(12)], np.arange(10, 34, 2))
    assert np.ptp([out.sum() for out in folds(groups, 4)]) <= 16


@pytest.mark.usefixtures("short")
def test_predictions_of_a_group_do_not_depend_on_what_was_measured_of_it() -> None:
    table = examples(groups=5)
    strange = [scored(e, vmaf=e.quality["vmaf"] / 2) if e.group == "group 2" else e for e in table]
    plain, other = arrays(table), arrays(strange)
    rows = plain.group == "group 2"
    assert not np.array_equal(plain.targets[rows], other.targets[rows])
    before, after = held_out(plain), held_out(other)
    np.testing.assert_array_equal(before[rows], after[rows])
    assert not np.allclose(before[~rows], after[~rows])


def test_training_learns_what_it_was_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "STEPS", 250)
    data = arrays(examples(groups=6))
    networks, scale, offsets = train_networks(data)
    missed = training.predict_rows(networks, scale, offsets, data) - data.targets
    assert np.abs(missed).mean(axis=0).max() < 0.25 * data.targets.std(axis=0).min()


@pytest.mark.usefixtures("short")
def test_beyond_what_scores_tell_all_of_them_teach_the_same() -> None:
    table = examples()

    def topped(score: float) -> list[Example]:
        return [scored(e, vmaf=score) if e.crf == 14 else e for e in table]

    assert train(topped(99.7)).networks.state_dict().keys()
    one, other = (arrays(topped(score)) for score in (99.7, 100.0))
    np.testing.assert_array_equal(one.targets, other.targets)
    weights = [train_networks(data)[0].state_dict() for data in (one, other)]
    assert all(bool((weights[0][k] == weights[1][k]).all()) for k in weights[0])


def test_of_a_bound_only_the_wrong_side_is_an_error() -> None:
    error = torch.tensor([[-0.5, -0.5], [0.5, 0.5], [float("nan"), 0.5]], requires_grad=True)
    for bound, wrong in (([1, 1], [0]), ([-1, -1], [1]), ([0, 0], [0, 1])):
        of = torch.tensor([bound] * 3, dtype=torch.int8)
        found = training.censored_loss(error, of)
        assert [row for row in range(2) if found[row] > 0] == wrong
    single = training.censored_loss(error[2:, :1], torch.zeros((1, 1), dtype=torch.int8))
    assert single.item() == 0  # what was not scored is no error,
    single.sum().backward()  # type: ignore[no-untyped-call]
    assert error.grad is not None
    assert bool((error.grad[2] == 0).all())  # and pulls nowhere


def test_networks_may_pass_a_bound_that_they_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every score at the top a curve through the bound is as good as one above it; one that
    was pulled back to the bound from both sides would be flat there."""
    monkeypatch.setattr(training, "STEPS", 150)
    table = [scored(e, vmaf=100.0 if e.crf < 40 else 80.0) for e in examples()]
    data = arrays(table)
    networks, scale, offsets = train_networks(data)
    found = training.predict_rows(networks, scale, offsets, data)[:, 1]
    lowest_crf = data.position == data.position.min()
    assert (found[lowest_crf] > warp(np.array(INFORMATIVE_SCORES[1])) + 0.3).mean() > 0.8


def test_residuals_leave_out_what_scores_do_not_tell() -> None:
    table = [scored(e, vmaf=100.0) if e.crf == 14 else e for e in examples()]
    data = arrays(table)
    predicted = data.targets - np.array([0.1, 0.2])
    titles = title_residuals(data, predicted, 0)
    assert [len(title) for title in titles] == [2] * 4
    for title in titles:
        for shot in title:
            kinds = shot.cells.kind
            assert (int((kinds == RATE).sum()), int((kinds == QUALITY).sum())) == (8, 6)
            np.testing.assert_allclose(shot.values, np.where(kinds == RATE, 0.1, 0.2))
            assert -1.0 not in shot.cells.position[kinds == QUALITY]
            assert set(shot.cells.log2_scale.tolist()) == {0.0, -1.0}


@pytest.mark.usefixtures("short")
def test_cells_without_a_score_by_one_model_teach_the_others() -> None:
    """A second model that scored every other shot."""
    table = [
        scored(e, vmaf=e.quality["vmaf"], **({"neg": 60.0} if e.shot.endswith("0") else {}))
        for e in examples()
    ]
    data = arrays(table)
    assert data.qualities == ("neg", "vmaf")
    assert np.isnan(data.scores[:, 0]).sum() == len(table) / 2
    model = train(table)
    assert set(model.residuals) == {"neg", "vmaf"}
    for residuals in model.residuals.values():
        assert np.isfinite(residuals.title).all()
    for parameter in model.networks.parameters():
        assert bool(parameter.isfinite().all())
    assert [len(title) for title in title_residuals(data, data.targets, 0)] == [1] * 4
    found = model.predict([table[0].inputs], SIZES, x264(), "neg", (14.0, 46.0))
    assert np.isfinite(found.warped_quality).all()
    assert np.isfinite(model.facts["held_out"]["x264-medium"]["quality_error"]["neg"])


@pytest.mark.usefixtures("short")
def test_a_model_scored_on_three_groups_of_one_fold_is_left_out() -> None:
    """Folds are made for all models together; one may have all its scores in a single fold."""
    large = examples(groups=8, shots=6)
    few = examples(groups=11, shots=1)
    table = [e for e in large if e.group <= "group 3"]  # four large groups, a fold each,
    names = ("group 8", "group 9", "group 10")  # and three small ones in the fifth
    table += [scored(e, vmaf=e.quality["vmaf"], neg=50.0) for e in few if e.group in names]
    model = train(table)
    assert set(model.residuals) == {"vmaf"}
    assert np.isfinite(model.residuals["vmaf"].title).all()


def test_too_little_to_learn_from() -> None:
    with pytest.raises(ValueError, match="nothing to train on"):
        train([])
    with pytest.raises(ValueError, match="3 groups"):
        train(examples(groups=2))


def test_a_model_scored_on_few_groups_is_left_out() -> None:
    table = [
        scored(e, vmaf=80.0, **({"neg": 70.0} if e.group < "group 2" else {})) for e in examples()
    ]
    assert arrays(table).qualities == ("vmaf",)


def test_a_shot_counts_as_one_however_often_it_was_measured() -> None:
    table = examples(groups=3, shots=2)
    thinned = [e for e in table if not e.shot.endswith("1") or e.crf == 14]
    data = arrays(thinned)
    by_shot = {shot: data.weight[data.shot == shot].sum() for shot in np.unique(data.shot)}
    assert np.ptp(list(by_shot.values())) < 1e-9
    assert data.weight.mean() == pytest.approx(1.0)
    many = arrays([*examples(groups=3, shots=1), *examples(groups=4, shots=4)[-32:]])
    of = {group: many.weight[many.group == group].sum() for group in np.unique(many.group)}
    assert of["group 3"] == pytest.approx(2 * of["group 0"])  # four shots count as two


def test_rows_are_what_was_measured() -> None:
    table = examples(recipes=("x264-medium", "svtav1-fast"))
    data = arrays(table)
    assert data.inputs.shape == (len(table), len(INPUT_NAMES))
    for row in (0, 3, len(table) - 1):
        example = table[row]
        pixels = example.width * example.height
        assert data.targets[row, 0] == pytest.approx(np.log(example.bits / (pixels * 50)))
        assert data.scores[row, 0] == example.quality["vmaf"]
        middle, half = (30, 16) if example.recipe == x264() else (39, 24)
        assert data.position[row] == pytest.approx((example.crf - middle) / half)
        assert data.log2_scale[row] == (0.0 if example.height == 360 else -1.0)
