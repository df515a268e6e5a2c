from __future__ import annotations

import pickle
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from encoder.analysis.frames import feed, small_frames
from encoder.errors import SourceUnusable, StoreUnusable
from encoder.ffmpeg import Command, run
from encoder.source.choices import SourceChoices
from encoder.source.index import FrameIndex, index_frames
from encoder.source.planning import plan_source
from encoder.source.timeline.constant_rate import STANDARD_RATES, conversion, plan_timeline
from encoder.source.timestamps import ensure_timestamps
from encoder.source.timestamps.untimed import lacks_times
from fixtures.awkward import CLIPS

NTSC_FILM = Fraction(24000, 1001)


def index_of(pts, time_base, last_duration=1) -> FrameIndex:
    times = np.array(pts, dtype=np.int64)
    return FrameIndex(Fraction(time_base), times, times[:1], times[:1], last_duration, 1)


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.name)
def test_every_awkward_clip_is_understood(awkward_clip, clip, tmp_path: Path):
    source = plan_source(awkward_clip(clip.file), tmp_path)
    assert source.frames == clip.frames
    assert source.frame_rate == clip.frame_rate
    assert source.timeline.constant == clip.constant
    assert (source.width, source.height) == clip.size


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.name)
def test_the_index_lists_what_the_decoder_shows(awkward_clip, clip, tmp_path: Path):
    timed = ensure_timestamps(awkward_clip(clip.file), tmp_path)
    with av.open(str(timed)) as container:
        shown = [frame.pts for frame in container.decode(video=0)]
    assert index_frames(timed).pts.tolist() == shown


def test_keyframes_carry_both_times(awkward_clip):
    index = index_frames(awkward_clip("opengop.ts"))
    assert index.keyframe_pts.tolist() == [133200, 205200, 277200]
    assert (index.keyframe_pts > index.keyframe_dts).all()
    assert index.keyframe_for(19) == 0
    assert index.keyframe_for(20) == 1
    assert index.keyframe_for(49) == 2


@pytest.mark.parametrize("file", ["refresh.ts", "refresh.mp4"])
def test_recovery_points_are_no_keyframes(awkward_clip, file):
    with av.open(str(awkward_clip(file))) as container:
        assert sum(packet.is_keyframe for packet in container.demux(video=0)) > 1
    assert len(index_frames(awkward_clip(file)).keyframe_pts) == 1


def test_hidden_frames_are_not_frames(awkward_clip):
    path = awkward_clip("hidden.webm")
    with av.open(str(path)) as container:
        packets = sum(1 for packet in container.demux(video=0) if packet.size)
    assert packets > 100
    assert index_frames(path).frames == 100


def test_size_and_time_of_the_whole(tiny_title: Path):
    index = index_frames(tiny_title)
    assert index.duration_seconds == 3
    assert index.start_seconds == 0
    with av.open(str(tiny_title)) as container:
        size = sum(packet.size for packet in container.demux(video=0))
    assert index.packet_bytes == size
    assert index.bitrate == round(size * 8 / 3)
    assert np.array_equal(pickle.loads(pickle.dumps(index)).pts, index.pts)


def test_no_timestamps_is_said(awkward_clip, tmp_path: Path):
    assert lacks_times(awkward_clip("raw.264"))
    with pytest.raises(SourceUnusable, match="no timestamps"):
        index_frames(awkward_clip("raw.264"))
    assert not lacks_times(awkward_clip("ntsc.mp4"))
    assert ensure_timestamps(awkward_clip("ntsc.mp4"), tmp_path) == awkward_clip("ntsc.mp4")


def test_sound_comes_along_in_time(tmp_path: Path):
    clip = tmp_path / "sound.avi"
    sources = ["-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25:duration=1"]
    sources += ["-f", "lavfi", "-i", "sine=duration=1"]
    codecs = ["-c:v", "mpeg4", "-bf", "2", "-c:a", "pcm_s16le"]
    run(Command.of(["-v", "error", *sources, *codecs, clip]))
    source = plan_source(clip, tmp_path)
    assert source.path != str(clip)
    (audio,) = source.info.audio
    assert audio.codec == "pcm_s16le"
    assert audio.start_seconds == source.index.start_seconds == 0
    with av.open(source.path) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
    assert samples == 44100


def test_a_copy_that_cannot_be_written_is_said(awkward_clip, tmp_path: Path):
    with pytest.raises(StoreUnusable, match=r"cannot write .*No such file"):
        ensure_timestamps(awkward_clip("raw.264"), tmp_path / "none")
    assert not list(tmp_path.iterdir())


def test_two_raw_streams_of_one_name_do_not_collide(awkward_clip, tmp_path: Path):
    made = {ensure_timestamps(awkward_clip(f"raw.{kind}"), tmp_path) for kind in ("264", "265")}
    assert len(made) == 2


@pytest.mark.parametrize("file", ["editlist.mp4", "opengop.ts", "rounded.mkv"])
@pytest.mark.parametrize("share", [0.6, 0.75, 0.9])
def test_a_truncated_file_is_its_whole_frames(awkward_clip, tmp_path: Path, file, share):
    whole = awkward_clip(file)
    if file.endswith("mp4"):  # its index comes last otherwise
        moved = tmp_path / "moved.mp4"
        run(
            Command.of(["-v", "error", "-i", whole, "-c", "copy", "-movflags", "+faststart", moved])
        )
        whole = moved
    data = whole.read_bytes()
    torn = tmp_path / f"torn{whole.suffix}"
    torn.write_bytes(data[: int(len(data) * share)])
    source = plan_source(torn, tmp_path, SourceChoices(accept_truncated=True))
    intact = index_frames(whole)
    assert 0 < source.index.frames < intact.frames
    pictures = [small.yuv for small in small_frames(plan_source(whole, tmp_path))]
    read = list(small_frames(source))
    assert [small.number for small in read] == list(range(source.frames))
    for small in read:
        pts = source.index.pts[source.timeline.source_frame(small.number)]
        assert np.array_equal(small.yuv, pictures[np.searchsorted(intact.pts, pts)])


def test_damage_in_the_middle_is_refused_with_its_place(awkward_clip, tmp_path: Path):
    path = awkward_clip("ntsc.mp4")
    with av.open(str(path)) as container:
        packets = [(p.pts, p.pos, p.size) for p in container.demux(video=0) if p.size]
    pts, position, size = packets[20]
    data = bytearray(path.read_bytes())
    data[position : position + size] = b"\xff" * size
    (tmp_path / "damaged.mp4").write_bytes(data)
    source = plan_source(tmp_path / "damaged.mp4", tmp_path)
    with pytest.raises(SourceUnusable, match=r"frame \d+ of 48 \(at .* s\) does not decode") as hit:
        feed(small_frames(source))
    assert hit.value.context["frame"] <= pts // 1001


# ── the canonical timeline ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("rate", STANDARD_RATES, ids=str)
@pytest.mark.parametrize("time_base", ["1/1000", "1/90000", "1/10240"])
def test_standard_rates_survive_rounding_to_ticks(rate, time_base):
    frames = 200
    ticks = [round(n / rate / Fraction(time_base)) for n in range(frames)]
    timeline = plan_timeline(index_of(ticks, time_base))
    assert timeline.frame_rate == rate
    assert timeline.constant
    assert timeline.frames == frames


def test_an_odd_but_exact_rate_is_kept():
    timeline = plan_timeline(index_of([1501 * n for n in range(77)], "1/90000"))
    assert timeline.frame_rate == Fraction(90000, 1501)
    assert timeline.constant


def test_what_the_header_claims_decides_a_tie():
    ticks = [round(n / 24 * 1000) for n in range(10)]
    assert plan_timeline(index_of(ticks, "1/1000"), (NTSC_FILM,)).frame_rate in (24, NTSC_FILM)
    one = index_of([0], "1/1000", last_duration=40)
    assert plan_timeline(one, (Fraction(30),)).frame_rate == 30
    assert plan_timeline(one).frame_rate == 25


def test_jitter_within_a_frame_is_constant():
    rng = np.random.default_rng(1)
    ticks = (np.arange(300) * 3000 + rng.integers(-900, 900, 300)).tolist()
    timeline = plan_timeline(index_of(sorted(ticks), "1/90000"), (Fraction(30),))
    assert timeline.constant
    assert timeline.frame_rate == 30


def test_a_still_screen_keeps_a_rate_that_shows_its_bursts():
    index = index_of([0, 1, 2, 3, 5, 30, 31, 32, 100], "1/5", last_duration=5)
    timeline = plan_timeline(index)
    assert timeline.frame_rate == 5
    assert timeline.frames == 105
    assert timeline.source_frame(4) == 3
    assert timeline.source_frame(99) == 7
    assert timeline.source_frame(104) == 8


def test_very_slow_frames_are_repeated():
    timeline = plan_timeline(index_of([0, 2000, 4000, 6100], "1/1000", last_duration=2000))
    assert timeline.frame_rate == 5
    assert timeline.frames == 41


@given(
    steps=st.lists(st.integers(1, 400), min_size=1, max_size=60),
    last=st.integers(1, 400),
    start=st.integers(-(10**9), 10**12),
)
@example([196, 1, 117, 201, 133, 125], 1, 0)  # a frame was moved by 53 ms
def test_canonical_frames_show_the_last_source_frame_due(steps, last, start):
    ticks = np.concatenate(([0], np.cumsum(steps)))
    index = index_of(ticks + start, "1/1000", last)
    timeline = plan_timeline(index)
    assert 5 <= timeline.frame_rate <= 120
    phase = timeline.phase_seconds
    due = [
        int((Fraction(int(t), 1000) + phase) * timeline.frame_rate + Fraction(1, 2)) for t in ticks
    ]
    shown = timeline.source_of
    if shown is None:
        shown = np.arange(timeline.frames)
    if timeline.moved or timeline.constant:
        # Some frames stand beside the place where they are due, and none is lost.
        due = np.searchsorted(shown, np.arange(len(ticks))).tolist()
        assert len(set(due)) == len(ticks)
        assert conversion(timeline, index).lost == 0
    if timeline.moved:
        assert conversion(timeline, index).shift_seconds <= Fraction(1, 20)
    assert shown.tolist() == [
        max(position for position, place in enumerate(due) if place <= n)
        for n in range(timeline.frames)
    ]
    if not phase and timeline.frames > due[-1]:
        assert shown[-1] == len(ticks) - 1


def camtasia(path: Path, changes: set[int], frames: int) -> Path:
    """A screen recording of Camtasia (zlib around Microsoft RLE), whose picture changes at times.

    All its packets are marked as keyframes, as Camtasia does.
    """
    with av.open(str(path), "w", format="avi") as out:
        stream = out.add_stream("msrle", rate=15)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "pal8"
        for number in range(frames):
            picture = av.VideoFrame(64, 48, "pal8")
            lines = np.full((48, picture.planes[0].line_size), 10 * number, np.uint8)
            picture.planes[0].update(lines.tobytes())
            picture.pts, picture.time_base = number, Fraction(1, 15)
            for coded in stream.encode(picture):
                data = zlib.compress(bytes(coded)) if number in changes else b"\0\1"
                packet = av.Packet(data)
                packet.pts = packet.dts = number
                packet.time_base, packet.stream, packet.duration = Fraction(1, 15), stream, 1
                packet.is_keyframe = True
                out.mux(packet)
    written = bytearray(path.read_bytes())
    header = written.index(b"strf") + 8
    for at in (header + 16, written.index(b"vids") + 4):
        written[at : at + 4] = b"tscc"
    path.write_bytes(written)
    return path


def test_an_unchanged_screen_is_no_picture_of_its_own(tmp_path: Path):
    recording = camtasia(tmp_path / "screen.avi", {0, 1, 2, 3, 6, 7, 8, 9}, 14)
    index = index_frames(recording)
    assert index.pts.tolist() == [0, 1, 2, 3, 6, 7, 8, 9]
    assert index.keyframe_pts.tolist() == [0]
    assert index.last_duration == 5
    source = plan_source(recording, tmp_path)
    assert len(list(small_frames(source))) == source.frames
    rate = float(source.frame_rate)
    assert source.frames / rate == pytest.approx(14 / 15, abs=1 / rate)


def test_very_long_titles_in_fine_ticks_do_not_overflow():
    day = np.arange(0, 86_400 * 10**9, 10**9 // 5 * 1000, dtype=np.int64)
    timeline = plan_timeline(index_of(day + 7, "1/1000000000", 10**9))
    assert timeline.frames >= 86_400 * 5 - 1000
    assert timeline.source_frame(timeline.frames - 1) == len(day) - 1


# What real sources need: frames on the canonical timeline, its rate, whether it was constant.
CORPUS = {
    "androidx_building_hdr_1080p.mp4": (81, Fraction(30000, 1001), False),
    "androidx_junkyard_1080p60.mp4": (77, Fraction(90000, 1501), True),
    "bbb_1080p24_seg038-053.mp4": (1035, Fraction(24), True),
    "cotracker_teddy_portrait.mp4": (141, Fraction(20), True),
    "davis_multishot_dev.mov": (714, Fraction(24), True),
    "elephantsdream_576p.mkv": (96, Fraction(24), False),
    "fate_screen_vs2005_vmnc.avi": (172, Fraction(5), False),
    "flutter_bee_720p.mp4": (121, Fraction(30000, 1001), True),
    "intel_car_432p.mp4": (377, Fraction(25, 2), True),
    "openh264_foreman_cif_intra.264": (300, Fraction(25), True),
    "openh264_street_1080p.264": (54, Fraction(25), True),
    "sam2_multishot_720p.mp4": (1168, Fraction(30000, 1001), True),
    "talkinghead_bluewall_700.mp4": (199, Fraction(30), False),
    "tears_of_steel_battle_332p.webm": (1691, Fraction(24), True),
}


@pytest.mark.parametrize("file", CORPUS)
def test_real_sources(corpus: Path, tmp_path: Path, file):
    source = plan_source(corpus / file, tmp_path)
    assert (source.frames, source.frame_rate, source.timeline.constant) == CORPUS[file]
