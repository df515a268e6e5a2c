"""Encode a whole rung in one process, as a customer without a per-shot pipeline would.

Both kinds use the recipe's encoder and preset, so that a comparison only shows where the bits go:
:func:`encode_at_crf` (one CRF for the title, keyframes forced at the shots' first frames) and
:func:`encode_at_bitrate` (two-pass VBR with a keyframe every two seconds, as the Apple HLS
authoring specification requires).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ffmpeg

from encoder import mp4
from encoder.encode import MOVFLAGS, frame_list, scaled
from encoder.errors import FrameMismatch
from encoder.ffmpeg import Command, patience, run
from encoder.media import OperatingPoint
from encoder.recipes import Recipe
from encoder.source.reference import ReferenceSource, open_reference, reading_command

STAGE_VERSION = 1
"""Part of the store key of every baseline: raise it when the bits of a baseline change."""

KEYFRAME_SECONDS = 2
"""Seconds between the keyframes of a rung at a bitrate."""


@dataclass(frozen=True, slots=True)
class FixedRung:
    """A rung of a fixed ladder: one size at one average bitrate."""

    recipe: Recipe
    width: int
    height: int
    bitrate: int
    """Target of the second pass in bit/s."""


@dataclass(frozen=True, slots=True)
class RungEncode:
    """A whole rung as one file."""

    path: Path
    """Fragmented MP4, init and media."""
    media_bytes: int
    """Size of its media fragments, which is what a package's size counts as well."""
    segment_frames: tuple[int, ...]
    """Number of frames of each fragment; a fragment begins at each keyframe."""
    segment_bytes: tuple[int, ...]
    """Size of each fragment."""


def encode_at_crf(
    source: ReferenceSource, point: OperatingPoint, keyframes: Sequence[int], path: Path
) -> tuple[RungEncode, float]:
    """Encode the title at one operating point, with IDRs at ``keyframes``; also return CPU seconds.

    Raises:
        FrameMismatch: the encode does not hold all frames of the title.
    """
    recipe = point.recipe
    carried = recipe.carrying(recipe.arguments(point.crf), source.static_metadata)
    options = {**carried, "force_key_frames": frame_list(keyframes)}
    done = run(_command(source, point, options, path), timeout_seconds=patience(source.frames))
    return _finish(source, path), done.cpu_seconds


def encode_at_bitrate(
    source: ReferenceSource, rung: FixedRung, path: Path
) -> tuple[RungEncode, float]:
    """Encode the title in two passes as a rung of a fixed ladder; also return CPU seconds.

    Raises:
        FrameMismatch: the encode does not hold all frames of the title.
    """
    cpu_seconds = sum(
        run(
            _command(source, rung, options, path), timeout_seconds=patience(source.frames)
        ).cpu_seconds
        for options in two_pass_options(source, rung, path.with_suffix(".passlog"))
    )
    return _finish(source, path), cpu_seconds


def two_pass_options(
    source: ReferenceSource, rung: FixedRung, log: Path
) -> tuple[dict[str, str], ...]:
    """Return the encoder options of each pass."""
    interval = round(KEYFRAME_SECONDS * source.frame_rate)
    recipe = rung.recipe
    passes = recipe.bitrate_passes(rung.bitrate, interval, log)
    return tuple(recipe.carrying(options, source.static_metadata) for options in passes)


def _command(
    source: ReferenceSource, size: OperatingPoint | FixedRung, options: dict[str, Any], path: Path
) -> Command:
    picture = scaled(open_reference(source, 0, source.frames), source, size.width, size.height)
    output = ffmpeg.output(
        picture,
        str(path),
        **{"f": "mp4", **options},
        pix_fmt=size.recipe.pixel_format,
        fps_mode="passthrough",
        use_editlist=0,
        video_track_timescale=mp4.timescale_for(source.frame_rate),
        movflags=MOVFLAGS,
        map_chapters=-1,
    )
    return reading_command(output)


def _finish(source: ReferenceSource, path: Path) -> RungEncode:
    init, media = mp4.split_fragmented(path.read_bytes())
    fragments = mp4.fragments(init, media)
    frames = tuple(len(fragment.samples) for fragment in fragments)
    if sum(frames) != source.frames:
        raise FrameMismatch(f"a baseline encode holds {sum(frames)} of {source.frames} frames")
    path.write_bytes(init + media)
    return RungEncode(
        path=path,
        media_bytes=len(media),
        segment_frames=frames,
        segment_bytes=tuple(fragment.end - fragment.start for fragment in fragments),
    )
