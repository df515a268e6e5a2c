"""Judge a finished package by a straight decode, with none of this project's own reading.

The package's files are joined as a player joins them and decoded by ffmpeg. What is seen and heard
(when a white picture comes, when a tone begins, how many pictures there are, how long the sound
lasts, what colour is at a place) is compared with what is right for the source.
"""

from __future__ import annotations

import html
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from encoder import ffmpeg
from fixtures.kinds import Truth

SAMPLE_RATE = 48_000
TONE_SLACK_SECONDS = 0.025
"""How far a tone may lie from its time: a coded frame of AAC smears an onset over 21 ms."""
LENGTH_SLACK_SECONDS = 0.03
"""By how much sound may be shorter or longer than the pictures: one frame of AAC, and a bit."""
COLOUR_SLACK = 14
"""By how much R, G or B may differ after an encode at a high CRF, of 255."""

CUE_SLACK_SECONDS = 0.05
"""By how much a cue may begin or end beside its time."""

_CUE = re.compile(r"(\S+) --> (\S+).*\n")
_TAG = re.compile(r"<[^>]*>")
_URI = re.compile(r'URI="([^"]+)"')
_ATTRIBUTE = re.compile(r'([A-Z-]+)=("[^"]*"|[^,]*)')


@dataclass(frozen=True, slots=True)
class Seen:
    """What a straight decode of a package shows."""

    rungs: dict[str, list[float]]
    """Mean luma of every picture of each rung, 0 to 255."""
    times: dict[str, list[float]]
    """Presentation time of every picture of each rung, seconds."""
    sounds: list[dict[str, str]]
    """Attributes of every audio rendition in the multivariant playlist."""
    texts: list[str]
    """Every subtitle rendition as WebVTT."""
    sound: np.ndarray | None
    """Samples of the rendition that plays by default, shape (samples, 2); None without sound."""


def joined(folder: Path, playlist: str) -> bytes:
    """The bytes of a rendition in order, as its media playlist lists them."""
    path = folder / playlist
    parts = []
    for line in path.read_text().splitlines():
        if line.startswith("#EXT-X-MAP"):
            parts.append((path.parent / _URI.findall(line)[0]).read_bytes())
        elif line and not line.startswith("#"):
            parts.append((path.parent / line).read_bytes())
    return b"".join(parts)


def attributes(line: str) -> dict[str, str]:
    """The attribute list of a playlist's line."""
    return {name: value.strip('"') for name, value in _ATTRIBUTE.findall(line.partition(":")[2])}


def renditions(folder: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Playlists of the rungs, and the attributes of every other rendition."""
    lines = (folder / "master.m3u8").read_text().splitlines()
    rungs = [line for line in lines if line and not line.startswith("#")]
    media = [attributes(line) for line in lines if line.startswith("#EXT-X-MEDIA:")]
    return rungs, media


def see(folder: Path) -> Seen:
    """Decode a package."""
    rungs, media = renditions(folder)
    lumas, times = {}, {}
    for playlist in (rungs[0], rungs[-1]):
        pictures = list(_pictures(joined(folder, playlist)))
        # libavformat shows the pictures of some codecs late by the depth of their reordering.
        times[playlist] = [time - pictures[0][0] for time, _ in pictures]
        lumas[playlist] = [float(picture.mean()) for _, picture in pictures]
    sounds = [one for one in media if one["TYPE"] == "AUDIO"]
    plain = [one for one in sounds if one.get("CHANNELS", "2") == "2"] or sounds
    default = next((one for one in plain if one.get("DEFAULT") == "YES"), None)
    texts = [
        _text(folder, one["URI"]) for one in media if one["TYPE"] == "SUBTITLES" and "URI" in one
    ]
    heard = _samples(joined(folder, default["URI"])) if default else None
    return Seen(lumas, times, sounds, texts, heard)


def _pictures(data: bytes) -> Iterator[tuple[float, np.ndarray]]:
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        Path(file.name).write_bytes(data)
        with av.open(file.name) as container:
            for frame in container.decode(video=0):
                yield (
                    float(frame.time),
                    frame.reformat(width=64, height=36, format="gray").to_ndarray(),
                )


def _samples(data: bytes) -> np.ndarray:
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        Path(file.name).write_bytes(data)
        command = [ffmpeg.binary(), "-v", "error", "-i", file.name, "-ac", "2", "-f", "f32le", "-"]
        done = subprocess.run(command, capture_output=True, check=True, timeout=300)
    return np.frombuffer(done.stdout, dtype=np.float32).reshape(-1, 2)


def _text(folder: Path, playlist: str) -> str:
    path = folder / playlist
    parts = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return "\n".join((path.parent / part).read_text() for part in parts)


def flashes(lumas: Sequence[float], times: Sequence[float]) -> list[float]:
    """When white pictures begin."""
    white = [luma > 200 for luma in lumas]
    return [
        times[number]
        for number, on in enumerate(white)
        if on and (number == 0 or not white[number - 1])
    ]


def tones(samples: np.ndarray) -> list[float]:
    """When sound begins after at least 50 ms of quiet, seconds."""
    block = SAMPLE_RATE // 1000
    either = np.abs(samples[: len(samples) // block * block]).max(axis=1)
    loud = either.reshape(-1, block).max(axis=1) > 0.12
    starts = []
    quiet = 50
    for number, on in enumerate(loud.tolist()):
        if on:
            if quiet >= 50:
                starts.append(number / 1000)
            quiet = 0
        else:
            quiet += 1
    return starts


def colours(folder: Path, truth: Truth) -> Iterator[str]:
    """How pixels of every rung differ from what a player ought to show."""
    rungs, _ = renditions(folder)
    for playlist in rungs:
        with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
            Path(file.name).write_bytes(joined(folder, playlist))
            with av.open(file.name) as container:
                frames = list(container.decode(video=0))
            frame = frames[len(frames) // 2]
            # Unspecified (2): players take BT.709 from 720 lines, BT.601 below.
            matrix = {1: "ITU709", 2: "ITU709" if frame.height >= 720 else "ITU601"}.get(
                int(frame.colorspace), "ITU601"
            )
            shown = frame.reformat(format="rgb24", src_colorspace=matrix).to_ndarray()
        for across, down, *right in truth.colours:
            y, x = int(down * frame.height), int(across * frame.width)
            found = shown[y - 2 : y + 3, x - 2 : x + 3].reshape(-1, 3).mean(axis=0)
            if np.abs(found - np.array(right)).max() > COLOUR_SLACK:
                yield f"{playlist} shows {found.round().tolist()} at {across:g}, {down:g}: {right}"


def differences(folder: Path, truth: Truth) -> list[str]:
    """What is wrong in a package, in words; empty where everything is right."""
    ladder = json.loads((folder / "ladder.json").read_text())["title"]
    seen = see(folder)
    above, below = (float(part) for part in ladder["frame_rate"].split("/"))
    step = below / above
    wrong = []
    if truth.frame_rate is not None and ladder["frame_rate"] != (
        f"{truth.frame_rate.numerator}/{truth.frame_rate.denominator}"
    ):
        wrong.append(f"{ladder['frame_rate']} fps instead of {truth.frame_rate}")
    if truth.size is not None and (ladder["width"], ladder["height"]) != truth.size:
        wrong.append(f"{ladder['width']}x{ladder['height']} instead of {truth.size}")
    for rung, times in seen.times.items():
        wrong += [
            f"{rung}: {text}" for text in _wrong_pictures(seen.rungs[rung], times, truth, step)
        ]
    seconds = max(times[-1] for times in seen.times.values()) + step
    if truth.tracks is not None:
        own = [one for one in seen.sounds if one.get("CHANNELS", "2") == "2"]
        if len(own) != truth.tracks:
            wrong.append(f"{len(own)} tracks of sound instead of {truth.tracks}")
    wrong += _wrong_sound(seen.sound, truth, seconds)
    wrong += _wrong_cues(seen.texts, truth)
    if truth.colours:
        wrong += colours(folder, truth)
    return wrong


def _wrong_pictures(
    lumas: Sequence[float], times: Sequence[float], truth: Truth, step: float
) -> Iterator[str]:
    if truth.frames is not None and len(times) != truth.frames:
        yield f"{len(times)} pictures instead of {truth.frames}"
    even = np.abs(np.array(times) - np.arange(len(times)) * step).max()
    if even > 0.001:
        yield f"pictures lie up to {even * 1000:.1f} ms from their places"
    if truth.seconds is not None and abs(len(times) * step - truth.seconds) > 1.01 * step:
        yield f"lasts {len(times) * step:.3f} s instead of {truth.seconds:.3f} s"
    if truth.flashes:
        yield from _apart("flashes", flashes(lumas, times), truth.flashes, 1.01 * step)


def _wrong_sound(samples: np.ndarray | None, truth: Truth, seconds: float) -> Iterator[str]:
    if truth.tracks == 0 and samples is not None:
        yield "has sound"
    if samples is None:
        if truth.beeps or truth.tracks:
            yield "has no sound"
        return
    if abs(len(samples) / SAMPLE_RATE - seconds) > LENGTH_SLACK_SECONDS:
        yield f"sound lasts {len(samples) / SAMPLE_RATE:.3f} s, pictures {seconds:.3f} s"
    if np.abs(samples).max(initial=0) > 1.0:
        yield f"sound clips at {np.abs(samples).max():.3f}"
    if truth.beeps:
        yield from _apart("tones", tones(samples), truth.beeps, TONE_SLACK_SECONDS)


def cues(text: str) -> list[tuple[float, float, str]]:
    """Every cue of WebVTT once, without tags; a segment repeats the cues of its neighbours."""
    found = []
    for block in re.split(r"\n{2,}", text):
        match = _CUE.search(block)
        if match:
            start, end = (_clock(match[number]) for number in (1, 2))
            shown = html.unescape(_TAG.sub("", block[match.end() :]).strip())
            found.append((start, end, shown))
    return sorted(set(found))


def _clock(text: str) -> float:
    seconds = 0.0
    for part in text.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds


def _wrong_cues(texts: Sequence[str], truth: Truth) -> Iterator[str]:
    if truth.cues is None:
        return
    found = cues(texts[0]) if texts else []
    near = len(found) == len(truth.cues) and all(
        abs(a[0] - b[0]) <= CUE_SLACK_SECONDS
        and abs(a[1] - b[1]) <= CUE_SLACK_SECONDS
        and a[2] == _TAG.sub("", b[2])
        for a, b in zip(found, truth.cues, strict=True)
    )
    if not near:
        yield f"cues {found} instead of {list(truth.cues)}"


def _apart(
    what: str, found: Sequence[float], right: Sequence[float], slack: float
) -> Iterator[str]:
    near = len(found) == len(right) and all(
        abs(a - b) <= slack for a, b in zip(found, right, strict=True)
    )
    if not near:
        listed = [[round(each, 3) for each in times] for times in (found, right)]
        yield f"{what} at {listed[0]} instead of {listed[1]}"
