"""The filter graph that scores several encodes of one run of frames against one reference.

Pure: builds a command, starts nothing. For each encode::

    encode --+-- framehash                       every decoded frame's hash, for verification
             +-- tpad -- scale(display, bicubic, 10 bit) -- frame numbers --+
    reference (4 frames of context each side, 10 bit) ---- frame numbers ---+-- libvmaf

- The *encode* is upscaled to the title's display size; a rung is never scored at its own size.
- Both sides are aligned by frame number (``settb=1/1000,setpts=N*40``): time stamps in two time
  bases round differently, which once scored a clean encode 41 instead of 75.
- A title of high dynamic range is mapped to standard range (:mod:`encoder.source.tonemap`) on both
  sides, after the scaling, as a display would; the models' names say so, and no others are taken.
- Motion looks at neighbours, so the reference carries context and the encode's own first and
  last frames are repeated against it; the scores of those frames are dropped by the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ffmpeg

from encoder import framehash
from encoder.ffmpeg import Command
from encoder.source.reference import GLOBAL_ARGUMENTS, ReferenceSource, open_reference
from encoder.source.tonemap import seen
from vmaf.models import MAPPED, for_title, looks_at_encoder

LEAST_LONG_SIDE, LEAST_SHORT_SIDE = 320, 180
"""VMAF v1's banding feature refuses smaller pictures (or crashes on them)."""

CONTEXT_FRAMES = 4
"""Source frames on each side of what is scored: shot-wise then equals whole-rung scores."""


@dataclass(frozen=True, slots=True)
class Distorted:
    """An encode to be scored."""

    path: Path
    """Playable by itself: init and media in one file."""
    width: int
    height: int
    bit_depth: int = 8
    """Of its pictures: 8 or 10."""

    @property
    def pixel_format(self) -> str:
        """As it decodes."""
        return "yuv420p" if self.bit_depth == 8 else "yuv420p10le"


@dataclass(frozen=True, slots=True)
class Context:
    """How many frames of context a run of frames has in its title."""

    before: int
    after: int

    @classmethod
    def of(cls, start: int, end: int, frames: int) -> Context:
        """Four on each side, fewer at the title's ends."""
        return cls(min(CONTEXT_FRAMES, start), min(CONTEXT_FRAMES, frames - end))


def viewing_size(source: ReferenceSource) -> tuple[int, int]:
    """Width and height at which encodes are compared: the title's display size.

    A title too small for the quality model is looked at through an integer magnifier, bicubic on
    both sides.
    """
    short, long = sorted((source.width, source.height))
    factor = max(1, -(-LEAST_SHORT_SIDE // short), -(-LEAST_LONG_SIDE // long))
    return factor * source.width, factor * source.height


def score_command(
    source: ReferenceSource,
    start: int,
    end: int,
    encodes: Sequence[Distorted],
    models: Sequence[str],
    log_paths: Sequence[Path],
    hash_paths: Sequence[Path],
) -> Command:
    """The ffmpeg call that scores ``encodes`` of frames ``[start, end)`` with ``models``.

    Raises:
        ValueError: a model's name does not say what it would be shown.
    """
    for model in models:
        if model != (named := for_title(model, hdr=source.hdr is not None)):
            raise ValueError(f"{model} would be shown pictures as {named} is")
    context = Context.of(start, end, source.frames)
    reference = open_reference(source, start - context.before, end + context.after)
    if viewing_size(source) != (source.width, source.height):
        reference = reference.filter("scale", *viewing_size(source), flags="bicubic")
    reference = (
        seen(reference, source.hdr)
        .filter("format", "yuv420p10le")
        .filter("settb", "1/1000")
        .filter("setpts", "N*40")
        .filter_multi_output("split", len(encodes))
    )
    outputs = []
    for number, encode in enumerate(encodes):
        decoded = ffmpeg.input(str(encode.path), threads=1)["v"].filter_multi_output("split", 2)
        scored = libvmaf(
            upscaled(decoded.stream(0), source, context),
            reference.stream(number),
            encode,
            models,
            log_paths[number],
        )
        outputs.append(ffmpeg.output(scored, "-", f="null", fps_mode="passthrough"))
        outputs.append(
            ffmpeg.output(decoded.stream(1), str(hash_paths[number]), **_hash_options(encode))
        )
    graph = ffmpeg.merge_outputs(*outputs).global_args("-v", "error", "-y", *GLOBAL_ARGUMENTS)
    return Command.of(graph.get_args())


def _hash_options(encode: Distorted) -> dict[str, str]:
    options = framehash.hash_output_options(encode.pixel_format)
    return {name[1:]: value for name, value in zip(options[::2], options[1::2], strict=True)}


def upscaled(stream: Any, source: ReferenceSource, context: Context) -> Any:
    """A decoded encode at display size, 10 bit, padded to the reference's context."""
    if context.before or context.after:
        stream = stream.filter(
            "tpad",
            start=context.before,
            start_mode="clone",
            stop=context.after,
            stop_mode="clone",
        )
    stream = stream.filter("scale", *viewing_size(source), flags="bicubic")
    return (
        seen(stream, source.hdr)
        .filter("format", "yuv420p10le")
        .filter("settb", "1/1000")
        .filter("setpts", "N*40")
    )


def libvmaf(
    distorted: Any, reference: Any, encode: Distorted, models: Sequence[str], log_path: Path
) -> Any:
    """One libvmaf instance with all ``models``, each under its own name in the log."""
    return ffmpeg.filter(
        [distorted, reference],
        "libvmaf",
        model="|".join(_model(name, encode) for name in models),
        log_fmt="json",
        log_path=str(log_path),
        ts_sync_mode="nearest",
        shortest=1,
    )


def _model(name: str, encode: Distorted) -> str:
    options = [f"version={name.removesuffix(MAPPED)}", f"name={name}"]
    if looks_at_encoder(name):
        short, long = sorted((encode.width, encode.height))
        factor = max(1, LEAST_SHORT_SIDE / short, LEAST_LONG_SIDE / long)
        options += [
            f"cambi.enc_width={round(factor * encode.width)}",
            f"cambi.enc_height={round(factor * encode.height)}",
            f"cambi.enc_bitdepth={encode.bit_depth}",
        ]
    return ":".join(options)
