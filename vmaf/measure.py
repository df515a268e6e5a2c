"""Score encodes: one call of ffmpeg, parsed and checked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encoder import framehash
from encoder.errors import FrameMismatch, StoreUnusable, ToolFailed
from encoder.ffmpeg import patience, run
from encoder.source.reference import ReferenceSource
from vmaf.graph import Context, Distorted, score_command

STAGE_VERSION = 1
"""Part of every score's key: raise it when scores change."""

FULL_BYTES = 1 << 20
"""A disk with less room than this counts as full."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Measured quality of one encode, per frame."""

    by_model: dict[str, tuple[float, ...]]
    """Model name to one score per frame."""
    frame_hashes: tuple[str, ...]
    """Hash of every decoded frame at its own size: what verification compares with."""


def measure(
    source: ReferenceSource,
    start: int,
    end: int,
    encodes: Sequence[Distorted],
    models: Sequence[str],
    directory: Path,
) -> tuple[tuple[Scores, ...], float]:
    """Score ``encodes`` of the title's frames ``[start, end)`` with every one of ``models``.

    Returns:
        Scores in the order of ``encodes``, and the CPU seconds that they took together.

    Raises:
        ToolFailed: ffmpeg failed.
        StoreUnusable: the disk is full.
        FrameMismatch: an encode does not have exactly ``end - start`` frames.
    """
    logs = [directory / f"vmaf-{number}.json" for number in range(len(encodes))]
    hashes = [directory / f"frames-{number}.txt" for number in range(len(encodes))]
    done = run(
        score_command(source, start, end, encodes, models, logs, hashes),
        timeout_seconds=patience((end - start) * len(encodes) * len(models)),
    )
    context = Context.of(start, end, source.frames)
    scores = tuple(
        Scores(
            by_model=parse_log(_read_log(log), models, context, end - start),
            frame_hashes=_hashes(path, encode, end - start),
        )
        for encode, log, path in zip(encodes, logs, hashes, strict=True)
    )
    return scores, done.cpu_seconds


def _read_log(path: Path) -> dict[str, Any]:
    """libvmaf's log. It does not tell when it cannot write it: then the log is cut off."""
    try:
        log: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        if shutil.disk_usage(path.parent).free < FULL_BYTES:
            raise StoreUnusable(
                f"libvmaf could not write its log: the disk of {path.parent} is full; make room"
            ) from error
        raise ToolFailed(f"libvmaf left no whole log ({error})") from error
    return log


def parse_log(
    log: dict[str, Any], models: Sequence[str], context: Context, frames: int
) -> dict[str, tuple[float, ...]]:
    """Per-frame scores by model from libvmaf's JSON log, context dropped.

    Raises:
        FrameMismatch: the log does not have ``frames`` frames beside the context.
    """
    rows = log["frames"]
    expected = context.before + frames + context.after
    if [row["frameNum"] for row in rows] != list(range(expected)):
        raise FrameMismatch(
            f"VMAF compared {len(rows)} frames instead of {expected} "
            f"({frames} and {context.before}+{context.after} of context)"
        )
    kept = rows[context.before : context.before + frames]
    return {model: tuple(row["metrics"][model] for row in kept) for model in models}


def _hashes(path: Path, encode: Distorted, frames: int) -> tuple[str, ...]:
    hashes = framehash.parse(path.read_text())
    if len(hashes) != frames:
        raise FrameMismatch(f"{encode.path.name} decodes to {len(hashes)} frames, not {frames}")
    return hashes
