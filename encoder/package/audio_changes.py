"""Sound that is put together of channels whose streams change their format.

ffmpeg makes a graph of several inputs anew when one of them changes, and then waits for ever or
fails. Each stream is therefore decoded to PCM of one format first, with the times that it has.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from encoder.errors import SourceUnusable
from encoder.ffmpeg import PATIENCE_VARIABLE, Command, Completed
from encoder.package import audio_log
from encoder.package.audio_commands import (
    MONO,
    Part,
    Sound,
    formats_command,
    steady_command,
)
from encoder.package.audio_log import SoundFormat

_LEAST_SECONDS = 120.0
_BYTES_PER_SECOND = 2_000_000
_LAYOUTS = {1: MONO, 2: "stereo", 6: "5.1", 8: "7.1"}
_LAYOUT_NAME = re.compile(r"[A-Za-z0-9.]+(\([a-z-]+\))?\Z")

Execute = Callable[[Command], Completed]
"""Runs a command about a sound."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What changes in the streams of a sound."""

    formats: tuple[SoundFormat, ...]
    """Formats of the stream that changes most often, as far as they are heard."""
    layouts: dict[tuple[Path, int], str]
    """Layout in which each stream is decoded."""
    broken: bool
    """True where something does not decode."""


def is_put_together(sound: Sound) -> bool:
    """Return True where a sound is made of several parts, or of one channel of a stream."""
    return sound.layout is not None or any(part.channel is not None for part in sound.parts)


def time_limit(sound: Sound, duration: Fraction) -> float:
    """Return the seconds after which a call that puts a sound together has hung.

    Decoding is many times as fast as the sound and as a slow disk, which both count.
    """
    size = sum(path.stat().st_size for path in {part.path for part in sound.parts})
    factor = float(os.environ.get(PATIENCE_VARIABLE) or 1)
    return factor * (_LEAST_SECONDS + float(duration) + size / _BYTES_PER_SECOND)


def find_changes(
    sound: Sound, execute: Execute, *, first_video_pts: Fraction, duration: Fraction
) -> Changes | None:
    """Return what changes in the streams of a sound that is put together, None without a change.

    Args:
        sound: The sound; its parts are of one file.
        execute: Runs ffmpeg.
        first_video_pts: Presentation time of the title's first picture in the file, seconds.
        duration: Duration of the title, seconds.

    Raises:
        SourceUnusable: a format that changes has no layout that is known.
    """
    streams = list(dict.fromkeys((part.path, part.stream) for part in sound.parts))
    whole = [Part(path, stream) for path, stream in streams]
    kept = execute(formats_command(whole, first_video_pts)).kept
    if not audio_log.changes_format(kept):
        return None
    layouts, formats = {}, []
    named = {(part.path, part.stream) for part in sound.parts if part.channel is not None}
    for part in whole:
        found = execute(formats_command([part], first_video_pts)).kept
        formats.append(audio_log.formats(found, duration))
        where = (part.path, part.stream)
        layouts[where] = _widest(part, audio_log.layouts(found)) if where in named else MONO
    return Changes(max(formats, key=len), layouts, audio_log.does_not_decode(kept))


def _widest(part: Part, found: dict[str, int]) -> str:
    """Return the layout that has the channels of all layouts of a stream."""
    name = max(found, key=lambda layout: found[layout], default=MONO)
    layout = name if _LAYOUT_NAME.match(name) else _LAYOUTS.get(found[name])
    if layout is None:
        raise SourceUnusable(
            f"cannot use {part.path}: its audio (stream {part.stream}) changes to {name} without "
            "positions, so that its channels cannot be told; name no channels of that track in "
            "--audio-layout"
        )
    return layout


@contextmanager
def steady(
    sound: Sound,
    changes: Changes,
    folder: Path,
    execute: Execute,
    *,
    first_video_pts: Fraction,
    duration: Fraction,
) -> Iterator[Sound]:
    """Decode the streams of a sound to PCM of one format each, in files that exist meanwhile.

    The sound that is yielded is made of these files; time 0 is the title's first picture.
    """
    copies: dict[tuple[Path, int], Path] = {}
    try:
        for number, ((path, stream), layout) in enumerate(changes.layouts.items()):
            copies[path, stream] = copy = folder / f"steady-{number}.nut"
            execute(
                steady_command(
                    # Where recordings are spliced, a stream whose format goes on keeps in step with
                    # one that changes there.
                    Part(path, stream, stepwise=True),
                    copy,
                    first_video_pts=first_video_pts,
                    duration=duration,
                    layout=layout,
                )
            )
        parts = tuple(Part(copies[part.path, part.stream], 0, part.channel) for part in sound.parts)
        yield replace(sound, parts=parts, steady=True)
    finally:
        for copy in copies.values():
            copy.unlink(missing_ok=True)
