"""Kinds of sources that old collections and editing rooms are full of."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path

import av
import ffmpeg
import numpy as np
import pytest

from cluster.jobs.source_findings import examine_source
from cluster.service.sources import SourcePolicy, find_source, local_path
from cluster.store.place import store_place
from encoder.analysis.frames import small_frames
from encoder.errors import BadInput, SourceUnusable
from encoder.ffmpeg import Command, run
from encoder.names import path_of, shell_quoted, shown, shown_in_json
from encoder.source import pieces
from encoder.source.coded import mpeg4
from encoder.source.containers import mxf
from encoder.source.reference import GLOBAL_ARGUMENTS, ReferenceSource, open_reference
from encoder.source.sandbox import plan_guarded
from fixtures.kinds import Truth, ff, old
from tests.reading_material import HASH, hashes, read, straight

# -- names -----------------------------------------------------------------------------------------

NOT_UTF8 = os.fsdecode(b"bad\xff\xfe.mp4")


def shotladder(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    """Run the command line in a process of its own."""
    program = "import sys; from cluster.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        timeout=120,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )


def tiny(path: Path, *arguments: object) -> Path:
    codec = arguments or ("-c:v", "libx264", "-preset", "ultrafast")
    ff("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25:duration=1", *codec, path)
    return path


@pytest.fixture(scope="module")
def oddly_named(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder, and in it the package of a source whose name is not UTF-8."""
    folder = tmp_path_factory.mktemp("names")
    source = tiny(folder / NOT_UTF8)
    out = folder / os.fsdecode(b"out\xff :%d")
    options = ("--store", "store", "--preset", "ultrafast", "--workers", "1", "--heights", "48")
    done = shotladder("run", source.name, "--out", out.name, *options, "--json", cwd=folder)
    lines = [json.loads(line) for line in done.stdout.decode().splitlines()]
    assert lines[0]["source"] == r"bad\xff\xfe.mp4"
    assert lines[-1]["type"] == "done"
    return folder, out


def test_documents_name_a_source_whose_name_is_not_utf8(oddly_named: tuple[Path, Path]):
    folder, out = oddly_named
    ladder = json.loads((out / "ladder.json").read_text("utf-8"))
    assert ladder["title"]["source"] == r"bad\xff\xfe.mp4"
    run = json.loads((out / "run.json").read_text("utf-8"))
    assert run["source"] == f"{folder}/" + r"bad\xff\xfe.mp4"
    assert r"bad\xff\xfe.mp4" in (out / "report.html").read_text("utf-8").replace(r"\\", "\\")


@pytest.mark.parametrize("command", [("verify",), ("ladder", "show"), ("report",)])
def test_commands_on_a_package_whose_names_are_not_utf8(
    oddly_named: tuple[Path, Path], command: tuple[str, ...]
):
    folder, out = oddly_named
    said = shotladder(*command, out.name, cwd=folder).stdout
    assert (b"bad\\xff" if command == ("ladder", "show") else b"out\xff :%d") in said


def test_a_run_is_repeated_by_the_name_in_its_manifest(oddly_named: tuple[Path, Path]):
    folder, _ = oddly_named
    listed = shotladder("runs", "list", "--store", "store", "--json", cwd=folder).stdout
    run = json.loads(listed.splitlines()[0])["run"]
    shotladder("run", "--from", run, "--out", "again", "--store", "store", cwd=folder)
    assert (folder / "again" / "master.m3u8").exists()


def test_a_missing_file_whose_name_is_not_utf8_is_named(tmp_path: Path):
    with pytest.raises(subprocess.CalledProcessError) as failed:
        shotladder("doctor", NOT_UTF8, "--json", cwd=tmp_path)
    said = json.loads(failed.value.stdout.splitlines()[-1])
    assert said["message"] == r"cannot read bad\xff\xfe.mp4: no such file; check the path"


@pytest.mark.parametrize(
    "name",
    [
        *("-lead.mp4", "foo:bar.mp4", "pipe:0", "concat:a|b.mp4", "new\nline.mp4", "100%d.mp4"),
        *('it\'s "q".mp4', " \N{CLAPPER BOARD} .mp4", "dot.", "\\x41.mp4", "n" * 255),
        os.fsdecode(b"\xff" * 255),
    ],
)
def test_any_name_is_read(tmp_path: Path, name: str):
    tiny(tmp_path / "plain.avi", "-c:v", "mpeg4", "-bf", "2").rename(tmp_path / name)
    source = plan_guarded(tmp_path / name, tmp_path)  # of a kind that is remuxed
    assert source.frames == 25
    assert source.named == str(tmp_path / name)
    assert examine_source(tmp_path / name)


def test_names_are_shown_as_text_and_found_again(tmp_path: Path):
    path = tmp_path / os.fsdecode(b"a\\b\xe9.mp4")
    assert shown(path.name) == r"a\x5cb\xe9.mp4"
    assert path_of(shown(path)) == Path(shown(path))  # there is no such file
    path.touch()
    assert path_of(shown(path)) == path
    plain = tmp_path / r"a\xe9.mp4"
    plain.touch()
    assert shown(plain) == str(plain)
    assert path_of(str(plain)) == plain
    assert json.loads(shown_in_json(json.dumps({"a": path.name}, ensure_ascii=False))) == {
        "a": r"a\b\xe9.mp4"
    }


def test_the_shown_command_is_one_that_a_shell_runs(tmp_path: Path):
    name = os.fsdecode(b"it's \\ \xff")
    assert Command(("-i", name)).shell() == r"ffmpeg -i $'it\'s \\ \xff'"
    echoed = subprocess.run(
        ["bash", "-c", f"printf %s {shell_quoted(name)}"], capture_output=True, check=True
    )
    assert echoed.stdout == os.fsencode(name)


def test_a_service_finds_a_source_by_a_uri_with_any_bytes(tmp_path: Path):
    path = tmp_path / NOT_UTF8
    path.write_bytes(b"video")
    found = asyncio.run(find_source(path.as_uri(), SourcePolicy((tmp_path,))))
    assert local_path(found.uri) == path


def test_a_store_needs_a_name_in_utf8(tmp_path: Path):
    with pytest.raises(BadInput, match=r"store .*\\xff cannot be used: its path is not UTF-8"):
        store_place(tmp_path / os.fsdecode(b"\xff"))


# -- cropping, orientation and 3D ------------------------------------------------------------------


def made(kind: str, folder: Path, seed: int = 0) -> tuple[Path, Truth]:
    """Make the input of a kind, by its file's name."""
    (maker,) = (one for one in old.KINDS if one.file == kind)
    path = folder / maker.file
    return path, maker.make(path, random.Random(seed))


SCALER = "lanczos+accurate_rnd+full_chroma_int+bitexact"


def by_ffmpeg_alone(path: Path, *filters: str, pixels: str = "yuv420p") -> list[str]:
    """Hashes of all pictures, as ffmpeg decodes, crops and filters them by itself."""
    chain = ",".join([*filters, f"scale=flags={SCALER}", f"format={pixels}"])
    after = ["-vf", chain, "-fps_mode", "passthrough", *HASH]
    found = hashes(["-v", "error", "-noautorotate", "-i", str(path), "-map", "0:v:0", *after])
    return [digest for _, digest in found]


def check_frames(source: ReferenceSource, expected: list[str], folder: Path) -> None:
    """Ranges from everywhere, and from pieces of the source, are those of the straight decode."""
    assert source.frames == len(expected)
    middle = source.frames // 2
    for start, end in (
        (0, source.frames),
        (middle, middle + 4),
        (source.frames - 3, source.frames),
    ):
        assert read(source, start, end) == expected[start:end], (start, end)
    spans = [(middle - 5, middle + 5), (middle + 5, source.frames)]
    for piece, file in pieces.cut(source, spans, folder):
        moved = pieces.reading(source, piece, file)
        assert read(moved, piece.start, piece.end) == expected[piece.start : piece.end], piece


def check_small(source: ReferenceSource) -> None:
    """The analysis pass sees the same pictures as the encoders."""
    frames = list(small_frames(source))
    assert len(frames) == source.frames
    small = frames[source.frames // 2].yuv
    node = open_reference(source, source.frames // 2, source.frames // 2 + 1)
    height, width = small.shape[1:]
    scaled = node.filter("scale", width, height, flags="area").filter("format", "yuv444p")
    out = ffmpeg.output(scaled, "pipe:", f="rawvideo", fps_mode="passthrough").get_args()
    raw = run(Command.of(["-v", "error", *GLOBAL_ARGUMENTS, *out])).stdout
    other = np.frombuffer(raw, np.uint8).reshape(small.shape)
    assert np.abs(other.astype(int) - small).mean() < 4


@pytest.mark.parametrize("kind", ["cropped.mp4", "cropped.mov", "cropped.mkv"])
def test_the_container_crops_once(tmp_path: Path, kind: str):
    path, truth = made(kind, tmp_path)
    source = plan_guarded(path, tmp_path)
    assert (source.width, source.height) == truth.size
    check_frames(source, by_ffmpeg_alone(path, pixels=source.pix_fmt), tmp_path)
    check_small(source)
    assert "only 340x264 are the title" in says(path)


def says(path: Path) -> str:
    """What doctor warns of."""
    found = [one for one in examine_source(path) if one.state == "warn"]
    return "; ".join(f"{one.topic}: {one.found}: {one.then}" for one in found)


@pytest.mark.parametrize(
    ("box", "size"),
    [
        # SD video of QuickTime: 702.9 of 720 pixels are clean, of which ffmpeg shows 703.
        (old.clap(Fraction(41472, 59), Fraction(576), Fraction(0), Fraction(0)), (702, 576)),
        # An odd offset would shift colours against brightness: one more column and row are cut.
        (old.clap(Fraction(713), Fraction(569), Fraction(1, 2), Fraction(-1, 2)), (712, 568)),
        # More than the picture has, or beside it: the picture is whole.
        (old.clap(Fraction(800), Fraction(576), Fraction(0), Fraction(0)), (720, 576)),
        (old.clap(Fraction(704), Fraction(576), Fraction(40), Fraction(0)), (720, 576)),
        (old.clap(Fraction(720), Fraction(576), Fraction(0), Fraction(0)), (720, 576)),
    ],
)
def test_apertures_of_all_shapes(tmp_path: Path, box: bytes, size: tuple[int, int]):
    path = tmp_path / "clap.mp4"
    graph = "testsrc2=size=720x576:rate=25:duration=0.2"
    ff("-f", "lavfi", "-i", graph, "-c:v", "libx264", "-preset", "ultrafast", tmp_path / "a.mp4")
    path.write_bytes(old.in_sample_entry((tmp_path / "a.mp4").read_bytes(), box))
    source = plan_guarded(path, tmp_path)
    assert (source.width, source.height) == size
    assert len(read(source, 0, source.frames)) == 5
    assert len(list(small_frames(source))) == 5


def test_an_aperture_of_a_few_lines_is_refused(tmp_path: Path):
    path = tmp_path / "clap.mp4"
    box = old.clap(Fraction(64), Fraction(8), Fraction(0), Fraction(0))
    path.write_bytes(old.in_sample_entry(tiny(tmp_path / "a.mp4").read_bytes(), box))
    with pytest.raises(SourceUnusable, match="pictures of 64x8 are too small"):
        plan_guarded(path, tmp_path)


def test_cropping_comes_before_turning_and_stretching(tmp_path: Path):
    path, plain = tmp_path / "clap.mp4", tmp_path / "a.mp4"
    graph = old.boxed("testsrc2=size=160x96:rate=25:duration=1", 8, 4, 2, 10)
    anamorphic = ("-vf", "setsar=2/1", "-c:v", "libx264", "-preset", "ultrafast")
    ff("-f", "lavfi", "-i", graph, *anamorphic, tmp_path / "b.mp4")
    ff("-display_rotation", 90, "-i", tmp_path / "b.mp4", "-c", "copy", plain)
    box = old.clap(Fraction(150), Fraction(82), Fraction(3), Fraction(-3))
    path.write_bytes(old.in_sample_entry(plain.read_bytes(), box))
    source = plan_guarded(path, tmp_path)
    assert (source.width, source.height) == (82, 300)
    turned = by_ffmpeg_alone(path, "transpose=cclock", f"scale=82:300:flags={SCALER}")
    check_frames(source, turned, tmp_path)
    check_small(source)


@pytest.mark.parametrize(
    ("kind", "seed"), [("turned.mkv", 1), ("turned.mp4", 0), ("turned.mp4", 2)]
)
def test_orientation_in_sei_turns_every_picture(tmp_path: Path, kind: str, seed: int):
    path, truth = made(kind, tmp_path, seed)
    source = plan_guarded(path, tmp_path)
    assert (source.width, source.height) == truth.size
    bare = tmp_path / "bare.264"
    ff("-i", path, "-c", "copy", "-bsf:v", "h264_mp4toannexb,filter_units=remove_types=6", bare)
    check_frames(source, by_ffmpeg_alone(bare, "transpose=cclock"), tmp_path)
    check_small(source)


def test_a_picture_that_turns_in_the_middle_is_refused(tmp_path: Path):
    graph = "testsrc2=size=160x96:rate=25:duration=1"
    for turn in (90, 180):
        sei = ("-bsf:v", f"h264_metadata=display_orientation=insert:rotate={turn}")
        made_here = ("-c:v", "libx264", "-preset", "ultrafast", *sei, tmp_path / f"{turn}.264")
        ff("-f", "lavfi", "-i", graph, *made_here)
    both = tmp_path / "both.264"
    both.write_bytes((tmp_path / "90.264").read_bytes() + (tmp_path / "180.264").read_bytes())
    source = plan_guarded(both, tmp_path)
    message = "orientation from transpose=cclock to hflip and vflip at frame 25; split it there"
    with pytest.raises(SourceUnusable, match=message):
        list(small_frames(source))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_3d_pictures_are_delivered_flat(tmp_path: Path, seed: int):
    path, _ = made("stereo.mkv", tmp_path, seed)
    source = plan_guarded(path, tmp_path)
    bare = tmp_path / "bare.264"
    ff("-i", path, "-c", "copy", "-bsf:v", "h264_mp4toannexb,filter_units=remove_types=6", bare)
    check_frames(source, by_ffmpeg_alone(bare), tmp_path)
    assert "3D: the views of both eyes are stored" in says(path)
    out = tmp_path / "out.mp4"
    built = ffmpeg.output(open_reference(source, 0, 4), str(out), fps_mode="passthrough")
    run(Command.of(["-v", "error", *GLOBAL_ARGUMENTS, *built.get_args()]))
    with av.open(str(out)) as container:
        kinds = {data.type.name for frame in container.decode(video=0) for data in frame.side_data}
    assert kinds <= {"SEI_UNREGISTERED"}


# -- MPEG-4 in AVI, and other old codecs -----------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 2])
def test_packed_b_frames_are_taken_apart(tmp_path: Path, seed: int):
    path, truth = made("packed.avi", tmp_path, seed)
    source = plan_guarded(path, tmp_path)
    assert (source.frames, source.frame_rate) == (truth.frames, truth.frame_rate)
    check_frames(source, by_ffmpeg_alone(path), tmp_path)
    check_small(source)


@pytest.mark.parametrize("seed", [0, 2])
def test_pictures_that_are_not_coded_repeat_the_one_before(tmp_path: Path, seed: int):
    path, truth = made("uncoded.avi", tmp_path, seed)
    source = plan_guarded(path, tmp_path)
    assert (source.frames, source.frame_rate) == (truth.frames, truth.frame_rate)
    coded = by_ffmpeg_alone(path)
    assert len(coded) == source.index.frames == 50
    expected = [coded[source.timeline.source_frame(n)] for n in range(source.frames)]
    assert max(Counter(expected).values()) == source.frames - 50 + 1
    check_frames(source, expected, tmp_path)


def test_the_coding_of_mpeg4_pictures_is_read(tmp_path: Path):
    raw = tiny(tmp_path / "a.m4v", "-c:v", "mpeg4", "-bf", "1", "-b_strategy", "0").read_bytes()
    pictures = old.vops(raw)
    bits = mpeg4.time_bits(raw)
    assert bits == 5  # 25 ticks a second
    assert all(mpeg4.coded(data, bits) for data, _ in pictures)
    assert not mpeg4.coded(b"\0\0\1\xb6\x50\0\0\x7f", bits)
    assert mpeg4.coded(b"\0\0\1\xb6\x50\0\0\x7f", None)
    assert {mpeg4.pictures(data) for data, _ in old.packed(pictures)} == {1, 2}
    mark = b"\0\0\1\xb2DivX503b1393"
    assert mpeg4.unpacked_headers(mark + b"p\0") == mark + b"\0\0"
    assert mpeg4.unpacked_headers(mark) == mark


@pytest.mark.parametrize(
    ("file", "codec"),
    [
        # libavformat gives H.264 in AVI other times in each release.
        ("h264.avi", "-c:v libx264 -preset ultrafast -bf 0"),
        # Keyframes from which decoding gives other pictures.
        ("video.mov", "-c:v rpza"),
        ("graphics.mov", "-c:v smc -pix_fmt pal8"),
        ("dirac.mkv", "-c:v vc2"),
        ("cinepak.avi", "-c:v cinepak"),
        ("animation.mov", "-c:v qtrle -pix_fmt argb"),
        ("divx3.avi", "-c:v msmpeg4 -q:v 4"),
        ("windows.asf", "-c:v wmv2 -q:v 4"),
        ("real.rm", "-c:v rv20 -q:v 4"),
    ],
)
def test_old_codecs_are_read_exactly(tmp_path: Path, file: str, codec: str):
    path = tmp_path / file
    ff("-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25:duration=1.2", *codec.split(), path)
    source = plan_guarded(path, tmp_path)
    assert (source.frames, source.frame_rate) == (30, 25)
    decoded = straight(path, source)
    for start, end in ((0, 30), (15, 19), (27, 30)):
        assert read(source, start, end) == decoded[start:end]
    for piece, made_file in pieces.cut(source, [(12, 25)], tmp_path):
        assert read(pieces.reading(source, piece, made_file), 12, 25) == decoded[12:25]
    assert sum(1 for _ in small_frames(source)) == 30


# -- MXF -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_mxf_is_read_exactly_with_its_mono_tracks(tmp_path: Path, seed: int):
    path, truth = made("tape.mxf", tmp_path, seed)
    source = plan_guarded(path, tmp_path)
    assert (source.frames, source.frame_rate) == (truth.frames, truth.frame_rate)
    assert len(source.info.audio) >= 8
    check_frames(source, by_ffmpeg_alone(path, pixels=source.pix_fmt), tmp_path)


def test_lines_of_the_blanking_interval_are_cut(tmp_path: Path):
    path = tmp_path / "imx.mxf"
    graph = "testsrc2=size=720x608:rate=25:duration=0.4"
    intra = ("-c:v", "mpeg2video", "-g", "1", "-q:v", "4")
    ff("-f", "lavfi", "-i", graph, *intra, path)
    source = plan_guarded(path, tmp_path)
    assert source.info.shown_height == 576
    assert "32 at the top of 720x608 pixels" in says(path)
    assert len(read(source, 4, 8)) == len(list(small_frames(source))[4:8])


def test_mxf_of_several_items_is_refused(tmp_path: Path):
    path = tiny(tmp_path / "list.mxf", "-c:v", "mpeg2video")
    label = bytes.fromhex("060e2b34040101010d01020101")
    data = path.read_bytes()
    assert mxf.pattern_items(data) == 1
    path.write_bytes(data.replace(label, label[:-1] + b"\2"))
    with pytest.raises(SourceUnusable, match=r"several items \(OP2\).*export it as OP1a"):
        plan_guarded(path, tmp_path)
    assert mxf.first_origin(b"\x4b\x02\x00\x08" + (5).to_bytes(8, "big")) == 5
