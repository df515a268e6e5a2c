"""What jobs leave for training: their measurements as rows, and how far off predictions were.

Every delivered segment is measured, so production makes labels for free. A job publishes the rows
of its title (:mod:`cluster.training.table`) into the store, with what the prediction that it
started from missed (:mod:`ladder.complexity.drift`). ``train --from-store`` trains on the rows; the
misses of all titles under the same weights and recipe tell drift.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from cluster import events
from cluster.jobs.setup import CodecSetup
from cluster.stages.analysis import find_features
from cluster.stages.measurer import Measurer
from cluster.store import Record, Store
from cluster.store.keys import key
from cluster.training.sweep import rows_of_title
from cluster.training.table import Row, read_table, write_table
from encoder.errors import ShotladderError
from ladder.complexity.drift import (
    Drift,
    Miss,
    drift,
    miss,
    miss_document,
    miss_from_document,
)

STAGE = "labels"
LABELS_VERSION = 1


@dataclass(frozen=True, slots=True)
class Prediction:
    """Under what a title was predicted; misses are comparable where it is the same."""

    weights: str
    recipe: str
    quality_model: str


@dataclass(frozen=True, slots=True)
class Labels:
    """What a job left."""

    title: str
    """Digest of the source."""
    name: str
    under: Prediction | None
    miss: Miss | None


def keep_labels(setup: CodecSetup, measurer: Measurer) -> Labels:
    """Publish what a job has measured. The same measurements are published once.

    Raises:
        StoreUnusable: they cannot be written.
    """
    title, store = setup.title, measurer.store
    features = find_features(title.source, store.place)
    # Without a catalogue a file is a group of its own, as in a sweep.
    rows = rows_of_title(title.source.sha256[:16], features, measurer)
    under, missed = None, None
    if setup.prediction is not None:
        under = Prediction(setup.prediction.model, setup.recipe.name, setup.quality_model)
        known = setup.measurements(measurer.known)
        missed = miss(setup.prediction, title.shots, known)
    identity = key(
        STAGE,
        LABELS_VERSION,
        under=asdict(under) if under else None,
        cells=[[*map(str, row.key), row.bits] for row in rows],
    )
    with store.scratch() as scratch:
        write_table(scratch / "rows.parquet", rows)
        store.publish(
            identity,
            value={
                "title": title.source.sha256,
                "name": title.name,
                "under": asdict(under) if under else None,
                "miss": miss_document(missed) if missed else None,
            },
            blobs={"rows": store.put_blob(scratch / "rows.parquet", move=True)},
            stage=STAGE,
            version=LABELS_VERSION,
            title=title.id,
        )
    return Labels(title.source.sha256, title.name, under, missed)


def labels_in(store: Store) -> list[Labels]:
    """What all jobs left."""
    return [_labels(record) for record in _records(store)]


def rows_in(store: Store) -> Iterator[Row]:
    """The rows of all jobs; of several jobs on one title all of them."""
    for record in _records(store):
        yield from read_table(store.path(record.blobs["rows"]))


def _records(store: Store) -> Iterator[Record]:
    return (record for record in store.records(STAGE) if record.version == LABELS_VERSION)


def _labels(record: Record) -> Labels:
    value: dict[str, Any] = record.value
    return Labels(
        title=value["title"],
        name=value["name"],
        under=Prediction(**value["under"]) if value["under"] else None,
        miss=miss_from_document(value["miss"]) if value["miss"] else None,
    )


def drift_under(store: Store, under: Prediction) -> Drift | None:
    """Whether the titles that were predicted alike are off the same way."""
    found = {
        labels.title: labels.miss
        for labels in labels_in(store)
        if labels.under == under and labels.miss is not None
    }
    return drift([found[title] for title in sorted(found)])


def learn_from(setup: CodecSetup, measurer: Measurer, on_event: events.Listener) -> Miss | None:
    """Keep a finished job's labels, and warn of drift. A job does not fail for it.

    Tables, and what is trained on them, know titles of standard range.
    """
    if setup.title.reference.hdr is not None:
        return None
    try:
        labels = keep_labels(setup, measurer)
        drifted = drift_under(measurer.store, labels.under) if labels.under else None
    except ShotladderError as error:
        on_event(events.Warned(f"what this job measured is not kept for training: {error.message}"))
        return None
    if drifted is not None and labels.under is not None:
        on_event(
            events.Warned(
                f"drift: {drifted.titles} titles in the store took {drifted.rate_ratio:.2f} times "
                f"the predicted bits and scored {drifted.quality:+.1f} points against the "
                f"prediction (by chance once in {_rarely(drifted.chance)}); ladders stay right, as "
                f"all is measured, but cost more encodes: train on {labels.under.recipe} with "
                "`shotladder train --from-store`",
                {"titles": drifted.titles, "chance": drifted.chance, **asdict(labels.under)},
            )
        )
    return labels.miss


def _rarely(chance: float) -> str:
    return f"{1 / chance:,.0f}" if chance > 1e-6 else "over a million"
