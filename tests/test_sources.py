"""Sources as strangers bring them: each is used whole, or refused in one line before any encode."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import pytest

from cluster.events import Warned
from cluster.execution.executor import InlineExecutor
from cluster.jobs.request import RunOptions
from cluster.jobs.run import run_title
from cluster.jobs.source_findings import examine_source
from encoder.analysis.frames import feed, small_frames
from encoder.augment import augment
from encoder.baseline import FixedRung, encode_at_bitrate, encode_at_crf
from encoder.encode import encode_shot
from encoder.errors import SourceUnusable
from encoder.ffmpeg import Command, run
from encoder.media import OperatingPoint, Shot
from encoder.mp4 import split_fragmented, track_timescale
from encoder.package.audio import encode_audio
from encoder.package.subtitles import cues, extract
from encoder.recipes import CODECS, by_name
from encoder.source.planning import plan_source
from encoder.source.probing.probe import probe
from fixtures.awkward import CHAPTERS
from tests.package_media import onset, samples
from tests.running import quick_profile, records, run_inline

PICTURE = "testsrc2=size=160x96:rate=25:duration={}"
X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", "12", "-threads", "1")
FFV1 = ("-c:v", "ffv1", "-g", "5")
FLAGS = ("-disposition:v:0", "default", "-disposition:v:1", "0")
TTML = (*X264, "-c:s", "ttml", "-metadata:s:s:0", "language=eng")


def clip(path: Path, *arguments: str | Path, seconds: float = 1) -> Path:
    """An H.264 of moving bars; ``arguments`` are further inputs, and options of the output."""
    picture = ("-f", "lavfi", "-i", PICTURE.format(seconds))
    run(Command.of(["-v", "error", "-y", *picture, *arguments, path]), timeout_seconds=60)
    return path


# -- what travels with the pictures --------------------------------------------------------------


@pytest.mark.parametrize("file", ["chapters.mkv", "chapters.mp4"])
def test_chapters_become_no_track_of_an_encode(awkward_clip, tmp_path: Path, file):
    path = awkward_clip(file)
    with av.open(str(path)) as container:
        assert len(container.chapters()) == 2
    source = plan_source(path, tmp_path)
    point = OperatingPoint(by_name("x264-ultrafast"), 160, 96, 40)
    made = tmp_path / "made.mp4"
    encode_at_crf(source, point, [0], made)
    track_timescale(split_fragmented(made.read_bytes())[0])  # of the only track
    encode_at_bitrate(source, FixedRung("x264", 160, 96, 100_000), made)
    track_timescale(split_fragmented(made.read_bytes())[0])


def test_chapters_become_no_track_of_another_title(tmp_path: Path):
    told = ("-f", "ffmetadata", "-i", f"data:text/plain;base64,{CHAPTERS}", "-map_chapters", "1")
    path = clip(tmp_path / "title.mp4", *told, "-vf", "pad=160:160", *X264)
    augment(plan_source(path, tmp_path), "soft", 0, 5, tmp_path / "made.mp4")
    with av.open(str(tmp_path / "made.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video"]


def test_a_stream_that_nothing_decodes_is_said(tmp_path: Path):
    path = clip(tmp_path / "t.mp4", "-i", words(tmp_path), "-map", "0", "-map", "1", *TTML)
    info = probe(path)
    assert info.subtitles == ()
    assert [(stream.kind, stream.language) for stream in info.unread] == [("subtitle", "eng")]
    (said,) = [finding for finding in examine_source(path) if finding.topic == "unread"]
    assert (said.state, said.found) == ("warn", "stream 1: eng, subtitles")


def test_a_run_warns_of_what_the_doctor_warns_of(tmp_path: Path):
    path = clip(tmp_path / "t.mp4", "-i", words(tmp_path), "-map", "0", "-map", "1", *TTML)
    said: list[str] = []
    options = RunOptions(
        path,
        tmp_path / "out",
        preset="ultrafast",
        store=tmp_path / "store",
        search="exhaustive",
        profile=quick_profile(),
    )
    run_title(
        options,
        lambda event: said.append(event.message) if isinstance(event, Warned) else None,
        InlineExecutor(),
    )
    assert [text for text in said if text.startswith("unread: stream 1: eng, subtitles")]


def test_sound_that_is_announced_and_never_comes_is_said_and_left_out(tmp_path: Path):
    sound = ("-f", "lavfi", "-i", "sine=duration=1", "-c:a", "mp2", "-streamid", "1:300")
    path = clip(tmp_path / "t.ts", *sound, *X264)
    data = path.read_bytes()
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    silent = [p for p in packets if int.from_bytes(p[1:3], "big") & 0x1FFF != 300]
    assert 0 < len(silent) < len(packets)
    path.write_bytes(b"".join(silent))
    assert probe(path).audio == ()
    (said,) = [finding for finding in examine_source(path) if finding.topic == "unread"]
    assert said.found == "stream 1: no language, sound"
    profile = quick_profile()
    made = run_inline(
        path, tmp_path / "out", tmp_path / "store", search="exhaustive", profile=profile
    )
    assert not made.ladder.title.audio


def test_sound_that_begins_late_is_heard(tmp_path: Path):
    """Nine seconds into a transport stream, past where libavformat stops looking for streams."""
    sound = ("-itsoffset", "9", "-f", "lavfi", "-i", "sine=duration=1")
    path = clip(tmp_path / "late.ts", *sound, *X264, "-c:a", "mp2", seconds=10)
    source = plan_source(path, tmp_path)
    (stream,) = source.info.audio
    assert (stream.channels, source.info.unread) == (1, ())
    made = encode_audio(
        path,
        stream.index,
        tmp_path / "sound.mp4",
        first_video_pts=source.start_seconds,
        duration=source.timeline.duration_seconds,
        channels=1,
    )
    assert made is not None
    assert onset(samples(made)) == pytest.approx(9, abs=0.05)


def test_what_is_encrypted_is_called_so(tmp_path: Path):
    key = "76a6c65c5ea762046bd749a2e632ccbb"
    drm = ("-encryption_scheme", "cenc-aes-ctr", "-encryption_key", key, "-encryption_kid", key)
    with pytest.raises(SourceUnusable, match=r"it is encrypted \(DRM\)"):
        probe(clip(tmp_path / "drm.mp4", *X264, *drm))


# -- which of several pictures is the title ------------------------------------------------------


def two_pictures(path: Path, *output: str, seconds: float = 1) -> Path:
    """Stream 0 is a red 64x48, stream 1 the title."""
    red = ("-f", "lavfi", "-i", f"color=red:size=64x48:rate=25:duration={seconds}")
    return clip(path, *red, "-map", "1", "-map", "0", *X264, *output)


def test_a_cover_before_the_title_is_not_the_title(tmp_path: Path):
    still = ("-c:v:0", "mjpeg", "-bf:v:0", "0", "-pix_fmt:v:0", "yuvj420p")
    path = two_pictures(tmp_path / "cover.mkv", *still, *FLAGS, seconds=0.04)
    source = plan_source(path, tmp_path)
    assert (source.info.stream_index, source.frames, source.width) == (1, 25, 160)
    (said,) = [finding for finding in examine_source(path) if finding.topic == "video"]
    assert said.then == "stream 1 is the title"


def test_the_default_stream_is_the_title_otherwise_the_first(tmp_path: Path):
    path = two_pictures(
        tmp_path / "two.mp4", "-disposition:v:0", "0", "-disposition:v:1", "default"
    )
    assert probe(path).stream_index == 1
    assert plan_source(path, tmp_path).width == 160
    assert probe(two_pictures(tmp_path / "two.ts")).stream_index == 0


def test_sound_that_is_marked_default_comes_first(tmp_path: Path):
    sound = ("-f", "lavfi", "-i", "sine=duration=1")
    tracks = (*sound, *sound, *sound, "-map", "0", "-map", "1", "-map", "2", "-map", "3")
    named = [f"-metadata:s:a:{n} language={name}" for n, name in enumerate(("eng", "fre", "ger"))]
    flags = "-disposition:a:0 0 -disposition:a:1 default -disposition:a:2 0"
    options = " ".join([*named, flags]).split()
    path = clip(tmp_path / "three.mkv", *tracks, *X264, "-c:a", "flac", *options)
    assert [(s.index, s.language) for s in probe(path).audio] == [
        (2, "fre"),
        (1, "eng"),
        (3, "ger"),
    ]


def test_moving_pictures_of_stills_are_a_title(tmp_path: Path):
    assert probe(clip(tmp_path / "stills.mov", "-c:v", "mjpeg")).frames_from_header == 25


# -- what changes on the way ---------------------------------------------------------------------


def joined(path: Path, *second: str, offset: float = 1.0) -> Path:
    """A transport stream of 1 s, and another one of 1 s behind it, byte by byte."""
    plain = ("-bf", "0", "-muxdelay", "0", "-muxpreload", "0")
    parts = [
        clip(path.with_name("a.ts"), *X264, *plain),
        clip(path.with_name("b.ts"), *X264, *second, *plain, "-output_ts_offset", str(offset)),
    ]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


SIZES = ("160x96", "128x96")
BT709 = "setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709:range=tv"


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (("-s", "128x96"), r"its picture changes from 160x96 to 128x96 at frame 25"),
        (("-pix_fmt", "yuv422p"), r"changes its pixels from yuv420p to yuv422p at frame 25"),
        (("-pix_fmt", "yuv420p10le"), r"changes its pixels from yuv420p to yuv420p10le at frame"),
        (("-vf", "setparams=range=pc"), r"changes its (range|pixels) from .* to .* at frame"),
        (("-vf", BT709), r"changes its (range|matrix) from unnamed to .* at frame"),
        (("-vf", "setsar=4/3"), r"changes the shape of its pixels from 1 to 4/3 at frame 2\d;"),
    ],
    ids=["size", "chroma", "depth", "range", "matrix", "aspect"],
)
def test_pictures_that_change_are_refused_before_any_encode(tmp_path: Path, second, said):
    path = joined(tmp_path / "joined.ts", *second)
    source = plan_source(path, tmp_path)
    assert source.frames == 50
    with pytest.raises(SourceUnusable, match=said) as caught:
        feed(small_frames(source))
    assert "\n" not in caught.value.message


def test_a_refusal_names_the_file_that_was_given(tmp_path: Path):
    """Not the copy with timestamps that was made of it."""
    parts = [clip(tmp_path / f"{n}.264", *X264, "-s", size) for n, size in enumerate(SIZES)]
    path = tmp_path / "joined.264"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    (tmp_path / "work").mkdir()
    source = plan_source(path, tmp_path / "work")
    assert source.path != str(path)
    with pytest.raises(SourceUnusable, match=rf"^cannot use {path}: its picture changes from"):
        feed(small_frames(source))


def test_what_does_not_change_is_not_refused(tmp_path: Path):
    assert feed(small_frames(plan_source(joined(tmp_path / "joined.ts"), tmp_path))) == 50


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_a_clock_that_jumps_back_is_refused_and_the_way_out_leads_out(tmp_path: Path, offset):
    path = joined(tmp_path / "joined.ts", offset=offset)
    with pytest.raises(SourceUnusable, match=r"clock jumps back from .*ffmpeg -i IN .*OUT.ts"):
        plan_source(path, tmp_path)
    mended = tmp_path / "mended.ts"
    run(Command.of(["-v", "error", "-i", path, "-map", "0", "-c", "copy", mended]))
    assert feed(small_frames(plan_source(mended, tmp_path))) == 50


@pytest.mark.parametrize("codec", [FFV1, X264], ids=["intra", "inter"])
def test_frames_of_one_time_are_no_jump(tmp_path: Path, codec):
    """Screen recorders write bursts within one tick: what comes last of them is shown."""
    burst = "setpts='if(between(N,5,7),5,N)/25/TB'"
    options = ("-vf", burst, "-fps_mode", "passthrough", "-enc_time_base", "1/1000")
    path = clip(tmp_path / "burst.mkv", *options, *codec, "-bf", "0")
    source = plan_source(path, tmp_path)
    assert (source.index.frames, source.frames) == (25, 25)
    assert len(set(source.index.pts.tolist())) == 23
    assert feed(small_frames(source)) == 25
    point = OperatingPoint(by_name("x264-ultrafast"), 160, 96, 40)
    encode_shot(source, Shot(0, 25), [point], tmp_path)
    encode_shot(source, Shot(4, 12), [point], tmp_path)


def test_fields_of_hevc_are_refused_and_the_way_out_leads_out(tmp_path: Path):
    x265 = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params")
    path = clip(tmp_path / "fields.mp4", *x265, "interlace=tff:keyint=10:log-level=error")
    with pytest.raises(SourceUnusable, match=r"single field.*ffmpeg -i IN -vf weave"):
        probe(path)
    woven = tmp_path / "woven.mkv"
    run(Command.of(["-v", "error", "-i", path, "-vf", "weave=first_field=top", *FFV1, woven]))
    source = plan_source(woven, tmp_path)
    assert (source.width, source.height, source.frame_rate) == (160, 192, Fraction(25, 2))
    assert source.info.interlaced


# -- what cannot be heard or read ----------------------------------------------------------------


def words(folder: Path, text: bytes = b"Hello") -> Path:
    path = folder / "words.srt"
    path.write_bytes(b"1\n00:00:00,100 --> 00:00:00,900\n" + text + b"\n\n")
    return path


def refused_early(path: Path, folder: Path) -> str:
    """What a run says that refuses it before it has encoded anything."""
    profile = quick_profile()
    with pytest.raises(SourceUnusable) as caught:
        run_inline(path, folder / "out", folder / "store", search="exhaustive", profile=profile)
    assert records(folder / "store", "encode") == {}
    assert not (folder / "out").exists()
    assert "\n" not in caught.value.message
    return caught.value.message


def test_sound_that_does_not_decode_is_refused_before_any_encode(tmp_path: Path):
    sound = ("-f", "lavfi", "-i", "sine=duration=1", "-c:a", "mp2", "-streamid", "1:300")
    path = clip(tmp_path / "noise.ts", *sound, *X264)
    data = bytearray(path.read_bytes())
    chance = random.Random(1)
    for at in range(0, len(data), 188):
        if int.from_bytes(data[at + 1 : at + 3], "big") & 0x1FFF == 300:
            data[at + 60 : at + 188] = chance.randbytes(128)
    path.write_bytes(data)
    said = refused_early(path, tmp_path)
    assert "its audio (stream 1) does not decode" in said
    assert "-map -0:1 -c copy" in said


def test_subtitles_that_are_no_unicode_are_refused_before_any_encode(tmp_path: Path):
    latin = words(tmp_path, b"Gr\xfc\xdfe")
    copied = ("-map", "0", "-map", "1", "-c:s", "copy")
    path = clip(tmp_path / "latin.mkv", "-i", latin, *copied, *X264)
    said = refused_early(path, tmp_path)
    assert "its subtitles (stream 1) hold text that is not UTF-8" in said


# -- colours -------------------------------------------------------------------------------------

COLOURS = {
    "bt601-525": ("smpte170m", "smpte170m", "smpte170m"),
    "bt601-625": ("bt470bg", "gamma28", "bt470bg"),
    "bt709": ("bt709", "bt709", "bt709"),
    "bt2020": ("bt2020", "bt2020-10", "bt2020nc"),
}
"""Primaries, transfer, matrix."""


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("name", COLOURS)
@pytest.mark.parametrize("codec", CODECS)
def test_colours_of_standard_range_are_carried(tmp_path: Path, codec, name, full):
    primaries, transfer, matrix = COLOURS[name]
    written = {"gamma28": "bt470bg"}.get(transfer, transfer)
    params = f"color_primaries={primaries}:color_trc={written}:colorspace={matrix}"
    graph = f"format=yuv420p,setparams={params}:range={'full' if full else 'limited'}"
    stored = ("-color_range", "pc" if full else "tv")
    path = clip(tmp_path / "title.mkv", "-vf", graph, *stored, *FFV1, seconds=0.2)
    source = plan_source(path, tmp_path)
    assert source.info.color_range == ("full" if full else "limited")
    point = OperatingPoint(by_name(f"{codec}-ultrafast"), 160, 96, 40)
    (made,), _ = encode_shot(source, Shot(0, 5), [point], tmp_path)
    (tmp_path / "made.mp4").write_bytes(made.init_path.read_bytes() + made.media_path.read_bytes())
    info = probe(tmp_path / "made.mp4")
    assert (info.color_primaries, info.color_transfer, info.color_matrix) == COLOURS[name]
    assert info.color_range == "limited"


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ("colorspace=ycgco:color_primaries=bt709", "matrix ycgco"),
        ("colorspace=bt2020c:color_primaries=bt2020", "matrix bt2020c"),
        ("colorspace=ictcp:color_primaries=bt2020:color_trc=smpte2084", "matrix ictcp"),
        ("colorspace=bt709:color_trc=log100:color_primaries=bt709", "transfer log100"),
        ("colorspace=ycgco:color_trc=log316:color_primaries=bt709", "ycgco and transfer log316"),
    ],
)
def test_colours_that_nothing_reads_are_refused_and_the_way_out_leads_out(
    tmp_path: Path, params, said
):
    if "color_trc" not in params:
        params += ":color_trc=bt709"
    graph = f"format=yuv420p,setparams={params}:range=limited"
    path = clip(tmp_path / "strange.mkv", "-vf", graph, *FFV1, seconds=0.2)
    with pytest.raises(SourceUnusable, match=said) as caught:
        probe(path)
    way_out = re.search(r"ffmpeg -i IN (-vf \S+ .*) OUT.mkv", caught.value.message)
    assert way_out is not None
    converted = tmp_path / "converted.mkv"
    run(Command.of(["-v", "error", "-i", path, *way_out[1].split(), converted]))
    assert feed(small_frames(plan_source(converted, tmp_path))) == 5


@pytest.mark.parametrize(
    "params",
    [
        "colorspace=fcc:color_trc=gamma22",
        "colorspace=smpte240m:color_trc=smpte240m:color_primaries=smpte240m",
        "color_primaries=smpte432:color_trc=iec61966-2-1:colorspace=bt709",
        "colorspace=gbr",  # what a 4:2:0 stream may claim, and cannot be
    ],
)
def test_other_colours_are_taken(tmp_path: Path, params):
    params = params.replace("gamma22", "bt470m")
    path = clip(tmp_path / "t.mkv", "-vf", f"format=yuv420p,setparams={params}", *FFV1, seconds=0.2)
    source = plan_source(path, tmp_path)
    assert feed(small_frames(source)) == 5
    encode_shot(
        source, Shot(0, 5), [OperatingPoint(by_name("x264-ultrafast"), 160, 96, 40)], tmp_path
    )


# -- sound in step -------------------------------------------------------------------------------

FLASH = Fraction(1)
"""Seconds after the start at which the picture turns white and a beep begins, for 0.2 s each."""
COPY = ("-i", "FIRST", "-map", "0", "-c", "copy")
IN_STEP: dict[str, tuple[tuple[str, ...], ...]] = {
    "plain.mp4": ((*X264, "-c:a", "aac"),),
    # The clock of 33 bits runs over half a second in.
    "wrap.ts": ((*X264, "-c:a", "mp2", "-output_ts_offset", "95441.8"),),
    "late.ts": ((*X264, "-c:a", "aac", "-output_ts_offset", "1000"),),
    # Cut in the middle of a group of pictures: an edit list hides what is before.
    "edits.mp4": ((*X264, "-c:a", "aac"), ("-ss", "0.68", *COPY)),
    "negative.mov": ((*X264, "-c:a", "aac"), (*COPY, "-output_ts_offset", "-0.48")),
    "dash.mp4": ((*X264, "-c:a", "aac"), (*COPY, "-movflags", "+frag_keyframe+empty_moov+dash")),
    # Decoding times only: remuxed first.
    "order.avi": (("-c:v", "mpeg4", "-bf", "2", "-g", "12", "-c:a", "pcm_s16le"),),
    "opus.webm": (("-c:v", "libvpx-vp9", "-deadline", "realtime", "-c:a", "libopus"),),
    "order.flv": ((*X264, "-c:a", "aac"), COPY),
    "packs.mpg": (("-c:v", "mpeg2video", "-bf", "2", "-g", "12", "-c:a", "mp2"),),
}


def flashing(path: Path, steps: Sequence[Sequence[str]]) -> Path:
    within = f"between(t,{float(FLASH)},{float(FLASH) + 0.2})"
    picture = (
        f"color=black:size=64x64:rate=25:duration=2,drawbox=color=white:t=fill:enable='{within}'"
    )
    sound = f"aevalsrc='0.5*sin(2*PI*1000*t)*{within}':s=48000:d=2"
    before: str | Path = ""
    for number, step in enumerate(steps):
        out = path if number == len(steps) - 1 else path.with_name("first.mp4")
        inputs = () if number else ("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound)
        placed = [before if part == "FIRST" else part for part in step]
        run(Command.of(["-v", "error", "-y", *inputs, *placed, out]), timeout_seconds=60)
        before = out
    return path


@pytest.mark.parametrize("file", IN_STEP)
def test_beep_and_flash_stay_together(tmp_path: Path, file):
    source = plan_source(flashing(tmp_path / file, IN_STEP[file]), tmp_path)
    white = [small.number for small in small_frames(source) if small.luma.mean() > 128]
    assert white == list(range(white[0], white[0] + 6))
    made = encode_audio(
        Path(source.path),
        source.info.audio[0].index,
        tmp_path / "sound.mp4",
        first_video_pts=source.start_seconds,
        duration=source.timeline.duration_seconds,
        channels=1,
    )
    assert made is not None
    assert onset(samples(made)) == pytest.approx(float(white[0] / source.frame_rate), abs=0.005)


# -- subtitles -----------------------------------------------------------------------------------

TEXTS = {
    "words.mkv": ("-c:s", "srt"),
    "styled.mkv": ("-c:s", "ass"),
    "words.mp4": ("-c:s", "mov_text"),
    "words.mov": ("-c:s", "mov_text"),
    "words.webm": ("-c:s", "webvtt"),
}
SAID = """1
00:00:00,200 --> 00:00:00,600
<i>Hello</i> & good-bye

2
00:00:00,700 --> 00:00:09,000
Two
lines
"""


@pytest.mark.parametrize("late", [0, 3])
@pytest.mark.parametrize("file", TEXTS)
def test_text_of_every_container_is_read_on_the_titles_clock(tmp_path: Path, file, late):
    (tmp_path / "words.srt").write_text(SAID)
    vp9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime")
    codec = vp9 if file.endswith("webm") else X264
    first = clip(tmp_path / file, "-i", tmp_path / "words.srt", *codec, *TEXTS[file])
    path = tmp_path / f"late-{file}"
    run(Command.of(["-v", "error", "-i", first, *COPY[2:], "-output_ts_offset", late, path]))
    source = plan_source(path, tmp_path)
    assert float(source.start_seconds) == pytest.approx(late, abs=0.1)
    (stream,) = source.info.subtitles
    assert stream.text
    text, _ = extract(path, stream.index)
    found = cues(text, source.start_seconds, source.timeline.duration_seconds)
    times = [(float(cue.start), float(cue.end)) for cue in found]
    assert times == [pytest.approx((0.2, 0.6), abs=0.02), pytest.approx((0.7, 1.0), abs=0.02)]
    assert re.sub("<.*?>", "", found[0].text) == "Hello &amp; good-bye"
    assert found[1].text == "Two\nlines"


def test_text_that_is_pictures_is_left_out_and_said(tmp_path: Path):
    (tmp_path / "words.sup").write_bytes(presentation_graphics())
    copied = ("-map", "0", "-map", "1", "-c:s", "copy", "-metadata:s:s:0", "language=eng")
    path = clip(tmp_path / "t.mkv", "-i", tmp_path / "words.sup", *copied, *X264)
    (stream,) = probe(path).subtitles
    assert (stream.codec, stream.text) == ("hdmv_pgs_subtitle", False)
    (said,) = [finding for finding in examine_source(path) if finding.topic == "subtitles"]
    assert (said.state, said.then) == ("warn", "are pictures, not text: left out")


def presentation_graphics() -> bytes:
    """Blu-ray subtitles: a square of 8 x 8 pixels, shown at 0.1 s, gone at 1 s."""

    def segment(ticks: int, kind: int, body: bytes = b"") -> bytes:
        return b"PG" + struct.pack(">IIBH", ticks, 0, kind, len(body)) + body

    def composition(number: int, state: int, objects: bytes) -> bytes:
        head = struct.pack(">HHBHBBB", 160, 96, 0x10, number, state, 0, 0)
        return head + bytes([len(objects) // 8]) + objects

    window = b"\1" + struct.pack(">BHHHH", 0, 10, 10, 8, 8)
    rows = (b"\1" * 8 + b"\0\0") * 8
    square = struct.pack(">HBB", 0, 0, 0xC0) + (len(rows) + 4).to_bytes(3, "big")
    return b"".join(
        [
            segment(9_000, 0x16, composition(0, 0x80, struct.pack(">HBBHH", 0, 0, 0, 10, 10))),
            segment(9_000, 0x17, window),
            segment(9_000, 0x14, b"\0\0" + bytes([1, 235, 128, 128, 255])),
            segment(9_000, 0x15, square + struct.pack(">HH", 8, 8) + rows),
            segment(9_000, 0x80),
            segment(90_000, 0x16, composition(1, 0, b"")),
            segment(90_000, 0x17, window),
            segment(90_000, 0x80),
        ]
    )


# -- what the doctor says ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "topic", "found", "then"),
    [
        ("ntsc.mp4", "frames", "48 frames at 24000/1001 (23.976) fps", ""),
        ("gaps.mkv", "frames", "at a variable rate", "becomes 59 frames at a constant 30 fps"),
        ("interlaced.mp4", "frames", "50 frames at 25 fps, interlaced", "is deinterlaced"),
        ("fields.ts", "frames", "25 frames at 25 fps, interlaced", "is deinterlaced"),
        ("upright.mp4", "picture", "160x96, turned by transpose=cclock", "becomes 96x160, upright"),
        ("anamorphic.mp4", "picture", "160x96, pixels 64:45", "becomes 228x96"),
        ("odd.mkv", "picture", "161x97", "becomes 160x96"),
        ("odd.mkv", "colour", "gbr", "becomes limited range"),
        ("deep.mkv", "colour", "full range", "becomes limited range"),
        ("deep.mkv", "pixels", "yuv422p10le, 10 bit", "is read as yuv420p10le, rungs of x264"),
        ("full444.mp4", "pixels", "yuv444p, 8 bit", "is read as yuv420p"),
        ("raw.264", "file", "h264, 2.002 s", "has no timestamps: is remuxed"),
        ("angles.mkv", "video", "2 video streams", "stream 0 is the title"),
        ("letterbox.mp4", "picture", "160x120", ""),
    ],
)
def test_the_doctor_says_what_will_happen(awkward_clip, file, topic, found, then):
    (said,) = [finding for finding in examine_source(awkward_clip(file)) if finding.topic == topic]
    assert found in said.found
    assert said.then.startswith(then)
    assert then or not said.then


@pytest.mark.parametrize(
    ("rate", "found", "frames", "kept"),
    [(1, "4 frames at 1.000 fps", 20, 5), (240, "960 frames at 240.000 fps", 480, 120)],
)
def test_rates_that_titles_have_not_are_brought_within(tmp_path: Path, rate, found, frames, kept):
    graph = f"testsrc2=size=64x48:rate={rate}:duration=4"
    path = tmp_path / "title.mp4"
    run(Command.of(["-v", "error", "-f", "lavfi", "-i", graph, *X264, path]), timeout_seconds=60)
    said = next(finding for finding in examine_source(path) if finding.topic == "frames")
    assert said.found == found
    assert said.then == f"becomes {frames} frames at a constant {kept} fps"
    assert feed(small_frames(plan_source(path, tmp_path))) == frames
