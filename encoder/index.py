"""Where every frame of a source is: its place in time, and where decoding has to start.

Seeking by time lands on wrong frames in common files (half a frame early in open-GOP HEVC, on
the next keyframe in MPEG-TS). So one demux pass, which decodes nothing, lists the presentation
timestamp (PTS) of every frame in order, and every keyframe with PTS and DTS; readers look a
frame's number up here and never guess. :class:`Timeline` then lays those frames on the title's
canonical constant frame rate.

What counts as a frame: everything that is shown. Packets that an edit list discards, VP8's
invisible references, pictures that come before the first keyframe, and a torn packet at the end
of a truncated file (with all that would be shown after it) are not frames. A packet in the
middle that does not decode is found by the analysis pass (:mod:`encoder.frames`), which compares
what it decodes with this index and refuses the source.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import av.error
import av.video
import numpy as np
import numpy.typing as npt

from encoder.errors import SourceUnusable
from encoder.probe import opened, video_stream

Ticks = npt.NDArray[np.int64]

DEFAULT_RATE = Fraction(25)
"""Frames per second of a stream that states neither timestamps nor a rate."""

# fmt: off
STANDARD_RATES = tuple(map(Fraction, (
    "5", "6", "15/2", "8", "10", "12", "25/2", "15", "20", "441/20", "24000/1001", "24", "25",
    "30000/1001", "30", "48", "50", "60000/1001", "60", "100", "120000/1001", "120",
)))
# fmt: on
"""Rates that an unclear timeline is read as, where it fits one of them."""

MAX_RATE = Fraction(120)
MIN_RATE = Fraction(5)
"""A source of fewer frames (a slide show, a screen that is still most of the time) is shown at
this rate: shots of a second, seeking and players need some frames."""

# Distinct steps between frames that a variable rate is judged on: 9 of 10 frames get a place of
# their own on the canonical timeline, bursts of a few closer frames do not set its rate.
_STEP_QUANTILE = 0.1
_MAX_DENOMINATOR = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class FrameIndex:
    """The frames of one video stream in presentation order, and its keyframes."""

    time_base: Fraction
    """Seconds per tick of all timestamps here."""
    pts: Ticks
    """(frames,) presentation timestamps in ticks, ascending."""
    keyframe_pts: Ticks
    """(keyframes,) ascending."""
    keyframe_dts: Ticks
    """(keyframes,) decoding timestamps of the same keyframes, in ticks."""
    last_duration: int
    """Ticks for which the last frame is shown."""
    packet_bytes: int
    """Coded bytes of the stream's packets."""

    @property
    def frames(self) -> int:
        """Number of frames that are shown."""
        return len(self.pts)

    @property
    def duration_seconds(self) -> Fraction:
        """From the first frame's start to the last one's end."""
        return (int(self.pts[-1] - self.pts[0]) + self.last_duration) * self.time_base

    @property
    def start_seconds(self) -> Fraction:
        """Presentation time of the first frame on the file's clock."""
        return int(self.pts[0]) * self.time_base

    @property
    def bitrate(self) -> int:
        """Bit/s of the coded video, from its packets."""
        return round(8 * self.packet_bytes / self.duration_seconds)

    def keyframe_for(self, frame: int) -> int:
        """Position in ``keyframe_pts`` of the last keyframe shown not after ``frame``."""
        found = np.searchsorted(self.keyframe_pts, self.pts[frame], side="right") - 1
        return max(0, int(found))


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """The title's canonical timeline: ``frames`` frames at a constant rate from time 0."""

    frame_rate: Fraction
    frames: int
    source_of: Ticks | None
    """(frames,) for each canonical frame the number of the source frame that it shows; None when
    they are the same, frame by frame."""

    def source_frame(self, frame: int) -> int:
        """The source frame shown as canonical ``frame``."""
        return frame if self.source_of is None else int(self.source_of[frame])

    @property
    def constant(self) -> bool:
        """Whether the source already is at the constant rate."""
        return self.source_of is None

    @property
    def duration_seconds(self) -> Fraction:
        """Length of the title."""
        return self.frames / self.frame_rate


@dataclass(frozen=True, slots=True)
class _Packet:
    pts: int | None
    dts: int | None
    duration: int
    key: bool
    shown: bool
    corrupt: bool
    size: int


def index_frames(path: str | os.PathLike[str]) -> FrameIndex:
    """List the frames of the video stream of ``path`` in one demux pass.

    Raises:
        SourceUnusable: it cannot be read, has no frames, no keyframe, or frames without
            timestamps (see :func:`ensure_timestamps`).
    """
    time_base, packets = _packets(path)
    if any(packet.pts is None and packet.shown for packet in packets):
        raise SourceUnusable(
            f"cannot index {path}: its frames have no timestamps; remux it into MP4 or Matroska"
        )
    if packets and not packets[-1].corrupt and _last_is_torn(path, packets):
        packets[-1] = replace(packets[-1], corrupt=True)
    return _index(path, time_base, packets)


# Containers that do not say how long a packet is: a torn last one looks like a short one.
_UNSIZED_DEMUXERS = ("mpegts", "mpeg")


def _last_is_torn(path: str | os.PathLike[str], packets: list[_Packet]) -> bool:
    """Whether the last packet fails a decoder that forgives nothing, from the keyframe before."""
    keys = [p.dts for p in packets if p.key and p.dts is not None]
    last = packets[-1]
    if not keys or last.pts is None:
        return False
    with opened(path) as container:
        if container.format.name not in _UNSIZED_DEMUXERS:
            return False
        stream = video_stream(container, path)
        stream.codec_context.options = {"err_detect": "explode"}
        stream.thread_count = 1
        # Two keyframes back: the last packet may be a leading picture of the last keyframe.
        container.seek(keys[max(0, len(keys) - 2)], stream=stream)
        shown: set[int | None] = set()
        for packet in container.demux(stream):
            try:
                shown.update(frame.pts for frame in packet.decode())
            except av.error.FFmpegError:
                if packet.size and packet.dts == last.dts:
                    return True
        return last.pts not in shown


def _packets(path: str | os.PathLike[str]) -> tuple[Fraction, list[_Packet]]:
    with opened(path) as container:
        stream = video_stream(container, path)
        codec = stream.codec_context.codec.canonical_name
        nal_length = _nal_length_size(stream.codec_context.extradata)
        packets = []
        try:
            for packet in container.demux(stream):
                if packet.size == 0:
                    continue  # the flush packet, or a frame dropped by an AVI writer
                # Bit 4 of a VP8 frame's first byte is show_frame (RFC 6386, 9.1).
                invisible = codec == "vp8" and not bytes(packet)[0] & 0x10
                key = packet.is_keyframe
                if key and codec == "h264":
                    key = starts_with_intra(bytes(packet), nal_length)
                packets.append(
                    _Packet(
                        packet.pts,
                        packet.dts,
                        packet.duration or 0,
                        key,
                        not (packet.is_discard or invisible),
                        packet.is_corrupt,
                        packet.size,
                    )
                )
        except av.error.FFmpegError:
            # A file cut short ends like this. What came before is whole; the analysis pass
            # decodes every frame of it.
            pass
        return Fraction(stream.time_base or 0), packets


def _nal_length_size(extradata: bytes | None) -> int:
    """Bytes of the length before each H.264 unit; 0 where start codes part them."""
    if not extradata or len(extradata) < 7 or extradata[0] != 1:
        return 0
    return (extradata[4] & 3) + 1


def starts_with_intra(packet: bytes, length_size: int) -> bool:
    """Whether the first slice of an H.264 packet is intra coded.

    Streams with periodic intra refresh have no other pictures that demuxers mark as keyframes
    but P pictures with a recovery point, which are whole only a second later: decoding from one
    gives wrong pixels and the right count.
    """
    position = 0
    while position + 4 < len(packet):
        if length_size:
            size = int.from_bytes(packet[position : position + length_size], "big")
            start, position = position + length_size, position + length_size + size
        else:
            start = packet.find(b"\0\0\1", position) + 3
            if start < 3:
                return False
            position = start
        if start < len(packet) and packet[start] & 0x1F in (1, 2, 5):
            codes = _exp_golomb(packet[start + 1 : start + 17])
            next(codes, 0)  # first_mb_in_slice
            return next(codes, 0) % 5 in (2, 4)  # slice_type: I or SI
    return False


def _exp_golomb(data: bytes) -> Iterator[int]:
    """The unsigned Exp-Golomb codes of a bit string (ITU-T H.264, 9.1)."""
    bits = "".join(f"{byte:08b}" for byte in data)
    while bits:
        zeros = len(bits) - len(bits.lstrip("0"))
        code, bits = bits[: 2 * zeros + 1], bits[2 * zeros + 1 :]
        yield int(code, 2) - 1


def _index(path: str | os.PathLike[str], time_base: Fraction, packets: list[_Packet]) -> FrameIndex:
    limit = None
    while packets and packets[-1].corrupt:
        torn = packets.pop().pts
        limit = torn if limit is None or (torn is not None and torn < limit) else limit
    keys = [p for p in packets if p.key and p.pts is not None]
    if not keys:
        raise SourceUnusable(f"cannot index {path}: no keyframe in {len(packets)} packets")
    first = keys[0].pts
    assert first is not None
    shown = [
        (p.pts, p.duration)
        for p in packets
        if p.shown and p.pts is not None and p.pts >= first and (limit is None or p.pts < limit)
    ]
    if not shown:
        raise SourceUnusable(f"cannot index {path}: none of its {len(packets)} packets is shown")
    shown.sort()
    pts = np.array([time for time, _ in shown], dtype=np.int64)
    keys.sort(key=lambda p: p.pts or 0)
    usual = int(np.median(np.diff(pts))) if len(pts) > 1 else 0
    return FrameIndex(
        time_base=time_base,
        pts=pts,
        keyframe_pts=np.array([p.pts for p in keys], dtype=np.int64),
        keyframe_dts=np.array([p.pts if p.dts is None else p.dts for p in keys], dtype=np.int64),
        last_duration=max(1, shown[-1][1] or usual),
        packet_bytes=sum(p.size for p in packets),
    )


def plan_timeline(index: FrameIndex, likely: tuple[Fraction | None, ...] = ()) -> Timeline:
    """Lay the frames of ``index`` on a constant frame rate.

    Timestamps are rounded to ticks (to milliseconds in Matroska and FLV), so a rate fits when no
    frame is further than one tick from its place; of several the nearest wins, then one of
    ``likely`` (rates that headers claim). Frames that jitter but keep one place each are still
    constant. Otherwise the rate is that of the closest frames (1 in 10 may be closer), a standard
    one where it fits, and canonical frame ``n`` shows the last source frame with
    ``round((pts - pts[0]) * rate) <= n``, as ffmpeg's ``fps`` filter does it.
    """
    ticks = index.pts - index.pts[0]
    claims = tuple(Fraction(rate) for rate in likely if rate and _in_limits(rate))
    rate = _fitting_rate(ticks, index.time_base, claims)
    if rate is None:
        rate = _closest_rate(ticks, index, claims)
    places = _places(ticks, index.time_base * rate)
    if np.array_equal(places, np.arange(len(places))):
        return Timeline(rate, len(places), None)
    end = _places(np.array([ticks[-1] + index.last_duration]), index.time_base * rate)[0]
    frames = max(int(places[-1]) + 1, int(end))
    source_of = np.searchsorted(places, np.arange(frames), side="right") - 1
    return Timeline(rate, frames, source_of.astype(np.int64))


def _places(ticks: Ticks, rate_per_tick: Fraction) -> Ticks:
    """Canonical frame number of each time: rounded to nearest, halves up."""
    over, under = rate_per_tick.numerator, rate_per_tick.denominator
    if len(ticks) and int(ticks[-1]) * over * 2 + under >= 2**63:
        exact = [(2 * int(t) * over + under) // (2 * under) for t in ticks]
        return np.array(exact, dtype=np.int64)
    return (2 * ticks * over + under) // (2 * under)


def _fitting_rate(
    ticks: Ticks, time_base: Fraction, claims: tuple[Fraction, ...]
) -> Fraction | None:
    if len(ticks) < 2 or ticks[-1] <= 0:
        return claims[0] if claims else DEFAULT_RATE
    measured = (len(ticks) - 1) / (int(ticks[-1]) * time_base)
    exact = measured.limit_denominator(_MAX_DENOMINATOR)
    known = dict.fromkeys((*claims, *STANDARD_RATES))
    near = [
        rate for rate in (*known, exact) if _in_limits(rate) and abs(rate / measured - 1) < 0.01
    ]
    numbers = np.arange(len(ticks))
    worst = {
        rate: round(float(np.abs(ticks - numbers * float(1 / (rate * time_base))).max()), 3)
        for rate in near
    }
    # min takes the first of equals: claims come first.
    best = min(near, key=worst.__getitem__, default=None)
    if best is not None and worst[best] <= 1:
        return best
    for rate in sorted((rate for rate in near if rate in known), key=worst.__getitem__):
        if np.array_equal(_places(ticks, time_base * rate), numbers):
            return rate
    return None


def _in_limits(rate: Fraction) -> bool:
    return MIN_RATE <= rate <= MAX_RATE


def _closest_rate(ticks: Ticks, index: FrameIndex, claims: tuple[Fraction, ...]) -> Fraction:
    steps = np.diff(ticks)
    steps = steps[steps > 0]
    if len(steps) == 0:
        return DEFAULT_RATE
    step = float(np.quantile(steps, _STEP_QUANTILE)) * float(index.time_base)
    typical = float(np.mean(steps[steps <= 1.5 * np.quantile(steps, _STEP_QUANTILE)]))
    rate = min(max(1 / (typical * float(index.time_base)), float(MIN_RATE)), float(MAX_RATE))
    # How far the mean step can be off for its ticks, plus a little for a clock that drifts.
    tolerance = 0.005 + 0.5 * float(index.time_base) / step
    near = [
        (abs(float(known) / rate - 1), order, known)
        for order, known in enumerate((*claims, *STANDARD_RATES))
        if abs(float(known) / rate - 1) <= tolerance
    ]
    return min(near)[2] if near else Fraction(rate).limit_denominator(1001)


_TELLING_PACKETS = 500
_RAW_DEMUXERS = ("h264", "hevc", "mpegvideo", "m4v", "obu", "av1", "mjpeg")


def needs_timestamps(path: str | os.PathLike[str]) -> bool:
    """Whether frames of the source lack presentation timestamps that can be trusted.

    Raw streams have none: libavformat makes some up, and cannot seek by them. AVI and ASF hold
    decoding times, which come out as presentation times of H.264 with B-frames.
    """
    with opened(path) as container:
        stream = video_stream(container, path)
        form = container.format.name
        if form in _RAW_DEMUXERS or (form in ("avi", "asf") and stream.codec_context.has_b_frames):
            return True
        packets = islice(container.demux(stream), _TELLING_PACKETS)
        return any(packet.pts is None and packet.size > 0 for packet in packets)


def ensure_timestamps(source: str | os.PathLike[str], workdir: str | os.PathLike[str]) -> Path:
    """``source`` itself, or a copy of its video in ``workdir`` that has timestamps.

    The coded pictures are copied, not encoded. Which picture is shown when is learnt by decoding
    once: the decoder is the only one that knows for every codec (libavcodec's ``dts2pts`` lost
    pictures of open-GOP HEVC). Streams with decoding times only (AVI, ASF) show their pictures at
    those times, in order; others run at the rate that their bitstream states, or at
    :data:`DEFAULT_RATE`.

    Raises:
        SourceUnusable: it cannot be read, or pictures in its middle do not decode.
    """
    source = Path(source)
    if not needs_timestamps(source):
        return source
    plan = _presentation(source)
    made = Path(workdir) / f"{source.name}.timed.{'mp4' if plan.codec in _MP4_CODECS else 'mkv'}"
    _remux(source, made, plan)
    return made


_MP4_CODECS = ("h264", "hevc", "mpeg4", "mpeg2video", "av1")


@dataclass(frozen=True, slots=True)
class _Presentation:
    codec: str
    time_base: Fraction
    pts: dict[int, int]
    """Presentation time by number of the packet."""
    dts: dict[int, int]


def _presentation(source: Path) -> _Presentation:
    with opened(source) as container:
        stream = video_stream(container, source)
        codec = stream.codec_context.codec.canonical_name
        # A decoder of our own: libavformat's states 25 fps for every raw stream.
        decoder = av.CodecContext.create(codec, "r")
        assert isinstance(decoder, av.VideoCodecContext)
        decoder.extradata = stream.codec_context.extradata
        decoder.thread_count = 1
        times: list[int | None] = []
        order: list[int] = []
        for packet in container.demux(stream):
            if packet.size:
                times.append(packet.dts)
                packet.pts = packet.dts = len(times) - 1
            frames = decoder.decode(packet if packet.size else None)
            order.extend(frame.pts for frame in frames if frame.pts is not None)
        # Pictures before the first one that decodes are leading pictures of an open GOP.
        missing = set(range(min(order, default=0), len(times))) - set(order)
        if not order or missing:
            raise SourceUnusable(
                f"cannot place the frames of {source}: {len(missing) or len(times)} of its "
                f"{len(times)} pictures do not decode; remux it into MP4 or Matroska"
            )
        shown = set(order)
        known = [time for packet, time in enumerate(times) if packet in shown and time is not None]
        if len(known) == len(order) and stream.time_base:
            clock = sorted(time - min(known) for time in known)
            time_base = Fraction(stream.time_base)
        else:
            clock = list(range(len(order)))
            time_base = 1 / Fraction(decoder.framerate or DEFAULT_RATE)
        pts = {packet: clock[place] for place, packet in enumerate(order)}
        decoded = dict(zip(sorted(order), clock, strict=True))
        # Decoding runs ahead of showing by the largest displacement of a picture.
        delay = max(decoded[packet] - pts[packet] for packet in order)
        return _Presentation(
            codec, time_base, pts, {packet: dts - delay for packet, dts in decoded.items()}
        )


def _remux(source: Path, made: Path, plan: _Presentation) -> None:
    with opened(source) as container, av.open(str(made), "w") as output:
        stream = video_stream(container, source)
        target = output.add_stream_from_template(stream)
        target.time_base = plan.time_base
        packets = (packet for packet in container.demux(stream) if packet.size)
        for number, packet in enumerate(packets):
            if number in plan.pts:
                packet.stream = target
                packet.time_base = plan.time_base
                packet.pts = plan.pts[number]
                packet.dts = plan.dts[number]
                output.mux(packet)
