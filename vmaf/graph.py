"""Filter graph that scores several encodes of the same frames against one reference.

The functions here build a command and start nothing. For each encode::

    encode --+-- framehash                       every decoded frame's hash, for verification
             +-- tpad -- scale(display, bicubic, 10 bit) -- frame numbers --+-- libvmaf
    reference (4 frames of context each side, 10 bit) ---- frame numbers ---+-- 8 bit -- judges

Where only VMAF or only judges (:mod:`vmaf.judges`) are asked for, the other branch is absent.

- The *encode* is upscaled to the title's display size. A rung is never scored at its own size.
- Encode and reference are aligned by frame number (``settb=1/1000,setpts=N*40``). Timestamps in
  two time bases round differently, which once scored a clean encode 41 instead of 75.
- HDR titles are tone-mapped to SDR (:mod:`encoder.source.colour.tonemap`) on both sides, after
  scaling, as a display would do it. The model names must say so (:func:`vmaf.models.name_for`).
- VMAF's motion feature compares neighbouring frames. The reference therefore includes context
  frames, and the encode's first and last frames are repeated to match them.
  :func:`vmaf.measure.parse_log` drops the scores of these frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ffmpeg

from encoder import framehash
from encoder.ffmpeg import Command
from encoder.source.colour.tonemap import tone_mapped
from encoder.source.reference import ReferenceSource, open_reference, reading_command
from vmaf.judges import comparable, judged
from vmaf.models import has_banding_feature, is_judge, name_for, plain_name
from vmaf.sampled import step_of, step_within

MIN_LONG_SIDE, MIN_SHORT_SIDE = 320, 180
"""Smallest picture, in pixels, that VMAF v1's banding feature accepts; it may crash below that."""

UPSCALER = "bicubic"
"""How encodes are upscaled for every score that is stored. Studies look at others."""

CONTEXT_FRAMES = 4
"""Source frames added on each side of a shot, so that its scores equal those of the whole rung."""


@dataclass(frozen=True, slots=True)
class Distorted:
    """An encode to score."""

    path: Path
    """File with init segment and media, playable by itself."""
    width: int
    height: int
    bit_depth: int = 8
    """Bits per sample, 8 or 10."""

    @property
    def pixel_format(self) -> str:
        """Pixel format of the decoded frames, as ffmpeg names it."""
        return "yuv420p" if self.bit_depth == 8 else "yuv420p10le"


@dataclass(frozen=True, slots=True)
class Context:
    """Numbers of context frames before and after a run of frames."""

    before: int
    after: int

    @classmethod
    def of(cls, start: int, end: int, frames: int) -> Context:
        """Return the context of frames ``[start, end)`` of a title of ``frames`` frames.

        There are :data:`CONTEXT_FRAMES` on each side, fewer at the title's ends.
        """
        return cls(min(CONTEXT_FRAMES, start), min(CONTEXT_FRAMES, frames - end))


def viewing_size(source: ReferenceSource) -> tuple[int, int]:
    """Return the width and height at which encodes are compared: the title's display size.

    If the title is too small for the quality model, both sides are enlarged by an integer factor
    with bicubic scaling.
    """
    short, long = sorted((source.width, source.height))
    factor = max(1, -(-MIN_SHORT_SIDE // short), -(-MIN_LONG_SIDE // long))
    return factor * source.width, factor * source.height


def score_command(
    source: ReferenceSource,
    start: int,
    end: int,
    encodes: Sequence[Distorted],
    models: Sequence[str],
    log_paths: Sequence[Path],
    hash_paths: Sequence[Path],
    upscaler: str = UPSCALER,
) -> Command:
    """Build the ffmpeg command that scores ``encodes`` of frames ``[start, end)`` with ``models``.

    ``upscaler`` is the scaling of the encodes, as ffmpeg names it.

    Raises:
        ValueError: a model's name does not fit the dynamic range of the source, or models of VMAF
            differ in which frames they score.
    """
    for model in models:
        if model != (fitting := name_for(model, hdr=source.hdr is not None)):
            raise ValueError(f"model {model} does not fit the source's range; use {fitting}")
    context = Context.of(start, end, source.frames)
    step = step_within(common_step(models), end - start)
    references = _sides(viewed_reference(source, start, end), source, models, len(encodes))
    outputs = []
    for number, encode in enumerate(encodes):
        decoded = ffmpeg.input(encode.path, threads=1)["v"].filter_multi_output("split", 2)
        comparable_frames = upscaled(decoded.stream(0), source, context, upscaler)
        (distorted,) = _sides(comparable_frames, source, models, 1)
        sides = references[number], distorted
        for scored in _scored(*sides, encode, models, log_paths[number], step):
            outputs.append(ffmpeg.output(scored, "-", f="null", fps_mode="passthrough"))
        hashing = framehash.hash_output_options(encode.pixel_format)
        outputs.append(ffmpeg.output(decoded.stream(1), filename=hash_paths[number], **hashing))
    return reading_command(ffmpeg.merge_outputs(*outputs))


def common_step(models: Sequence[str]) -> int:
    """Return the distance between frames that models of VMAF score; judges score every frame.

    Raises:
        ValueError: the models differ in it, which one call cannot do.
    """
    steps = {step_of(model) for model in models if not is_judge(model)} or {1}
    if len(steps) > 1:
        raise ValueError(f"one call scores all models on the same frames, got {', '.join(models)}")
    return steps.pop()


def viewed_reference(source: ReferenceSource, start: int, end: int) -> Any:
    """Return frames ``[start, end)`` of the reference with their context, as encodes are compared
    with them: at display size, standard range, 10 bit."""
    context = Context.of(start, end, source.frames)
    reference = open_reference(source, start - context.before, end + context.after)
    if viewing_size(source) != (source.width, source.height):
        reference = reference.filter("scale", *viewing_size(source), flags="bicubic")
    return _comparable(reference, source)


@dataclass(frozen=True, slots=True)
class _Side:
    """One side of a comparison, as libvmaf and as the judges take it; None where not asked for."""

    ten_bit: Any
    eight_bit: Any


def _sides(stream: Any, source: ReferenceSource, models: Sequence[str], count: int) -> list[_Side]:
    """Return ``count`` copies of a comparable stream, for those that score by ``models``."""
    judges = any(map(is_judge, models))
    for_vmaf = 0 if all(map(is_judge, models)) else count
    copies = _copies(stream, for_vmaf + judges)
    ten_bit = copies[:for_vmaf] or [None] * count
    if not judges:
        return [_Side(each, None) for each in ten_bit]
    eight_bit = _copies(comparable(copies[-1], source.frame_rate), count)
    return [_Side(*pair) for pair in zip(ten_bit, eight_bit, strict=True)]


def _copies(stream: Any, count: int) -> list[Any]:
    """Return a stream ``count`` times; each can be used once."""
    if count == 1:
        return [stream]
    copies = stream.filter_multi_output("split", count)
    return [copies.stream(number) for number in range(count)]


def _scored(
    reference: _Side,
    distorted: _Side,
    encode: Distorted,
    models: Sequence[str],
    log_path: Path,
    step: int,
) -> Iterator[Any]:
    """Yield the streams whose frames have been scored by ``models``."""
    judges = [plain_name(name) for name in models if is_judge(name)]
    if len(judges) < len(models):
        quality = [name for name in models if not is_judge(name)]
        yield libvmaf(distorted.ten_bit, reference.ten_bit, encode, quality, log_path, step)
    if judges:
        yield judged(reference.eight_bit, distorted.eight_bit, judges, log_path)


def upscaled(
    stream: Any, source: ReferenceSource, context: Context, upscaler: str = UPSCALER
) -> Any:
    """Scale a decoded encode to display size, at 10 bit, padded by the reference's context."""
    if context.before or context.after:
        stream = stream.filter(
            "tpad",
            start=context.before,
            start_mode="clone",
            stop=context.after,
            stop_mode="clone",
        )
    stream = stream.filter("scale", *viewing_size(source), flags=upscaler)
    return _comparable(stream, source)


def _comparable(stream: Any, source: ReferenceSource) -> Any:
    """Add the last filters of both sides: standard range, 10 bit, aligned by frame number."""
    return (
        tone_mapped(stream, source.hdr)
        .filter("format", "yuv420p10le")
        .filter("settb", "1/1000")
        .filter("setpts", "N*40")
    )


def libvmaf(
    distorted: Any,
    reference: Any,
    encode: Distorted,
    models: Sequence[str],
    log_path: Path,
    step: int = 1,
) -> Any:
    """Add one libvmaf filter with all ``models``; its log lists each model under its name.

    With a ``step`` over 1 only frames whose number is a multiple of it are scored and listed.
    """
    return ffmpeg.filter(
        [distorted, reference],
        "libvmaf",
        model="|".join(_model(name, encode) for name in models),
        log_fmt="json",
        log_path=str(log_path),
        **({"n_subsample": step} if step > 1 else {}),
        ts_sync_mode="nearest",
        shortest=1,
    )


def _model(name: str, encode: Distorted) -> str:
    options = [f"version={plain_name(name)}", f"name={name}"]
    if has_banding_feature(name):
        short, long = sorted((encode.width, encode.height))
        factor = max(1, MIN_SHORT_SIDE / short, MIN_LONG_SIDE / long)
        options += [
            f"cambi.enc_width={round(factor * encode.width)}",
            f"cambi.enc_height={round(factor * encode.height)}",
            f"cambi.enc_bitdepth={encode.bit_depth}",
        ]
    return ":".join(options)
