"""Score encodes with one ffmpeg call, then parse and check its output."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encoder import framehash
from encoder.errors import FrameMismatch, StoreUnusable, ToolFailed
from encoder.ffmpeg import patience, run
from encoder.source.reference import ReferenceSource
from vmaf.graph import UPSCALER, Context, Distorted, common_step, score_command
from vmaf.judges import parse_stats, stats_path
from vmaf.models import is_judge, plain_name
from vmaf.sampled import spread, step_within

STAGE_VERSION = 1
"""Part of the store key of every score. Raise it when scores change."""

FULL_DISK_BYTES = 1 << 20
"""Free space below which a disk counts as full."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Measured quality of each frame of one encode."""

    by_model: dict[str, tuple[float, ...]]
    """One score per frame, by model name; of models that score some frames only, that of the
    nearest frame which has one."""
    frame_hashes: tuple[str, ...]
    """Hash of every decoded frame at the encode's own size; verification compares with these."""


def measure(
    source: ReferenceSource,
    start: int,
    end: int,
    encodes: Sequence[Distorted],
    models: Sequence[str],
    directory: Path,
    upscaler: str = UPSCALER,
) -> tuple[tuple[Scores, ...], float]:
    """Score ``encodes`` of the title's frames ``[start, end)`` with each of ``models``.

    Everything that is stored is scored with the default upscaler.

    Returns:
        The scores in the order of ``encodes``, and the CPU seconds of the whole call.

    Raises:
        FrameMismatch: an encode does not have exactly ``end - start`` frames.
    """
    logs = [directory / f"vmaf-{number}.json" for number in range(len(encodes))]
    hashes = [directory / f"frames-{number}.txt" for number in range(len(encodes))]
    done = run(
        score_command(source, start, end, encodes, models, logs, hashes, upscaler),
        timeout_seconds=patience((end - start) * len(encodes) * len(models)),
    )
    context = Context.of(start, end, source.frames)
    scores = tuple(
        Scores(
            by_model=_by_model(log, models, context, end - start),
            frame_hashes=_hashes(path, encode, end - start),
        )
        for encode, log, path in zip(encodes, logs, hashes, strict=True)
    )
    return scores, done.cpu_seconds


def _by_model(
    log: Path, models: Sequence[str], context: Context, frames: int
) -> dict[str, tuple[float, ...]]:
    quality = [model for model in models if not is_judge(model)]
    judges = [model for model in models if is_judge(model)]
    return {
        **(parse_log(read_log(log), quality, context, frames) if quality else {}),
        **{model: _judged(log, model, context, frames) for model in judges},
    }


def _judged(log: Path, model: str, context: Context, frames: int) -> tuple[float, ...]:
    """Return a judge's score per frame, without the context frames.

    Raises:
        FrameMismatch: the judge did not compare exactly ``frames`` frames besides the context.
        StoreUnusable: the disk is full.
    """
    judge = plain_name(model)
    path = stats_path(log, judge)
    scores = parse_stats(path.read_text(), judge)
    if len(scores) != context.before + frames + context.after:
        raise _disk_full(path, f"ffmpeg's {judge}") or _mismatch(judge, scores, context, frames)
    return scores[context.before : context.before + frames]


def read_log(path: Path) -> dict[str, Any]:
    """Read libvmaf's log. libvmaf reports no failed write; the log is then truncated.

    Raises:
        StoreUnusable: the log is truncated because the disk is full.
        ToolFailed: the log is missing or truncated for another reason.
    """
    try:
        log: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        failure = ToolFailed(f"libvmaf's log is missing or truncated ({error})")
        raise _disk_full(path, "libvmaf") or failure from error
    return log


def _disk_full(path: Path, writer: str) -> StoreUnusable | None:
    """Return the error of a log that ends early because the disk is full; None if it is not."""
    if shutil.disk_usage(path.parent).free >= FULL_DISK_BYTES:
        return None
    return StoreUnusable(
        f"{writer} could not write its log because the disk of {path.parent} is full; "
        "free some space"
    )


def parse_log(
    log: dict[str, Any], models: Sequence[str], context: Context, frames: int
) -> dict[str, tuple[float, ...]]:
    """Return per-frame scores by model from libvmaf's JSON log, without the context frames.

    Raises:
        FrameMismatch: the log does not have exactly the frames that were to be scored.
    """
    rows = log["frames"]
    step = step_within(common_step(models), frames)
    expected = range(0, context.before + frames + context.after, step)
    if [row["frameNum"] for row in rows] != list(expected):
        raise _mismatch("VMAF", rows, context, frames, step)
    kept = {row["frameNum"] - context.before: row["metrics"] for row in rows}
    own = {frame: metrics for frame, metrics in kept.items() if 0 <= frame < frames}
    return {
        model: spread({frame: metrics[model] for frame, metrics in own.items()}, frames)
        for model in models
    }


def _mismatch(
    name: str, rows: Sized, context: Context, frames: int, step: int = 1
) -> FrameMismatch:
    total = context.before + frames + context.after
    every = "" if step == 1 else f", one in {step}"
    return FrameMismatch(
        f"{name} compared {len(rows)} frames instead of {-(-total // step)} "
        f"({frames} plus {context.before}+{context.after} context frames{every})"
    )


def _hashes(path: Path, encode: Distorted, frames: int) -> tuple[str, ...]:
    hashes = framehash.parse(path.read_text())
    if len(hashes) != frames:
        raise FrameMismatch(f"{encode.path.name} decodes to {len(hashes)} frames, not {frames}")
    return hashes
