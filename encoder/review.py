"""What a package sounds like and where its picture stands still: one pass of ffmpeg over each.

Loudness is EBU R128 (ffmpeg's ``ebur128``): integrated loudness in LUFS, loudness range in LU, true
peak in dBTP. Stretches are those of ``blackdetect`` and ``freezedetect``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from encoder.ffmpeg import Command, patience, run

BLACK_SECONDS = 0.1
FROZEN_SECONDS = 0.5
FROZEN_NOISE = "-60dB"


@dataclass(frozen=True, slots=True)
class Loudness:
    """EBU R128 of a title's sound; None where it is silent."""

    integrated: float | None
    """LUFS."""
    range: float | None
    """LU."""
    true_peak: float | None
    """dBTP."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A run of black or frozen frames, in seconds."""

    kind: str
    """``black`` or ``frozen``."""
    start: float
    end: float


def loudness(path: Path, frames: int) -> Loudness:
    """Of the sound in a file that has ``frames`` frames of picture to it.

    Raises:
        ToolFailed: there is none, or it does not decode.
    """
    graph = "ebur128=peak=true:framelog=quiet"
    command = Command.of(
        ["-hide_banner", "-nostats", "-i", path, "-vn", "-af", graph, "-f", "null", "-"]
    )
    done = run(command, timeout_seconds=patience(frames))
    return parse_loudness(done.stderr)


def parse_loudness(said: str) -> Loudness:
    """From the summary that ``ebur128`` writes at its end."""
    summary = said[said.rfind("Summary:") :]

    def value(name: str) -> float | None:
        found = re.search(rf"^\s*{name}:\s*(-?[\d.]+|-?inf|nan)", summary, re.M)
        if found is None or not re.fullmatch(r"-?[\d.]+", found[1]):
            return None
        return float(found[1])

    integrated = value("I")
    silent = integrated is not None and integrated <= -70
    return Loudness(None if silent else integrated, value("LRA"), value("Peak"))


def stretches(path: Path, frames: int, seconds: float) -> tuple[Stretch, ...]:
    """Black and frozen stretches of a picture of ``frames`` frames that lasts ``seconds``.

    Raises:
        ToolFailed: it does not decode.
    """
    graph = (
        f"blackdetect=d={BLACK_SECONDS}:pix_th=0.1,"
        f"freezedetect=n={FROZEN_NOISE}:d={FROZEN_SECONDS},metadata=mode=print:file=-"
    )
    command = Command.of(["-v", "error", "-i", path, "-an", "-vf", graph, "-f", "null", "-"])
    done = run(command, timeout_seconds=patience(frames))
    return parse_stretches(done.stdout.decode(errors="replace"), seconds)


def parse_stretches(said: str, seconds: float) -> tuple[Stretch, ...]:
    """From what ``metadata=print`` writes; a stretch that does not end ends with the title."""
    found: list[Stretch] = []
    begun: dict[str, float] = {}
    marks = {"black_start": "black", "freezedetect.freeze_start": "frozen"}
    ends = {"black_end": "black", "freezedetect.freeze_end": "frozen"}
    for name, value in re.findall(r"^lavfi\.([\w.]+)=(-?[\d.]+)", said, re.M):
        if name in marks:
            begun[marks[name]] = float(value)
        elif name in ends and ends[name] in begun:
            kind = ends[name]
            found.append(Stretch(kind, begun.pop(kind), float(value)))
    found += [Stretch(kind, start, seconds) for kind, start in begun.items() if start < seconds]
    return tuple(sorted(found, key=lambda one: (one.start, one.kind)))
