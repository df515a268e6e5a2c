"""Encode a whole rung in one process, as a customer without a per-shot pipeline would.

:func:`encode_at_crf` encodes a per-title rung: one operating point for the whole title, with
keyframes forced at the shots' first frames. :func:`encode_at_bitrate` encodes a rung of the fixed
ladder, whose settings never follow those of a package: x264 at preset ``medium`` without further
options, two-pass VBR, a keyframe every two seconds as the Apple HLS authoring specification
requires, and peaks within its 200 %. x264 has 8 bit, so the fixed ladder of a title of high dynamic
range is the same with x265. Both use one thread, so that the bits do not depend on the machine; one
thread costs no quality.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ffmpeg

from encoder import mp4
from encoder.encode import MOVFLAGS, frame_list, scaled
from encoder.errors import FrameMismatch
from encoder.ffmpeg import Command, patience, run
from encoder.media import OperatingPoint
from encoder.recipes import Recipe, recipe
from encoder.source.reference import ReferenceSource, open_reference, reading_command

STAGE_VERSION = 1
"""Part of the store key of every baseline: raise it when the bits of a baseline change."""

KEYFRAME_SECONDS = 2
"""Seconds between the keyframes of a rung at a bitrate."""

PEAK_FACTOR = 2
"""Peak over average bitrate of the fixed ladder, and seconds of buffer at the peak rate; Apple
allows 200 % for video on demand."""


def plain_medium(*, hdr: bool) -> Recipe:
    """Return the recipe of baselines that do not follow the package: x264 at ``medium``, and x265
    at ``medium`` for a title of high dynamic range."""
    return recipe("x265" if hdr else "x264", "medium")


@dataclass(frozen=True, slots=True)
class FixedRung:
    """A rung of the fixed ladder: one size at one average bitrate."""

    codec: Literal["x264", "x265"]
    width: int
    height: int
    bitrate: int
    """Target of the second pass in bit/s."""

    @property
    def recipe(self) -> Recipe:
        """Plain recipe at ``medium``, which says the codec, the pixel format and the CPU time."""
        return recipe(self.codec, "medium")

    def options(self, keyframe_interval: int) -> dict[str, str]:
        """Return the encoder options of both passes.

        Args:
            keyframe_interval: frames from one keyframe to the next.
        """
        options = {
            "c:v": self.recipe.encoder,
            "preset": self.recipe.preset,
            "threads": "1",
            "b:v": str(self.bitrate),
            "maxrate": str(PEAK_FACTOR * self.bitrate),
            "bufsize": str(PEAK_FACTOR * PEAK_FACTOR * self.bitrate),
        }
        interval = str(keyframe_interval)
        if self.codec == "x264":
            return options | {"g": interval, "keyint_min": interval, "sc_threshold": "0"}
        keyframes = f"keyint={interval}:min-keyint={interval}:scenecut=0:open-gop=0"
        threads = "pools=none:frame-threads=1:wpp=0:log-level=error"
        return options | {"tag:v": "hvc1", "x265-params": f"{keyframes}:{threads}"}

    def passes(self, keyframe_interval: int, log: Path) -> tuple[dict[str, str], ...]:
        """Return the encoder options of each pass; the statistics are written to ``log``."""
        options = self.options(keyframe_interval)
        if self.codec == "x264":
            log_file = {"passlogfile": str(log)}
            return tuple(options | log_file | {"pass": str(number)} for number in (1, 2))
        escaped = str(log).replace("\\", "\\\\").replace(":", "\\:")
        return tuple(
            options | {"x265-params": f"{options['x265-params']}:pass={number}:stats={escaped}"}
            for number in (1, 2)
        )


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


def keyframe_interval(source: ReferenceSource) -> int:
    """Return the frames from one keyframe of a fixed rung to the next."""
    return round(KEYFRAME_SECONDS * source.frame_rate)


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
    """Encode the title in two passes as a rung of the fixed ladder; also return CPU seconds.

    Raises:
        FrameMismatch: the encode does not hold all frames of the title.
    """
    cpu_seconds = 0.0
    for options in rung.passes(keyframe_interval(source), path.with_suffix(".passlog")):
        carried = rung.recipe.carrying(options, source.static_metadata)
        command = _command(source, rung, carried, path)
        cpu_seconds += run(command, timeout_seconds=patience(source.frames)).cpu_seconds
    return _finish(source, path), cpu_seconds


def _command(
    source: ReferenceSource, size: OperatingPoint | FixedRung, options: dict[str, Any], path: Path
) -> Command:
    picture = scaled(open_reference(source, 0, source.frames), source, size.width, size.height)
    output = ffmpeg.output(
        picture,
        str(path),
        **options,
        f="mp4",
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
