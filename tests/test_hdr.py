"""High dynamic range, from source to package: carried as it is, looked at as mapped."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree as ET

import av
import ffmpeg
import numpy as np
import pytest

from cluster import events
from cluster.execution.executor import InlineExecutor
from cluster.jobs.compare import CompareOptions, compare_ladder
from cluster.jobs.request import RunOptions
from cluster.jobs.run import run_title
from cluster.jobs.source_findings import examine_source
from cluster.stages.title import open_title
from cluster.store import Store
from cluster.training.sweep import analyse_title
from encoder import mp4
from encoder.analysis.frames import small_frames
from encoder.errors import BadInput
from encoder.ffmpeg import Command, run
from encoder.pictures import segment_picture, source_picture
from encoder.recipes import CODECS, recipe
from encoder.source.colour import tonemap
from encoder.source.colour.hdr_metadata import MasteringDisplay, StaticMetadata
from encoder.source.planning import plan_source
from encoder.source.reference import ReferenceSource, open_sdr
from encoder.stills import fetch_frames
from fixtures.awkward import MASTERING
from tests.matrix import quick_profile
from tests.running import few_rates, records
from vmaf import models
from vmaf.graph import Distorted, score_command

DISPLAY = MasteringDisplay(
    red=(34000, 16000),
    green=(13250, 34500),
    blue=(7500, 3000),
    white=(15635, 16450),
    most=10_000_000,
    least=50,
)
METADATA = StaticMetadata(DISPLAY, (1000, 400))
TRANSFERS: tuple[tonemap.Transfer, ...] = ("pq", "hlg")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory, awkward_clip: Callable[[str], Path]) -> Path:
    """Folder with a package of each kind, `pq` and `hlg`, of two codecs."""
    folder = tmp_path_factory.mktemp("hdr")
    grid = {"x265": [22], "svtav1": [10]}
    for kind, file in (("pq", "hdr10.mp4"), ("hlg", "hlg.mkv")):
        for codec in grid:
            options = RunOptions(
                awkward_clip(file),
                folder / f"{kind}-{codec}",
                search="exhaustive",
                codec=codec,
                preset="ultrafast",
                profile=quick_profile(grid),
                heights=(90,),
                store=folder / "store",
                also=("vmaf_v0.6.1", "xpsnr"),
            )
            run_title(options, lambda event: None, InlineExecutor())
    return folder


PACKAGES = [(kind, codec) for kind in TRANSFERS for codec in ("x265", "svtav1")]


def segments(package: Path) -> Iterator[bytes]:
    """Init and media of every segment of every rung."""
    for rung in json.loads((package / "ladder.json").read_text())["rungs"]:
        init = (package / rung["init_uri"]).read_bytes()
        for segment in rung["segments"]:
            yield init + (package / segment["uri"]).read_bytes()


# -- what is delivered ---------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "codec"), PACKAGES)
def test_every_segment_carries_colours_and_metadata(packages: Path, tmp_path: Path, kind, codec):
    found = list(segments(packages / f"{kind}-{codec}"))
    assert found
    for data in found:
        path = tmp_path / "segment.mp4"
        path.write_bytes(data)
        with av.open(str(path)) as container:
            frames = list(container.decode(video=0))
        first = frames[0]
        assert first.format.name == "yuv420p10le"
        points = (first.color_primaries, first.color_trc, first.colorspace)
        assert points == tonemap.CICP[kind]
        assert int(first.color_range) == 1  # limited
        for frame in frames:
            display = frame.side_data.get("MASTERING_DISPLAY_METADATA")
            light = frame.side_data.get("CONTENT_LIGHT_LEVEL")
            if kind == "hlg":  # the source says nothing
                assert (display, light) == (None, None)
                continue
            stated = MasteringDisplay.of(bytes(display))
            # AV1 keeps chromaticities in 16 bits of fraction and luminances in 8 and 14.
            assert close(stated, DISPLAY, 1 if codec == "svtav1" else 0)
            assert np.frombuffer(bytes(light), "<u4")[:2].tolist() == [1000, 400]


def close(found: MasteringDisplay | None, expected: MasteringDisplay, most: int) -> bool:
    assert found is not None
    numbers = [
        [*one.red, *one.green, *one.blue, *one.white, one.most, one.least]
        for one in (found, expected)
    ]
    return max(abs(a - b) for a, b in zip(*numbers, strict=True)) <= most


@pytest.mark.parametrize("codec", ["x265", "svtav1"])
def test_init_segments_have_the_boxes(packages: Path, codec):
    package = packages / f"pq-{codec}"
    for init in package.glob("video/*/init.mp4"):
        data = init.read_bytes()
        entry = mp4.sample_entry(data)
        inside = list(mp4.walk(data, entry.body + 78, entry.end))
        boxes = {box.kind: data[box.start : box.end] for box in inside}
        assert boxes["mdcv"] + boxes["clli"] == METADATA.boxes()
        assert mp4.codec_configuration(data).colour == mp4.Colour(9, 16, 9, full=False)
    assert not any(b"mdcv" in p.read_bytes() for p in packages.glob("hlg-*/video/*/init.mp4"))


@pytest.mark.parametrize(("kind", "codec"), PACKAGES)
def test_manifests_say_so(packages: Path, kind, codec):
    package = packages / f"{kind}-{codec}"
    transfer = tonemap.CICP[kind][1]
    codecs = {
        "x265": r"hvc1\.2\.4\.L\d+\.90",
        "svtav1": rf"av01\.0\.\d\dM\.10\.0\.11\d\.09\.{transfer}\.09\.0",
    }[codec]
    master = (package / "master.m3u8").read_text().splitlines()
    variants = [line for line in master if line.startswith(("#EXT-X-STREAM-INF", "#EXT-X-I-FRAME"))]
    assert len(variants) >= 2
    for line in variants:
        assert f"VIDEO-RANGE={kind.upper()}" in line.split(",")
        assert re.search(rf'CODECS="{codecs}"', line)
    mpd = ET.parse(package / "manifest.mpd").getroot()
    space = {"": "urn:mpeg:dash:schema:mpd:2011"}
    (adaptation,) = mpd.findall(".//AdaptationSet[@contentType='video']", space)
    assert [
        (one.get("schemeIdUri"), one.get("value"))
        for one in adaptation.findall("EssentialProperty", space)
    ] == [
        ("urn:mpeg:mpegB:cicp:ColourPrimaries", "9"),
        ("urn:mpeg:mpegB:cicp:TransferCharacteristics", str(transfer)),
        ("urn:mpeg:mpegB:cicp:MatrixCoefficients", "9"),
    ]


@pytest.mark.parametrize(("kind", "codec"), PACKAGES)
def test_documents_name_what_was_looked_at(packages: Path, kind, codec):
    package = packages / f"{kind}-{codec}"
    ladder = json.loads((package / "ladder.json").read_text())
    named = {f"{name}+mobius1000" for name in ("vmaf_v1.0.16_3d0h", "vmaf_v0.6.1", "xpsnr")}
    assert ladder["title"]["hdr"] == kind
    assert ladder["quality_model"] == "vmaf_v1.0.16_3d0h+mobius1000"
    for rung in ladder["rungs"]:
        assert rung["quality"].keys() == named
        # Nearly lossless, so whatever is compared is alike.
        assert rung["quality"][ladder["quality_model"]]["mean"] > 85
        assert rung["quality"]["xpsnr+mobius1000"]["mean"] > 30
    for document in ("measurements.json", "prefetch.json"):
        text = (package / document).read_text()
        assert "+mobius1000" in text
        assert not re.search(r'"vmaf_[^"+]*"', text)


def test_ladders_are_compared_on_the_same_pictures(packages: Path):
    """x264 cannot hold them, so the anchors are plain x265; its settings are in the stream."""
    options = CompareOptions(packages / "pq-x265", store=packages / "store")
    with few_rates():
        comparison = compare_ladder(options, lambda event: None, InlineExecutor())
    named = [models.name_for(name, hdr=True) for name in (models.V1, *models.JUDGES)]
    (part,) = comparison.parts
    assert list(part.claims) == named
    assert comparison.judges == tuple(named[1:])
    assert comparison.fixed.recipe == comparison.plain_per_title.recipe == "x265-medium"
    for _, _, ladder in comparison.ladders:
        for rung in ladder.rungs:
            assert list(rung.quality) == named
    store = Store(packages / "store")
    found = [store.get(key) for key in records(packages / "store", "baseline")]
    files = [store.path(each.blobs["rung"]).read_bytes() for each in found if each is not None]
    stated = [re.search(rb"options: ([ -~]+)", content) for content in files]
    fixed = [set(each[1].decode().split()) for each in stated if each is not None]
    assert len(fixed) == len(comparison.fixed.rungs)
    for settings in fixed:
        assert {"bitdepth=10", "ref=3", "rd=3", "psy-rd=2.00", "scenecut=0"} <= settings
        assert {"rc=abr", "stats-read=2", "no-open-gop"} <= settings


def test_high_dynamic_range_is_predicted_as_standard_range(
    tmp_path: Path, awkward_clip: Callable[[str], Path]
):
    warned: list[str] = []

    def report(event: events.Event) -> None:
        if isinstance(event, events.Warned):
            warned.append(event.message)

    options = RunOptions(
        awkward_clip("hdr10.mp4"),
        tmp_path / "package",
        codec="x265",
        preset="ultrafast",
        heights=(90,),
        store=tmp_path / "store",
    )
    made = run_title(options, report, InlineExecutor())
    assert made.ladder.search.mode == "predict"
    assert made.ladder.quality_model == f"{models.V1}+mobius1000"
    assert any("no size of 90 lines" in text for text in warned)
    (warning,) = [text for text in warned if "do not know vmaf" in text]
    assert f"do not know {models.V1}+mobius1000" in warning
    assert f"predicted as those of {models.V1}, " in warning


# -- what is mapped ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory, awkward_clip: Callable[[str], Path]) -> Path:
    """A package of x264 of a PQ title."""
    folder = tmp_path_factory.mktemp("mapped")
    options = RunOptions(
        awkward_clip("hdr10.mp4"),
        folder / "package",
        search="exhaustive",
        preset="ultrafast",
        profile=quick_profile({"x264": [14]}),
        heights=(90,),
        store=folder / "store",
        tone_map=True,
    )
    run_title(options, lambda event: None, InlineExecutor())
    return folder / "package"


def test_a_mapped_title_is_one_of_standard_range(mapped: Path, tmp_path: Path):
    ladder = json.loads((mapped / "ladder.json").read_text())
    assert (ladder["title"]["hdr"], ladder["title"]["tone_mapped"]) == (None, "pq")
    assert ladder["quality_model"] == models.V1
    assert "VIDEO-RANGE" not in (mapped / "master.m3u8").read_text()
    assert "urn:mpeg:mpegB:cicp" not in (mapped / "manifest.mpd").read_text()
    for data in segments(mapped):
        path = tmp_path / "segment.mp4"
        path.write_bytes(data)
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0))
        assert frame.format.name == "yuv420p"
        assert (frame.color_primaries, frame.color_trc, frame.colorspace) == (1, 1, 1)
        assert not {"MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"} & {
            data.type.name for data in frame.side_data
        }


def test_a_mapped_title_is_another_reference(awkward_clip, tmp_path: Path):
    carried = open_title(awkward_clip("hdr10.mp4"), tmp_path).reference
    changed = open_title(awkward_clip("hdr10.mp4"), tmp_path, tone_map=True).reference
    assert (carried.hdr, changed.hdr, changed.mapped_from) == ("pq", None, "pq")
    assert carried.graph_id != changed.graph_id
    assert changed.static_metadata == StaticMetadata()
    first, second = (next(small_frames(source)).yuv for source in (carried, changed))
    assert (first == second).all()
    plain = open_title(awkward_clip("ntsc.mp4"), tmp_path, tone_map=True).reference
    assert plain.mapped_from is None


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["x264", "vp9", "x265,x264"])
def test_eight_bits_are_refused_before_any_work(awkward_clip, tmp_path: Path, codec):
    options = RunOptions(
        awkward_clip("hlg.mkv"), tmp_path / "out", codec=codec, store=tmp_path / "store"
    )
    with pytest.raises(BadInput, match=r"\(hlg\).*--codec x265, svtav1") as caught:
        run_title(options, lambda event: None, InlineExecutor())
    assert "\n" not in caught.value.message
    assert not list((tmp_path / "store").glob("blobs/*/*"))


def test_tables_hold_standard_range(awkward_clip, tmp_path: Path):
    with pytest.raises(BadInput, match="tables and training support standard range only"):
        analyse_title(
            *(awkward_clip("hlg.mkv"), "", "group", 1.0, 0),
            *(str(tmp_path / "store"), str(tmp_path / "work")),
        )


def test_codecs_that_cannot_carry_metadata_say_so():
    for codec in CODECS:
        one = recipe(codec, "fast")
        options = one.arguments(one.crf_range[0])
        assert one.carrying(options, StaticMetadata()) == options
        if one.bit_depth == 10:
            added = one.carrying(options, METADATA)
            assert added[f"{codec}-params"].startswith(options[f"{codec}-params"] + ":master")
        else:
            with pytest.raises(ValueError, match="carries no HDR metadata"):
                one.carrying(options, METADATA)


def test_the_doctor_says_what_will_happen(awkward_clip):
    colour = next(f for f in examine_source(awkward_clip("hdr10.mp4")) if f.topic == "colour")
    assert colour.state == "ok"
    assert "(pq)" in colour.found
    assert "mobius1000" in colour.then


# -- the source ----------------------------------------------------------------------------------


def test_metadata_is_read_from_the_source(awkward_clip, tmp_path: Path):
    source = plan_source(awkward_clip("hdr10.mp4"), tmp_path)
    assert source.hdr == "pq"
    assert source.static_metadata == METADATA
    assert METADATA.parameters("x265") == f"master-display={MASTERING}:max-cll=1000,400"
    # A title of standard range carries none, whatever its file says.
    standard = replace(source.info, color_transfer="bt709")
    plain = ReferenceSource(source.path, standard, source.index, source.timeline)
    assert plain.static_metadata == StaticMetadata()
    assert plain.graph_id != source.graph_id


def test_other_metadata_is_another_encode(awkward_clip, tmp_path: Path):
    source = plan_source(awkward_clip("hdr10.mp4"), tmp_path)
    brighter = replace(source.info, static_metadata=StaticMetadata(DISPLAY, (2000, 400)))
    other = ReferenceSource(source.path, brighter, source.index, source.timeline)
    assert other.graph_id != source.graph_id


def test_incomplete_metadata_is_none():
    one = (1, 50_000)
    numbers = [*one * 8, 50, 10_000, 1000, 1, 1, 1]
    data = np.array(numbers, "<i4").tobytes()
    assert MasteringDisplay.of(data) is not None
    for at, value in ((20, 0), (21, 0), (1, 0), (0, -1), (18, 0)):
        broken = list(numbers)
        broken[at] = value
        assert MasteringDisplay.of(np.array(broken, "<i4").tobytes()) is None


# -- the mapping ---------------------------------------------------------------------------------


def codes(transfer: tonemap.Transfer) -> np.ndarray:
    """(3, 16, 16) levels of 10 bit whose R, G and B are all within 0 and 1."""
    random = np.random.default_rng(7)
    most = 700 if transfer == "pq" else 850
    luma = random.integers(150, most, (16, 16))
    chroma = random.integers(490, 535, (2, 16, 16))
    return np.concatenate([luma[None], chroma]).astype("<u2")


def mapped_by_ffmpeg(levels: np.ndarray, transfer: tonemap.Transfer) -> np.ndarray:
    """(3, rows, columns) of 10 bit: each colour is a patch of 8x8 pixels."""
    large = levels.repeat(8, 1).repeat(8, 2)
    raw = b"".join(plane.tobytes() for plane in (large[0], large[1, ::2, ::2], large[2, ::2, ::2]))
    height, width = large.shape[1:]
    node = ffmpeg.input("pipe:0", f="rawvideo", pix_fmt="yuv420p10le", s=f"{width}x{height}")
    output = ffmpeg.output(tonemap.tone_mapped(node, transfer), "pipe:1", f="rawvideo")
    done = run(Command.of(output.global_args("-v", "error").get_args()), stdin=[raw])
    planes = np.frombuffer(done.stdout, "<u2")
    size = width * height
    luma = planes[:size].reshape(height, width)[4::8, 4::8]
    blue, red = planes[size:].reshape(2, height // 2, width // 2)[:, 2::4, 2::4]
    return np.stack([luma, blue, red])


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_filters_and_numpy_map_alike(transfer):
    levels = codes(transfer)
    by_filters = mapped_by_ffmpeg(levels, transfer) / 4
    own = tonemap.tone_map_small(np.moveaxis(levels, 0, -1) * 64, transfer).astype(float)
    assert np.abs(own - by_filters).max() <= 1.25  # rounding to 8 and to 10 bit


@pytest.mark.parametrize(
    ("transfer", "code", "light"),
    [
        ("pq", 0.5807, 1.0),  # 203 cd/m2, the reference white of BT.2408
        ("pq", 0.7518, 1000 / 203),
        ("pq", 0.5081, 100 / 203),
        ("hlg", 0.75, 1.0),
        ("hlg", 1.0, 1000 / 203),
        ("hlg", 0.5, 50.7 / 203),
    ],
)
def test_light_is_that_of_the_standards(transfer, code, light):
    table = tonemap._light(transfer)
    assert table[round(code * tonemap._STEPS)] == pytest.approx(light, rel=0.01)


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_grey_stays_grey_and_brighter_stays_brighter(transfer):
    ramp = np.full((1, 877, 3), 512, np.uint16)
    ramp[..., 0] = np.arange(64, 941)
    mapped = tonemap.tone_map_small(ramp * 64, transfer)
    assert set(np.unique(mapped[1:])) <= {127, 128, 129}
    assert (np.diff(mapped[0, 0].astype(int)) >= 0).all()
    assert mapped[0, 0, 0] == 16
    # The peak of 1,000 cd/m2 is white; PQ goes on above it.
    assert mapped[0, 0, -1] == 235 if transfer == "hlg" else mapped[0, 0, -1] > 235


def test_standard_range_is_left_alone():
    node = ffmpeg.input("a.mp4")["v"]
    assert tonemap.tone_mapped(node, None) is node


def test_models_are_not_shown_other_pictures_than_their_names_say(awkward_clip, tmp_path: Path):
    source = plan_source(awkward_clip("hdr10.mp4"), tmp_path)
    encode = Distorted(tmp_path / "e.mp4", 160, 96, 10)
    paths = [tmp_path / "log"], [tmp_path / "hashes"]
    with pytest.raises(ValueError, match="does not fit the source's range"):
        score_command(source, 0, 5, [encode], ["vmaf_v0.6.1"], *paths)
    named = models.title_model(source)
    arguments = " ".join(score_command(source, 0, 5, [encode], [named], *paths).arguments)
    # Both sides, the encode after it was scaled.
    assert arguments.count("tonemap=mobius") == 2
    assert arguments.index("flags=bicubic") < arguments.index("tonemap=mobius")
    assert re.search(rf"name\\*={re.escape(named)}", arguments)
    assert re.search(rf"version\\*={re.escape(models.V1)}[^+]", arguments)
    standard = replace(source.info, color_transfer="bt709")
    plain = ReferenceSource(source.path, standard, source.index, source.timeline)
    with pytest.raises(ValueError, match="does not fit"):
        score_command(plain, 0, 5, [encode], [named], *paths)


def test_model_names():
    assert models.name_for("vmaf_v0.6.1", hdr=True) == "vmaf_v0.6.1+mobius1000"
    assert models.name_for("vmaf_v0.6.1+mobius1000", hdr=True) == "vmaf_v0.6.1+mobius1000"
    assert models.name_for("vmaf_v0.6.1+mobius1000", hdr=False) == "vmaf_v0.6.1"
    assert models.default_model(1080, Fraction(24), hdr=True) == f"{models.V1}+mobius1000"


# -- pictures for people -------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["hdr10.mp4", "hlg.mkv"])
def test_whoever_looks_sees_the_mapped_picture(awkward_clip, tmp_path: Path, file):
    source = plan_source(awkward_clip(file), tmp_path)
    full = next(fetch_frames(source, [4], "bt709"))[1].astype(float)
    small = next(frame for frame in small_frames(source) if frame.number == 4)
    output = ffmpeg.output(open_sdr(source, 4, 5), "pipe:1", f="rawvideo")
    done = run(Command.of(output.global_args("-copyts", "-v", "error").get_args()))
    luma = np.frombuffer(done.stdout, "<u2")[: 96 * 160].reshape(96, 160) / 4
    # 160x96 is small already: the analysis pass and the graph see one picture, but for the chroma
    # at edges, which they interpolate otherwise.
    apart = np.abs(small.luma - np.clip(luma, 0, 255))
    assert np.median(apart) <= 1
    assert np.percentile(apart, 80) <= 3
    # PQ and HLG codes as they are would be far from it: flat and grey.
    assert full.std() > 40
    shown = source_picture(source, 4).astype(float)
    assert np.abs(shown - full).mean() < 8


def test_pictures_of_segments_are_mapped(packages: Path, awkward_clip, tmp_path: Path):
    source = plan_source(awkward_clip("hdr10.mp4"), tmp_path)
    package = packages / "pq-x265"
    rung = json.loads((package / "ladder.json").read_text())["rungs"][-1]
    init = (package / rung["init_uri"]).read_bytes()
    media = (package / rung["segments"][0]["uri"]).read_bytes()
    from_package = segment_picture(init, media, 4).astype(float)
    of_source = next(fetch_frames(source, [4], "bt709"))[1].astype(float)
    if from_package.shape == of_source.shape:
        assert np.abs(from_package - of_source).mean() < 12
    assert from_package.std() == pytest.approx(of_source.std(), rel=0.2)


def test_a_real_clip_of_a_phone(corpus: Path, tmp_path: Path):
    source = plan_source(corpus / "androidx_building_hdr_1080p.mp4", tmp_path)
    assert (source.hdr, source.pix_fmt) == ("hlg", "yuv420p10le")
    first = next(small_frames(source))
    assert 40 < first.luma.mean() < 200
