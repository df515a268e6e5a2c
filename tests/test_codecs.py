"""Every codec: exact frames, closed groups, one configuration, and ladders of several."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.jobs.request import LadderRequest, RunOptions
from cluster.package.comparison import compare_codecs
from cluster.package.package import Package
from encoder import framehash, mp4
from encoder.baseline import encode_at_crf
from encoder.encode import Encode, encode_shot
from encoder.errors import BadInput
from encoder.ffmpeg import run
from encoder.media import OperatingPoint, Shot
from encoder.package.verify import decode_command
from encoder.recipes import CODECS, PRESETS, by_name, recipe, typical_cpu_seconds
from encoder.source.planning import plan_source
from encoder.source.reference import ReferenceSource
from ladder.bdrate import RatePoint
from ladder.codecs import kept_rungs
from ladder.profiles import load_profile, profile_names
from tests.recipe_material import OPTIONS
from tests.running import SMALL, profile_like, run_inline

FOURCC = {"x264": "avc1", "x265": "hvc1", "svtav1": "av01", "vp9": "vp09"}
MODEL = "vmaf_v1.0.16_3d0h"


@pytest.fixture(scope="module")
def source(tiny_title: Path, tmp_path_factory: pytest.TempPathFactory) -> ReferenceSource:
    return plan_source(tiny_title, tmp_path_factory.mktemp("work"))


def point(codec: str, crf: float, preset: str = "veryfast") -> OperatingPoint:
    return OperatingPoint(by_name(f"{codec}-{preset}"), 192, 108, crf)


def hashes(init: bytes, *media: bytes, codec: str) -> tuple[str, ...]:
    command = decode_command(recipe(codec, "medium").pixel_format)
    return framehash.parse(run(command, stdin=[init, *media]).stdout)


def parts(encode: Encode) -> tuple[bytes, bytes]:
    return encode.init_path.read_bytes(), encode.media_path.read_bytes()


@pytest.mark.parametrize("codec", CODECS)
def test_one_configuration_over_the_whole_crf_range(source, tmp_path: Path, codec):
    low, high = recipe(codec, "medium").crf_range
    crfs = [low, 20, 30, 41, high]
    encodes, _ = encode_shot(source, Shot(0, 8), [point(codec, crf) for crf in crfs], tmp_path)
    assert len({encode.codec_sha256 for encode in encodes}) == 1
    assert encodes[0].codecs.startswith(FOURCC[codec] + ".")
    sizes = [encode.num_bytes for encode in encodes]
    assert sizes == sorted(sizes, reverse=True)


PROFILED = sorted(
    {
        profile.recipe(codec).name
        for profile in map(load_profile, profile_names())
        for codec in CODECS
    }
)
TRIED = sorted({name for name in OPTIONS if by_name(name).codec != "vp9"} - {*PROFILED})


@pytest.mark.parametrize("name", [*PROFILED, *TRIED])
def test_a_recipe_has_one_configuration_whatever_the_shot_and_its_crf(source, tmp_path, name):
    """What a tuning changes may reach the codec configuration; CRF and length of a shot may not."""
    found = set()
    low, high = by_name(name).crf_range
    for number, (shot, crfs) in enumerate([(Shot(0, 3), [low, 30]), (Shot(20, 34), [24, high])]):
        folder = tmp_path / str(number)
        folder.mkdir()
        points = [OperatingPoint(by_name(name), 192, 108, crf) for crf in crfs]
        encodes, _ = encode_shot(source, shot, points, folder)
        found |= {encode.codec_sha256 for encode in encodes}
    assert len(found) == 1


def test_the_default_tuning_makes_slower_presets_of_x264_share_a_configuration(source, tmp_path):
    tuning = load_profile().recipe("x264").tuning
    presets = ("medium", "slow", "veryslow")
    points = [OperatingPoint(recipe("x264", each, tuning), 192, 108, 30) for each in presets]
    encodes, _ = encode_shot(source, Shot(0, 8), points, tmp_path)
    assert len({encode.codec_sha256 for encode in encodes}) == 1
    plain = [OperatingPoint(recipe("x264", each), 192, 108, 30) for each in presets]
    encodes, _ = encode_shot(source, Shot(0, 8), plain, tmp_path)
    assert len({encode.codec_sha256 for encode in encodes}) > 1


@pytest.mark.parametrize("codec", CODECS)
def test_profiles_are_in_order_of_effort(codec):
    """Whoever asks for quick, default or popular gets presets in that order, of any codec."""
    presets = [load_profile(name).recipe(codec).preset for name in ("quick", "default", "popular")]
    efforts = [PRESETS.index(preset) for preset in presets]
    assert efforts == sorted(set(efforts))


@pytest.mark.parametrize("codec", CODECS)
def test_slower_presets_are_expected_to_take_longer(codec):
    seconds = [typical_cpu_seconds(recipe(codec, each), 640, 360, 48, 28) for each in PRESETS]
    assert seconds == sorted(seconds)
    assert seconds[-1] > 3 * seconds[PRESETS.index("medium")]


def test_pinned_references_are_expected_to_save_most_of_a_slow_preset():
    def times(name: str) -> float:
        medium = typical_cpu_seconds(by_name("x264-medium"), 640, 360, 48, 28)
        return typical_cpu_seconds(by_name(name), 640, 360, 48, 28) / medium

    assert times("x264-veryslow+psy-rd=0.4,0:ref=3") == pytest.approx(2.2)
    assert times("x264-veryslow+ref=16") == times("x264-veryslow") > 4
    assert times("x264-slow+ref=3") < times("x264-slow")
    assert times("x264-medium+ref=3") == 1


@pytest.mark.parametrize("codec", CODECS)
def test_shots_of_other_crfs_decode_in_a_row_as_they_do_alone(source, tmp_path: Path, codec):
    """Closed groups: what was measured alone is what a player sees of the whole rung."""
    shots = [(Shot(0, 24), 25), (Shot(24, 60, (48,)), 42), (Shot(60, 72), 33)]
    alone: list[str] = []
    media: list[bytes] = []
    init = b""
    for number, (shot, crf) in enumerate(shots):
        folder = tmp_path / str(number)
        folder.mkdir()
        (encode,), _ = encode_shot(source, shot, [point(codec, crf)], folder)
        own, segment = parts(encode)
        init = init or own
        keys = [s.is_sync for s in mp4.sample_table(own, segment)]
        assert [n for n, key in enumerate(keys) if key] == [0, *(c - shot.start for c in shot.cuts)]
        found = hashes(own, segment, codec=codec)
        assert len(found) == shot.frames
        alone += found
        media.append(segment)
    assert hashes(init, *media, codec=codec) == tuple(alone)


@pytest.mark.parametrize("codec", CODECS)
def test_the_bits_depend_on_the_point_alone(source, tmp_path: Path, codec):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    (alone,), _ = encode_shot(source, Shot(10, 30), [point(codec, 34)], first)
    company, _ = encode_shot(
        source, Shot(10, 30), [point(codec, 45), point(codec, 34), point("x264", 30)], second
    )
    assert parts(company[1]) == parts(alone)


@pytest.mark.parametrize("codec", CODECS)
def test_a_step_of_crf_is_another_encode(source, tmp_path: Path, codec):
    step = recipe(codec, "medium").crf_step
    points = [point(codec, 34), point(codec, 34 + step), point(codec, 35)]
    encodes, _ = encode_shot(source, Shot(0, 24), list(dict.fromkeys(points)), tmp_path)
    media = [parts(encode)[1] for encode in encodes]
    assert len(set(media)) == len(media) == (3 if step < 1 else 2)


def test_crfs_between_the_steps_are_refused():
    with pytest.raises(ValueError, match=r"steps of 1"):
        recipe("vp9", "medium").arguments(30.5)
    with pytest.raises(ValueError, match=r"outside 1 to 63"):
        recipe("svtav1", "medium").arguments(64)
    with pytest.raises(BadInput, match="no recipe for codec 'of nothing known'"):
        by_name("of nothing known")


@pytest.mark.parametrize("codec", CODECS)
def test_every_preset_names_a_recipe_of_its_own(codec):
    recipes = [recipe(codec, preset) for preset in PRESETS]
    assert len({made.options for made in recipes}) == len(PRESETS)
    assert [by_name(made.name) for made in recipes] == recipes
    with pytest.raises(BadInput, match="no preset '13'"):
        recipe(codec, "13")


@pytest.mark.parametrize("codec", CODECS)
def test_a_per_title_rung_in_one_process(source, tmp_path: Path, codec):
    whole, _ = encode_at_crf(source, point(codec, 40), (0, 24, 48), tmp_path / "crf.mp4")
    assert whole.segment_frames == (24, 24, 24)


# -- ladders of several codecs -------------------------------------------------------------------

ladders = st.lists(
    st.tuples(st.integers(1, 9), st.integers(1, 9)).map(lambda p: RatePoint(*map(float, p))),
    min_size=1,
    max_size=6,
)


@given(ladders, ladders, ladders)
def test_nobody_loses_by_a_dropped_rung(first, second, third):
    given_ = {"a": first, "b": second, "c": third}
    kept = kept_rungs(given_)
    assert kept["a"] == tuple(range(len(first)))
    left = [given_[codec][number] for codec in given_ for number in kept[codec]]
    for codec, rungs in given_.items():
        for number, rung in enumerate(rungs):
            if number not in kept[codec]:
                assert any(o.rate <= rung.rate and o.quality >= rung.quality for o in left)
            elif codec != "a":
                others = [r for name in given_ if name != codec for r in given_[name]]
                assert not any(o.rate < rung.rate and o.quality > rung.quality for o in others)


def test_of_equal_rungs_the_codec_named_first_stays():
    same = [RatePoint(100.0, 50.0)]
    assert kept_rungs({"x264": same, "x265": same, "svtav1": same}) == {
        "x264": (0,),
        "x265": (),
        "svtav1": (),
    }
    assert kept_rungs({"x264": [RatePoint(200.0, 50.0)], "x265": same, "svtav1": same}) == {
        "x264": (0,),
        "x265": (0,),
        "svtav1": (),
    }


@pytest.mark.parametrize(
    ("codec", "said"),
    [("x264,vp10", "no recipe for codec 'vp10'"), ("x264,x264", "a codec twice"), ("", "codec ''")],
)
def test_codecs_that_are_not_there_are_one_line(tmp_path: Path, codec, said):
    with pytest.raises(BadInput, match=said):
        LadderRequest.of(RunOptions(tmp_path / "title.mp4", tmp_path / "out", codec=codec))


def test_an_encoder_that_this_ffmpeg_lacks_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Found before any work, not by the first encode."""
    monkeypatch.setattr("cluster.jobs.request.ffmpeg.lacking", lambda names: tuple(names))
    options = RunOptions(tmp_path / "title.mp4", tmp_path / "out", codec="x264,svtav1")
    with pytest.raises(BadInput, match="needs libsvtav1, which this ffmpeg lacks"):
        LadderRequest.of(options).check_encoders()
    LadderRequest.of(replace(options, codec="x264")).check_encoders()


def test_a_ladder_of_two_codecs(tmp_path: Path):
    from fixtures.clips import make

    title = make(replace(SMALL, scenes=SMALL.scenes[:2]), tmp_path / "title.mp4")
    profile = profile_like(
        "two",
        crf_grid={"x264": [24, 40], "svtav1": [30, 55]},
        source_cap=False,
    )
    asked = {"search": "exhaustive", "profile": profile, "heights": (180,)}
    both = run_inline(
        title, tmp_path / "both", tmp_path / "store", codec="x264,svtav1", **asked
    ).ladder
    one = run_inline(title, tmp_path / "one", tmp_path / "store", codec="x264", **asked).ladder
    # The first codec's ladder is what it is without the second.
    own = [rung for rung in both.rungs if rung.codec == "x264"]
    assert [r.bitrate for r in own] == [r.bitrate for r in one.rungs]
    assert [r.name for r in own] == [f"x264-{r.name}" for r in one.rungs]
    assert one.codecs == []
    av1 = [rung for rung in both.rungs if rung.codec == "svtav1"]
    assert {rung.recipe for rung in av1} == {"svtav1-ultrafast"}
    assert all(rung.codecs.startswith("av01.") for rung in av1)
    first, second = both.codecs
    assert (first.codec, first.dropped, first.bd_rate_percent) == ("x264", [], {MODEL: 0.0})
    assert second.rungs == len(av1) + len(second.dropped)
    percent = second.bd_rate_percent[MODEL]
    assert percent is not None
    assert percent < 0
    for rung in av1:
        assert not any(
            other.bitrate < rung.bitrate and other.quality[MODEL].mean > rung.quality[MODEL].mean
            for other in own
        )
    master = (tmp_path / "both" / "master.m3u8").read_text()
    manifest = (tmp_path / "both" / "manifest.mpd").read_text()
    assert 'CODECS="avc1.' in master
    assert 'CODECS="av01.' in master
    assert manifest.count('contentType="video"') == 2
    # Two packages of the same title, and one of several codecs: the same comparison.
    other = tmp_path / "av1"
    run_inline(title, other, tmp_path / "store", codec="svtav1", **asked)
    alone, several = Package.open(tmp_path / "one"), Package.open(tmp_path / "both")
    assert several.ladder == both
    (between,) = compare_codecs(alone, [Package.open(other)])
    (within,) = compare_codecs(several)
    assert (between.anchor, between.test) == ("x264-ultrafast", "svtav1-ultrafast")
    assert (within.anchor, within.test, within.percent) == (between.anchor, between.test, percent)
    assert between.percent == pytest.approx(percent, abs=0.01)
    foreign = one.title.model_copy(update={"sha256": "0" * 64})
    stranger = one.model_copy(update={"title": foreign})
    with pytest.raises(BadInput, match="another title"):
        compare_codecs(several, [Package.of(other, stranger, alone.measurements)])
