"""Loudness of a package's audio, and black and frozen stretches of its video.

Loudness is EBU R128 (ffmpeg's ``ebur128``): integrated loudness in LUFS, loudness range in LU, true
peak in dBTP. Stretches come from ``blackdetect`` and ``freezedetect``. Each takes one pass of
ffmpeg.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from encoder.ffmpeg import Command, patience, run

LOUDNESS_FILTER = "ebur128=peak=true:framelog=quiet"
"""Filter that measures loudness; its summary is read by :func:`parse_loudness`."""
BLACK_SECONDS = 0.1
"""Least duration of a black stretch."""
FROZEN_SECONDS = 0.5
"""Least duration of a frozen stretch."""
FROZEN_NOISE = "-60dB"
"""Difference between frames up to which they count as equal."""


@dataclass(frozen=True, slots=True)
class Loudness:
    """Loudness of a title's audio by EBU R128, None where undefined (silence)."""

    integrated: float | None
    """Integrated loudness in LUFS."""
    range: float | None
    """Loudness range in LU."""
    true_peak: float | None
    """True peak in dBTP."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A run of black or frozen frames."""

    kind: str
    """Kind of stretch, ``black`` or ``frozen``."""
    start: float
    """Time of the first frame, seconds."""
    end: float
    """Time after the last frame, seconds."""


def loudness(path: Path, frames: int) -> Loudness:
    """Measure the loudness of a file's audio; the ``frames`` of its video bound ffmpeg's time.

    Raises:
        ToolFailed: the file has no audio, or the audio does not decode.
    """
    command = Command.of(
        ["-hide_banner", "-nostats", "-i", path, "-vn", "-af", LOUDNESS_FILTER, "-f", "null", "-"]
    )
    done = run(command, timeout_seconds=patience(frames))
    return parse_loudness(done.stderr)


def parse_loudness(stderr: str) -> Loudness:
    """Parse the summary that ``ebur128`` writes at its end."""
    summary = stderr[stderr.rfind("Summary:") :]

    def value(name: str) -> float | None:
        match = re.search(rf"^\s*{name}:\s*(-?[\d.]+|-?inf|nan)", summary, re.M)
        if match is None or not re.fullmatch(r"-?[\d.]+", match[1]):
            return None
        return float(match[1])

    integrated = value("I")
    silent = integrated is not None and integrated <= -70
    return Loudness(None if silent else integrated, value("LRA"), value("Peak"))


def stretches(path: Path, frames: int, seconds: float) -> tuple[Stretch, ...]:
    """Find the black and frozen stretches of a video of ``frames`` frames in ``seconds``.

    Raises:
        ToolFailed: the video does not decode.
    """
    graph = (
        f"blackdetect=d={BLACK_SECONDS}:pix_th=0.1,"
        f"freezedetect=n={FROZEN_NOISE}:d={FROZEN_SECONDS},metadata=mode=print:file=-"
    )
    command = Command.of(["-v", "error", "-i", path, "-an", "-vf", graph, "-f", "null", "-"])
    done = run(command, timeout_seconds=patience(frames))
    return parse_stretches(done.stdout.decode(errors="replace"), seconds)


def parse_stretches(text: str, seconds: float) -> tuple[Stretch, ...]:
    """Parse the output of ``metadata=print``; an open stretch ends with the title."""
    parsed: list[Stretch] = []
    begun: dict[str, float] = {}
    marks = {"black_start": "black", "freezedetect.freeze_start": "frozen"}
    ends = {"black_end": "black", "freezedetect.freeze_end": "frozen"}
    for name, value in re.findall(r"^lavfi\.([\w.]+)=(-?[\d.]+)", text, re.M):
        if name in marks:
            begun[marks[name]] = float(value)
        elif name in ends and ends[name] in begun:
            kind = ends[name]
            parsed.append(Stretch(kind, begun.pop(kind), float(value)))
    parsed += [Stretch(kind, start, seconds) for kind, start in begun.items() if start < seconds]
    return tuple(sorted(parsed, key=lambda stretch: (stretch.start, stretch.kind)))
