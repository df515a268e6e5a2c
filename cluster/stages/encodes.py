"""The encode and score stages: operating points of a shot, each encoded and scored once.

``encoder`` and ``vmaf`` do the work; this module defines the keys of the results and how the
results are stored. A key holds everything that changes the bits, and nothing else.

The unit of work is a :class:`ShotWork`: some operating points of one shot. One process
encodes those that the store lacks, another scores those that lack scores, and each encode and each
score is stored on its own, so that nothing finished is repeated.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.stages.quarantine import title_store
from cluster.stages.stage import Made, publish, require
from cluster.stages.title import TitleSource
from cluster.store import Blob, Store, open_store
from cluster.store.keys import key
from encoder import encode, ffmpeg
from encoder.media import OperatingPoint, Shot
from encoder.recipes import typical_cpu_seconds
from ladder.curves import Measurement
from vmaf import measure, models
from vmaf.graph import Context, Distorted


@dataclass(frozen=True, slots=True)
class MeasuredEncode:
    """An encode of a shot with a score for each frame. Its media stays in the store."""

    shot: Shot
    point: OperatingPoint
    num_bytes: int
    """Size of the media segment."""
    codecs: str
    codec_sha256: str
    media: Blob
    init: Blob
    scores: Mapping[str, array[float]]
    """One score per frame, by quality model."""
    frame_hashes: bytes
    """Hashes of the decoded frames, 16 bytes each, see :mod:`encoder.framehash`."""
    encode_cpu_seconds: float | None
    """This encode's share of the CPU time of its process; None if it is not known."""

    def mean_quality(self, model: str) -> float:
        """Return the mean score over the shot's frames."""
        scores = self.scores[model]
        return sum(scores) / len(scores)

    def measurement(self, model: str) -> Measurement:
        """Return the encode's size and its mean quality by one quality model."""
        return Measurement(8 * self.num_bytes, self.mean_quality(model))


@dataclass(frozen=True, slots=True)
class ShotWork:
    """Operating points of one shot to encode and to score."""

    title: TitleSource
    shot: Shot
    points: tuple[OperatingPoint, ...]
    models: tuple[str, ...]
    """Quality models to score by."""
    store: str
    """Folder or URL of the store."""

    @property
    def cost(self) -> float:
        """Expected CPU seconds of encoding and scoring all points, for ordering and planning."""
        return sum(expected_cost(self.title, self.shot, each, self.models) for each in self.points)


def expected_cost(
    title: TitleSource, shot: Shot, point: OperatingPoint, quality_models: Sequence[str]
) -> float:
    """Return the CPU seconds that encoding and scoring a point is expected to take."""
    width, height = title.reference.width, title.reference.height
    encoding = typical_cpu_seconds(point.recipe, *point.size, shot.frames, point.crf)
    return encoding + sum(
        models.typical_cpu_seconds(model, width, height, shot.frames) for model in quality_models
    )


@dataclass(frozen=True, slots=True)
class Costs:
    """What was encoded and scored because the store did not have it, and the CPU time of that."""

    encoded: int = 0
    """Number of encodes."""
    scored: int = 0
    """Number of scores; an encode has one per quality model."""
    encode_cpu_seconds: float = 0.0
    vmaf_cpu_seconds: float = 0.0
    encoded_bytes: int = 0
    """Total size of the media segments."""

    def __add__(self, other: Costs) -> Costs:
        return Costs(
            self.encoded + other.encoded,
            self.scored + other.scored,
            self.encode_cpu_seconds + other.encode_cpu_seconds,
            self.vmaf_cpu_seconds + other.vmaf_cpu_seconds,
            self.encoded_bytes + other.encoded_bytes,
        )

    def since(self, before: Costs) -> Costs:
        """Return the costs that were added to ``before``."""
        return Costs(
            self.encoded - before.encoded,
            self.scored - before.scored,
            self.encode_cpu_seconds - before.encode_cpu_seconds,
            self.vmaf_cpu_seconds - before.vmaf_cpu_seconds,
            self.encoded_bytes - before.encoded_bytes,
        )


def encode_key(title: TitleSource, shot: Shot, point: OperatingPoint) -> str:
    """Return the store key of an encode. Encodes with equal keys have equal bits."""
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
        **encode.stated_in_stream(title.reference, recipe),
    )


def score_key(title: TitleSource, shot: Shot, point: OperatingPoint, model: str) -> str:
    """Return the store key of an encode's scores by one quality model."""
    context = Context.of(shot.start, shot.end, title.reference.frames)
    return key(
        "score",
        measure.STAGE_VERSION,
        encode=encode_key(title, shot, point),
        model=model,
        context=(context.before, context.after),
        tool=ffmpeg.version(),
    )


def encode_and_score(work: ShotWork) -> Costs:
    """Encode and score what the store lacks of ``work``. Idempotent; runs on any worker that sees
    the store.

    Raises:
        ToolFailed, FrameMismatch, StoreUnusable: a stage failed.
    """
    store = title_store(open_store(work.store), work.title)
    with store.claim(*(encode_key(work.title, work.shot, point) for point in work.points)):
        return _encode_missing(store, work) + _score_missing(store, work)


def _encode_missing(store: Store, work: ShotWork) -> Costs:
    title = work.title
    missing = [point for point in work.points if not _has_encode(store, work, point)]
    if not missing:
        return Costs()
    with store.scratch() as scratch:
        encodes, cpu_seconds = encode.encode_shot(title.readable, work.shot, missing, scratch)
        for each in encodes:
            publish(
                store,
                encode_key(title, work.shot, each.point),
                Made(
                    {"codecs": each.codecs, "codec_sha256": each.codec_sha256},
                    {"media": each.media_path, "init": each.init_path},
                    {"encode": cpu_seconds / len(encodes)},
                ),
                stage="encode",
                version=encode.STAGE_VERSION,
                title=title.id,
            )
    return Costs(
        encoded=len(missing),
        encode_cpu_seconds=cpu_seconds,
        encoded_bytes=sum(each.num_bytes for each in encodes),
    )


def _has_encode(store: Store, work: ShotWork, point: OperatingPoint) -> bool:
    """Return whether the store has the encode, and has it intact if it will be scored."""
    record = store.get(encode_key(work.title, work.shot, point))
    if record is None:
        return False
    return not _unscored(store, work, point) or store.intact(record)


def _unscored(store: Store, work: ShotWork, point: OperatingPoint) -> tuple[str, ...]:
    """Return the quality models whose scores of an encode the store lacks."""
    return tuple(
        model
        for model in work.models
        if store.get(score_key(work.title, work.shot, point, model)) is None
    )


def _score_missing(store: Store, work: ShotWork) -> Costs:
    by_models: dict[tuple[str, ...], list[OperatingPoint]] = {}
    for point in work.points:
        unscored = _unscored(store, work, point)
        for same_frames in models.by_step(unscored):
            by_models.setdefault(same_frames, []).append(point)
    costs = Costs()
    for quality_models, points in by_models.items():
        cpu_seconds = _score(store, work, points, quality_models)
        scored = len(points) * len(quality_models)
        costs += Costs(scored=scored, vmaf_cpu_seconds=cpu_seconds)
    return costs


def _score(
    store: Store, work: ShotWork, points: Sequence[OperatingPoint], quality_models: Sequence[str]
) -> float:
    """Score and publish some points in one process; return the CPU seconds."""
    title, shot = work.title, work.shot
    with store.scratch() as scratch:
        encodes = [
            Distorted(
                _playable(store, work, point, scratch / f"{number}.mp4"),
                point.width,
                point.height,
                point.recipe.bit_depth,
            )
            for number, point in enumerate(points)
        ]
        results, cpu_seconds = measure.measure(
            title.readable, shot.start, shot.end, encodes, quality_models, scratch
        )
        share = cpu_seconds / (len(points) * len(quality_models))
        for point, scores in zip(points, results, strict=True):
            for model in quality_models:
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


def _playable(store: Store, work: ShotWork, point: OperatingPoint, path: Path) -> Path:
    """Write a stored encode to ``path`` as one file, init segment first."""
    record = require(store, encode_key(work.title, work.shot, point), "an encode")
    with path.open("wb") as file:
        for part in ("init", "media"):
            file.write(store.path(record.blobs[part]).read_bytes())
    return path


def find_encode(
    store: Store,
    title: TitleSource,
    shot: Shot,
    point: OperatingPoint,
    quality_models: Sequence[str],
) -> MeasuredEncode | None:
    """Return the stored encode with its scores; None if it, or a score by a model, is missing."""
    record = store.get(encode_key(title, shot, point))
    if record is None:
        return None
    scores: dict[str, array[float]] = {}
    frame_hashes = b""
    for model in quality_models:
        score = store.get(score_key(title, shot, point, model))
        if score is None:
            return None
        scores[model] = array("d", score.value["scores"])
        frame_hashes = bytes.fromhex("".join(score.value["frame_hashes"]))
    return MeasuredEncode(
        shot=shot,
        point=point,
        num_bytes=record.blobs["media"].size,
        codecs=record.value["codecs"],
        codec_sha256=record.value["codec_sha256"],
        media=record.blobs["media"],
        init=record.blobs["init"],
        scores=scores,
        frame_hashes=frame_hashes,
        encode_cpu_seconds=record.cpu_seconds.get("encode"),
    )
