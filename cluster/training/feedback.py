"""What runs leave for training: their measurements as rows, and how far off predictions were.

A run measures every segment that it delivers, so production makes training data for free. A run
publishes the rows of its title (:mod:`cluster.training.table`) in the store, recipe by recipe,
together with the error of the recipe's prediction (:mod:`ladder.complexity.drift`). ``train
--from-store`` trains on the rows. The errors of all titles that the same weights predicted for the
same recipe show drift.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cluster import events
from cluster.stages.analysis import find_features
from cluster.stages.measurer import Measurer
from cluster.stages.stage import Made, find_or_make
from cluster.store import Record, Store
from cluster.store.keys import key
from cluster.training.rows import TrainingTitle
from cluster.training.table import Row, read_table, write_table
from encoder.errors import ShotladderError
from encoder.recipes import Recipe
from ladder.complexity.drift import (
    Drift,
    Miss,
    drift,
    miss,
    miss_document,
    miss_from_document,
)
from ladder.complexity.prediction import TitlePrediction
from vmaf.sampled import step_of

STAGE = "labels"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Predictor:
    """What a prediction was made by. Errors of equal predictors are comparable."""

    weights: str
    """Identity of the weights."""
    recipe: str
    """Name of the recipe."""
    quality_model: str


@dataclass(frozen=True, slots=True)
class Feedback:
    """What one run left."""

    title: str
    """Digest of the source."""
    name: str
    """File name of the source."""
    predictor: Predictor | None
    """What the title was predicted by; None if the run did not predict."""
    miss: Miss | None
    """Error of the prediction; None if the run did not predict."""


def save_training_rows(
    measurer: Measurer,
    predictions: Mapping[Recipe, TitlePrediction | None],
    on_event: events.Listener,
) -> dict[Recipe, Miss]:
    """Save the measurements of a run for training, and warn about drift.

    Failures are reported, never raised. Titles of high dynamic range are not saved, as tables and
    training support standard range only, nor are titles of which only some frames have a score.

    Args:
        measurer: Measurer that knows all measurements of the run.
        predictions: Prediction that the run started from, if there was one, by recipe; the first
            codec's first.
        on_event: Receives warnings.

    Returns:
        The errors of the predictions by recipe, where there was one.
    """
    if measurer.title.reference.hdr is not None or step_of(measurer.models[0]) > 1:
        return {}
    try:
        found = publish_feedback(measurer, predictions)
        predictors = [one.predictor for one in found if one.predictor is not None]
        drifts = [(drift_of(measurer.store, predictor), predictor) for predictor in predictors]
    except ShotladderError as error:
        message = f"the measurements of this run were not saved for training: {error.message}"
        on_event(events.Warned(message))
        return {}
    for drifted, predictor in drifts:
        if drifted is not None:
            facts = {"titles": drifted.titles, "chance": drifted.chance, **asdict(predictor)}
            on_event(events.Warned(_drift_warning(drifted, predictor), facts))
    missed = {one.predictor.recipe: one.miss for one in found if one.predictor and one.miss}
    return {recipe: missed[recipe.name] for recipe in predictions if recipe.name in missed}


def _drift_warning(drifted: Drift, predictor: Predictor) -> str:
    odds = f"{1 / drifted.chance:,.0f}" if drifted.chance > 1e-6 else "more than a million"
    return (
        f"drift: {drifted.titles} titles in the store that were encoded with {predictor.recipe} "
        f"took {drifted.rate_ratio:.2f} times the predicted bits and scored "
        f"{drifted.quality:+.1f} points against the prediction (chance of a false alarm: 1 in "
        f"{odds}). Ladders are still correct, since everything is measured, but take more "
        "encodes; train on that recipe with `shotladder train --from-store`"
    )


def publish_feedback(
    measurer: Measurer, predictions: Mapping[Recipe, TitlePrediction | None]
) -> list[Feedback]:
    """Publish the measurements of a run, one record for each of ``predictions``.

    Measurements of other recipes go into the first record. The same measurements are published
    once.

    Raises:
        StoreUnusable: the store cannot be read or written.
    """
    title, store = measurer.title, measurer.store
    # Without a catalogue a file is a group of its own, as in a sweep.
    features = find_features(title.source, store.place)
    training = TrainingTitle(title.id, title.name, "", title.source, title.shots, features)
    recipes = list(predictions)
    rows: dict[Recipe, list[Row]] = {recipe: [] for recipe in recipes}
    for request in sorted(measurer.known):
        own = request[1].recipe
        rows[own if own in rows else recipes[0]] += training.measured_rows(measurer, [request])
    return [_publish(measurer, recipe, predictions[recipe], rows[recipe]) for recipe in recipes]


def _publish(
    measurer: Measurer, recipe: Recipe, prediction: TitlePrediction | None, rows: Sequence[Row]
) -> Feedback:
    title = measurer.title
    predictor, missed = None, None
    if prediction is not None:
        predictor = Predictor(prediction.model, recipe.name, measurer.models[0])
        missed = miss(prediction, title.shots, measurer.measurements(recipe))
    identity = key(
        STAGE,
        VERSION,
        under=asdict(predictor) if predictor else None,
        cells=[[*map(str, row.key), row.bits] for row in rows],
    )

    def make(scratch: Path) -> Made:
        write_table(scratch / "rows.parquet", rows)
        value = {
            "title": title.source.sha256,
            "name": title.name,
            "under": asdict(predictor) if predictor else None,
            "miss": miss_document(missed) if missed else None,
        }
        return Made(value, {"rows": scratch / "rows.parquet"})

    find_or_make(measurer.store, identity, make, stage=STAGE, version=VERSION, title=title.id)
    return Feedback(title.source.sha256, title.name, predictor, missed)


def feedback_in(store: Store) -> list[Feedback]:
    """Return what all runs left in a store."""
    return [_feedback(record) for record in _records(store)]


def rows_in(store: Store) -> Iterator[Row]:
    """Yield the rows of all runs. Several runs of one title may yield the same cell."""
    for record in _records(store):
        yield from read_table(store.path(record.blobs["rows"]))


def _records(store: Store) -> Iterator[Record]:
    return (record for record in store.records(STAGE) if record.version == VERSION)


def _feedback(record: Record) -> Feedback:
    value: dict[str, Any] = record.value
    return Feedback(
        title=value["title"],
        name=value["name"],
        predictor=Predictor(**value["under"]) if value["under"] else None,
        miss=miss_from_document(value["miss"]) if value["miss"] else None,
    )


def drift_of(store: Store, predictor: Predictor) -> Drift | None:
    """Return the drift of the titles of one predictor; None if their errors show none."""
    misses = {
        feedback.title: feedback.miss
        for feedback in feedback_in(store)
        if feedback.predictor == predictor and feedback.miss is not None
    }
    return drift([misses[title] for title in sorted(misses)])
