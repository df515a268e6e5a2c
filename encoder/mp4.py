"""Fragmented MP4 by its boxes: split, renumber, retime and describe the files that ffmpeg writes.

A pure reader and writer of the few boxes of a CMAF track (ISO/IEC 14496-12 and -15, ISO/IEC
23000-19). It neither decodes media nor opens files. Every read is checked against the enclosing
box: malformed or truncated input and unsupported fields raise :class:`ValueError` with the byte
position in every function here, so that a damaged file is a clear error and never a wrong table.

Times are integers in ticks of the track's timescale.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

MAX_TIMESCALE = 2**31 - 1
"""Largest timescale, ticks per second: some parsers read a signed number of 32 bits."""
MIN_TIMESCALE = 10_000
"""Smallest timescale that :func:`timescale_for` returns, ticks per second."""
# Visual (and audio) sample entries have fixed fields before their child boxes.
_VISUAL_ENTRY_BYTES = 78
_AUDIO_ENTRY_BYTES = 28
_CONFIGURATION_BOX = {
    "avc1": "avcC",
    "avc3": "avcC",
    "hvc1": "hvcC",
    "hev1": "hvcC",
    "av01": "av1C",
    "vp09": "vpcC",
}
_NON_SYNC = 0x0001_0000
_TFHD_DEFAULT_BASE_IS_MOOF = 0x02_0000
# Flags of trun: fields that are present.
_DATA_OFFSET = 0x1
_FIRST_SAMPLE_FLAGS = 0x4
_SAMPLE_DURATION = 0x100
_SAMPLE_SIZE = 0x200
_SAMPLE_FLAGS = 0x400
_COMPOSITION_OFFSET = 0x800


@dataclass(frozen=True, slots=True)
class Box:
    """Position of one box in the bytes that were read."""

    kind: str
    """Four-character code of the box."""
    start: int
    """Offset of the header."""
    body: int
    """Offset of the first byte after the header."""
    end: int
    """Offset after the last byte."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One coded frame of a track."""

    decode_time: int
    """Time at which the frame is decoded, ticks."""
    composition_time: int
    """Time at which the frame is shown before any edit list, ticks."""
    duration: int
    """Ticks until the next frame is decoded."""
    size: int
    """Number of bytes of the frame."""
    offset: int
    """Offset of its first byte in the media that was read."""
    is_sync: bool
    """True where decoding can start."""


@dataclass(frozen=True, slots=True)
class Fragment:
    """One ``moof`` with its ``mdat``."""

    start: int
    """Offset of the ``moof`` in the media that was read."""
    end: int
    """Offset after the last byte of its ``mdat``."""
    samples: tuple[Sample, ...]
    """Samples in decoding order."""


@dataclass(frozen=True, slots=True)
class Colour:
    """Code points of ITU-T H.273 in a ``colr`` box of kind ``nclx``."""

    primaries: int
    transfer: int
    matrix: int
    full: bool
    """True for the full range of levels."""

    @property
    def video_range(self) -> str | None:
        """Value of HLS' ``VIDEO-RANGE``, ``PQ`` or ``HLG``; None for standard range."""
        return {16: "PQ", 18: "HLG"}.get(self.transfer)


@dataclass(frozen=True, slots=True)
class CodecConfiguration:
    """Facts that a video decoder needs before the first frame."""

    fourcc: str
    """Sample entry, for example ``avc1``."""
    config: bytes
    """Body of the configuration box: avcC, hvcC, av1C or vpcC."""
    sha256: str
    """Digest of sample entry, size and ``config``; only encodes of equal digests share an init."""
    codecs: str
    """RFC 6381 string, for example ``avc1.64001F``."""
    width: int
    height: int
    colour: Colour | None = None
    """Colours that the sample entry states, None without code points."""


@dataclass(frozen=True, slots=True)
class AudioConfiguration:
    """Facts that an audio decoder needs before the first frame."""

    codecs: str
    """RFC 6381 string, for example ``mp4a.40.2``."""
    sample_rate: int
    """Sample rate in Hz."""
    channels: int
    frame_samples: int = 1024
    """Samples of a coded frame."""


def walk(data: bytes, start: int = 0, end: int | None = None) -> Iterator[Box]:
    """Yield the boxes of ``data[start:end]`` in order, one level deep."""
    limit = len(data) if end is None else end
    position = start
    while position < limit:
        if limit - position < 8:
            raise ValueError(f"{limit - position} stray bytes at {position}, a box header needs 8")
        size, code = struct.unpack_from(">I4s", data, position)
        kind, header = code.decode("latin-1"), 8
        if size == 1:
            if limit - position < 16:
                raise ValueError(f"box {kind!r} at {position} is truncated in its 64 bit size")
            (size,) = struct.unpack_from(">Q", data, position + 8)
            header = 16
        elif size == 0:
            size = limit - position
        if size < header:
            raise ValueError(f"box {kind!r} at {position} claims {size} bytes, its header alone "
                             f"has {header}")  # fmt: skip
        if position + size > limit:
            raise ValueError(f"box {kind!r} at {position} claims {size} bytes, "
                             f"{limit - position} are left")  # fmt: skip
        yield Box(kind, position, position + header, position + size)
        position += size


def find(data: bytes, path: str, start: int = 0, end: int | None = None) -> Box:
    """Return the first box at ``path``, for example ``moov/trak/mdia/mdhd``."""
    box: Box | None = None
    for kind in path.split("/"):
        box = next((child for child in walk(data, start, end) if child.kind == kind), None)
        if box is None:
            raise ValueError(f"no {kind!r} of {path!r} in bytes {start} to "
                             f"{len(data) if end is None else end}")  # fmt: skip
        start, end = box.body, box.end
    assert box is not None
    return box


class _Fields:
    """Reads the big-endian fields of one box, never past its end."""

    def __init__(self, data: bytes, box: Box) -> None:
        self.data, self.box, self.position = data, box, box.body

    def take(self, layout: str) -> tuple[int, ...]:
        size = struct.calcsize(">" + layout)
        if self.position + size > self.box.end:
            raise ValueError(f"box {self.box.kind!r} at {self.box.start} ends at {self.box.end}, "
                             f"inside a field at {self.position}")  # fmt: skip
        values = struct.unpack_from(">" + layout, self.data, self.position)
        self.position += size
        return values

    def one(self, layout: str) -> int:
        return self.take(layout)[0]

    def version_and_flags(self) -> tuple[int, int]:
        word = self.one("I")
        return word >> 24, word & 0xFF_FFFF


def box(kind: str, *parts: bytes) -> bytes:
    """Write a box of ``kind`` around ``parts``."""
    size = 8 + sum(map(len, parts))
    if size >= 2**32:
        raise ValueError(f"a box {kind!r} of {size} bytes needs a 64 bit size: not supported")
    return struct.pack(">I4s", size, kind.encode("latin-1")) + b"".join(parts)


def full_box(kind: str, version: int, flags: int, *parts: bytes) -> bytes:
    """Write a box that begins with a version and 24 bits of flags."""
    return box(kind, struct.pack(">I", version << 24 | flags), *parts)


def split_fragmented(data: bytes) -> tuple[bytes, bytes]:
    """Split one fragmented MP4 into ``(init, media)``.

    ``init`` is ``ftyp + moov``, ``media`` every ``moof + mdat``. Indexes and padding (``sidx``,
    ``mfra``, ``styp``, ``free``) are dropped: their offsets only fit the whole file.
    """
    boxes = list(walk(data))
    init = [b for b in boxes if b.kind in ("ftyp", "moov")]
    media = [b for b in boxes if b.kind in ("moof", "mdat")]
    if [b.kind for b in init] != ["ftyp", "moov"]:
        raise ValueError(f"an MP4 begins with ftyp and moov, got {[b.kind for b in boxes[:8]]}")
    if not media or [b.kind for b in media] != ["moof", "mdat"] * (len(media) // 2):
        raise ValueError(f"fragments are pairs of moof and mdat, got {[b.kind for b in media[:8]]}")
    return (
        b"".join(data[b.start : b.end] for b in init),
        b"".join(data[b.start : b.end] for b in media),
    )


def timescale_for(frame_rate: Fraction) -> int:
    """Return the ticks per second in which every frame has an exact time.

    It is the rate's numerator times the smallest power of ten that reaches 10 000: 24 fps gets
    24000, 24000/1001 gets 24000, 12.5 gets 25000, 22.05 gets 44100.

    Raises:
        ValueError: the rate is not positive, or its numerator does not fit into an MP4.
    """
    if frame_rate <= 0:
        raise ValueError(f"a frame rate is positive, got {frame_rate}")
    timescale = frame_rate.numerator
    while timescale < MIN_TIMESCALE:
        timescale *= 10
    if timescale > MAX_TIMESCALE or timescale // frame_rate > MAX_TIMESCALE:
        raise ValueError(f"frame rate {frame_rate} has no exact timescale up to {MAX_TIMESCALE}")
    return timescale


def track_timescale(init: bytes) -> int:
    """Return the ticks per second of the only track."""
    fields = _Fields(init, find(init, "moov/trak/mdia/mdhd"))
    version, _ = fields.version_and_flags()
    fields.take("QQ" if version == 1 else "II")
    timescale = fields.one("I")
    if timescale == 0:
        raise ValueError(f"mdhd at {fields.box.start} has timescale 0")
    return timescale


def edit_media_time(init: bytes) -> int:
    """Return the media time in ticks at presentation time 0; it is 0 without an edit list.

    More than the one plain edit that CMAF allows is refused.
    """
    trak = find(init, "moov/trak")
    if not any(child.kind == "edts" for child in walk(init, trak.body, trak.end)):
        return 0
    fields = _Fields(init, find(init, "edts/elst", trak.body, trak.end))
    version, _ = fields.version_and_flags()
    if (count := fields.one("I")) != 1:
        raise ValueError(f"elst at {fields.box.start} has {count} edits, CMAF allows one")
    _, media_time = fields.take("Qq" if version == 1 else "Ii")
    if media_time < 0:
        raise ValueError(f"elst at {fields.box.start} is an empty edit, CMAF allows none")
    return media_time


def fragments(init: bytes, media: bytes) -> list[Fragment]:
    """Return the fragments of ``media`` with their samples, in order.

    Defaults come from tfhd, then from trex; times from tfdt, samples from trun. All sample data
    must be in the ``mdat`` of its fragment.
    """
    track_id, defaults = _track_defaults(init)
    boxes = list(walk(media))
    if [b.kind for b in boxes] != ["moof", "mdat"] * (len(boxes) // 2):
        raise ValueError(f"media is pairs of moof and mdat, got {[b.kind for b in boxes[:8]]}")
    result = [
        Fragment(moof.start, mdat.end, tuple(_samples(media, moof, mdat, track_id, defaults)))
        for moof, mdat in zip(boxes[::2], boxes[1::2], strict=True)
    ]
    if not all(fragment.samples for fragment in result):
        raise ValueError("a fragment has no samples")
    return result


def sample_table(init: bytes, media: bytes) -> list[Sample]:
    """Return all samples of ``media`` in decoding order."""
    return [sample for fragment in fragments(init, media) for sample in fragment.samples]


@dataclass(frozen=True, slots=True)
class _Defaults:
    """Values of samples whose ``trun`` does not state them."""

    duration: int
    size: int
    flags: int


def _track_defaults(init: bytes) -> tuple[int, _Defaults]:
    """Return the id and the ``trex`` defaults of the only track."""
    moov = find(init, "moov")
    tracks = [b for b in walk(init, moov.body, moov.end) if b.kind == "trak"]
    if len(tracks) != 1:
        raise ValueError(f"moov at {moov.start} has {len(tracks)} tracks, one is expected")
    fields = _Fields(init, find(init, "tkhd", tracks[0].body, tracks[0].end))
    version, _ = fields.version_and_flags()
    track_id = fields.take("QQI" if version == 1 else "III")[2]
    fields = _Fields(init, find(init, "moov/mvex/trex"))
    fields.version_and_flags()
    trex_id, _, duration, size, flags = fields.take("IIIII")
    if trex_id != track_id:
        raise ValueError(f"trex is for track {trex_id}, the track is {track_id}")
    return track_id, _Defaults(duration, size, flags)


def _samples(
    media: bytes, moof: Box, mdat: Box, track_id: int, defaults: _Defaults
) -> Iterator[Sample]:
    """Yield the samples of one fragment, in decoding order."""
    trafs = [b for b in walk(media, moof.body, moof.end) if b.kind == "traf"]
    if len(trafs) != 1:
        raise ValueError(f"moof at {moof.start} has {len(trafs)} trafs, one is expected")
    traf = trafs[0]
    base, defaults = _fragment_header(media, moof, traf, track_id, defaults)
    fields = _Fields(media, find(media, "tfdt", traf.body, traf.end))
    version, _ = fields.version_and_flags()
    time = fields.one("Q" if version == 1 else "I")
    offset = base
    for run in (b for b in walk(media, traf.body, traf.end) if b.kind == "trun"):
        fields = _Fields(media, run)
        version, present = fields.version_and_flags()
        count = fields.one("I")
        if present & _DATA_OFFSET:
            offset = base + fields.one("i")
        if count > mdat.end - mdat.body:  # with all fields defaulted, nothing else bounds it
            raise ValueError(f"trun at {run.start} claims {count} samples, its mdat has "
                             f"{mdat.end - mdat.body} bytes")  # fmt: skip
        first_flags = fields.one("I") if present & _FIRST_SAMPLE_FLAGS else None
        for index in range(count):
            duration = fields.one("I") if present & _SAMPLE_DURATION else defaults.duration
            size = fields.one("I") if present & _SAMPLE_SIZE else defaults.size
            flags = fields.one("I") if present & _SAMPLE_FLAGS else defaults.flags
            if index == 0 and first_flags is not None:
                flags = first_flags
            shift = fields.one("i" if version else "I") if present & _COMPOSITION_OFFSET else 0
            if offset < mdat.body or offset + size > mdat.end:
                raise ValueError(
                    f"sample {index} of trun at {run.start} is at bytes {offset} to "
                    f"{offset + size}, outside its mdat at {mdat.start} to {mdat.end}"
                )
            is_sync = not flags & _NON_SYNC
            yield Sample(time, time + shift, duration, size, offset, is_sync)
            time += duration
            offset += size


def _fragment_header(
    media: bytes, moof: Box, traf: Box, track_id: int, defaults: _Defaults
) -> tuple[int, _Defaults]:
    """Read ``tfhd``: the byte that offsets count from, and the fragment's defaults over trex's."""
    fields = _Fields(media, find(media, "tfhd", traf.body, traf.end))
    _, present = fields.version_and_flags()
    if (got := fields.one("I")) != track_id:
        raise ValueError(f"tfhd at {fields.box.start} is for track {got}, expected {track_id}")
    base = fields.one("Q") if present & 0x1 else moof.start
    if present & 0x2:
        fields.one("I")  # index of the sample description
    return base, _Defaults(
        duration=fields.one("I") if present & 0x8 else defaults.duration,
        size=fields.one("I") if present & 0x10 else defaults.size,
        flags=fields.one("I") if present & 0x20 else defaults.flags,
    )


def number_fragments(media: bytes, first_sequence_number: int) -> bytes:
    """Return ``media`` with its ``mfhd`` numbered from ``first_sequence_number``; same size."""
    result = bytearray(media)
    number = first_sequence_number
    for moof in (b for b in walk(media) if b.kind == "moof"):
        mfhd = find(media, "mfhd", moof.body, moof.end)
        if mfhd.end - mfhd.body < 8:
            raise ValueError(f"mfhd at {mfhd.start} is truncated")
        struct.pack_into(">I", result, mfhd.body + 4, number)
        number += 1
    return bytes(result)


def moved_in_time(media: bytes, ticks: int) -> bytes:
    """Return ``media`` with all its samples ``ticks`` later; same size.

    Raises:
        ValueError: a fragment would be decoded before time 0, or later than its field can hold.
    """
    result = bytearray(media)
    for moof in (b for b in walk(media) if b.kind == "moof"):
        fields = _Fields(media, find(media, "traf/tfdt", moof.body, moof.end))
        version, _ = fields.version_and_flags()
        layout = "Q" if version == 1 else "I"
        place = fields.position
        time = fields.one(layout) + ticks
        if not 0 <= time < 1 << 8 * struct.calcsize(f">{layout}"):
            raise ValueError(f"tfdt at {fields.box.start} cannot hold time {time}")
        struct.pack_into(f">{layout}", result, place, time)
    return bytes(result)


def with_brand(init: bytes, brand: str) -> bytes:
    """Return ``init`` with an ``ftyp`` that claims ``brand`` first, then ``iso6`` and ``cmfc``.

    ``cmfc`` is CMAF's basic structure. ``cmf2`` also states that a track has no edit list and
    signed composition offsets: that is true of our video, not of our audio, which needs its edit
    list.
    """
    code = brand.encode("latin-1")
    if len(code) != 4:
        raise ValueError(f"a brand has four characters, got {brand!r}")
    ftyp = find(init, "ftyp")
    compatible = b"".join(dict.fromkeys([code, b"iso6", b"cmfc"]))
    return init[: ftyp.start] + box("ftyp", code, bytes(4), compatible) + init[ftyp.end :]


def cmaf_header(init: bytes, brand: str) -> bytes:
    """Return ``init`` as CMAF requires it, with what ffmpeg leaves out.

    Sets the brand, marks the track enabled, in the movie and in its preview (``tkhd`` flags 7),
    adds the empty ``stss`` of a video track in which not every sample is a sync sample, and drops
    ``udta``: tags such as the writing tool's version do not belong in a package.
    """
    is_video = _handler(init) == b"vide"

    def edit(kind: str, body: bytes) -> bytes:
        if kind == "udta":
            return b""
        if kind == "tkhd":
            return box(kind, body[:1] + b"\0\0\7" + body[4:])
        if kind in ("moov", "trak", "mdia", "minf", "stbl"):
            children = [(b.kind, edit(b.kind, body[b.body : b.end])) for b in walk(body)]
            if kind == "stbl" and is_video and "stss" not in dict(children):
                children.append(("stss", full_box("stss", 0, 0, bytes(4))))
            return box(kind, *(child for _, child in children))
        return box(kind, body)

    moov = find(init, "moov")
    edited = init[: moov.start] + edit("moov", init[moov.body : moov.end]) + init[moov.end :]
    return with_brand(edited, brand)


def with_sample_entry_boxes(init: bytes, boxes: bytes) -> bytes:
    """Return ``init`` with ``boxes`` at the end of its only sample entry."""
    entry = sample_entry(init)
    steps = ["moov", "trak", "mdia", "minf", "stbl", "stsd"]
    around = [find(init, "/".join(steps[: depth + 1])) for depth in range(len(steps))]
    whole = bytearray(init)
    for grown in (*around, entry):
        size = grown.end - grown.start + len(boxes)
        whole[grown.start : grown.start + 4] = size.to_bytes(4)
    whole[entry.end : entry.end] = boxes
    return bytes(whole)


def with_colour(init: bytes, colour: Colour, config: bytes | None = None) -> bytes:
    """Return ``init`` with a ``colr`` box of these code points in its only sample entry.

    ``config`` replaces the body of the configuration box. VP9's own code points, which that box
    states too, are set.
    """
    entry = sample_entry(init)
    kind = _CONFIGURATION_BOX.get(entry.kind)
    first = entry.body + _VISUAL_ENTRY_BYTES
    codes = (colour.primaries, colour.transfer, colour.matrix)
    full = colour.full << 7
    parts = init[entry.body : first]
    for child in walk(init, first, entry.end):
        body = init[child.body : child.end]
        if child.kind == kind:
            body = body if config is None else config
            if kind == "vpcC":
                # A full box: depth, chroma and range share the byte before the code points.
                shared = body[6] & 0xFE | colour.full
                body = body[:6] + bytes([shared, *codes]) + body[10:]
            parts += box(kind, body) + box("colr", b"nclx", struct.pack(">3HB", *codes, full))
        elif child.kind != "colr":
            parts += box(child.kind, body)
    return _with_sample_entry(init, box(entry.kind, parts))


def _with_sample_entry(init: bytes, new: bytes) -> bytes:
    steps = ["moov", "trak", "mdia", "minf", "stbl", "stsd"]
    entry = sample_entry(init)
    whole = bytearray(init)
    for depth in range(len(steps)):
        grown = find(init, "/".join(steps[: depth + 1]))
        size = grown.end - grown.start + len(new) - (entry.end - entry.start)
        whole[grown.start : grown.start + 4] = size.to_bytes(4)
    whole[entry.start : entry.end] = new
    return bytes(whole)


def _handler(init: bytes) -> bytes:
    fields = _Fields(init, find(init, "moov/trak/mdia/hdlr"))
    fields.take("8x")
    return fields.one("I").to_bytes(4, "big")


def audio_fragment(
    sequence_number: int,
    decode_time: int,
    sizes: Sequence[int],
    durations: Sequence[int],
    payload: bytes,
    *,
    track_id: int = 1,
) -> bytes:
    """Write one ``moof + mdat`` of samples that are all sync samples, as those of audio are.

    ``payload`` holds the samples back to back; times are ticks.
    """
    if not sizes or len(sizes) != len(durations) or sum(sizes) != len(payload):
        raise ValueError(
            f"{len(sizes)} sizes of {sum(sizes)} bytes and {len(durations)} durations "
            f"do not describe {len(payload)} bytes"
        )
    # Every tfhd states the defaults, so that a segment can be read without trex, as cmf2 requires;
    # 0x02000000 states that a sample depends on no other.
    tfhd = full_box(
        "tfhd",
        0,
        _TFHD_DEFAULT_BASE_IS_MOOF | 0x8 | 0x20,
        struct.pack(">III", track_id, durations[0], 0x0200_0000),
    )
    tfdt = full_box("tfdt", 1, 0, struct.pack(">Q", decode_time))
    mfhd = full_box("mfhd", 0, 0, struct.pack(">I", sequence_number))
    flags, fields = _DATA_OFFSET | _SAMPLE_SIZE, [sizes]
    if len(set(durations)) > 1:
        flags, fields = flags | _SAMPLE_DURATION, [durations, sizes]
    layout = f">{len(fields)}I"
    table = b"".join(struct.pack(layout, *sample) for sample in zip(*fields, strict=True))

    def moof(data_offset: int) -> bytes:
        head = struct.pack(">Ii", len(sizes), data_offset)
        return box("moof", mfhd, box("traf", tfhd, tfdt, full_box("trun", 0, flags, head, table)))

    return moof(len(moof(0)) + 8) + box("mdat", payload)


def codec_configuration(init: bytes) -> CodecConfiguration:
    """Return the video decoder configuration in ``init``."""
    entry = sample_entry(init)
    kind = _CONFIGURATION_BOX.get(entry.kind)
    if kind is None:
        raise ValueError(f"sample entry {entry.kind!r} at {entry.start} is not one of "
                         f"{sorted(_CONFIGURATION_BOX)}")  # fmt: skip
    fields = _Fields(init, entry)
    fields.take("24x")  # reserved, data reference, pre-defined
    width, height = fields.take("HH")
    holder = find(init, kind, entry.body + _VISUAL_ENTRY_BYTES, entry.end)
    config = init[holder.body : holder.end]
    digest = hashlib.sha256(entry.kind.encode() + struct.pack(">HH", width, height) + config)
    return CodecConfiguration(
        fourcc=entry.kind,
        config=config,
        sha256=digest.hexdigest(),
        codecs=codecs_string(entry.kind, config, colour := _colour(init, entry)),
        width=width,
        height=height,
        colour=colour,
    )


def audio_configuration(init: bytes) -> AudioConfiguration:
    """Return the configuration of AAC, Opus, AC-3 or E-AC-3 in ``init``.

    The frames of Opus are those of 20 ms that our encoder makes.
    """
    entry = sample_entry(init)
    if entry.kind not in _AUDIO_CONFIGURATION_BOX:
        raise ValueError(
            f"sample entry {entry.kind!r} at {entry.start} is not one of "
            f"{sorted(_AUDIO_CONFIGURATION_BOX)}"
        )
    fields = _Fields(init, entry)
    fields.take("16x")
    channels, sample_rate = fields.take("H6xI")
    kind = _AUDIO_CONFIGURATION_BOX[entry.kind]
    holder = find(init, kind, entry.body + _AUDIO_ENTRY_BYTES, entry.end)
    if entry.kind == "mp4a":
        return AudioConfiguration(_mp4a_codecs(init, holder), sample_rate >> 16, channels)
    config = init[holder.body : holder.end]
    if entry.kind == "Opus":
        return AudioConfiguration("opus", sample_rate >> 16, config[1], 960)
    channels = _ac3_channels(entry.kind, config)
    return AudioConfiguration(entry.kind, sample_rate >> 16, channels, 1536)


_AUDIO_CONFIGURATION_BOX = {"mp4a": "esds", "Opus": "dOps", "ac-3": "dac3", "ec-3": "dec3"}


def _ac3_channels(kind: str, config: bytes) -> int:
    """Return the channels that a box of ETSI TS 102 366, annex F, states: its entry may not."""
    # AC-3: fscod 2, bsid 5, bsmod 3, acmod 3, lfeon 1. E-AC-3: data rate 13, substreams 3; fscod 2,
    # bsid 5, 2 bits, bsmod 3, acmod 3, lfeon 1.
    bits = int.from_bytes(config[:3]) >> 10 if kind == "ac-3" else config[3]
    return (2, 1, 2, 3, 3, 4, 4, 5)[bits >> 1 & 7] + (bits & 1)


def sample_entry(init: bytes) -> Box:
    """Return the only entry of ``stsd``."""
    fields = _Fields(init, find(init, "moov/trak/mdia/minf/stbl/stsd"))
    fields.version_and_flags()
    count = fields.one("I")
    entries = list(walk(init, fields.position, fields.box.end))
    if count != 1 or len(entries) != 1:
        raise ValueError(f"stsd at {fields.box.start} has {count} entries, one is expected")
    return entries[0]


def _colour(init: bytes, entry: Box) -> Colour | None:
    """Return the colours in a visual sample entry, None without a ``colr`` box of code points."""
    for child in walk(init, entry.body + _VISUAL_ENTRY_BYTES, entry.end):
        if child.kind == "colr":
            fields = _Fields(init, child)
            if fields.one("I") == int.from_bytes(b"nclx"):
                primaries, transfer, matrix = fields.take("HHH")
                return Colour(primaries, transfer, matrix, full=bool(fields.one("B") >> 7))
    return None


def codecs_string(fourcc: str, config: bytes, colour: Colour | None = None) -> str:
    """Return the RFC 6381 ``codecs`` value of a sample entry with this configuration box.

    AV1's optional fields are written for high dynamic range, as the AV1 binding requires; players
    assume BT.709 without them.
    """
    needed = {"avcC": 4, "hvcC": 13, "av1C": 3, "vpcC": 7}.get(_CONFIGURATION_BOX.get(fourcc, ""))
    if needed is None or len(config) < needed:
        raise ValueError(f"{len(config)} bytes are not a configuration of {fourcc!r}")
    if fourcc.startswith("avc"):
        return f"{fourcc}.{config[1:4].hex().upper()}"
    if fourcc == "vp09":  # a full box: profile, level, bit depth after version and flags
        return f"vp09.{config[4]:02d}.{config[5]:02d}.{config[6] >> 4:02d}"
    if fourcc == "av01":
        profile, level = config[1] >> 5, config[1] & 0x1F
        tier, deep, twelve = config[2] >> 7, config[2] >> 6 & 1, config[2] >> 5 & 1
        depth = (12 if twelve else 10) if deep else 8
        short = f"av01.{profile}.{level:02d}{'H' if tier else 'M'}.{depth:02d}"
        if colour is None or colour.video_range is None:
            return short
        mono, across, down, place = (config[2] >> 4 & 1, config[2] >> 3 & 1, config[2] >> 2 & 1,
                                     config[2] & 3)  # fmt: skip
        points = f"{colour.primaries:02d}.{colour.transfer:02d}.{colour.matrix:02d}"
        return f"{short}.{mono}.{across}{down}{place}.{points}.{int(colour.full)}"
    return _hevc_codecs(fourcc, config)


def _hevc_codecs(fourcc: str, config: bytes) -> str:
    """Return the ``codecs`` value of HEVC (ISO/IEC 14496-15 annex E)."""
    space = ("", "A", "B", "C")[config[1] >> 6]
    tier = "H" if config[1] & 0x20 else "L"
    # The compatibility flags are written with the first flag as the lowest bit.
    compatibility = int(f"{int.from_bytes(config[2:6], 'big'):032b}"[::-1], 2)
    constraints = config[6:12].rstrip(b"\0")
    parts = [f"{space}{config[1] & 0x1F}", f"{compatibility:X}", f"{tier}{config[12]}"]
    return ".".join([fourcc, *parts, *(f"{byte:X}" for byte in constraints)])


def _mp4a_codecs(init: bytes, esds: Box) -> str:
    """Return ``mp4a.40.N`` by the descriptors in ``esds`` (ISO/IEC 14496-1, 14496-3)."""
    fields = _Fields(init, esds)
    fields.version_and_flags()

    def descriptor(tag: int) -> None:
        if (got := fields.one("B")) != tag:
            raise ValueError(f"esds at {esds.start} has tag {got}, expected {tag}")
        while fields.one("B") & 0x80:  # length, seven bits a byte
            pass

    descriptor(0x03)
    _, stream_flags = fields.take("HB")
    if stream_flags:
        raise ValueError(f"esds at {esds.start} has optional fields, none are expected")
    descriptor(0x04)
    (object_type,) = fields.take("B12x")
    descriptor(0x05)
    audio_object = fields.one("B") >> 3
    if audio_object == 31:
        raise ValueError(f"esds at {esds.start} has an escaped audio object type")
    return f"mp4a.{object_type:x}.{audio_object}"
