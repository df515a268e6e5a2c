"""Compare what a file promises with what it holds, and refuse a source of which the end is missing.

:mod:`encoder.source.containers.promise` reads what the structure and the header of the file
announce. Only where that is more than there is, one more demux pass counts what each stream holds,
so a complete file costs a few reads. What counts as missing:

- a structure that reaches beyond the end of the file is proof that the end is missing: more than
  one picture or a tenth of a second of any stream is refused;
- a stated duration is a claim, which live recorders and editors get wrong by frames: more than a
  second and a hundredth of it is refused;
- a place in the middle of a Matroska file where its chain of elements is broken
  (:mod:`encoder.source.containers.clusters`);
- a coded picture of zeros was allocated and never written, as downloads leave it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import av.container

from encoder.errors import SourceUnusable
from encoder.source.containers.clusters import find_holes
from encoder.source.containers.promise import Promise, read_promise
from encoder.source.index import index_frames, is_torn
from encoder.source.opening.container import opened, packets_of
from encoder.source.opening.reading import PathLike, file_of, reading
from encoder.source.opening.streams import video_stream

PROVEN_SECONDS = Fraction(1, 10)
"""What may be missing of a stream where the structure proves that the end is missing."""
PROVEN_PICTURES = 1
"""Pictures that may be missing there."""
CLAIMED_SECONDS = 1
"""What may be missing of a duration that the header only claims, seconds."""
CLAIMED_SHARE = Fraction(1, 100)
"""Share of a claimed duration that may be missing, where it is more than the seconds."""
_UNKNOWN_SHARE = Fraction(1, 1000)
"""Share of the bytes that may be missing where nothing tells how many pictures they hold."""
_TAIL_BYTES = 4_096
_BLOCK_BYTES = 1 << 20
_PADDING_BYTES = 1 << 14
"""Zeros at the end of a file that may be padding, where nothing states how long it should be."""


@dataclass(frozen=True, slots=True)
class Shortfall:
    """What a file promises beyond what it holds."""

    pictures_promised: int | None
    """Pictures that the index of the file lists; None where it lists none."""
    pictures: int
    """Pictures of the title."""
    seconds_promised: Fraction | None
    """Duration that the header states, None without one."""
    seconds: Fraction
    """Time at which the last stream of the file ends."""
    sound_promised: Fraction | None
    """Seconds that the index of the file lists of the audio stream that lacks most."""
    sound: Fraction
    """Seconds that are there of that stream."""
    bytes_promised: int | None
    """Size that the structure of the file announces."""
    size_bytes: int
    """Size of the file."""
    zeros: int = 0
    """Coded pictures that consist of zeros."""
    ends_inside: str = ""
    """Name of the element within which a file ends that states no length."""
    zero_bytes: int = 0
    """Zeros that a file ends with that states no length."""
    holes: int = 0
    """Places in the middle of a Matroska file that hold no elements of it."""
    hole_bytes: int = 0
    """Bytes of those places."""
    hole_seconds: Fraction = Fraction(0)
    """Time between what lies before and behind them."""
    hole_at_seconds: Fraction = Fraction(0)
    """Time of the first one."""

    @property
    def lacks(self) -> bool:
        """True where more is promised than is there; else only a torn end was seen."""
        return bool(
            self.zeros
            or self.zero_bytes
            or self.holes
            or self.bytes_promised is not None
            or (self.pictures_promised or 0) > self.pictures
            or (self.seconds_promised or 0) > self.seconds
        )

    @property
    def numbers(self) -> str:
        """What is promised and what is there, in words."""
        parts = []
        if self.pictures_promised is not None and self.pictures_promised > self.pictures:
            parts.append(f"{self.pictures_promised} frames promised, {self.pictures} there")
        if self.seconds_promised is not None and self.seconds_promised > self.seconds:
            parts.append(
                f"{float(self.seconds_promised):.3f} s promised, {float(self.seconds):.3f} s there"
            )
        if self.sound_promised is not None and self.sound_promised > self.sound:
            parts.append(
                f"{float(self.sound_promised):.3f} s of sound promised, {float(self.sound):.3f} s "
                "there"
            )
        if self.zeros:
            parts.append(f"{self.zeros} frames were never written (zeros)")
        if self.zero_bytes:
            parts.append(f"its last {self.zero_bytes} of {self.size_bytes} bytes are zeros")
        if self.holes:
            lack = f"{float(self.hole_seconds):.3f} s lack pictures or sound, "
            parts.append(
                f"{self.hole_bytes} of {self.size_bytes} bytes, in {self.holes} "
                f"place{'s' * (self.holes != 1)} of its middle, are zeros or damaged: "
                f"{lack if self.hole_seconds else ''}from {float(self.hole_at_seconds):.3f} s on"
            )
        if self.ends_inside == "moof":
            parts.append("the file ends within the header of a fragment")
        if not parts and self.bytes_promised is not None:
            parts.append(f"{self.bytes_promised} bytes promised, {self.size_bytes} there")
        if not parts:
            parts.append(
                f"the file ends within its last {self.ends_inside}, and nothing states how long it "
                "should be"
            )
        return "; ".join(parts)

    def beyond(self) -> bool:
        """Return True where more is missing than is tolerated."""
        if self.zeros or self.zero_bytes or self.holes or self.ends_inside == "moof":
            return True
        proven = self.bytes_promised is not None
        known = False
        if self.pictures_promised is not None:
            known = True
            if self.pictures_promised - self.pictures > PROVEN_PICTURES:
                return True
        if self.seconds_promised is not None:
            known = True
            allowed = max(Fraction(CLAIMED_SECONDS), self.seconds_promised * CLAIMED_SHARE)
            if proven:
                allowed = PROVEN_SECONDS
            if self.seconds_promised - self.seconds > allowed:
                return True
        if self.sound_promised is not None and self.sound_promised - self.sound > PROVEN_SECONDS:
            return True
        missing = (self.bytes_promised or 0) - self.size_bytes
        return not known and missing > self.size_bytes * _UNKNOWN_SHARE


def check_complete(path: PathLike, *, accept: bool) -> Shortfall | None:
    """Return what the structure of a file promises beyond what it holds, None where it is whole.

    Args:
        path: the file as it was given.
        accept: True for a user who takes such files as they are.

    Raises:
        SourceUnusable: more is missing than is tolerated, and the user did not accept that.
        ReadFailed: the disk or the network failed.
    """
    promise, size, hollow = _promised(path)
    proven = promise.size_bytes is not None and promise.size_bytes > size
    if promise.unmeasured:
        zeros = _zeros_at_end(path, size) if hollow else 0
        zeros = zeros if zeros > _PADDING_BYTES else 0
        if not (zeros or promise.inside):
            return None
        torn = Shortfall(
            None, 0, None, Fraction(0), None, Fraction(0), None, size, 0, promise.inside, zeros
        )
        return _judged(path, torn, accept=accept)
    short: Shortfall | None = None
    if proven or hollow:
        # A file that ends with zeros was allocated in full, and its end has not come.
        proven = proven or (hollow and _zeros_at_end(path, size) >= _TAIL_BYTES)
        short = _shortfall(path, promise, _census(path, size), size, proven=proven)
    return _judged(path, _with_holes(path, promise, short, size), accept=accept)


def _with_holes(
    path: PathLike, promise: Promise, short: Shortfall | None, size: int
) -> Shortfall | None:
    """Return what is missing, with the holes of a Matroska file."""
    with reading(path), Path(path).open("rb", buffering=0) as file:
        holes = find_holes(file)
    if not holes:
        return short
    if short is None:
        short = Shortfall(None, 0, None, Fraction(0), None, Fraction(0), None, size)
    seconds = Fraction(0)
    for hole in holes:
        end = promise.seconds if hole.end_seconds is None else hole.end_seconds
        if end is not None:
            seconds += max(Fraction(0), end - hole.begin_seconds)
    return replace(
        short,
        holes=len(holes),
        hole_bytes=sum(hole.end - hole.start for hole in holes),
        hole_seconds=seconds,
        hole_at_seconds=holes[0].begin_seconds,
    )


def check_duration(
    path: PathLike, end_seconds: Fraction, pictures: int, *, accept: bool
) -> Shortfall | None:
    """Return what the header claims beyond the pictures of a file whose structure is whole.

    Args:
        path: the file as it was given.
        end_seconds: time at which the last picture ends, on the file's clock.
        pictures: number of pictures.
        accept: as for :func:`check_complete`.

    Raises:
        SourceUnusable, ReadFailed: as :func:`check_complete`.
    """
    promise, size, _ = _promised(path)
    if promise.seconds is None or promise.seconds - end_seconds <= CLAIMED_SECONDS:
        return None
    found = _census(path, size)
    short = _shortfall(path, promise, found, size, proven=False, pictures=pictures)
    return _judged(path, short, accept=accept)


def _promised(path: PathLike) -> tuple[Promise, int, bool]:
    """Return the promise of a file, its size, and whether it may have been allocated only."""
    file_of(path).close()
    with reading(path), Path(path).open("rb") as file:
        promise = read_promise(file)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL_BYTES))
        hollow = not any(file.read(_TAIL_BYTES)) or _has_hole(file.fileno(), size)
    return promise, size, hollow


def _has_hole(descriptor: int, size: int) -> bool:
    try:
        return os.lseek(descriptor, 0, os.SEEK_HOLE) < size
    except OSError:
        return False  # the file system does not know


def _zeros_at_end(path: PathLike, size: int) -> int:
    """Return the number of zero bytes that a file ends with."""
    zeros = 0
    with reading(path), Path(path).open("rb") as file:
        while zeros < size:
            block = min(_BLOCK_BYTES, size - zeros)
            file.seek(size - zeros - block)
            content = file.read(block)
            zeros += block - len(content.rstrip(b"\0"))
            if content[:1] != b"\0" or any(content):
                break
    return zeros


def _judged(path: PathLike, short: Shortfall | None, *, accept: bool) -> Shortfall | None:
    if short is not None and not accept and short.beyond():
        raise SourceUnusable(
            f"cannot use {path}: it is not complete ({short.numbers}); copy it again, or take "
            "what is there with --accept-truncated"
        )
    return short


# -- counting ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Stream:
    """What one stream of a file holds."""

    kind: str
    main: bool
    """True for the title's video stream."""
    packets: int
    zeros: int
    start: Fraction | None
    end: Fraction
    """Time at which its last whole packet ends."""
    listed: int | None
    """Packets that the index of the file lists and shows; None where it has no index."""
    listed_seconds: Fraction | None
    """Seconds from the first to the last packet that the index lists."""


def _census(path: PathLike, size: int) -> Sequence[_Stream]:
    """Count what each stream holds, in one demux pass."""
    with opened(path) as container:
        title = video_stream(container, path).index
        packets = dict.fromkeys((s.index for s in container.streams), 0)
        zeros, torn = dict(packets), dict(packets)
        starts: dict[int, Fraction] = {}
        ends: dict[int, Fraction] = {}
        for packet in packets_of(container):
            if not packet.size:
                continue
            index = packet.stream_index
            if is_torn(packet):
                torn[index] += 1
                zeros[index] += not packet.is_corrupt
                continue
            packets[index] += 1
            time = packet.dts if packet.pts is None else packet.pts
            if time is not None:
                begin = time * packet.time_base
                starts[index] = min(begin, starts.get(index, begin))
                end = begin + (packet.duration or 0) * packet.time_base
                ends[index] = max(end, ends.get(index, end))
        return [
            _Stream(
                stream.type,
                stream.index == title,
                packets[stream.index],
                zeros[stream.index],
                starts.get(stream.index),
                ends.get(stream.index, Fraction(0)),
                *_listed(container, stream),
            )
            for stream in container.streams
        ]


def _listed(
    container: av.container.InputContainer, stream: av.stream.Stream
) -> tuple[int | None, Fraction | None]:
    if "mp4" not in container.format.name or stream.time_base is None:
        return None, None
    shown = [entry.timestamp for entry in stream.index_entries if not entry.is_discard]
    if not shown:
        return None, None
    span = (max(shown) - min(shown)) * stream.time_base
    return len(shown), span * len(shown) / max(1, len(shown) - 1)


def _shortfall(
    path: PathLike,
    promise: Promise,
    streams: Sequence[_Stream],
    size: int,
    *,
    proven: bool,
    pictures: int | None = None,
) -> Shortfall | None:
    """Return what is missing, None where nothing is."""
    (video,) = (stream for stream in streams if stream.main)
    if pictures is None:
        pictures = _pictures(path, video)
    sounds = [
        (stream.listed_seconds, stream.end - stream.start)
        for stream in streams
        if stream.kind == "audio"
        and stream.listed_seconds is not None
        and stream.start is not None
        and stream.packets < (stream.listed or 0)
    ]
    whole = [stream for stream in streams if stream.packets and stream.start is not None]
    if proven:
        # Subtitles are written early, and may lie ahead of what has not come.
        whole = [stream for stream in whole if stream.kind in ("video", "audio")]
    if proven and promise.seconds is not None and not sounds:
        sounds = [
            (promise.seconds, stream.end)
            for stream in whole
            if stream.kind == "audio" and stream.end < video.end - PROVEN_SECONDS
        ]
    promised, sound = max(sounds, key=lambda s: s[0] - s[1], default=(None, Fraction(0)))
    listed = video.listed if video.listed != video.packets else None
    short = Shortfall(
        pictures_promised=listed,
        pictures=pictures,
        seconds_promised=promise.seconds,
        seconds=max((stream.end for stream in whole), default=Fraction(0)),
        sound_promised=promised,
        sound=sound,
        bytes_promised=(promise.size_bytes or size) if proven else None,
        size_bytes=size,
        zeros=video.zeros,
        ends_inside=promise.inside if promise.inside == "moof" else "",
    )
    missing = (
        (short.pictures_promised or 0) > pictures
        or (promise.seconds or 0) > short.seconds
        or promised is not None
        or video.zeros
        or short.ends_inside == "moof"
        or (proven and promise.seconds is None and video.listed is None)
    )
    return short if missing else None


def _pictures(path: PathLike, video: _Stream) -> int:
    """Return the number of pictures that the title would have."""
    try:
        return index_frames(path).frames
    except SourceUnusable:
        return video.packets  # a source that is remuxed before it is indexed
