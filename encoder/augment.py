"""Augmented titles for training: the same footage cropped, faster, darker, with more grain.

A model trained on thirty titles only knows thirty titles. An :class:`Augmentation` makes a source
that is really different for an encoder (other textures, motion, sizes and rates), as a
near-lossless intermediate that is then treated like any other title. It stays in the group of its
source, because they share footage.

Intermediates are x264 at CRF 6, intra and predicted frames without B-frames, one thread: about a
twentieth of the raw size, deterministic, and quick to decode many times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ffmpeg

from encoder import mp4
from encoder.encode import MP4_OPTIONS
from encoder.errors import BadInput
from encoder.ffmpeg import Command, run
from encoder.source.probing.geometry import nearest_even
from encoder.source.reference import ReferenceSource, open_reference, reading_command
from encoder.source.timeline.constant_rate import MIN_RATE

STAGE_VERSION = 1
"""Part of the store key of every intermediate: raise it when the frames of one change."""

_SCALE_FLAGS = "lanczos+accurate_rnd+full_chroma_int+bitexact"
_LEAST_SIDE = 64
_CODING = {"c:v": "libx264", "preset": "ultrafast", "crf": 6, "g": 48, "bf": 0, "threads": 1}


@dataclass(frozen=True, slots=True)
class Augmentation:
    """A way of making another title from a title."""

    name: str
    """Name in options, keys and tables."""
    build: Callable[[Any, ReferenceSource], Any]
    """Function that adds the filters to the canonical reference of a source."""
    frames_per_frame: int = 1
    """Number of source frames for each frame of the intermediate."""
    rate_divisor: int = 1
    """The title's frame rate divided by the intermediate's."""


def _crop(node: Any, source: ReferenceSource) -> Any:
    """Cut out 62 % of each side, not scaled: closer."""
    width, height = nearest_even(source.width * 0.62), nearest_even(source.height * 0.62)
    x, y = nearest_even(source.width * 0.1), nearest_even(source.height * 0.25)
    return node.filter("crop", w=width, h=height, x=x, y=y)


def _zoom(node: Any, source: ReferenceSource) -> Any:
    """Enlarge half of each side to full size: a soft source."""
    width, height = nearest_even(source.width * 0.5), nearest_even(source.height * 0.5)
    x, y = nearest_even(source.width * 0.3), nearest_even(source.height * 0.2)
    return node.filter("crop", w=width, h=height, x=x, y=y).filter(
        "scale", source.width, source.height, flags=_SCALE_FLAGS
    )


def _small(node: Any, source: ReferenceSource) -> Any:
    """Scale to two thirds of each side: a smaller master."""
    width, height = nearest_even(source.width * 2 / 3), nearest_even(source.height * 2 / 3)
    return node.filter("scale", width, height, flags=_SCALE_FLAGS).filter("setsar", 1)


def _reframe(node: Any, source: ReferenceSource) -> Any:
    """Crop upright from wide and wide from upright."""
    width, height = source.width, source.height
    if width > height:
        width = nearest_even(min(width, height * 9 / 16))
    else:
        height = nearest_even(min(height, width * 9 / 16))
    return node.filter("crop", w=width, h=height)


def _every_second(node: Any, source: ReferenceSource) -> Any:
    """Take every second frame: twice the speed."""
    return node.filter("select", "not(mod(n,2))").filter("setpts", "N")


def _half_rate(node: Any, source: ReferenceSource) -> Any:
    """Take every second frame at half the frame rate: the same speed."""
    rate = source.frame_rate / 2
    return (
        node.filter("select", "not(mod(n,2))")
        .filter("settb", str(1 / rate))
        .filter("setpts", "N")
        .filter("fps", str(rate))
    )


def _grain(node: Any, source: ReferenceSource) -> Any:
    """Add grain of about 4 levels, new in every frame."""
    return node.filter("noise", c0s=14, c0f="t", c1s=6, c1f="t", c2s=6, c2f="t", all_seed=20_011)


def _denoise(node: Any, source: ReferenceSource) -> Any:
    """Remove noise and fine texture."""
    return node.filter("hqdn3d", 4, 3, 8, 6)


def _soft(node: Any, source: ReferenceSource) -> Any:
    """Blur, as out of focus."""
    return node.filter("gblur", sigma=1.4, steps=2)


def _dark(node: Any, source: ReferenceSource) -> Any:
    """Take away more than half the light."""
    return node.filter("lutyuv", y="minval+(val-minval)*0.45")


AUGMENTATIONS: Mapping[str, Augmentation] = {
    each.name: each
    for each in (
        Augmentation("crop", _crop),
        Augmentation("zoom", _zoom),
        Augmentation("small", _small),
        Augmentation("reframe", _reframe),
        Augmentation("fast", _every_second, frames_per_frame=2),
        Augmentation("halfrate", _half_rate, frames_per_frame=2, rate_divisor=2),
        Augmentation("grain", _grain),
        Augmentation("denoise", _denoise),
        Augmentation("soft", _soft),
        Augmentation("dark", _dark),
    )
}
"""Augmentations by their name."""


def augmentation(name: str) -> Augmentation:
    """Return the augmentation called ``name``; a :class:`BadInput` lists the names."""
    if name not in AUGMENTATIONS:
        raise BadInput(
            f"no augmentation is called {name!r}; choose one of {', '.join(AUGMENTATIONS)}"
        )
    return AUGMENTATIONS[name]


def augment(source: ReferenceSource, name: str, start: int, end: int, path: Path) -> float:
    """Write an intermediate of canonical frames ``[start, end)`` to ``path``; return CPU seconds.

    Raises:
        BadInput: the title is too small or too short for it, or its frame rate too low.
    """
    return run(augment_command(source, name, start, end, path)).cpu_seconds


def augment_command(
    source: ReferenceSource, name: str, start: int, end: int, path: Path
) -> Command:
    """Build the ffmpeg call of :func:`augment`."""
    recipe = augmentation(name)
    _check(source, recipe, end - start)
    rate = source.frame_rate / recipe.rate_divisor
    node = recipe.build(open_reference(source, start, end), source)
    options = {
        **MP4_OPTIONS,
        **_CODING,
        "pix_fmt": source.pix_fmt,
        "video_track_timescale": mp4.timescale_for(rate),
    }
    output = ffmpeg.output(node, filename=path, **options)
    # Some filters draw their noise per thread, so their output depends on the number of threads.
    return reading_command(output, "-filter_complex_threads", "1")


def _check(source: ReferenceSource, recipe: Augmentation, frames: int) -> None:
    if frames < recipe.frames_per_frame:
        raise BadInput(
            f"cannot augment by {recipe.name}: {frames} frames are too few; give a longer source"
        )
    if source.frame_rate / recipe.rate_divisor < MIN_RATE:
        raise BadInput(
            f"cannot augment by {recipe.name}: {float(source.frame_rate):g} fps would fall under "
            f"{MIN_RATE} fps; leave it out for this source"
        )
    if min(source.width, source.height) < 2 * _LEAST_SIDE:
        raise BadInput(
            f"cannot augment by {recipe.name}: {source.width}x{source.height} is too small; give a "
            f"source of at least {2 * _LEAST_SIDE} pixels a side"
        )
