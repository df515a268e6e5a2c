"""Encode a shot at several operating points, reading it once.

One ffmpeg process decodes the shot through the canonical reference graph, scales it to each size
and feeds every encoder. Each output is a fragmented MP4. Its media part is the CMAF segment that
will be delivered, byte for byte; its init part is kept beside it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ffmpeg

from encoder import mp4
from encoder.errors import BadInput, FrameMismatch, ToolFailed
from encoder.ffmpeg import Command, as_arguments, balanced_sum, patience, run
from encoder.media import OperatingPoint, Shot
from encoder.recipes import Recipe
from encoder.source.colour.codes import completed
from encoder.source.reference import ReferenceSource, open_reference, reading_command

STAGE_VERSION = 1
"""Part of the store key of every encode: raise it when the bits of an encode change."""

MOVFLAGS = "+frag_keyframe+empty_moov+default_base_moof+frag_discont+negative_cts_offsets"
"""Flags of ffmpeg's MP4 muxer for CMAF: one fragment per keyframe, times of the title, no edits."""

MP4_OPTIONS = {
    "fps_mode": "passthrough",
    "use_editlist": 0,
    "map_metadata": -1,
    # A source's chapters would become a second track.
    "map_chapters": -1,
    "fflags": "+bitexact",
    "flags:v": "+bitexact",
    "f": "mp4",
}
"""Options of every MP4 whose frames are the title's, and whose bytes depend on nothing else."""

_ROUNDED_SECONDS = 2e-6  # most that ffmpeg's microseconds can move an encode


@dataclass(frozen=True, slots=True)
class Encode:
    """A shot encoded at an operating point."""

    shot: Shot
    point: OperatingPoint
    init_path: Path
    """File with ``ftyp+moov``; encodes of equal ``codec_sha256`` may share it."""
    media_path: Path
    """File with ``moof+mdat`` (several where the shot has cuts inside): the delivered segment."""
    num_bytes: int
    """Size of the media part in bytes."""
    codecs: str
    """RFC 6381 string, for example ``avc1.64001f``."""
    codec_sha256: str
    """Digest of the codec configuration, for example of avcC."""


def encode_shot(
    source: ReferenceSource, shot: Shot, points: Sequence[OperatingPoint], directory: Path
) -> tuple[tuple[Encode, ...], float]:
    """Encode ``shot`` at all ``points`` in one process, into ``directory``.

    Returns:
        The encodes in the order of ``points``, and their CPU seconds in total.

    Raises:
        FrameMismatch: an encode does not hold exactly the shot's frames.
    """
    paths = [directory / f"encode-{number}.mp4" for number in range(len(points))]
    command = encode_command(source, shot, points, paths)
    done = run(command, timeout_seconds=patience(shot.frames * len(points)))
    encodes = tuple(
        _finish(source, shot, point, path) for point, path in zip(points, paths, strict=True)
    )
    return encodes, done.cpu_seconds


@functools.cache
def check_tuning(recipe: Recipe) -> None:
    """Check that the encoder takes the tuning of ``recipe``, by an encode of five grey frames.

    ffmpeg warns of a parameter that an encoder does not take, and encodes without it.

    Raises:
        BadInput: the encoder does not take it.
    """
    crf = sum(recipe.crf_range) // 2
    grey = ("-v", "warning", "-f", "lavfi", "-i", "color=gray:s=320x192:r=25:d=0.2")
    options = as_arguments(recipe.arguments(crf))
    command = Command.of([*grey, *options, "-pix_fmt", recipe.pixel_format, "-f", "null", "-"])
    try:
        said = run(command, timeout_seconds=patience(5)).stderr
    except ToolFailed as error:
        said = str(error.context.get("stderr", ""))
    if found := _REFUSED.search(said):
        raise BadInput(
            f"{recipe.codec} does not take the tuning {recipe.tuning!r:.120}: "
            f"{' '.join(found[1].split())}"
        )


_REFUSED = re.compile(
    r"(?:^x265 \[error\]: |^Svt\[error\]: |\] (?=Error parsing|Invalid value|Unknown option))(.*)",
    re.MULTILINE,
)


def encode_command(
    source: ReferenceSource, shot: Shot, points: Sequence[OperatingPoint], paths: Sequence[Path]
) -> Command:
    """Build the ffmpeg call of :func:`encode_shot`."""
    reference = open_reference(source, shot.start, shot.end)
    sizes = sorted({(point.width, point.height) for point in points}, reverse=True)
    branches = reference.filter_multi_output("split", len(sizes))
    outputs = []
    for branch_number, (width, height) in enumerate(sizes):
        at_size = [
            (point, path)
            for point, path in zip(points, paths, strict=True)
            if (point.width, point.height) == (width, height)
        ]
        branch = scaled(branches.stream(branch_number), source, width, height)
        copies = branch.filter_multi_output("split", len(at_size))
        for number, (point, path) in enumerate(at_size):
            outputs.append(_output(copies.stream(number), source, shot, point, path))
    return reading_command(ffmpeg.merge_outputs(*outputs))


def scaled(stream: Any, source: ReferenceSource, width: int, height: int) -> Any:
    """Scale the canonical reference to a rung's size (lanczos), with square pixels."""
    if (width, height) != (source.width, source.height):
        stream = stream.filter("scale", width, height, flags="lanczos+accurate_rnd+full_chroma_int")
    return stream.filter("setsar", 1)


def stated_in_stream(source: ReferenceSource, recipe: Recipe) -> dict[str, str]:
    """Return what :func:`encode_shot` states of a source's colours although the source does not.

    AV1 and VP9 repeat their headers in the media, which packaging does not change: AV1 states
    primaries, transfer and matrix there, VP9 its matrix. What the other codecs state, packaging
    completes (:mod:`encoder.package.colours`).
    """
    if source.color_matrix is not None:
        return {}
    if recipe.codec == "svtav1" and not source.hdr:
        primaries, transfer, matrix = completed(
            source.color_primaries, source.color_transfer, None, source.info.shown_height
        )
        return {"colorspace": matrix, "color_primaries": primaries, "color_trc": transfer}
    if recipe.codec == "vp9":
        return {"colorspace": source.sdr_matrix}
    return {}


def _output(
    stream: Any, source: ReferenceSource, shot: Shot, point: OperatingPoint, path: Path
) -> Any:
    recipe = point.recipe
    if stated := stated_in_stream(source, recipe):
        stream = stream.filter("setparams", **stated)
    options: dict[str, Any] = {
        **recipe.carrying(recipe.arguments(point.crf), source.static_metadata),
        **MP4_OPTIONS,
        "pix_fmt": recipe.pixel_format,
        # ffmpeg rounds option times to a microsecond, and the muxer rounds that to ticks. `_finish`
        # corrects the error, which is the same for all frames.
        "output_ts_offset": f"{float(shot.start / source.frame_rate):.6f}",
        "video_track_timescale": mp4.timescale_for(source.frame_rate),
        "movflags": MOVFLAGS,
    }
    if shot.cuts:
        options["force_key_frames"] = frame_list([cut - shot.start for cut in shot.cuts])
    return ffmpeg.output(stream, filename=path, **options)


def frame_list(frames: Sequence[int]) -> str:
    """Return ``-force_key_frames`` for exactly these frame numbers of the output."""
    return "expr:" + balanced_sum([f"eq(n,{frame})" for frame in frames])


def _finish(source: ReferenceSource, shot: Shot, point: OperatingPoint, path: Path) -> Encode:
    frame_rate = source.frame_rate
    init, media = mp4.split_fragmented(path.read_bytes())
    if described := source.static_metadata.boxes():
        init = mp4.with_sample_entry_boxes(init, described)
    ticks = mp4.timescale_for(frame_rate) / frame_rate
    samples = mp4.sample_table(init, media)
    off = int(ticks * shot.start) - min(s.composition_time for s in samples)
    if off and abs(off) <= _ROUNDED_SECONDS * mp4.timescale_for(frame_rate):
        media = mp4.moved_in_time(media, off)
        samples = mp4.sample_table(init, media)
    if len(samples) != shot.frames:
        raise FrameMismatch(
            f"encode of frames [{shot.start}, {shot.end}) at {point.height}p CRF {point.crf:g} "
            f"holds {len(samples)} frames instead of {shot.frames}"
        )
    presented = sorted(sample.composition_time for sample in samples)
    if presented != [ticks * number for number in range(shot.start, shot.end)]:
        raise FrameMismatch(
            f"encode of frames [{shot.start}, {shot.end}) is not on the title's timeline: it "
            f"starts at tick {presented[0]} instead of {ticks * shot.start}"
        )
    configuration = mp4.codec_configuration(init)
    init_path, media_path = path.with_suffix(".init"), path.with_suffix(".media")
    init_path.write_bytes(init)
    media_path.write_bytes(media)
    path.unlink()
    return Encode(
        shot=shot,
        point=point,
        init_path=init_path,
        media_path=media_path,
        num_bytes=len(media),
        codecs=configuration.codecs,
        codec_sha256=configuration.sha256,
    )
