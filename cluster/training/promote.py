"""``promote``: judge new weights against the current ones on titles that neither was trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.training.dataset import TableTitle, shot_inputs, table_titles
from cluster.training.table import Row
from encoder.errors import BadInput
from ladder.complexity.drift import Comparison, Miss, compare, miss, miss_document
from ladder.profiles import load_profile
from vmaf import models

if TYPE_CHECKING:
    from ladder.complexity.model import ComplexityModel


@dataclass(frozen=True, slots=True)
class JudgedTitle:
    """A title that both models predicted."""

    title: str
    """Name of the title, with the recipe where there are several."""
    recipe: str
    """Name of the recipe."""
    source: str
    """Digest of the source, which titles of several recipes share."""
    current: Miss
    """Error of the current weights."""
    new: Miss
    """Error of the new weights."""


@dataclass(frozen=True, slots=True)
class WeightsComparison:
    """Two models on the same measurements."""

    titles: tuple[JudgedTitle, ...]
    seen: int
    """Number of titles left out because one of the models was trained on them."""
    comparison: Comparison
    """Whether the new weights are better, over all titles and recipes."""
    by_recipe: Mapping[str, Comparison]
    """The same for each recipe, by its name."""

    @property
    def worse_for(self) -> tuple[str, ...]:
        """Names of the recipes that the new weights predict worse."""
        return tuple(name for name, own in self.by_recipe.items() if own.worse)

    @property
    def better(self) -> bool:
        """True where the new weights should take over: better over all, and worse for no recipe."""
        return self.comparison.better and not self.worse_for


def promote(
    current_weights: Path, new_weights: Path, rows: Sequence[Row], to: Path | None
) -> WeightsComparison:
    """Compare two models, and write the new weights to ``to`` if they are better.

    Raises:
        BadInput: a file cannot be read or written.
    """
    from ladder.complexity.model import load_model

    result = compare_weights(current_weights, new_weights, rows)
    if to is not None and result.better:
        load_model(new_weights).save(to)
    return result


def compare_weights(
    current_weights: Path, new_weights: Path, rows: Sequence[Row]
) -> WeightsComparison:
    """Predict every title of ``rows`` by both models and compare that with the measurements.

    A prediction follows from features and weights alone, so the new model predicts what it would
    have predicted before the run. It decides nothing.

    Raises:
        BadInput: a file is not usable.
    """
    from ladder.complexity.model import load_model

    current_model, new_model = load_model(current_weights), load_model(new_weights)
    judged: list[JudgedTitle] = []
    seen = 0
    for title in table_titles(rows):
        if _was_trained_on(current_model, title) or _was_trained_on(new_model, title):
            seen += 1
            continue
        current, new = _miss(current_model, title), _miss(new_model, title)
        if current is not None and new is not None:
            recipe, source = title.shape.recipe.name, title.shot_rows[0].source_sha256
            judged.append(JudgedTitle(title.name, recipe, source, current, new))
    recipes = sorted({each.recipe for each in judged})
    return WeightsComparison(
        tuple(judged),
        seen,
        _compared(judged),
        {name: _compared([each for each in judged if each.recipe == name]) for name in recipes},
    )


def _compared(judged: Sequence[JudgedTitle]) -> Comparison:
    return compare(
        [each.current for each in judged],
        [each.new for each in judged],
        [each.source for each in judged],
    )


def _was_trained_on(model: ComplexityModel, title: TableTitle) -> bool:
    sources = {row.source_sha256 for row in title.cells.values()}
    return title.group in model.facts["groups"] or bool(
        sources & set(model.facts.get("sources", ()))
    )


def _miss(model: ComplexityModel, title: TableTitle) -> Miss | None:
    """Return a model's error on a title; None if the model does not know the codec or the quality
    model."""
    shape, measurements = title.shape, title.measurements
    grid = load_profile("default").crf_grid.get(shape.recipe.codec, ())
    crfs = [*(point.crf for _, point in measurements), *grid]
    try:
        prediction = model.predict(
            [shot_inputs(row) for row in title.shot_rows],
            shape.sizes,
            shape.recipe,
            title.quality_model,
            (min(crfs, default=math.nan), max(crfs, default=math.nan)),
            models.similar_models(title.quality_model),
        )
    except BadInput:
        return None
    return miss(prediction, shape.shots, measurements)


def title_facts(judged: JudgedTitle) -> dict[str, Any]:
    """Return a title's figures for documents."""
    return {
        "title": judged.title,
        "recipe": judged.recipe,
        "current": miss_document(judged.current),
        "new": miss_document(judged.new),
    }


def comparison_facts(result: WeightsComparison) -> dict[str, Any]:
    """Return the figures of a comparison for documents."""
    return {
        "seen": result.seen,
        "better": result.better,
        **asdict(result.comparison),
        "recipes": {name: asdict(own) for name, own in result.by_recipe.items()},
        "worse_for": list(result.worse_for),
    }
