from __future__ import annotations

import io
import struct
from fractions import Fraction

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder import mp4
from tests.package_media import encode

RATES = [
    Fraction(24),
    Fraction(25),
    Fraction(30),
    Fraction(60),
    Fraction(25, 2),
    Fraction(24000, 1001),
    Fraction(30000, 1001),
    Fraction(60000, 1001),
    Fraction("22.05"),
]


@pytest.mark.parametrize(
    ("rate", "timescale"),
    [
        ("24", 24000),
        ("25", 25000),
        ("30", 30000),
        ("60", 60000),
        ("25/2", 25000),
        ("24000/1001", 24000),
        ("30000/1001", 30000),
        ("60000/1001", 60000),
        ("22.05", 44100),
        ("1", 10000),
        ("1/3", 10000),
        ("120000/1001", 120000),
    ],
)
def test_timescale_is_exact_and_of_a_usual_size(rate: str, timescale: int) -> None:
    assert mp4.timescale_for(Fraction(rate)) == timescale


@given(st.fractions(min_value=Fraction(1, 100), max_value=1000, max_denominator=100_000))
def test_any_frame_lasts_a_whole_number_of_ticks(rate: Fraction) -> None:
    timescale = mp4.timescale_for(rate)
    assert (timescale / rate).denominator == 1
    assert 10_000 <= timescale <= mp4.MAX_TIMESCALE


@pytest.mark.parametrize("rate", [Fraction(0), Fraction(-25), Fraction(2**31 + 1, 10**8 + 1)])
def test_rates_that_no_timescale_holds_are_refused(rate: Fraction) -> None:
    with pytest.raises(ValueError, match="rate"):
        mp4.timescale_for(rate)


@pytest.mark.parametrize("rate", RATES, ids=str)
def test_every_time_is_exact(rate: Fraction) -> None:
    # Far into the title: at frame 100 003 a rounded timescale would be off by whole ticks.
    for start in (0, 7, 100_003):
        init, media, _ = encode(0, 8, 30, frame_rate=rate)
        moved = at_start(media, int(start * mp4.timescale_for(rate) / rate))
        assert_exact(init, moved, start, 8, rate)
    init, media, _ = encode(31, 39, 30, frame_rate=rate)
    assert_exact(init, media, 31, 8, rate)


def at_start(media: bytes, decode_time: int) -> bytes:
    """Return ``media`` of one fragment with another ``tfdt``."""
    moof = mp4.find(media, "moof")
    tfdt = mp4.find(media, "traf/tfdt", moof.body, moof.end)
    layout = ">Q" if media[tfdt.body] == 1 else ">I"
    result = bytearray(media)
    struct.pack_into(layout, result, tfdt.body + 4, decode_time)
    return bytes(result)


def assert_exact(init: bytes, media: bytes, start: int, frames: int, rate: Fraction) -> None:
    timescale = mp4.track_timescale(init)
    samples = mp4.sample_table(init, media)
    numbers = range(start, start + frames)
    assert [Fraction(s.decode_time, timescale) for s in samples] == [n / rate for n in numbers]
    shown = sorted(Fraction(s.composition_time, timescale) for s in samples)
    assert shown == [n / rate for n in numbers]
    assert {Fraction(s.duration, timescale) for s in samples} == {1 / rate}
    # libavformat as a second opinion: the same, but for PTS late by the reorder depth.
    with av.open(io.BytesIO(init + media), format="mp4") as container:
        packets = [packet for packet in container.demux() if packet.dts is not None]
    late = {
        Fraction(packet.pts, timescale) - Fraction(sample.composition_time, timescale)
        for packet, sample in zip(packets, samples, strict=True)
    }
    assert len(late) == 1
    assert 0 <= late.pop() * rate <= 4
    assert [packet.size for packet in packets] == [sample.size for sample in samples]
    assert [packet.is_keyframe for packet in packets] == [sample.is_sync for sample in samples]


def test_an_idr_inside_a_shot_begins_a_second_fragment() -> None:
    init, media, _ = encode(24, 48, 30, cut=35)
    first, second = mp4.fragments(init, media)
    assert [len(first.samples), len(second.samples)] == [11, 13]
    assert second.samples[0].is_sync
    assert second.samples[0].composition_time == 35 * 1000
    assert sum(sample.is_sync for sample in mp4.sample_table(init, media)) == 2
    assert_exact(init, media, 24, 24, Fraction(24))
    numbered = mp4.number_fragments(media, 41)
    assert [sequence_number(numbered, f.start) for f in (first, second)] == [41, 42]
    assert mp4.sample_table(init, numbered) == mp4.sample_table(init, media)


def sequence_number(media: bytes, start: int) -> int:
    mfhd = mp4.find(media, "moof/mfhd", start)
    return int(struct.unpack_from(">I", media, mfhd.body + 4)[0])


def test_split_drops_what_points_into_the_old_file() -> None:
    init, media, _ = encode(0, 8, 30)
    junk = mp4.box("sidx", bytes(20)), mp4.box("styp", b"msdhmsdh"), mp4.box("mfra", bytes(8))
    data = init + junk[0] + junk[1] + media + junk[2]
    assert mp4.split_fragmented(data) == (init, media)


def test_codec_configuration_of_a_real_encode() -> None:
    init, _, _ = encode(0, 8, 30)
    found = mp4.codec_configuration(init)
    assert (found.fourcc, found.width, found.height) == ("avc1", 160, 90)
    assert found.codecs == f"avc1.{found.config[1:4].hex().upper()}"
    with av.open(io.BytesIO(init), format="mp4") as container:
        assert container.streams.video[0].codec_context.extradata == found.config


def test_equal_configurations_over_all_crfs_and_unequal_ones_without_stitchable() -> None:
    def digests(stitchable: int) -> set[str]:
        crfs = (4, 23, 34, 51)
        encodes = [encode(0, 8, crf, stitchable=stitchable) for crf in crfs]
        return {mp4.codec_configuration(init).sha256 for init, _, _ in encodes}

    assert len(digests(1)) == 1
    assert len(digests(0)) > 1
    other_size = mp4.codec_configuration(encode(0, 8, 23, height=180)[0])
    assert other_size.sha256 not in digests(1)


@pytest.mark.parametrize(
    ("fourcc", "config", "codecs"),
    [
        ("avc1", "0164001f ffe1", "avc1.64001F"),
        # Main, level 3.1, as in ISO/IEC 14496-15 annex E: hvc1.1.6.L93.B0
        ("hvc1", "01 01 60000000 b00000000000 5d", "hvc1.1.6.L93.B0"),
        ("hev1", "01 22 20000000 900000000000 99", "hev1.2.4.H153.90"),
        ("av01", "81 08 0c", "av01.0.08M.08"),
        ("av01", "81 2d e0", "av01.1.13H.12"),
        ("vp09", "01000000 00 1f 80", "vp09.00.31.08"),
    ],
)
def test_codecs_strings(fourcc: str, config: str, codecs: str) -> None:
    assert mp4.codecs_string(fourcc, bytes.fromhex(config)) == codecs


def test_a_codec_that_we_do_not_write_is_refused() -> None:
    with pytest.raises(ValueError, match="mp4v"):
        mp4.codecs_string("mp4v", bytes(20))


def test_the_cmaf_header_has_what_cmaf_asks_for() -> None:
    init, media, _ = encode(0, 8, 30)
    header = mp4.cmaf_header(init, "cmf2")
    ftyp = mp4.find(header, "ftyp")
    assert header[ftyp.body : ftyp.end] == b"cmf2\0\0\0\0cmf2iso6cmfc"
    tkhd = mp4.find(header, "moov/trak/tkhd")
    assert header[tkhd.body + 1 : tkhd.body + 4] == b"\0\0\7"
    stss = mp4.find(header, "moov/trak/mdia/minf/stbl/stss")
    assert header[stss.body : stss.end] == bytes(8)
    assert b"Lavf" not in header
    # Nothing that a decoder needs changed, and doing it twice is doing it once.
    assert mp4.codec_configuration(header) == mp4.codec_configuration(init)
    assert mp4.sample_table(header, media) == mp4.sample_table(init, media)
    assert mp4.cmaf_header(header, "cmf2") == header


@pytest.mark.parametrize("durations", [[1024] * 5, [1024] * 4 + [384]])
def test_audio_fragments_read_back(durations: list[int]) -> None:
    init, _, _ = encode(0, 8, 30)
    sizes = [3, 1, 4, 1, 5]
    payload = bytes(range(sum(sizes)))
    media = mp4.audio_fragment(9, 2**33, sizes, durations, payload)
    samples = mp4.sample_table(init, media)
    assert [sample.size for sample in samples] == sizes
    assert [sample.duration for sample in samples] == durations
    assert samples[0].decode_time == 2**33
    assert all(sample.is_sync for sample in samples)
    assert b"".join(media[s.offset : s.offset + s.size] for s in samples) == payload
    assert sequence_number(media, 0) == 9
    with pytest.raises(ValueError, match="do not describe"):
        mp4.audio_fragment(9, 0, sizes, durations, payload + b"!")


def test_every_truncation_is_an_error() -> None:
    init, media, _ = encode(0, 8, 30)
    moof_end = mp4.find(media, "moof").end
    # All cuts in headers, and some in the data.
    for cut in [*range(1, moof_end + 9), *range(moof_end + 9, len(media), 997)]:
        with pytest.raises(ValueError, match=r"at \d|bytes|pairs of moof and mdat"):
            mp4.sample_table(init, media[:cut])
    for cut in range(len(init)):
        with pytest.raises(ValueError, match=r"\d|no '"):
            mp4.codec_configuration(init[:cut])


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damage_is_a_value_error_and_nothing_else(data: st.DataObject) -> None:
    init, media, _ = encode(0, 8, 30)
    whole = bytearray(init + media)
    end = len(init) + mp4.find(media, "moof").end + 8
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, end - 1))] = data.draw(st.integers(0, 255))
    try:
        one, two = mp4.split_fragmented(bytes(whole))
        mp4.sample_table(one, two)
        mp4.codec_configuration(one)
        mp4.edit_media_time(one)
        mp4.cmaf_header(one, "cmf2")
        mp4.number_fragments(two, 1)
    except ValueError:
        pass


def test_a_run_that_claims_billions_of_samples_is_refused_at_once() -> None:
    init, _, _ = encode(0, 8, 30)
    tfhd = mp4.full_box("tfhd", 0, 0x020038, struct.pack(">IIII", 1, 1000, 0, 0))
    tfdt = mp4.full_box("tfdt", 0, 0, bytes(4))
    trun = mp4.full_box("trun", 0, 0x1, struct.pack(">Ii", 2**32 - 1, 100))
    moof = mp4.box("moof", mp4.full_box("mfhd", 0, 0, bytes(4)), mp4.box("traf", tfhd, tfdt, trun))
    with pytest.raises(ValueError, match="claims 4294967295 samples"):
        mp4.sample_table(init, moof + mp4.box("mdat", bytes(64)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\0\0\0\4moov", r"'moov' at 0 claims 4 bytes, its header alone has 8"),
        (b"\0\0\0\1moov\0\0", r"'moov' at 0 is truncated in its 64 bit size"),
        (b"\0\0\0\x10free\0\0", r"'free' at 0 claims 16 bytes, 10 are left"),
        (b"\0\0\0\x08free\0\0\0", r"3 stray bytes at 8"),
    ],
)
def test_walk_says_where(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(mp4.walk(data))


def test_walk_knows_all_three_forms_of_size() -> None:
    large = struct.pack(">I4sQ", 1, b"mdat", 20) + b"abcd"
    to_the_end = struct.pack(">I4s", 0, b"free") + b"xyz"
    assert [(b.kind, b.start, b.body, b.end) for b in mp4.walk(large + to_the_end)] == [
        ("mdat", 0, 16, 20),
        ("free", 20, 28, 31),
    ]
