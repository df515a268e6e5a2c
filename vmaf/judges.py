"""XPSNR and SSIM: judges beside VMAF, measured on the same frames and stored like its scores.

VMAF is easily pleased: options that gain by every VMAF model may lose by fidelity. A judge answers
whether a saving is real, so its BD-rate stands beside VMAF's. It has no viewers' claim, because
nobody has related its decibels to what people notice.

Definition. Both sides are the frames that VMAF compares (upscaled to the title's display size with
bicubic scaling, tone-mapped if the title is HDR, at 10 bit), rounded to 8 bit without dithering.
Each frame gets one number in decibels, between 0 and :data:`MAX_DECIBELS`:

- ``xpsnr`` is ``(6 Y + U + V) / 8`` of the XPSNR of the three planes (C. R. Helmrich et al.,
  ICASSP 2020), weighted as PSNR is in J.-R. Ohm et al., IEEE TCSVT 22 (12), 2012.
- ``ssim`` is ``-10 log10(1 - SSIM)``, where SSIM is ffmpeg's mean over the three planes, weighted
  by their samples (4:1:1), with windows of 8x8. In decibels, equal steps are about equal steps of
  log rate, as BD-rate wants; on its own scale, all good qualities lie between 0.98 and 1.

A run of frames has the mean of its frames' decibels, as the reference encoders of HEVC and VVC
average PSNR, so that shots and whole rungs pool alike. Identical frames have infinite decibels and
count as :data:`MAX_DECIBELS`, which is where libvmaf ends its PSNR for 8 bit.

What ffmpeg's filters need:

- ``xpsnr`` takes the original as its *first* input: it weighs each block by the activity of that
  input, which it compares with the frames before. Hence the frames of context.
- It reads the nominal frame rate of the link of its second input, not timestamps: from 32 fps on it
  compares with two frames before instead of one. ``fps`` states the title's rate on that link.
- At more than 8 bit ``xpsnr`` takes the rows of its second input to be as long in memory as the
  picture is wide. Where they are padded, it compares wrong samples (854x480 and 720x1280 get
  around 0 dB for nearly equal pictures). Hence 8 bit, which it copies first.
- ``ssim`` sums slice by slice, so that the number of threads would change its last digits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import ffmpeg

MAX_DECIBELS = 60.0
"""Largest score of a frame, also for identical frames."""
_PLANES = (6.0, 1.0, 1.0)
"""Weights of XPSNR's planes Y, U and V."""

_XPSNR = re.compile(r"^n: +\d+  XPSNR y: (\S+)  XPSNR u: (\S+)  XPSNR v: (\S+)$", re.MULTILINE)
_SSIM = re.compile(r"^n:\d+ Y:\S+ U:\S+ V:\S+ All:\S+ \((\S+)\)$", re.MULTILINE)


def comparable(stream: Any, frame_rate: Fraction) -> Any:
    """Add the filters of one side: 8 bit, numbered in frames, at the title's frame rate."""
    rate = f"{frame_rate.numerator}/{frame_rate.denominator}"
    tick = f"{frame_rate.denominator}/{frame_rate.numerator}"
    return (
        stream.filter("scale", sws_dither="none")
        .filter("format", "yuv420p")
        .filter("settb", tick)
        .filter("setpts", "N")
        .filter("fps", rate)
    )


def judged(reference: Any, distorted: Any, judges: Sequence[str], log_path: Path) -> Any:
    """Add the filters of ``judges``; each writes its scores to its :func:`stats_path`."""
    copies = distorted.filter_multi_output("split", len(judges))
    for number, judge in enumerate(judges):
        # Both filters hand on their first input, so they can follow one another.
        reference = ffmpeg.filter(
            [reference, copies.stream(number)],
            judge,
            stats_file=str(stats_path(log_path, judge)),
            ts_sync_mode="nearest",
            shortest=1,
            threads=1,
        )
    return reference


def stats_path(log_path: Path, judge: str) -> Path:
    """Return the file for a judge's scores, beside the log of libvmaf."""
    return log_path.with_suffix(f".{judge}")


def parse_stats(text: str, judge: str) -> tuple[float, ...]:
    """Return a judge's decibels per frame from what its filter wrote into its ``stats_file``."""
    if judge == "xpsnr":
        return tuple(_weighted([float(plane) for plane in row]) for row in _XPSNR.findall(text))
    return tuple(_bounded(float(decibels)) for decibels in _SSIM.findall(text))


def _weighted(planes: Sequence[float]) -> float:
    terms = [weight * _bounded(plane) for weight, plane in zip(_PLANES, planes, strict=True)]
    return sum(terms) / sum(_PLANES)


def _bounded(decibels: float) -> float:
    return min(max(decibels, 0.0), MAX_DECIBELS)
