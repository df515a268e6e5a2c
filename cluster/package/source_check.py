"""Verify a package against its source: pictures, sound and length, decoded straight.

:mod:`encoder.package.verify` proves that a package holds what was scored. This module proves that
what was scored is the source: it decodes the source once from its beginning, without a seek and
without any result of the store, and compares coarsely (:mod:`encoder.likeness`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, NoReturn

import av.error
import numpy as np

from encoder import likeness
from encoder.arrays import Float64, UInt8
from encoder.errors import VerificationFailed
from encoder.likeness import Levels
from encoder.package import readback
from encoder.source.reference import ReferenceSource
from ladder.document import Rung

FIRST_FRAMES = 4
"""Number of frames that are compared at the beginning of each segment; of the highest rung, all."""
MOST_SHIFT = 12
"""Largest shift of pictures that is looked for, in frames."""
_FIRST_PICTURE_SECONDS = 0.35
"""Most time by which the first picture that a decoder shows may follow the first of the index: the
leading pictures of an open GOP at the beginning."""
_ALIKE = 0.1
"""Correlation by which sound may fit better at another time than at its own."""

_Told = Literal["same", "even", "unsure"]


@dataclass(frozen=True, slots=True)
class SourceReport:
    """Extent of a comparison with the source."""

    pictures: int
    """Number of delivered pictures that were compared."""
    sounds: int
    """Number of audio tracks that were recognised in the source, at the same time."""
    even: tuple[str, ...] = ()
    """Audio tracks whose sound varies too little to be compared."""
    unsure: tuple[str, ...] = ()
    """Audio tracks that are mixed too much to be recognised."""
    differing: str = ""
    """Segment of a damaged source that shows other pictures than a straight decode: what decoders
    conceal depends on where decoding begins. Empty where there is none."""


def check_source(
    directory: Path,
    rungs: Sequence[Rung],
    frame_rate: Fraction,
    source: ReferenceSource,
    *,
    damaged: bool = False,
) -> SourceReport:
    """Compare a package with the source that it was made from.

    Pictures of a ``damaged`` source may differ, which the report says.

    Raises:
        VerificationFailed: the package shows other pictures than the source, has another length,
            or other sound, or sound at another time; ``context`` names ``rung`` and ``segment``.
        SourceUnusable: the source cannot be decoded.
    """
    frames = rungs[0].segments[-1].end_frame
    if (frames, frame_rate) != (source.frames, source.frame_rate):
        _fail(
            f"the package has {frames} frames at {frame_rate} fps, its source {source.frames} at "
            f"{source.frame_rate}"
        )
    grids = likeness.source_grids(source)
    highest = max(rungs, key=lambda rung: (rung.height, rung.bitrate))
    # A picture whose two fields differ (a flash, a cut) is deinterlaced in the rungs and woven in
    # the source, so that pictures of such titles may differ, but not most of a segment.
    typical = likeness.smaller if source.info.interlaced else np.mean
    pictures, differing = 0, ""
    for rung in rungs:
        try:
            pictures += _check_rung(directory, rung, grids, typical, rung is highest)
        except VerificationFailed as error:
            if not damaged or "segment" not in error.context:
                raise
            differing = differing or f"segment {error.context['segment']} of rung {rung.name}"
    sounds = _check_sounds(directory, source, float(frames / frame_rate))
    return SourceReport(pictures, *sounds, differing)


# -- pictures ----------------------------------------------------------------------------------


def _check_rung(
    directory: Path, rung: Rung, grids: UInt8, typical: Callable[[Float64], Any], whole: bool
) -> int:
    """Compare pictures of one rung by their ``typical`` difference; return how many."""
    init = _read(directory, rung.init_uri)
    count = 0
    for number, segment in enumerate(rung.segments):
        where: dict[str, Any] = {"rung": rung.name, "segment": number, "file": segment.uri}
        place = f"rung {rung.name!r}, segment {number} ({segment.uri})"
        most = segment.end_frame - segment.start_frame if whole else FIRST_FRAMES
        shown: list[UInt8] = []
        try:
            for picture in likeness.segment_grids(init, _read(directory, segment.uri)):
                shown.append(picture)
                if len(shown) == most:
                    break
        except av.error.FFmpegError as error:
            _fail(f"{place} does not decode: {error}", **where)
        right = grids[segment.start_frame : segment.start_frame + len(shown)]
        if not shown or len(shown) != len(right):
            _fail(f"{place} has {len(shown)} pictures where the source has {len(right)}", **where)
        differences = _differences(np.stack(shown), right)
        if typical(differences) > likeness.PICTURE_LIMIT:
            worst = segment.start_frame + int(differences.argmax())
            _fail(
                f"{place} does not show what the source shows there (frame {worst} differs by "
                f"{differences.max():.0f} of 255 levels on the mean): the store holds encodes of "
                "another film; `shotladder store fsck --source SOURCE --repair` removes them, then "
                "run the title again",
                **where,
            )
        if whole:
            _check_shift(np.stack(shown), grids, segment.start_frame, place, where)
        count += len(shown)
    return count


def _check_shift(shown: UInt8, grids: UInt8, start: int, place: str, where: dict[str, Any]) -> None:
    """Check that no other frames of the source fit a segment much better than its own."""
    found = {}
    for shift in range(-MOST_SHIFT, MOST_SHIFT + 1):
        first = max(0, -(start + shift))
        last = min(len(shown), len(grids) - start - shift)
        if last - first >= max(1, len(shown) // 2):
            other = grids[start + shift + first : start + shift + last]
            found[shift] = float(_differences(shown[first:last], other).mean())
    best = min(found, key=lambda shift: (found[shift], abs(shift)))
    if found[0] > 3 * found[best] + 1:
        _fail(
            f"{place} shows the source's pictures {abs(best)} frames "
            f"{'early' if best > 0 else 'late'}",
            **where,
        )


def _differences(one: UInt8, other: UInt8) -> Float64:
    """Return the difference of each pair of grids, (n,)."""
    return np.asarray(np.abs(one.astype(np.int16) - other.astype(np.int16)).mean(axis=(1, 2)))


# -- sound -------------------------------------------------------------------------------------


def _check_sounds(
    directory: Path, source: ReferenceSource, seconds: float
) -> tuple[int, tuple[str, ...], tuple[str, ...]]:
    """Compare the audio tracks; return how many were recognised, which vary too little, and which
    are mixed too much."""
    used = {stream.index for stream in source.info.audio}
    held = source.timeline.head / source.frame_rate
    first, sounds = likeness.source_levels(source.path, source.info.stream_index, seconds, held)
    streams = [levels for index, levels in sounds.items() if index in used]
    audible = [levels for levels in streams if levels.audible]
    tracks = [_track(directory, uri, seconds) for uri in _audio_uris(directory)]
    if audible and not tracks:
        _fail(
            f"the source has sound ({audible[0].name}, from {audible[0].onset:.2f} s on), the "
            "package has none"
        )
    if len(audible) > 1:
        audible.append(likeness.together(audible))  # discrete mono tracks become one
    hidden = float(first - source.index.start_seconds)  # pictures that a decoder does not show
    allowed = [0.0, hidden] if abs(hidden) <= _FIRST_PICTURE_SECONDS else [0.0]
    found: dict[_Told, list[str]] = {"same": [], "even": [], "unsure": []}
    for track in tracks:
        if track.audible or any(not levels.audible for levels in streams) or not streams:
            found[_check_sound(track, audible, allowed)].append(track.name)
        else:
            _fail(f"{track.name!r} is silent, the source is not", rung=track.name)
    return len(found["same"]), tuple(found["even"]), tuple(found["unsure"])


def _check_sound(track: Levels, streams: Sequence[Levels], allowed: Sequence[float]) -> _Told:
    """Check that a track is one of the streams, at its time, as far as that can be told."""
    varied = [levels for levels in streams if likeness.varied(levels)]
    if not varied or not likeness.varied(track):
        return "even"
    fits = [(likeness.shift(track, levels), levels) for levels in varied]
    (late, best), levels = max(fits, key=lambda fit: fit[0][1])
    # Streams may be alike but for their times: the track is right where it fits any of them.
    right = max(
        likeness.correlation(track, each, seconds) for each in varied for seconds in allowed
    )
    if right < best - _ALIKE and likeness.like(best):
        _fail(
            f"{track.name!r} is {abs(late):.2f} s {'late' if late > 0 else 'early'} against "
            f"{levels.name} of the source",
            rung=track.name,
        )
    if not likeness.sounds_like(track, streams):
        _fail(f"{track.name!r} does not sound like any stream of the source", rung=track.name)
    return "same" if likeness.like(right) else "unsure"


def _audio_uris(directory: Path) -> list[str]:
    master = readback.parse_master(_read(directory, "master.m3u8").decode())
    return [medium.uri for medium in master.media if medium.attributes.get("TYPE") == "AUDIO"]


def _track(directory: Path, uri: str, seconds: float) -> Levels:
    folder = Path(uri).parent
    playlist = readback.parse_media(_read(directory, uri).decode())
    parts = [playlist.init_uri, *(entry.uri for entry in playlist.entries)]
    content = b"".join(_read(directory, str(folder / part)) for part in parts)
    try:
        return likeness.track_levels(content, seconds, folder.name)
    except av.error.FFmpegError as error:
        _fail(f"{folder.name!r} does not decode: {error}", rung=folder.name)


def _read(directory: Path, uri: str) -> bytes:
    try:
        return (directory / uri).read_bytes()
    except OSError as error:
        _fail(f"{uri} is missing or cannot be read ({error.strerror})", file=uri)


def _fail(message: str, **where: Any) -> NoReturn:
    raise VerificationFailed(message, **where)
