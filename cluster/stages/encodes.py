"""The stages of the main job, cached: pure functions of values, wrapped by the store.

What each does is written in ``encoder`` and ``vmaf``; here is only what a stage's key is made of
and how its result is kept. A key holds everything that changes the bits and nothing else.

The unit of work is a :class:`ShotWork`: some operating points of one size of one shot. One process
encodes those that are missing, another scores those that are missing, and each encode and score
is kept on its own, so that nothing finished is ever repeated.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.stages.stage import Made, publish, require
from cluster.stages.title import TitleSource
from cluster.store import Blob, Store, open_store
from cluster.store.keys import key
from encoder import encode, ffmpeg
from encoder.media import OperatingPoint, Shot
from encoder.recipes import typical_cpu_seconds
from vmaf import measure, models
from vmaf.graph import Context, Distorted


@dataclass(frozen=True, slots=True)
class Measured:
    """What is remembered of every encode of a title: nothing that has one value per frame."""

    num_bytes: int
    """Of the media segment."""
    mean_quality: Mapping[str, float]
    """Model to the mean score over the shot's frames."""

    @property
    def bits(self) -> int:
        """Bits of the media segment."""
        return 8 * self.num_bytes


@dataclass(frozen=True, slots=True)
class MeasuredEncode:
    """An encode of a shot with its measured quality, frame by frame. Media stays in the store."""

    shot: Shot
    point: OperatingPoint
    num_bytes: int
    codecs: str
    codec_sha256: str
    media: Blob
    init: Blob
    scores: Mapping[str, array[float]]
    """Model to one score per frame."""
    frame_hashes: bytes
    """16 bytes per frame, by :mod:`encoder.framehash`."""

    def mean_quality(self, model: str) -> float:
        """Mean score over the shot's frames."""
        scores = self.scores[model]
        return sum(scores) / len(scores)

    def summary(self) -> Measured:
        """Without frames."""
        return Measured(self.num_bytes, {model: self.mean_quality(model) for model in self.scores})


@dataclass(frozen=True, slots=True)
class ShotWork:
    """Operating points of one shot to encode and to measure."""

    title: TitleSource
    shot: Shot
    points: tuple[OperatingPoint, ...]
    models: tuple[str, ...]
    store: str
    """Where the store is."""

    @property
    def cost(self) -> float:
        """Expected CPU seconds, for ordering and planning."""
        return sum(
            typical_cpu_seconds(
                point.recipe, point.width, point.height, self.shot.frames, point.crf
            )
            + sum(
                models.typical_cpu_seconds(
                    model,
                    self.title.reference.width,
                    self.title.reference.height,
                    self.shot.frames,
                )
                for model in self.models
            )
            for point in self.points
        )


@dataclass(frozen=True, slots=True)
class WorkDone:
    """What a piece of work cost. The results themselves are in the store."""

    encoded: int
    """Encodes made now; the others were there."""
    scored: int
    encode_cpu_seconds: float
    vmaf_cpu_seconds: float
    encoded_bytes: int = 0
    """Of media segments made now."""


def encode_key(title: TitleSource, shot: Shot, point: OperatingPoint) -> str:
    """Identity of an encode: equal keys are equal bits."""
    recipe = point.recipe
    return key(
        "encode",
        encode.STAGE_VERSION,
        source=title.sha256,
        reference=title.reference.graph_id,
        frames=(shot.start, shot.end),
        keyframes=shot.cuts,
        encoder=recipe.encoder,
        options=recipe.options,
        pixel_format=recipe.pixel_format,
        width=point.width,
        height=point.height,
        crf=point.crf,
        movflags=encode.MOVFLAGS,
        tool=ffmpeg.version(),
    )


def score_key(title: TitleSource, shot: Shot, point: OperatingPoint, model: str) -> str:
    """Identity of an encode's scores by one model."""
    context = Context.of(shot.start, shot.end, title.reference.frames)
    return key(
        "score",
        measure.STAGE_VERSION,
        encode=encode_key(title, shot, point),
        model=model,
        context=(context.before, context.after),
        tool=ffmpeg.version(),
    )


def encode_and_score(work: ShotWork) -> WorkDone:
    """Make what is missing of ``work``. Idempotent; runs on any worker that sees the store.

    Raises:
        ToolFailed, FrameMismatch, StoreUnusable: as the stages do.
    """
    store = open_store(work.store)
    title, shot = work.title, work.shot
    with store.claim(*(encode_key(title, shot, point) for point in work.points)):
        encode_cpu, encoded, size = _encode_missing(store, title, shot, work.points, work.models)
        vmaf_cpu, scored = _score_missing(store, title, shot, work.points, work.models)
    return WorkDone(encoded, scored, encode_cpu, vmaf_cpu, size)


def _encode_missing(
    store: Store,
    title: TitleSource,
    shot: Shot,
    points: Sequence[OperatingPoint],
    wanted: Sequence[str],
) -> tuple[float, int, int]:
    missing = [p for p in points if not _encoded(store, title, shot, p, wanted)]
    if not missing:
        return 0.0, 0, 0
    with store.scratch() as scratch:
        encodes, cpu_seconds = encode.encode_shot(title.readable, shot, missing, scratch)
        share = cpu_seconds / len(encodes)
        for made in encodes:
            publish(
                store,
                encode_key(title, shot, made.point),
                Made(
                    {"codecs": made.codecs, "codec_sha256": made.codec_sha256},
                    {"media": made.media_path, "init": made.init_path},
                    {"encode": share},
                ),
                stage="encode",
                version=encode.STAGE_VERSION,
                title=title.id,
            )
    return cpu_seconds, len(missing), sum(made.num_bytes for made in encodes)


def _encoded(
    store: Store, title: TitleSource, shot: Shot, point: OperatingPoint, wanted: Sequence[str]
) -> bool:
    """Whether the encode is there and, if it is to be scored, whole."""
    record = store.get(encode_key(title, shot, point))
    if record is None:
        return False
    scored = all(store.get(score_key(title, shot, point, model)) is not None for model in wanted)
    return scored or store.intact(record)


def _score_missing(
    store: Store,
    title: TitleSource,
    shot: Shot,
    points: Sequence[OperatingPoint],
    wanted: Sequence[str],
) -> tuple[float, int]:
    cpu_seconds, scored = 0.0, 0
    by_models: dict[tuple[str, ...], list[OperatingPoint]] = {}
    for point in points:
        missing = tuple(m for m in wanted if store.get(score_key(title, shot, point, m)) is None)
        if missing:
            by_models.setdefault(missing, []).append(point)
    for missing, group in by_models.items():
        cpu_seconds += _score(store, title, shot, group, missing)
        scored += len(group) * len(missing)
    return cpu_seconds, scored


def _score(
    store: Store,
    title: TitleSource,
    shot: Shot,
    points: Sequence[OperatingPoint],
    wanted: Sequence[str],
) -> float:
    with store.scratch() as scratch:
        encodes = [
            Distorted(
                _playable(store, title, shot, point, scratch / f"{number}.mp4"),
                point.width,
                point.height,
                point.recipe.bit_depth,
            )
            for number, point in enumerate(points)
        ]
        results, cpu_seconds = measure.measure(
            title.readable, shot.start, shot.end, encodes, wanted, scratch
        )
        share = cpu_seconds / (len(points) * len(wanted))
        for point, scores in zip(points, results, strict=True):
            for model in wanted:
                value = {
                    "scores": list(scores.by_model[model]),
                    "frame_hashes": list(scores.frame_hashes),
                }
                publish(
                    store,
                    score_key(title, shot, point, model),
                    Made(value, cpu_seconds={"vmaf": share}),
                    stage="score",
                    version=measure.STAGE_VERSION,
                    title=title.id,
                )
    return cpu_seconds


def _playable(
    store: Store, title: TitleSource, shot: Shot, point: OperatingPoint, path: Path
) -> Path:
    record = require(store, encode_key(title, shot, point), "an encode")
    with path.open("wb") as file:
        for part in ("init", "media"):
            file.write(store.path(record.blobs[part]).read_bytes())
    return path


def collect(
    store: Store, title: TitleSource, shot: Shot, point: OperatingPoint, wanted: Sequence[str]
) -> MeasuredEncode | None:
    """The stored encode with its scores by all ``wanted`` models; None if anything is missing."""
    made = store.get(encode_key(title, shot, point))
    if made is None:
        return None
    scores: dict[str, array[float]] = {}
    frame_hashes = b""
    for model in wanted:
        record = store.get(score_key(title, shot, point, model))
        if record is None:
            return None
        scores[model] = array("d", record.value["scores"])
        frame_hashes = bytes.fromhex("".join(record.value["frame_hashes"]))
    return MeasuredEncode(
        shot=shot,
        point=point,
        num_bytes=made.blobs["media"].size,
        codecs=made.value["codecs"],
        codec_sha256=made.value["codec_sha256"],
        media=made.blobs["media"],
        init=made.blobs["init"],
        scores=scores,
        frame_hashes=frame_hashes,
    )
