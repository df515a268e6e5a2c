"""A title made ready: its source planned and digested, its shots found, its facts collected."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from cluster import events
from cluster.execution.executor import Executor, InlineExecutor, Task
from cluster.stages.encodes import TitleSource
from cluster.store import Record, Store, open_store
from cluster.store.files import file_sha256
from cluster.store.keys import key
from encoder import ffmpeg
from encoder.analysis.features import (
    FEATURE_NAMES,
    FEATURES_VERSION,
    FeatureExtractor,
    ShotFeatures,
)
from encoder.analysis.frames import Analyser, feed, small_frames
from encoder.analysis.shots import CutDetector, plan_shots
from encoder.errors import BadInput, SourceUnusable, StoreUnusable
from encoder.media import Shot
from encoder.source import tonemap
from encoder.source.reference import ReferenceSource
from encoder.source.sandbox import plan_guarded
from ladder.document import TitleFacts
from recommender.artwork.sampling import SAMPLING_VERSION, StillSampler
from recommender.artwork.scrub import SCRUB_VERSION, ScrubSampler, ScrubTrack
from recommender.artwork.stills import Stills

SHOTS_VERSION = 2
"""Part of the key of a title's shots: raise it when detection or planning changes."""

FEATURES_DTYPE = np.dtype("<f4")
"""Of features as the store keeps them: shots one after the other."""

# Distributions that decide what the analysis sees and says.
_ANALYSERS = ("av", "numpy", "opencv-python", "scenedetect")


@dataclass(frozen=True, slots=True)
class Title:
    """A source and its shots."""

    name: str
    """File name of the source."""
    source: TitleSource
    shots: tuple[Shot, ...]

    @property
    def reference(self) -> ReferenceSource:
        """How its canonical frames are read."""
        return self.source.reference

    @property
    def id(self) -> str:
        """First 16 hexadecimal digits of the source's digest."""
        return self.source.sha256[:16]

    def facts(self, audio: bool) -> TitleFacts:
        """As ``ladder.json`` has them."""
        reference = self.reference
        rate = reference.frame_rate
        return TitleFacts(
            id=self.id,
            source=self.name,
            sha256=self.source.sha256,
            width=reference.width,
            height=reference.height,
            frame_rate=f"{rate.numerator}/{rate.denominator}",
            frames=reference.frames,
            source_bitrate=reference.index.bitrate,
            audio=audio,
            hdr=reference.hdr,
            tone_mapped=reference.mapped_from,
        )


def open_title(path: Path, workdir: Path, *, tone_map: bool = False) -> TitleSource:
    """Probe, index and digest a source.

    Args:
        path: The source.
        workdir: For a copy of it with timestamps, where it has none.
        tone_map: Whether one of high dynamic range becomes a title of standard range.

    Raises:
        SourceUnusable: it cannot be read, or not by us.
    """
    reference = plan_guarded(path, workdir)
    check_range(path, reference)
    if tone_map and reference.hdr is not None:
        reference = replace(reference, tone_mapped=True)
    return TitleSource(reference=reference, sha256=file_sha256(path))


def check_range(path: Path | str, reference: ReferenceSource) -> None:
    """See that a title of high dynamic range is of a kind that can be shown and measured.

    Raises:
        SourceUnusable: its colours are not those that PQ and HLG come with here.
        BadInput: this ffmpeg cannot map it.
    """
    info, hdr = reference.info, reference.hdr
    if hdr is None:
        return
    colours = (info.color_primaries or "bt2020", "rgb" if info.rgb else info.color_matrix)
    if colours[0] != "bt2020" or colours[1] not in (None, "bt2020nc"):
        raise SourceUnusable(
            f"cannot use {path}: it is high dynamic range ({hdr}) with {colours[0]} primaries and "
            f"{colours[1] or 'no'} matrix; convert it to BT.2020 primaries and the bt2020nc matrix"
        )
    if missing := ffmpeg.lacking(tonemap.FILTERS):
        raise BadInput(
            f"{path} is high dynamic range ({hdr}), for which ffmpeg needs {', '.join(missing)}; "
            f"unset {ffmpeg.ENVIRONMENT_VARIABLE} or name one built with it"
        )


def shots_key(source: TitleSource) -> str:
    """Identity of a title's shots."""
    return key(
        "shots",
        SHOTS_VERSION,
        source=source.sha256,
        reference=source.reference.graph_id,
        tools={name: version(name) for name in _ANALYSERS},
    )


def features_key(source: TitleSource) -> str:
    """Identity of the features of a title's shots: those that :func:`find_shots` finds."""
    return key("features", FEATURES_VERSION, shots=shots_key(source))


def stills_key(source: TitleSource) -> str:
    """Identity of a title's measured stills."""
    return key(
        "stills",
        SAMPLING_VERSION,
        source=source.sha256,
        reference=source.reference.graph_id,
        tools={name: version(name) for name in _ANALYSERS},
        scrub=SCRUB_VERSION,
    )


def find_shots(source: TitleSource, store_root: str) -> tuple[Shot, ...]:
    """The title's shots, from the store or by the analysis pass. Runs on any worker.

    Raises:
        SourceUnusable: a frame does not decode.
    """
    store = open_store(store_root)
    record = store.get(shots_key(source))
    if record is None:
        _analyse(source, store)
        record = _kept(store, shots_key(source))
    return _shots(record)


def find_title(
    path: Path, source: TitleSource, store: Store, executor: Executor, on_event: events.Listener
) -> Title:
    """The title of an opened source, its shots found on ``executor``.

    Raises:
        SourceUnusable: a frame does not decode.
    """
    frames = source.reference.frames
    on_event(events.StagePlanned("shots", frames, unit="frames"))
    task = Task(id="shots", function=find_shots, arguments=(source, store.place), label="shots")
    # Workers may not see the source yet: its pieces are cut at its shots.
    running = InlineExecutor() if store.remote else executor
    (outcome,) = running.run([task])
    if outcome.error is not None:
        raise outcome.error
    on_event(events.StageProgress("shots", frames, frames))
    return Title(name=path.name, source=source, shots=outcome.result)


def find_features(source: TitleSource, store_root: str) -> tuple[ShotFeatures, ...]:
    """The features of the title's shots, in their order. Runs on any worker.

    They come with the shots, from the same pass: a second decode is only made where shots were
    found before features were, or by another version of them.

    Raises:
        SourceUnusable: a frame does not decode.
    """
    store = open_store(store_root)
    record = store.get(features_key(source))
    if record is None:
        _analyse(source, store)
        record = _kept(store, features_key(source))
    vectors = np.frombuffer(store.path(record.blobs["vectors"]).read_bytes(), FEATURES_DTYPE)
    return tuple(
        ShotFeatures(tuple(row.tolist())) for row in vectors.reshape(record.value["shape"])
    )


def find_stills(source: TitleSource, store_root: str) -> tuple[Stills, ScrubTrack]:
    """The title's measured stills and its scrub track. Runs on any worker.

    They come with the shots, as features do.

    Raises:
        SourceUnusable: a frame does not decode.
    """
    store = open_store(store_root)
    record = store.get(stills_key(source))
    if record is None:
        _analyse(source, store)
        record = _kept(store, stills_key(source))
    with np.load(store.path(record.blobs["stills"]), allow_pickle=False) as arrays:
        stills = Stills.of_arrays(arrays)
    sheets = tuple(store.path(record.blobs[name]).read_bytes() for name in record.value["sheets"])
    return stills, ScrubTrack.of(record.value["scrub"], sheets)


def measure_shots(source: TitleSource, shots: Sequence[Shot]) -> tuple[ShotFeatures, ...]:
    """Features of any shots of a title, by a decode of their own; not kept.

    Raises:
        SourceUnusable: a frame does not decode.
    """
    extractor = FeatureExtractor.of(source.reference)
    feed(small_frames(source.reference), extractor)
    return extractor.shots(shots)


def _analyse(source: TitleSource, store: Store) -> None:
    """The analysis pass: one decode for all that is not known yet, and all of it kept."""
    reference = source.reference
    keys = (shots_key(source), features_key(source), stills_key(source))
    with store.claim(*keys):
        found, features, stills = (store.get(each) for each in keys)
        if found is not None and features is not None and stills is not None:
            return
        before = time.process_time()
        detector = CutDetector(reference.frame_rate)
        extractor = FeatureExtractor.of(reference)
        sampler, scrub = StillSampler.of(reference), ScrubSampler.of(reference)
        analysers: list[Analyser] = [] if found else [detector]
        analysers += [] if features else [extractor]
        analysers += [] if stills else [sampler, scrub]
        feed(small_frames(reference), *analysers)
        if found is None:
            shots = plan_shots(detector.cuts(), reference.frames, reference.frame_rate)
            found = store.publish(
                shots_key(source),
                value=[[shot.start, shot.end, list(shot.cuts)] for shot in shots],
                stage="shots",
                version=SHOTS_VERSION,
                title=source.id,
            )
        if stills is None:
            _keep_stills(source, store, sampler.stills(), scrub.track())
        if features is None:
            vectors = np.array(
                [shot.values for shot in extractor.shots(_shots(found))], FEATURES_DTYPE
            )
            store.publish(
                features_key(source),
                value={"names": list(FEATURE_NAMES), "shape": list(vectors.shape)},
                blobs={"vectors": store.put_blob(vectors.tobytes())},
                cpu_seconds={"other": time.process_time() - before},
                stage="features",
                version=FEATURES_VERSION,
                title=source.id,
            )


def _keep_stills(source: TitleSource, store: Store, stills: Stills, track: ScrubTrack) -> None:
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **stills.arrays())
    sheets = {f"sheet{n:03d}": store.put_blob(sheet) for n, sheet in enumerate(track.sheets)}
    store.publish(
        stills_key(source),
        value={"scrub": track.facts(), "sheets": list(sheets)},
        blobs={"stills": store.put_blob(file.getvalue()), **sheets},
        stage="stills",
        version=SAMPLING_VERSION,
        title=source.id,
    )


def _shots(record: Record) -> tuple[Shot, ...]:
    return tuple(Shot(start, end, tuple(cuts)) for start, end, cuts in record.value)


def _kept(store: Store, identity: str) -> Record:
    record = store.get(identity)
    if record is None:
        raise StoreUnusable(f"the store at {store.place} lost an analysis while it was in use")
    return record
