"""Every frame that a range read gives is compared with one straight decode of the whole file."""

from __future__ import annotations

import pickle
from fractions import Fraction
from pathlib import Path

import av
import ffmpeg
import numpy as np
import pytest

from encoder.analysis.frames import SmallFrame, feed, small_frames, small_size
from encoder.ffmpeg import Command, run
from encoder.source.planning import plan_source
from encoder.source.reference import GLOBAL_ARGUMENTS, ReferenceSource, open_reference
from fixtures.awkward import CLIPS
from tests.reading_material import read, straight


def some_ranges(frames: int) -> list[tuple[int, int]]:
    """Starts on and off keyframes, single frames, both ends, the whole."""
    starts = {1, 13, 14, 19, 21, frames // 2, frames - 1}
    ranges = [(start, min(frames, start + 4)) for start in sorted(starts) if 0 <= start < frames]
    return [*ranges, (0, frames)]


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.name)
def test_ranges_equal_a_straight_decode(awkward_clip, tmp_path: Path, clip):
    path = awkward_clip(clip.file)
    source = plan_source(path, tmp_path)
    decoded = straight(path, source)
    assert len(decoded) == source.index.frames
    assert len(set(decoded)) == len(decoded)
    expected = [decoded[source.timeline.source_frame(n)] for n in range(source.frames)]
    for start, end in some_ranges(source.frames):
        assert read(source, start, end) == expected[start:end], (start, end)


# ── the corpus ───────────────────────────────────────────────────────────────────────────────────


def corpus_clips() -> list[str]:
    catalogue = Path(__file__).resolve().parent.parent / ".." / "shared" / "corpus"
    kinds = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".264")
    return sorted(p.name for p in catalogue.glob("*") if p.suffix in kinds) or ["none"]


@pytest.mark.parametrize("file", corpus_clips())
def test_real_clips_equal_a_straight_decode(corpus: Path, tmp_path: Path, file: str):
    source = plan_source(corpus / file, tmp_path)
    decoded = straight(corpus / file, source)
    assert len(decoded) == source.index.frames
    expected = [decoded[source.timeline.source_frame(n)] for n in range(source.frames)]
    for start in sorted({7, source.frames * 2 // 3, source.frames - 3}):
        end = min(source.frames, start + 3)
        assert read(source, start, end) == expected[start:end], (start, end)


# ── the command, without media ───────────────────────────────────────────────────────────────────


def arguments(source: ReferenceSource, start: int, end: int) -> str:
    built = ffmpeg.output(open_reference(source, start, end), "out.mkv").get_args()
    after = built.index("-noautorotate") if "-noaccurate_seek" not in built else 2
    return " ".join(map(str, built[after:])).replace(source.path, "SOURCE")


def test_the_command_for_a_range_after_a_keyframe(awkward_clip, tmp_path: Path):
    source = plan_source(awkward_clip("ntsc.mp4"), tmp_path)
    assert arguments(source, 30, 34) == (
        "-noaccurate_seek -noautorotate -protocol_whitelist file,pipe -reinit_filter 0 "
        "-seek_timestamp 1 -ss 1.167834 -threads 1 -i SOURCE -filter_complex "
        "[0:0]trim=end_pts=34034:start_pts=30030[s0];[s0]format=pix_fmts=yuv420p[s1];"
        "[s1]setparams=field_mode=prog:range=limited[s2];[s2]setsar=sar=1[s3];"
        "[s3]sidedata=mode=delete:type=DISPLAYMATRIX[s4];[s4]sidedata=mode=delete:type=STEREO3D[s5];"
        "[s5]sidedata=mode=delete:type=SPHERICAL[s6];"
        "[s6]settb=1001/24000[s7];[s7]setpts=N[s8];[s8]fps=24000/1001[s9] -map [s9] out.mkv"
    )


def test_the_start_is_read_without_seeking(awkward_clip, tmp_path: Path):
    source = plan_source(awkward_clip("ntsc.mp4"), tmp_path)
    assert arguments(source, 0, 48).startswith(
        "-noautorotate -protocol_whitelist file,pipe -reinit_filter 0 -threads 1 -i SOURCE "
        "-filter_complex [0:0]trim=end_pts=47048:start_pts=0[s0];"
    )


def test_mpegts_is_sent_to_the_keyframes_dts(awkward_clip, tmp_path: Path):
    source = plan_source(awkward_clip("opengop.ts"), tmp_path)
    assert int(source.index.keyframe_dts[1]) / 90_000 < 2.1
    assert f"-ss {int(source.index.keyframe_dts[1]) / 90_000:.6f}" in arguments(source, 20, 24)


def test_variable_rate_goes_through_fps_counted_from_the_first_frame(awkward_clip, tmp_path: Path):
    source = plan_source(awkward_clip("gaps.mkv"), tmp_path)
    text = arguments(source, 18, 30)
    assert "trim=end_pts=1000:start_pts=600[s0];[s0]setpts=PTS-0[s1];" in text
    assert "fps=30:eof_action=pass:round=near[s2];[s2]tpad=stop=12:stop_mode=clone[s3];" in text
    assert "[s3]trim=end_pts=30:start_pts=18[s4]" in text


def test_interlaced_reads_a_neighbour_on_each_side(awkward_clip, tmp_path: Path):
    source = plan_source(awkward_clip("interlaced.mp4"), tmp_path)
    assert (
        "[0:0]trim=end_pts=11264:start_pts=4608[s0];"
        "[s0]bwdif=deint=interlaced:mode=send_frame:parity=auto[s1];[s1]settb=1/12800[s2];"
        "[s2]trim=end_pts=10752:start_pts=5120[s3]"
    ) in arguments(source, 10, 21)


def test_full_range_rgb_and_odd_sizes_are_made_canonical(awkward_clip, tmp_path: Path):
    rgb = plan_source(awkward_clip("odd.mkv"), tmp_path)
    assert (
        "scale=flags=lanczos+accurate_rnd+full_chroma_int+bitexact:in_range=full:"
        "out_color_matrix=bt709:out_range=limited[s1];[s1]format=pix_fmts=yuv420p[s2];"
        "[s2]crop=h=96:w=160:x=0:y=0[s3];"
        "[s3]setparams=colorspace=bt709:field_mode=prog:range=limited[s4]"
    ) in arguments(rgb, 0, 5)
    deep = plan_source(awkward_clip("deep.mkv"), tmp_path)
    assert deep.pix_fmt == "yuv420p10le"
    assert "in_range=full:out_range=limited[s1];[s1]format=pix_fmts=yuv420p10le" in arguments(
        deep, 0, 5
    )


def test_ranges_outside_the_title_are_refused(awkward_clip, tmp_path: Path):
    source = plan_source(awkward_clip("ntsc.mp4"), tmp_path)
    for start, end in [(-1, 4), (0, 49), (5, 5), (7, 3)]:
        with pytest.raises(ValueError, match=r"within \[0, 48\]"):
            open_reference(source, start, end)


def test_the_graphs_identity_is_what_changes_pixels(awkward_clip, tmp_path: Path):
    files = ["ntsc.mp4", "gaps.mkv", "upright.mp4", "anamorphic.mp4", "interlaced.mp4", "odd.mkv"]
    sources = [plan_source(awkward_clip(file), tmp_path) for file in files]
    assert len({source.graph_id for source in sources}) == len(sources)
    copy = tmp_path / "elsewhere.mp4"
    copy.write_bytes(awkward_clip("ntsc.mp4").read_bytes())
    assert plan_source(copy, tmp_path).graph_id == sources[0].graph_id
    assert pickle.loads(pickle.dumps(sources[0])).graph_id == sources[0].graph_id


# ── what the reference looks like ────────────────────────────────────────────────────────────────


def raw(source: ReferenceSource, start: int, end: int) -> np.ndarray:
    node = open_reference(source, start, end)
    built = ffmpeg.output(node, "pipe:", f="rawvideo", fps_mode="passthrough").get_args()
    data = run(Command.of(["-v", "error", *GLOBAL_ARGUMENTS, *built])).stdout
    width = "<u2" if source.pix_fmt.endswith("le") else "u1"
    return np.frombuffer(data, width).reshape(end - start, source.height * 3 // 2, source.width)


def test_full_range_becomes_limited(tmp_path: Path):
    clip = tmp_path / "full.mkv"
    graph = (
        "color=black:size=64x48:duration=0.2,format=yuv420p,geq=255:128:128,setparams=range=full"
    )
    tags = ["-color_range", "pc"]
    run(Command.of(["-v", "error", "-f", "lavfi", "-i", graph, "-c:v", "ffv1", *tags, clip]))
    with av.open(str(clip)) as container:
        stored = next(container.decode(video=0)).to_ndarray()
    assert stored[0, 0] == 255
    pixels = raw(plan_source(clip, tmp_path), 0, 1)
    assert pixels[0, 0, 0] == 235


def test_the_encoder_sees_rate_tags_and_square_pixels(awkward_clip, tmp_path: Path):
    source = plan_source(awkward_clip("anamorphic.mp4"), tmp_path)
    out = tmp_path / "out.mp4"
    node = open_reference(source, 10, 30)
    built = ffmpeg.output(node, str(out), fps_mode="passthrough", vcodec="libx264").get_args()
    run(Command.of(["-v", "error", *GLOBAL_ARGUMENTS, *built]))
    with av.open(str(out)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == 25
        assert stream.frames == 20
        assert stream.sample_aspect_ratio == 1
        assert (stream.width, stream.height) == (228, 96)
        assert [frame.pts for frame in container.decode(stream)] == [512 * n for n in range(20)]


def test_an_upright_encode_is_not_turned_again(awkward_clip, tmp_path: Path):
    source = plan_source(awkward_clip("upright.mp4"), tmp_path)
    out = tmp_path / "out.mp4"
    built = ffmpeg.output(open_reference(source, 0, 4), str(out), fps_mode="passthrough")
    run(Command.of(["-v", "error", *GLOBAL_ARGUMENTS, *built.get_args()]))
    with av.open(str(out)) as container:
        frame = next(container.decode(video=0))
        assert (frame.width, frame.height, frame.rotation) == (96, 160, 0)


# ── the analysis pass ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "file",
    [
        *("ntsc.mp4", "gaps.mkv", "anamorphic.mp4", "odd.mkv", "deep.mkv"),
        *("upright.mp4", "turned.mp4", "mirrored.mp4", "leaning.mp4"),
    ],
)
def test_small_frames_are_the_canonical_frames(awkward_clip, tmp_path: Path, file):
    source = plan_source(awkward_clip(file), tmp_path)
    small = list(small_frames(source))
    assert [frame.number for frame in small] == list(range(source.frames))
    large = raw(source, 0, source.frames)[:, : source.height].astype(np.float64)
    if source.pix_fmt.endswith("le"):
        large /= 4
    assert small[0].luma.shape == (source.height, source.width)
    for frame, reading in zip(small, large, strict=True):
        # The last row and column of the odd one are averaged in here, and cut off there.
        assert np.abs(frame.luma - reading).mean() < (10 if file == "odd.mkv" else 2.5)


@pytest.mark.parametrize(
    ("size", "small"),
    [((1920, 1080), (320, 180)), ((368, 480), (245, 320)), ((160, 90), (160, 90))],
)
def test_small_sizes(size, small):
    assert small_size(*size) == small


def test_small_frames_average_areas(tmp_path: Path):
    clip = tmp_path / "checks.mkv"
    # Columns of black and white, one pixel each: any sampling scaler gives stripes.
    graph = "color=black:size=1280x720:duration=0.1,format=gray,geq=lum='255*mod(X,2)'"
    run(Command.of(["-v", "error", "-f", "lavfi", "-i", graph, "-c:v", "ffv1", clip]))
    frame = next(iter(small_frames(plan_source(clip, tmp_path))))
    assert frame.luma.shape == (180, 320)
    assert frame.luma.std() < 2
    assert 118 < frame.luma.mean() < 134


def test_all_analysers_eat_from_one_decode(tiny_title: Path, tmp_path: Path):
    class Numbers:
        def __init__(self) -> None:
            self.seen: list[int] = []

        def push(self, frame: SmallFrame) -> None:
            self.seen.append(frame.number)

    one, two = Numbers(), Numbers()
    assert feed(small_frames(plan_source(tiny_title, tmp_path)), one, two) == 72
    assert one.seen == two.seen == list(range(72))


def test_colours_of_small_frames(tmp_path: Path):
    clip, graph = tmp_path / "red.mkv", "color=red:size=64x48:duration=0.1"
    run(
        Command.of(
            ["-v", "error", "-f", "lavfi", "-i", graph, "-pix_fmt", "yuv420p", "-c:v", "ffv1", clip]
        )
    )
    blue, green, red = next(iter(small_frames(plan_source(clip, tmp_path)))).bgr()[10, 10]
    assert red > 240
    assert blue < 15
    assert green < 15


def test_seconds_are_exact(awkward_clip, tmp_path: Path):
    source = plan_source(awkward_clip("ntsc.mp4"), tmp_path)
    assert source.timeline.duration_seconds == Fraction(48 * 1001, 24000)
