"""Coarse comparisons: whether pictures and sound are those of a source, whatever their quality.

A picture is compared as a grid of mean luma, which an encode of the lowest quality keeps within a
few levels and another film does not. Sound is compared as its level over time: it tells silence,
an onset at another time and a shift, through any change of channels, rate or codec. All media are
decoded from their beginning, without a seek, by code that makes nothing of the package.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import cv2
import numpy as np
from av.video.reformatter import Interpolation

from encoder.analysis.frames import small_frames
from encoder.arrays import Float64, Int64, UInt8
from encoder.errors import SourceUnusable
from encoder.ffmpeg import SOURCE_OPTIONS
from encoder.source.colour.tonemap import CICP, tone_map_small
from encoder.source.reference import ReferenceSource

COLUMNS, ROWS = 24, 14
PICTURE_LIMIT = 8.0
"""Mean difference of two grids, in levels of 8 bit, from which they show different pictures.
Encodes of 96 and 180 lines at CRF 40 reach 1.2; two films are 20 to 70 apart."""
BINS_PER_SECOND = 100
SILENCE = 0.003
"""Level under which sound counts as silent: -50 dB below full scale."""
_NEAR_SECONDS = 0.04
"""Shift of sound that counts as none: coders and resamplers delay it by a few milliseconds, and
timestamps of containers are rounded."""
_MOST_SHIFT_SECONDS = 15
_LIKE = 0.8
"""Correlation of levels from which two sounds count as the same one."""
_UNLIKE = 0.3
"""Correlation of levels under which, at any shift, two sounds count as different ones."""
_VARIED_DB = 3.0
"""Least deviation of the levels of a sound by which it can be recognised."""


def grid(luma: UInt8) -> UInt8:
    """Return the mean luma of :data:`ROWS` times :data:`COLUMNS` areas of a picture."""
    return np.asarray(cv2.resize(luma, (COLUMNS, ROWS), interpolation=cv2.INTER_AREA), np.uint8)


def difference(one: UInt8, other: UInt8) -> float:
    """Return the mean difference of two grids in levels."""
    return float(np.abs(one.astype(np.int16) - other.astype(np.int16)).mean())


def smaller(differences: Float64 | Sequence[float]) -> float:
    """Return the difference that a quarter of the pictures does not exceed."""
    return float(np.quantile(differences, 0.25, method="lower"))


def source_grids(source: ReferenceSource) -> UInt8:
    """Return the grids of all canonical frames of a title, (frames, ROWS, COLUMNS).

    Raises:
        SourceUnusable: a frame does not decode.
    """
    grids = np.empty((source.frames, ROWS, COLUMNS), np.uint8)
    for frame in small_frames(source):
        grids[frame.number] = grid(frame.luma)
    return grids


def segment_grids(init: bytes, media: bytes) -> Iterator[UInt8]:
    """Yield the grids of :func:`segment_pictures`.

    Raises:
        FFmpegError: the segment does not decode.
    """
    return (grid(luma(picture)) for picture in segment_pictures(init, media))


def segment_pictures(init: bytes, media: bytes) -> Iterator[av.VideoFrame]:
    """Yield the pictures of a CMAF segment in the order in which they are shown.

    Raises:
        FFmpegError: the segment does not decode.
    """
    with av.open(io.BytesIO(init + media), "r", options=dict(SOURCE_OPTIONS)) as container:
        yield from container.decode(video=0)


def luma(picture: av.VideoFrame) -> UInt8:
    """Return the luma of a picture, small, tone-mapped where it has a high dynamic range."""
    size: dict[str, Any] = {"width": 4 * COLUMNS, "height": 4 * ROWS}
    size["interpolation"] = Interpolation.AREA
    for transfer, (_, code, _) in CICP.items():
        if picture.color_trc == code:
            levels = picture.reformat(format="yuv444p16le", **size).to_ndarray()
            return np.asarray(tone_map_small(levels, transfer)[0], np.uint8)
    small = picture.reformat(format="yuv444p", **size).to_ndarray()
    return np.asarray(small[0], np.uint8)


# -- sound -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """The level of a sound over time."""

    levels: Float64
    """Root mean square over all channels, 1 is full scale; one value per 1 / 100 s."""
    name: str
    """Name for people."""

    @property
    def audible(self) -> bool:
        """True where some part is above :data:`SILENCE`."""
        return bool((self.levels > SILENCE).any())

    @property
    def onset(self) -> float:
        """Seconds at which the first audible part begins."""
        return float(np.argmax(self.levels > SILENCE)) / BINS_PER_SECOND

    @property
    def deviation_db(self) -> float:
        """Standard deviation of the levels in decibels, silence being one level."""
        return float(_shape(self.levels).std())


def source_levels(
    path: Path | str, stream: int, seconds: float, held: Fraction = Fraction(0)
) -> tuple[Fraction, dict[int, Levels]]:
    """Return the time of a source's first picture, and from there the levels of its audio streams.

    Each decoded block stands at its own timestamp, whatever its channels and rate. A stream that
    does not decode is silent.

    Args:
        path: File of the source.
        stream: Number of the video stream.
        seconds: Duration of the title.
        held: Seconds of the title before the first picture.

    Raises:
        SourceUnusable: the source cannot be opened.
    """
    try:
        with av.open(str(path), "r", options=dict(SOURCE_OPTIONS)) as container:
            zero = _first_picture(container, stream)
        with av.open(str(path), "r", options=dict(SOURCE_OPTIONS)) as container:
            wanted = [one for one in container.streams.audio if one.codec_context is not None]
            meters = {one.index: _Meter(seconds) for one in wanted}
            for index, block in _blocks(container, wanted):
                meters[index].push(block, zero - held)
    except (av.error.FFmpegError, ValueError) as error:
        raise SourceUnusable(f"cannot read {path} again to compare its sound: {error}") from error
    return zero, {
        index: Levels(meter.levels(), f"stream {index}") for index, meter in meters.items()
    }


def track_levels(content: bytes, seconds: float, name: str) -> Levels:
    """Return the levels of an audio track that is one fragmented MP4.

    Raises:
        FFmpegError: it does not decode.
    """
    meter = _Meter(seconds)
    with av.open(io.BytesIO(content), "r", options=dict(SOURCE_OPTIONS)) as container:
        for block in container.decode(audio=0):
            meter.push(block, Fraction(0))
    return Levels(meter.levels(), name)


def shift(track: Levels, source: Levels) -> tuple[float, float]:
    """Return the seconds by which a track is late where it fits a sound best, and the correlation.

    Both are 0 where one of the two does not vary.
    """
    lags, values = _correlations(track, source)
    best = int(np.argmax(values))
    return float(lags[best]) / BINS_PER_SECOND, float(values[best])


def correlation(track: Levels, source: Levels, late_seconds: float) -> float:
    """Return the correlation of a track with a sound for a known shift, or one close to it."""
    lags, values = _correlations(track, source)
    near = np.abs(lags / BINS_PER_SECOND - late_seconds) <= _NEAR_SECONDS + 1e-9
    return float(values[near].max()) if near.any() else 0.0


def _correlations(track: Levels, source: Levels) -> tuple[Int64, Float64]:
    """Return shifts of a track in hundredths of a second, and the correlation for each."""
    most = _MOST_SHIFT_SECONDS * BINS_PER_SECOND
    one, other = (_shape(each.levels) for each in (track, source))
    size = max(len(one), len(other))
    one, other = (np.pad(each, (0, size - len(each))) for each in (one, other))
    norm = math.sqrt(float(one @ one) * float(other @ other)) or 1.0
    padded = 1 << (2 * size - 1).bit_length()
    product = np.fft.rfft(one, padded) * np.conj(np.fft.rfft(other, padded))
    found = np.fft.irfft(product, padded) / norm
    lags = np.arange(-min(most, size - 1), min(most, size - 1) + 1)
    return lags.astype(np.int64), np.asarray(found[lags], np.float64)


def like(best: float) -> bool:
    """Tell whether a correlation of levels says that two sounds are the same one."""
    return best >= _LIKE


def varied(sound: Levels) -> bool:
    """Tell whether the level of a sound varies enough to recognise it."""
    return sound.deviation_db > _VARIED_DB


def sounds_like(track: Levels, sounds: Sequence[Levels]) -> bool:
    """Tell whether a track may be one of these sounds, or all of them together, at any time."""
    if track.audible and not any(sound.audible for sound in sounds):
        return False
    if not varied(track) or not all(map(varied, sounds)):
        return True
    return max(shift(track, sound)[1] for sound in [*sounds, together(sounds)]) >= _UNLIKE


def together(sounds: Sequence[Levels]) -> Levels:
    """Return the level of several sounds that play at once."""
    energy = sum((sound.levels**2 for sound in sounds), np.zeros_like(sounds[0].levels))
    return Levels(np.sqrt(energy), " and ".join(sound.name for sound in sounds))


def _shape(levels: Float64) -> Float64:
    """Return levels in decibels above :data:`SILENCE`, around their mean."""
    decibels = 20 * np.log10(np.maximum(levels, SILENCE) / SILENCE)
    return np.asarray(decibels - decibels.mean(), np.float64)


class _Meter:
    """Adds up the energy of sound in parts of 1 / 100 s."""

    def __init__(self, seconds: float) -> None:
        # What lies a little behind the end shows that a track is too long.
        self._energy = np.zeros(math.ceil((seconds + 1) * BINS_PER_SECOND), np.float64)
        self._count = np.zeros_like(self._energy)

    def push(self, block: av.AudioFrame, zero: Fraction) -> None:
        if block.pts is None or block.time_base is None or not block.samples:
            return
        samples = block.to_ndarray()
        # Unsigned samples are silent at 128; of signed ones, the largest number is full scale.
        silent = 128.0 if samples.dtype == np.uint8 else 0.0
        full = 1.0 if samples.dtype.kind == "f" else float(np.iinfo(str(samples.dtype)).max)
        power = ((samples.astype(np.float64) - silent) / (full - silent)) ** 2
        channels = power.size // block.samples
        power = (
            power.mean(axis=0)
            if block.format.is_planar
            else power.reshape(block.samples, channels).mean(axis=1)
        )
        start = float(block.pts * block.time_base - zero)
        places = np.floor(
            (start + np.arange(block.samples) / block.sample_rate) * BINS_PER_SECOND
        ).astype(np.int64)
        inside = (places >= 0) & (places < len(self._energy))
        if inside.any():
            size = len(self._energy)
            self._energy += np.bincount(places[inside], power[inside], size)
            self._count += np.bincount(places[inside], minlength=size)

    def levels(self) -> Float64:
        return np.asarray(np.sqrt(self._energy / np.maximum(self._count, 1)), np.float64)


def _first_picture(container: av.container.InputContainer, stream: int) -> Fraction:
    """Return the time of the first picture that is shown."""
    times: list[Fraction] = []
    for packet in container.demux(container.streams[stream]):
        try:
            pictures = packet.decode()
        except av.error.FFmpegError:
            continue
        for picture in pictures:
            if not isinstance(picture, av.VideoFrame):
                continue
            if picture.pts is not None and picture.time_base is not None:
                times.append(picture.pts * Fraction(picture.time_base))
        if times:
            return min(times)
    raise ValueError("no picture has a timestamp")


def _blocks(
    container: av.container.InputContainer, streams: list[Any]
) -> Iterator[tuple[int, av.AudioFrame]]:
    packets = container.demux(streams) if streams else iter(())
    while True:
        try:
            packet = next(packets)
            for block in _decoded(packet):
                if isinstance(block, av.AudioFrame):
                    yield packet.stream.index, block
        except StopIteration:
            return
        except av.error.EOFError:
            continue
        except av.error.InvalidDataError:
            continue


def _decoded(packet: av.Packet[Any]) -> Sequence[object]:
    """Return what is in a packet: nothing if it does not decode, for whatever reason."""
    try:
        return packet.decode()
    except av.error.EOFError:
        raise
    except av.error.FFmpegError:
        return ()
