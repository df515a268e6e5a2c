"""The baseline stages: encode and score a whole rung in one process, for comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.stages.quarantine import title_store
from cluster.stages.stage import Made, find_or_make, publish
from cluster.stages.title import TitleSource
from cluster.store import Record, Store, open_store
from cluster.store.keys import key
from encoder import baseline, ffmpeg
from encoder.baseline import FixedRung
from encoder.media import OperatingPoint
from encoder.recipes import typical_cpu_seconds
from vmaf import measure, models
from vmaf.graph import Distorted


@dataclass(frozen=True, slots=True)
class RungWork:
    """A rung to encode in one process and to score by quality models."""

    title: TitleSource
    rung: FixedRung | OperatingPoint
    keyframes: tuple[int, ...]
    """Frames at which IDRs are forced. A fixed rung has one every two seconds instead."""
    models: tuple[str, ...]
    """Quality models to score by."""
    store: str
    """Folder or URL of the store."""

    @property
    def cost(self) -> float:
        """Expected CPU seconds of encoding and scoring."""
        reference, rung = self.title.reference, self.rung
        passes, crf = (2, 26.0) if isinstance(rung, FixedRung) else (1, rung.crf)
        size = rung.width, rung.height
        return passes * typical_cpu_seconds(rung.recipe, *size, reference.frames, crf) + sum(
            models.typical_cpu_seconds(model, reference.width, reference.height, reference.frames)
            for model in self.models
        )


@dataclass(frozen=True, slots=True)
class MeasuredRung:
    """A rung that was encoded in one process and scored."""

    rung: FixedRung | OperatingPoint
    media_bytes: int
    """Size of the media fragments without the init segment, as a package counts segments."""
    segment_bytes: tuple[int, ...]
    segment_frames: tuple[int, ...]
    scores: Mapping[str, tuple[float, ...]]
    """One score per frame of the title, by quality model."""


def baseline_key(work: RungWork) -> str:
    """Return the store key of a baseline's encode."""
    rung = work.rung
    recipe = rung.recipe
    how: dict[str, Any] = (
        {
            "bitrate": rung.bitrate,
            "options": rung.options(baseline.keyframe_interval(work.title.reference)),
        }
        if isinstance(rung, FixedRung)
        else {"crf": rung.crf, "options": recipe.options, "keyframes": work.keyframes}
    )
    return key(
        "baseline",
        baseline.STAGE_VERSION,
        source=work.title.sha256,
        reference=work.title.reference.graph_id,
        encoder=recipe.encoder,
        pixel_format=recipe.pixel_format,
        width=rung.width,
        height=rung.height,
        tool=ffmpeg.version(),
        **how,
    )


def _score_key(work: RungWork, model: str) -> str:
    return key(
        "baseline-score",
        measure.STAGE_VERSION,
        encode=baseline_key(work),
        model=model,
        tool=ffmpeg.version(),
    )


def measure_rung(work: RungWork) -> None:
    """Encode and score what the store does not have of ``work``. Idempotent; runs on any worker.

    Raises:
        ToolFailed, FrameMismatch, StoreUnusable: a stage failed.
    """
    store = title_store(open_store(work.store), work.title)
    record = find_or_make(
        store,
        baseline_key(work),
        lambda scratch: _encode(work, scratch),
        stage="baseline",
        version=baseline.STAGE_VERSION,
        title=work.title.id,
    )
    keys = {model: _score_key(work, model) for model in work.models}
    with store.claim(*keys.values()):
        missing = [model for model in work.models if store.get(keys[model]) is None]
        if missing:
            scores = _score(store, work, record, missing)
            for model in missing:
                publish(
                    store,
                    keys[model],
                    scores[model],
                    stage="baseline-score",
                    version=measure.STAGE_VERSION,
                    title=work.title.id,
                )


def _encode(work: RungWork, scratch: Path) -> Made:
    reference, rung = work.title.reference, work.rung
    path = scratch / "rung.mp4"
    if isinstance(rung, FixedRung):
        encode, cpu_seconds = baseline.encode_at_bitrate(reference, rung, path)
    else:
        encode, cpu_seconds = baseline.encode_at_crf(reference, rung, work.keyframes, path)
    value = {
        "media_bytes": encode.media_bytes,
        "segment_bytes": list(encode.segment_bytes),
        "segment_frames": list(encode.segment_frames),
    }
    return Made(value, {"rung": path}, {"encode": cpu_seconds})


def _score(
    store: Store, work: RungWork, record: Record, quality_models: Sequence[str]
) -> dict[str, Made]:
    """Score a stored encode by several models in one pass; return the scores by model."""
    reference, rung = work.title.reference, work.rung
    encode = Distorted(
        store.path(record.blobs["rung"]), rung.width, rung.height, rung.recipe.bit_depth
    )
    with store.scratch() as scratch:
        (scores,), cpu_seconds = measure.measure(
            reference, 0, reference.frames, [encode], quality_models, scratch
        )
    cost = {"vmaf": cpu_seconds / len(quality_models)}
    return {
        model: Made({"scores": list(scores.by_model[model])}, cpu_seconds=cost)
        for model in quality_models
    }


def find_rung(store: Store, work: RungWork) -> MeasuredRung | None:
    """Return the stored rung with its scores; None if any part is missing."""
    record = store.get(baseline_key(work))
    scores = {model: store.get(_score_key(work, model)) for model in work.models}
    if record is None or any(score is None for score in scores.values()):
        return None
    return MeasuredRung(
        rung=work.rung,
        media_bytes=record.value["media_bytes"],
        segment_bytes=tuple(record.value["segment_bytes"]),
        segment_frames=tuple(record.value["segment_frames"]),
        scores={m: tuple(score.value["scores"]) for m, score in scores.items() if score},
    )
