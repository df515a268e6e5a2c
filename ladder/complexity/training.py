"""Training: from a table of measured cells to a model, to be read from top to bottom.

Everything is split by group: titles that share footage are in one fold. The covariance of errors
comes from folds that the networks did not see, so it holds for new titles; the networks that are
kept are trained on everything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from encoder.arrays import AnyArray, Float64, Mask
from encoder.recipes import Recipe
from ladder.complexity.inputs import INPUT_NAMES, ShotInputs, crf_position, vector
from ladder.complexity.model import ComplexityModel, InputScale
from ladder.complexity.network import CurveNetworks
from ladder.complexity.residual_fit import fit
from ladder.complexity.residuals import QUALITY, RATE, Cells, ResidualModel, ShotResiduals
from ladder.complexity.scale import censored, unwarp, warp

MEMBERS = 5
"""Number of networks in the ensemble."""
STEPS = 700
"""Number of optimiser steps."""
BATCH = 1024
"""Number of cells in a step."""
LEARNING_RATE = 4e-3
WEIGHT_DECAY = 0.3
BEND = 0.2
"""Error in units of the predicted scales above which it counts linearly (Huber)."""
FOLDS = 5
"""Number of folds for held-out predictions."""
LEAST_GROUPS = 3
"""Number of groups that a quality model has to be measured on to be learned."""
MOST_CELLS = 24
"""Number of cells of a shot that the covariance is fitted to: more of them add little."""
BOOTSTRAP = 0.75
"""Share of a group's weight that differs from member to member."""


@dataclass(frozen=True, slots=True)
class Example:
    """One measured cell."""

    group: str
    """Group of titles that share footage; never split between folds."""
    title: str
    shot: str
    """Name of the shot, unique over all titles."""
    inputs: ShotInputs
    recipe: Recipe
    width: int
    height: int
    crf: float
    bits: int
    quality: Mapping[str, float]
    """Mean scores by quality model; not every cell was scored by every model."""
    source: str = ""
    """Identity of the source file. A model keeps those of its training, to be judged on others."""


@dataclass(frozen=True, slots=True)
class Data:
    """Examples as arrays, one row per example."""

    inputs: Float64
    """Inputs of the networks, shape ``[rows, INPUT_NAMES]``."""
    position: Float64
    """Position on the codec's CRF scale."""
    log2_scale: Float64
    """Base-2 logarithm of the linear scale against the title's own size."""
    targets: Float64
    """Log rate and warped qualities, shape ``[rows, 1 + qualities]``."""
    scores: Float64
    """Measured qualities, NaN where not measured, shape ``[rows, qualities]``."""
    weight: Float64
    """Weight of the row in the loss."""
    group: NDArray[np.str_]
    recipe: NDArray[np.str_]
    title: NDArray[np.str_]
    """Title and recipe, as errors on one codec's curves are not those on another's."""
    shot: NDArray[np.str_]
    """Shot and recipe, so that a shot has the same weight under every recipe."""
    qualities: tuple[str, ...]
    """Quality models, in the order of the columns."""

    def only(self, rows: AnyArray) -> Data:
        """Return the data of some rows."""
        return Data(
            self.inputs[rows],
            self.position[rows],
            self.log2_scale[rows],
            self.targets[rows],
            self.scores[rows],
            self.weight[rows],
            self.group[rows],
            self.recipe[rows],
            self.title[rows],
            self.shot[rows],
            self.qualities,
        )


def arrays(examples: Sequence[Example]) -> Data:
    """Return examples as arrays.

    Raises:
        ValueError: there are no examples, or no quality model was measured on enough groups in
            more than one fold (:func:`folds`), so that errors cannot be told.
    """
    if not examples:
        raise ValueError("there is nothing to train on")
    groups_of: dict[str, set[str]] = {}
    for example in examples:
        for model in example.quality:
            groups_of.setdefault(model, set()).add(example.group)
    qualities = tuple(sorted(m for m, groups in groups_of.items() if len(groups) >= LEAST_GROUPS))
    if not qualities:
        raise ValueError(f"no quality model was measured on {LEAST_GROUPS} groups")
    pixels = np.array([e.width * e.height for e in examples], dtype=np.float64)
    frames = np.array([e.inputs.frames for e in examples])
    own = np.array([e.inputs.title_width * e.inputs.title_height for e in examples])
    rate = np.log(np.array([e.bits for e in examples]) / (pixels * frames))
    scores = np.array([[e.quality.get(m, np.nan) for m in qualities] for e in examples])
    recipe = np.array([str(e.recipe) for e in examples])
    shot = np.array([f"{e.shot}/{e.recipe}" for e in examples])
    group = np.array([e.group for e in examples])
    kept = np.all([np.isfinite(scores[~out]).any(axis=0) for out in folds(group)], axis=0)
    if not kept.any():
        raise ValueError("every quality model has all its scores in one fold of the groups")
    qualities = tuple(m for m, keep in zip(qualities, kept, strict=True) if keep)
    scores = scores[:, kept]
    _, of_shot, cells = np.unique(shot, return_inverse=True, return_counts=True)
    weight = 1 / cells[of_shot]  # a shot counts as one, however many cells it has,
    _, of_group = np.unique(group, return_inverse=True)
    weight = weight / np.sqrt(np.bincount(of_group, weight)[of_group])  # a large group as few
    return Data(
        inputs=np.stack([vector(e.inputs, e.width, e.height, e.recipe) for e in examples]),
        position=np.array([float(crf_position(e.recipe.codec, e.crf)) for e in examples]),
        log2_scale=0.5 * np.log2(pixels / own),
        targets=np.column_stack([rate, warp(scores)]),
        scores=scores,
        weight=weight / weight.mean(),
        group=group,
        recipe=recipe,
        title=np.array([f"{e.title}/{e.recipe}" for e in examples]),
        shot=shot,
        qualities=qualities,
    )


def train_networks(data: Data, seed: int = 0) -> tuple[CurveNetworks, InputScale, Float64]:
    """Return networks, the scale of their inputs, and the offsets of their curves."""
    torch.manual_seed(seed)
    scale = InputScale.of(data.inputs)
    offsets = np.nanmean(data.targets, axis=0)
    inputs = torch.tensor(scale(data.inputs), dtype=torch.float32)
    position = torch.tensor(data.position, dtype=torch.float32)
    targets = torch.tensor(data.targets - offsets, dtype=torch.float32)
    bound = torch.zeros(targets.shape, dtype=torch.int8)
    bound[:, 1:] = torch.tensor(censored(data.scores))
    weight = _member_weights(data, seed)
    networks = CurveNetworks(MEMBERS, inputs.shape[1], targets.shape[1]).train()
    optimiser = torch.optim.AdamW(
        networks.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=STEPS)
    for _ in range(STEPS):
        batch = torch.randint(0, len(inputs), (min(BATCH, len(inputs)),))
        error = networks(inputs[batch], position[batch]) - targets[batch]
        loss = (censored_loss(error, bound[batch]) * weight[:, batch]).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return networks.eval(), scale, offsets


def _member_weights(data: Data, seed: int) -> Tensor:
    """Return weights ``[MEMBERS, rows]``: each member sees groups a different number of times."""
    random = np.random.default_rng(seed)
    names, of_group = np.unique(data.group, return_inverse=True)
    drawn = random.integers(0, len(names), (MEMBERS, len(names)))
    times = np.stack([np.bincount(draw, minlength=len(names)) for draw in drawn])
    weight = (1 - BOOTSTRAP + BOOTSTRAP * times[:, of_group]) * data.weight
    return torch.tensor(weight, dtype=torch.float32)


def censored_loss(error: Tensor, bound: Tensor) -> Tensor:
    """Return the Huber loss summed over curves.

    Of a bound only the wrong side counts; a missing score does not count at all.
    """
    error = torch.where(bound > 0, error.clamp(max=0.0), error)
    error = torch.where(bound < 0, error.clamp(min=0.0), error)
    error = torch.nan_to_num(error)
    return nn.functional.huber_loss(
        error, torch.zeros_like(error), reduction="none", delta=BEND
    ).sum(-1)


def folds(groups: NDArray[np.str_], count: int = FOLDS) -> list[Mask]:
    """Return the rows to hold out in each fold: whole groups, folds of about equal size."""
    names, sizes = np.unique(groups, return_counts=True)
    fold_of: dict[str, int] = {}
    filled = [0] * min(count, len(names))
    for number in np.argsort(-sizes, kind="stable"):
        emptiest = filled.index(min(filled))
        fold_of[str(names[number])] = emptiest
        filled[emptiest] += int(sizes[number])
    fold = np.array([fold_of[str(group)] for group in groups])
    return [fold == number for number in range(len(filled))]


def held_out(data: Data, seed: int = 0, report: Callable[[str], None] = lambda _: None) -> Float64:
    """Return predictions for every row by networks that did not see its group, like ``targets``."""
    predicted = np.empty_like(data.targets)
    parts = folds(data.group)
    for number, out in enumerate(parts, 1):
        report(f"fold {number} of {len(parts)}")
        networks, scale, offsets = train_networks(data.only(~out), seed)
        predicted[out] = predict_rows(networks, scale, offsets, data.only(out))
    return predicted


def predict_rows(
    networks: CurveNetworks, scale: InputScale, offsets: Float64, data: Data
) -> Float64:
    """Return the networks' predictions for every row, like ``targets``."""
    with torch.inference_mode():
        values = networks(
            torch.tensor(scale(data.inputs), dtype=torch.float32),
            torch.tensor(data.position, dtype=torch.float32),
        )
    return np.asarray(values.mean(dim=0).double().numpy() + offsets)


def title_residuals(data: Data, predicted: Float64, quality: int) -> list[list[ShotResiduals]]:
    """Return measured minus predicted of every shot, for titles with scores of quality model number
    ``quality``."""
    scored = ~np.isnan(data.scores[:, quality])
    clear = scored & (censored(np.nan_to_num(data.scores[:, quality])) == 0)
    titles = []
    for title in np.unique(data.title[scored]):
        shots = []
        for shot in np.unique(data.shot[scored & (data.title == title)]):
            rows = np.flatnonzero(scored & (data.shot == shot))
            rows = rows[:: math.ceil(len(rows) / MOST_CELLS)]
            scores = rows[clear[rows]]
            both = np.concatenate([rows, scores])
            kind = np.repeat([RATE, QUALITY], [len(rows), len(scores)])
            left = data.targets[both] - predicted[both]
            values = np.where(kind == RATE, left[:, 0], left[:, 1 + quality])
            shots.append(
                ShotResiduals(Cells(data.position[both], data.log2_scale[both], kind), values)
            )
        titles.append(shots)
    return titles


def train(
    examples: Sequence[Example],
    *,
    seed: int = 0,
    report: Callable[[str], None] = lambda _: None,
) -> ComplexityModel:
    """Train a model on measured cells; the same examples and seed give the same model.

    Raises:
        ValueError: the examples are too few to train on.
    """
    ordered = sorted(examples, key=lambda e: (e.shot, e.recipe, e.width * e.height, e.crf))
    data = arrays(ordered)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in another order are another model
    try:
        predicted = held_out(data, seed, report)
        report("covariance of what was missed")
        residuals: dict[str, ResidualModel] = {}
        for number, quality in enumerate(data.qualities):
            residuals[quality] = fit(title_residuals(data, predicted, number))
        report("networks on everything")
        networks, scale, offsets = train_networks(data, seed)
    finally:
        torch.set_num_threads(threads)
    return ComplexityModel(
        networks=networks,
        scale=scale,
        offsets=offsets,
        qualities=data.qualities,
        residuals=residuals,
        facts=_facts(ordered, data, predicted, seed),
    )


def _facts(
    examples: Sequence[Example], data: Data, predicted: Float64, seed: int
) -> dict[str, Any]:
    return {
        "recipes": sorted({str(example.recipe) for example in examples}),
        "groups": sorted({example.group for example in examples}),
        "sources": sorted({example.source for example in examples if example.source}),
        "titles": len({example.title for example in examples}),
        "shots": len({example.shot for example in examples}),
        "cells": len(examples),
        "seed": seed,
        "inputs": len(INPUT_NAMES),
        "held_out": {
            recipe: _missed(data.only(rows), predicted[rows])
            for recipe in np.unique(data.recipe).tolist()
            for rows in [data.recipe == recipe]
        },
    }


def _missed(data: Data, predicted: Float64) -> dict[str, Any]:
    rate = np.abs(data.targets[:, 0] - predicted[:, 0])
    points = np.abs(data.scores - unwarp(predicted[:, 1:]))
    return {
        "cells": len(rate),
        "shots": len(np.unique(data.shot)),
        "groups": len(np.unique(data.group)),
        "rate_error_percent": round(100 * math.expm1(float(rate.mean())), 2),
        "quality_error": {
            quality: round(float(np.nanmean(column)), 3)
            for quality, column in zip(data.qualities, points.T, strict=True)
            if np.isfinite(column).any()
        },
    }
