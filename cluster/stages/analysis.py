"""The analysis pass: one decode of a title gives its shots, their features and its stills.

Each of the three results has a record of its own. A pass makes those that the store lacks.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cluster import events
from cluster.execution.executor import Executor, InlineExecutor, Task
from cluster.stages.damage import NO_DAMAGE, Damage, damage_of_transport
from cluster.stages.first_pass import ANALYSERS, analyse_sections, joined_sections, one_pass
from cluster.stages.quarantine import title_store
from cluster.stages.stage import Made, publish, require
from cluster.stages.title import Title, TitleSource
from cluster.store import Record, Store, open_store
from cluster.store.keys import key
from encoder.analysis.damage import PictureDamage
from encoder.analysis.features import (
    FEATURE_NAMES,
    FEATURES_VERSION,
    FeatureExtractor,
    ShotFeatures,
    reduce_shot,
)
from encoder.analysis.frames import feed, small_frames
from encoder.analysis.segments import plan_segments
from encoder.analysis.shots import find_cuts
from encoder.media import Shot
from encoder.names import shown
from recommender.artwork.faces import FACES_VERSION, models_sha256
from recommender.artwork.sampling import SAMPLING_VERSION
from recommender.artwork.scrub import SCRUB_VERSION, ScrubSampler, ScrubTrack
from recommender.artwork.stills import Stills

SHOTS_VERSION = 2
"""Version of shot detection and planning in the key of a title's shots."""

FEATURES_DTYPE = np.dtype("<f4")
"""Type of the features in the store, where the vectors of the shots follow one another."""


def shots_key(source: TitleSource) -> str:
    """Return the store key of a title's shots, or of its segments where they are others."""
    return key(
        "shots",
        SHOTS_VERSION,
        source=source.sha256,
        reference=source.reference.graph_id,
        tools={name: version(name) for name in ANALYSERS},
        **source.segmentation.key_parameters(),
    )


def features_key(source: TitleSource) -> str:
    """Return the store key of the features of the shots that :func:`find_shots` finds."""
    return key("features", FEATURES_VERSION, shots=shots_key(source))


def stills_key(source: TitleSource) -> str:
    """Return the store key of a title's measured stills and scrub track."""
    return key(
        "stills",
        SAMPLING_VERSION,
        source=source.sha256,
        reference=source.reference.graph_id,
        tools={name: version(name) for name in ANALYSERS},
        scrub=SCRUB_VERSION,
        faces=(FACES_VERSION, models_sha256()),
    )


def find_title(
    path: Path, source: TitleSource, store: Store, executor: Executor, on_event: events.Listener
) -> Title:
    """Return an opened source with its shots, which are detected on ``executor`` if need be.

    A long title is analysed in sections (:mod:`cluster.stages.first_pass`).

    Raises:
        SourceUnusable: a frame does not decode.
    """
    frames = source.reference.frames
    # With a store behind a URL, workers do not see the source: it is cut at its shots for them.
    running = InlineExecutor() if store.remote else executor
    bound = title_store(store, source)
    if all(bound.get(each) for each in _keys(source)):
        on_event(events.StagePlanned("shots", frames, unit="frames"))
    else:
        analyse_sections(source, bound, running, on_event)
    task = Task(id="shots", function=find_shots, arguments=(source, store.place), label="shots")
    (outcome,) = running.run([task])
    if outcome.error is not None:
        raise outcome.error
    on_event(events.StageProgress("shots", frames, frames))
    return Title(name=shown(path.name), source=source, shots=outcome.result)


def find_shots(source: TitleSource, place: str) -> tuple[Shot, ...]:
    """Return the title's shots, from the store at ``place`` or by a pass. Runs on any worker.

    Raises:
        SourceUnusable: a frame does not decode.
    """
    store = title_store(open_store(place), source)
    return _shots(_find_or_analyse(source, store, shots_key(source)))


def find_features(source: TitleSource, place: str) -> tuple[ShotFeatures, ...]:
    """Return the features of the title's shots, in order. Runs on any worker.

    A second decode happens only where the store has shots without features, or with features of
    another version.

    Raises:
        SourceUnusable: a frame does not decode.
    """
    store = title_store(open_store(place), source)
    record = _find_or_analyse(source, store, features_key(source))
    vectors = np.frombuffer(store.path(record.blobs["vectors"]).read_bytes(), FEATURES_DTYPE)
    return tuple(
        ShotFeatures(tuple(row.tolist())) for row in vectors.reshape(record.value["shape"])
    )


def find_stills(source: TitleSource, place: str) -> tuple[Stills, ScrubTrack]:
    """Return the title's measured stills and its scrub track. Runs on any worker.

    Raises:
        SourceUnusable: a frame does not decode.
    """
    store = title_store(open_store(place), source)
    record = _find_or_analyse(source, store, stills_key(source))
    with np.load(store.path(record.blobs["stills"]), allow_pickle=False) as arrays:
        stills = Stills.of_arrays(arrays)
    sheets = tuple(store.path(record.blobs[name]).read_bytes() for name in record.value["sheets"])
    return stills, ScrubTrack.of(record.value["scrub"], sheets)


def known_damage(source: TitleSource, store: Store) -> Damage:
    """Return the damage that the analysis in the store found: none where there is no analysis."""
    for identity in (features_key(source), stills_key(source)):
        record = store.get(identity)
        if record is not None and "damage" in record.value:
            return Damage.of(record.value["damage"])
    return NO_DAMAGE


def analysis_cpu_seconds(source: TitleSource, store: Store) -> float:
    """Return the CPU seconds that the analysis in the store took; 0 where there is none."""
    record = store.get(features_key(source))
    return 0.0 if record is None else record.cpu_seconds.get("other", 0.0)


def extract_features(source: TitleSource, shots: Sequence[Shot]) -> tuple[ShotFeatures, ...]:
    """Return the features of any shots of a title, by a decode whose result is not stored.

    Raises:
        SourceUnusable: a frame does not decode.
    """
    extractor = FeatureExtractor.of(source.reference)
    feed(small_frames(source.reference), extractor)
    return extractor.shots(shots)


def _find_or_analyse(source: TitleSource, store: Store, identity: str) -> Record:
    record = store.get(identity)
    if record is None:
        _analyse(source, store)
        record = require(store, identity, "an analysis")
    return record


def _keys(source: TitleSource) -> tuple[str, str, str]:
    return shots_key(source), features_key(source), stills_key(source)


def _analyse(source: TitleSource, store: Store) -> None:
    """Publish all results that the store lacks, from its sections or by decoding the title once."""
    reference = source.reference
    keys = _keys(source)
    with store.claim(*keys):
        shots, features, stills = (store.get(each) for each in keys)
        if shots is not None and features is not None and stills is not None:
            return
        found, pictures = joined_sections(source, store), PictureDamage()
        if found is None:
            found, pictures = one_pass(reference)
        damage = Damage(pictures, damage_of_transport(reference))
        if shots is None:
            planned = plan_segments(
                find_cuts(found.measures),
                reference.frames,
                reference.frame_rate,
                source.segmentation,
            )
            shots = publish(
                store,
                shots_key(source),
                Made([[shot.start, shot.end, list(shot.cuts)] for shot in planned]),
                stage="shots",
                version=SHOTS_VERSION,
                title=source.id,
            )
        if stills is None:
            scrub = ScrubSampler.of(reference)
            for tile in found.tiles:
                scrub.add(tile)
            publish(
                store,
                stills_key(source),
                _made_stills(found.stills, scrub.track(), damage),
                stage="stills",
                version=SAMPLING_VERSION,
                title=source.id,
            )
        if features is None:
            vectors = [reduce_shot(found.numbers, found.rows, shot) for shot in _shots(shots)]
            publish(
                store,
                features_key(source),
                _made_features(vectors, found.cpu_seconds, damage),
                stage="features",
                version=FEATURES_VERSION,
                title=source.id,
            )


def _made_stills(stills: Stills, track: ScrubTrack, damage: Damage) -> Made:
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **stills.arrays())
    sheets = {f"sheet{number:03d}": sheet for number, sheet in enumerate(track.sheets)}
    return Made(
        {"scrub": track.facts(), "sheets": list(sheets), **_noted(damage)},
        {"stills": file.getvalue(), **sheets},
    )


def _made_features(features: Sequence[ShotFeatures], cpu_seconds: float, damage: Damage) -> Made:
    vectors = np.array([shot.values for shot in features], FEATURES_DTYPE)
    return Made(
        {"names": list(FEATURE_NAMES), "shape": list(vectors.shape), **_noted(damage)},
        {"vectors": vectors.tobytes()},
        {"other": cpu_seconds},
    )


def _noted(damage: Damage) -> dict[str, Any]:
    return {"damage": damage.document()} if damage != NO_DAMAGE else {}


def _shots(record: Record) -> tuple[Shot, ...]:
    return tuple(Shot(start, end, tuple(cuts)) for start, end, cuts in record.value)
