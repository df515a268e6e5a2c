"""The stage that encodes and measures a whole rung in one process, for baselines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.stages.encodes import TitleSource
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
    """A rung to encode in one process and to score with some models."""

    title: TitleSource
    rung: FixedRung | OperatingPoint
    keyframes: tuple[int, ...]
    """Where IDRs are forced; unused by a fixed rung, which has one every two seconds."""
    models: tuple[str, ...]
    store: str

    @property
    def cost(self) -> float:
        """Expected CPU seconds."""
        reference, rung = self.title.reference, self.rung
        passes, crf = (2, 26.0) if isinstance(rung, FixedRung) else (1, rung.crf)
        size = rung.width, rung.height
        return passes * typical_cpu_seconds(rung.recipe, *size, reference.frames, crf) + sum(
            models.typical_cpu_seconds(model, reference.width, reference.height, reference.frames)
            for model in self.models
        )


@dataclass(frozen=True, slots=True)
class MeasuredRung:
    """A rung encoded in one process, measured."""

    rung: FixedRung | OperatingPoint
    media_bytes: int
    """Media fragments, without the init segment: counted as a package's segments are."""
    segment_bytes: tuple[int, ...]
    segment_frames: tuple[int, ...]
    scores: Mapping[str, tuple[float, ...]]
    """Model to one score per frame of the title."""


def baseline_key(work: RungWork) -> str:
    """Identity of a baseline's encode."""
    rung = work.rung
    recipe = rung.recipe
    how: dict[str, Any] = (
        {"bitrate": rung.bitrate, "keyframe_seconds": baseline.KEYFRAME_SECONDS}
        if isinstance(rung, FixedRung)
        else {"crf": rung.crf, "keyframes": work.keyframes}
    )
    return key(
        "baseline",
        baseline.STAGE_VERSION,
        source=work.title.sha256,
        reference=work.title.reference.graph_id,
        encoder=recipe.encoder,
        options=recipe.options,
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
    """Encode and score what is missing of ``work``. Idempotent; runs on any worker.

    Raises:
        ToolFailed, FrameMismatch, StoreUnusable: as its stages do.
    """
    store = open_store(work.store)
    with store.claim(baseline_key(work)):
        record = store.get(baseline_key(work)) or _encode(store, work)
        missing = tuple(m for m in work.models if store.get(_score_key(work, m)) is None)
        if missing:
            _score(store, work, record, missing)


def _encode(store: Store, work: RungWork) -> Record:
    reference, rung = work.title.reference, work.rung
    with store.scratch() as scratch:
        path = scratch / "rung.mp4"
        if isinstance(rung, FixedRung):
            made, cpu_seconds = baseline.encode_at_bitrate(reference, rung, path)
        else:
            made, cpu_seconds = baseline.encode_at_crf(reference, rung, work.keyframes, path)
        return store.publish(
            baseline_key(work),
            value={
                "media_bytes": made.media_bytes,
                "segment_bytes": list(made.segment_bytes),
                "segment_frames": list(made.segment_frames),
            },
            blobs={"rung": store.put_blob(path, move=True)},
            cpu_seconds={"encode": cpu_seconds},
            stage="baseline",
            version=baseline.STAGE_VERSION,
            title=work.title.id,
        )


def _score(store: Store, work: RungWork, record: Record, wanted: tuple[str, ...]) -> None:
    reference, rung = work.title.reference, work.rung
    encode = Distorted(
        store.path(record.blobs["rung"]), rung.width, rung.height, rung.recipe.bit_depth
    )
    with store.scratch() as scratch:
        (scores,), cpu_seconds = measure.measure(
            reference, 0, reference.frames, [encode], wanted, scratch
        )
    for model in wanted:
        store.publish(
            _score_key(work, model),
            value={"scores": list(scores.by_model[model])},
            cpu_seconds={"vmaf": cpu_seconds / len(wanted)},
            stage="baseline-score",
            version=measure.STAGE_VERSION,
            title=work.title.id,
        )


def collect_rung(store: Store, work: RungWork) -> MeasuredRung | None:
    """The stored rung with its scores; None if anything is missing."""
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
