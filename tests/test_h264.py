"""What the headers of H.264 say, by streams of x264 and by a stream written by hand."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import av
import pytest
from av.video.frame import PictureType
from hypothesis import given
from hypothesis import strategies as st

from encoder.ffmpeg import Command, run
from encoder.source.coded import h264
from encoder.source.index import index_frames
from fixtures import fields


def stream(path: Path, *options: str) -> Path:
    picture = ("-f", "lavfi", "-i", "testsrc2=size=160x96:rate=25:duration=1")
    codec = ("-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", "10", "-threads", "1")
    run(Command.of(["-v", "error", "-y", *picture, *codec, *options, path]), timeout_seconds=60)
    return path


def slices(path: Path) -> tuple[h264.Sequence, list[h264.Slice]]:
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        extradata = video.codec_context.extradata
        sequence = h264.sequence_of(extradata)
        assert sequence is not None
        length = h264.length_size(extradata)
        packets = [bytes(p) for p in container.demux(video) if p.size]
    found = [h264.first_slice(packet, length, sequence) for packet in packets]
    assert None not in found
    return sequence, [each for each in found if each is not None]


@pytest.mark.parametrize("suffix", ["mp4", "ts", "mkv"])
@pytest.mark.parametrize(
    "options",
    [
        (),
        ("-pix_fmt", "yuv444p10le", "-x264-params", "cqm=jvt"),
        ("-x264-params", "cqm=jvt:b-pyramid=strict:ref=4"),
    ],
    ids=["plain", "444", "matrices"],
)
def test_progressive_streams(tmp_path: Path, suffix, options):
    path = stream(tmp_path / f"clip.{suffix}", *options)
    sequence, found = slices(path)
    assert not sequence.fields
    assert len(found) == 25
    with av.open(str(path)) as container:
        # As the decoder names them, in the order in which they are stored.
        shown = {frame.pts: frame.pict_type for frame in container.decode(video=0)}
        container.seek(0)
        stored = [shown[packet.pts] for packet in container.demux(video=0) if packet.size]
    assert [each.intra for each in found] == [kind == PictureType.I for kind in stored]
    # 7.4.3: 0 at an IDR, one more after every reference.
    numbers = [each.frame_num for each in found]
    assert all(number == 0 for number, each in zip(numbers, found, strict=True) if each.idr)
    assert max(numbers) > 2


@pytest.mark.parametrize(
    "options", [("-flags", "+ildct+ilme"), ("-x264-params", "fake-interlaced=1")]
)
def test_frames_of_two_fields_are_no_fields(tmp_path: Path, options):
    sequence, found = slices(stream(tmp_path / "clip.ts", *options))
    assert sequence.fields
    assert {each.field for each in found} == {None}
    assert index_frames(tmp_path / "clip.ts").frames == 25


def test_fields_are_paired(tmp_path: Path):
    raw = fields.make(tmp_path / "fields.264", frames=12)
    sequence, found = slices(raw)
    assert sequence.fields
    assert [each.field for each in found] == [0, 1] * 12
    assert [each.idr for each in found] == [True] + [False] * 19 + [True] + [False] * 3
    pairs = [h264.completes(a, b) for a, b in pairwise(found)]
    assert pairs[::2] == [True] * 12
    assert not any(pairs[1::2])


def test_what_does_not_belong_together_is_no_pair():
    top = h264.Slice(intra=True, idr=True, frame_num=3, field=0)
    assert h264.completes(top, h264.Slice(intra=False, idr=False, frame_num=3, field=1))
    for other in (
        h264.Slice(intra=False, idr=False, frame_num=4, field=1),  # of the next frame
        h264.Slice(intra=False, idr=False, frame_num=3, field=0),  # the same field again
        h264.Slice(intra=False, idr=False, frame_num=3, field=None),  # a frame
        h264.Slice(intra=True, idr=True, frame_num=3, field=1),  # begins anew
        None,
    ):
        assert not h264.completes(top, other)
    assert not h264.completes(None, top)


@given(st.binary(max_size=200), st.sampled_from([0, 1, 2, 4]), st.booleans())
def test_any_bytes_are_read_without_harm(data, length, known):
    sequence = h264.sequence_of(data)
    h264.sequence_of(b"\0\0\1\x67" + data)
    h264.sequence_of(b"\1\x64\0\x1e\xff\xe1\0\xc8\x67" + data)
    h264.first_slice(data, length, sequence if known else None)
    h264.first_slice(b"\0\0\1\x65" + data, 0, h264.Sequence(4, False, True))
