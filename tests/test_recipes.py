"""Recipes and their tunings: names that say everything, and parameters that reach the stream."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder import ffmpeg
from encoder.encode import Encode, check_tuning, encode_shot
from encoder.errors import BadInput, ToolFailed
from encoder.ffmpeg import Command, as_arguments, run
from encoder.media import OperatingPoint, Shot
from encoder.recipes import CODECS, PRESETS, Recipe, by_name, recipe
from encoder.source.planning import plan_source
from encoder.source.reference import ReferenceSource
from encoder.tunings import FILE_PARAMETERS, TUNABLE, TUNES, check_parameters
from ladder.profiles import built_in_recipes, load_profile

VALUES = {
    "bframes": "3", "ctu": "32", "deblock": "0,0", "direct": "auto", "lookahead": "20",
    "max-merge": "2", "me": "hex", "merange": "16", "partitions": "all", "qg-size": "32",
    "qm-max": "15", "qm-min": "8", "rc-lookahead": "20", "rd": "3", "ref": "3", "subme": "5",
    "variance-boost-strength": "2", "variance-octile": "5",
}  # fmt: skip
"""Values of the parameters that do not take 1."""
TUNE = {"x264": "film", "x265": "grain"}


def all_tunings() -> list[Recipe]:
    return [
        recipe(codec, "veryfast", f"{name}={TUNE.get(codec, '1') if name == 'tune' else value}")
        for codec, names in TUNABLE.items()
        for name in sorted(names)
        for value in (VALUES.get(name, "1"),)
    ]


def delivered() -> list[Recipe]:
    """The recipes of the built-in profiles that have a tuning, which no run tries again."""
    return sorted(one for one in built_in_recipes() if one.tuning)


@pytest.fixture(scope="module")
def source(tiny_title: Path, tmp_path_factory: pytest.TempPathFactory) -> ReferenceSource:
    return plan_source(tiny_title, tmp_path_factory.mktemp("work"))


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    codec = draw(st.sampled_from(sorted(CODECS)))
    names = draw(st.lists(st.sampled_from(sorted(TUNABLE[codec]) or [""]), unique=True))
    number = st.integers(-99, 99) | st.decimals(-9, 9, places=2)
    numbers = st.lists(number, min_size=1, max_size=3)
    parameters = [f"{name}={','.join(map(str, draw(numbers)))}" for name in names
                  if name not in ("", "tune")]  # fmt: skip
    if "tune" in names:
        tunes = range(len(TUNES[codec])) if codec == "svtav1" else TUNES[codec]
        parameters.append(f"tune={draw(st.sampled_from(tunes))}")
    return recipe(codec, draw(st.sampled_from(PRESETS)), ":".join(parameters))


@given(recipes())
def test_a_name_says_everything(made: Recipe) -> None:
    assert by_name(made.name) == made
    assert made.plain == recipe(made.codec, made.preset)
    assert made.plain.plain == made.plain
    assert (made == made.plain) == (not made.tuning)
    assert str(made) == f"{made.codec}-{made.preset}" + (f"+{made.tuning}" if made.tuning else "")


def test_a_plain_recipe_has_the_arguments_of_release_0_1() -> None:
    """Their encodes are in stores, under keys that hold these words."""
    common = "keyint=infinite:scenecut=0:open-gop=0:stitchable=1"
    assert dict(by_name("x264-medium").options)["x264-params"] == common
    assert dict(by_name("svtav1-medium").options)["svtav1-params"] == "keyint=-1:scd=0:lp=1"
    tuned = by_name("x264-slow+psy-rd=0.4,0:ref=3")
    assert dict(tuned.options)["x264-params"] == f"{common}:psy-rd=0.4,0:ref=3"
    assert dict(tuned.options)["preset"] == "slow"


@pytest.mark.parametrize(
    "name",
    [
        *("crf", "qp", "bitrate", "vbv-maxrate", "pass", "zones", "qpmin"),  # rate control
        *("keyint", "min-keyint", "scenecut", "intra-refresh", "open-gop", "stitchable"),
        *("stats", "qpfile", "cqmfile", "dump-yuv", "log-file-level", "csv", "recon"),  # files
        *("threads", "sliced-threads", "frame-threads", "pools", "lp", "opencl"),
        *("sar", "colorprim", "overscan", "info", "repeat-headers", "aud", "preset", "tune"),
    ],
)
def test_a_tuning_sets_nothing_that_belongs_to_others(name: str) -> None:
    """Neither files, rate control, threads and keyframes nor what headers state."""
    for codec in CODECS:
        if name == "tune" and TUNES[codec]:
            continue  # named for users; what a tune may be is tested by itself
        with pytest.raises(
            BadInput, match=f"^a tuning of {codec} cannot set '{name}', since .*; the par"
        ):
            recipe(codec, "medium", f"{name}=1")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("dump-yuv", "it names a file that the encoder reads or writes"),
        ("crf", "the rate is what the search decides"),
        ("keyint", "keyframes lie where shots begin"),
        ("pools", "an encode has one thread"),
        ("colorprim", "it is not known to change only how the pictures of a shot are encoded"),
    ],
)
def test_a_parameter_is_refused_by_name_and_with_the_reason(name: str, why: str) -> None:
    with pytest.raises(BadInput, match=f"cannot set '{name}', since {why}.*; the parameters that"):
        recipe("x264", "medium", f"{name}=/etc/passwd")


def parameter_names() -> set[str]:
    """Every name in the installed ffmpeg that an encoder might have for a parameter: its encoders
    are part of it, and its words hold all of theirs."""
    binary = Path(ffmpeg.binary()).read_bytes()
    words = re.findall(rb"\0([a-z0-9][a-z0-9-]{1,40})(?=\0)", binary)
    parts = (word.decode().split("-") for word in set(words))
    names = {"-".join(part[first:]) for part in parts for first in range(len(part))}
    return {name for name in names if name[:1].isalnum()} | FILE_PARAMETERS


def test_every_other_parameter_of_the_installed_encoders_is_refused() -> None:
    """Also those that a later build may bring: what is not known to be harmless is not taken."""
    names = parameter_names()
    in_x264, in_x265 = {"dump-yuv", "cqmfile", "opencl-clbin"}, {"lambda-file", "nalu-file", "csv"}
    assert names > in_x264 | in_x265 | {"stats", "analysis-save", "analysis-load", "scaling-list"}
    for codec in CODECS:
        taken = set()
        for name in names:
            said = ""
            try:
                check_parameters(codec, f"{name}=1")
                taken.add(name)
            except BadInput as refused:
                said = refused.message
            assert name in taken or f"cannot set '{name}', since " in said
        assert taken == TUNABLE[codec] & names
    assert not FILE_PARAMETERS & frozenset().union(*TUNABLE.values())


def files_opened(codec: str, parameters: Sequence[str], folder: Path) -> set[str]:
    """Give an encoder the path of a file of its own for each parameter; return the parameters whose
    files it opens or makes."""
    folder.mkdir()
    for name in parameters:
        (folder / name).write_text("1 1\n")
    values = ":".join(f"{name}={folder / name}" for name in parameters)
    plain = recipe(codec, "ultrafast")
    more = ":pass=1:bitrate=100" if "stats" in parameters else ""
    options = dict(plain.options) | {f"{codec}-params": values + more}
    grey = ("-v", "error", "-f", "lavfi", "-i", "color=gray:s=320x192:r=25:d=0.2")
    line = as_arguments({"c:v": plain.encoder, **options})
    command = Command.of([*grey, *line, "-pix_fmt", plain.pixel_format, "-f", "null", "-"])
    with watched(folder) as opened, contextlib.suppress(ToolFailed):
        run(command, timeout_seconds=60)
    return {name for name in parameters if any(file.startswith(name) for file in opened)}


@contextlib.contextmanager
def watched(folder: Path) -> Iterator[set[str]]:
    """Fill a set with the names of the files in a folder that anybody opens meanwhile."""
    system = ctypes.CDLL(None)
    opened: set[str] = set()
    descriptor = system.inotify_init1(os.O_NONBLOCK)
    try:
        watch = system.inotify_add_watch(descriptor, os.fsencode(folder), 0x20)  # IN_OPEN
        assert min(descriptor, watch) >= 0
        yield opened
        with contextlib.suppress(BlockingIOError):
            while events := os.read(descriptor, 1 << 16):
                while events:
                    *_, length = struct.unpack_from("iIII", events)
                    opened.add(events[16 : 16 + length].rstrip(b"\0").decode())
                    events = events[16 + length :]
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("codec", "name"),
    [
        *(("x264", name) for name in ("dump-yuv", "cqmfile", "stats")),
        *(("x265", name) for name in ("lambda-file", "csv", "analysis-save", "analysis-load",
          "nalu-file", "scaling-list", "film-grain", "aom-film-grain", "stats")),
    ],
)  # fmt: skip
def test_encoders_open_files_where_they_are_let(codec: str, name: str, tmp_path: Path) -> None:
    """So that the next test would see it."""
    assert files_opened(codec, [name], tmp_path / "f") == {name}
    assert name in FILE_PARAMETERS


@pytest.mark.parametrize("codec", [codec for codec in CODECS if TUNABLE[codec]])
def test_no_parameter_of_a_tuning_opens_a_file(codec: str, tmp_path: Path) -> None:
    """Even if it could be given the path of one."""
    assert files_opened(codec, sorted(TUNABLE[codec]), tmp_path / "f") == set()


@pytest.mark.parametrize(
    ("tuning", "says"),
    [
        ("ref", "has 'ref'; write parameters as name=value"),
        ("ref=", "has 'ref='"),
        ("=3", "has '=3'"),
        ("ref=3:", "has ''"),
        (":ref=3", "has ''"),
        ("ref=3::bframes=3", "has ''"),
        ("ref = 3", "has 'ref = 3'"),
        ("ref=3 -y", "has 'ref=3 -y'"),
        ("ref=3\n", r"has 'ref=3\\n'"),
        ("ref=3;rm", "has 'ref=3;rm'"),
        ("psy-rd=1-2", "has 'psy-rd=1-2'"),
        ("psy-rd=1,", "has 'psy-rd=1,'"),
        ("psy-rd=.4", "has 'psy-rd=.4'"),
        ("ref=/etc/passwd", "has 'ref=/etc/passwd'"),
        ("ref=..", "has 'ref=..'"),
        ("Ref=3", "has 'Ref=3'"),
        ("ref=3=4", "has 'ref=3=4'"),
        ("psy-rd=strong", "has 'psy-rd=strong'; use a number"),
        ("ref=3:ref=4", "sets ref twice"),
    ],
)
def test_a_tuning_that_is_none_is_refused_in_one_line(tuning: str, says: str) -> None:
    with pytest.raises(BadInput, match=says) as refused:
        recipe("x264", "medium", tuning)
    assert "\n" not in refused.value.message
    with pytest.raises(BadInput):
        by_name(f"x264-medium+{tuning}")


def test_a_name_that_ends_with_its_plus_sign_is_refused() -> None:
    with pytest.raises(BadInput, match="has a plus sign and no tuning after it"):
        by_name("x264-medium+")


@pytest.mark.parametrize("codec", [codec for codec in CODECS if TUNABLE[codec]])
def test_the_encoder_knows_every_parameter_that_a_tuning_may_set(codec: str) -> None:
    for one in all_tunings():
        if one.codec == codec:
            check_tuning(one)


@pytest.mark.parametrize("one", delivered(), ids=str)
def test_the_encoder_takes_the_tunings_of_the_profiles(one: Recipe) -> None:
    check_tuning(one)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("x264-medium+me=foo", "'me=foo': Error parsing option 'me = foo'"),
        ("x265-medium+me=foo", "'me=foo': Invalid value for me: foo"),
        ("x265-medium+psy-rd=90", "'psy-rd=90': Psy-rd strength must be between 0 and 5.0"),
        ("svtav1-faster+tune=9", "'tune=9': Invalid tune flag"),
        ("svtav1-faster+enable-qm=7", "'enable-qm=7': Error parsing option enable-qm: 7"),
    ],
)
def test_a_value_that_the_encoder_does_not_take_is_refused(name: str, says: str) -> None:
    """ffmpeg warns of most of them, and encodes without: under a name that promised them."""
    with pytest.raises(BadInput, match=f"does not take the tuning {re.escape(says)}"):
        check_tuning(by_name(name))


def encoded(source: ReferenceSource, folder: Path, *names: str) -> list[Encode]:
    points = [OperatingPoint(by_name(name).self_describing, 192, 108, 30) for name in names]
    return list(encode_shot(source, Shot(0, 24), points, folder)[0])


def decoded(encode: Encode, folder: Path) -> str:
    whole = folder / "whole.mp4"
    whole.write_bytes(encode.init_path.read_bytes() + encode.media_path.read_bytes())
    frames = Command.of(["-v", "error", "-i", whole, "-f", "framemd5", "-"])
    return run(frames, timeout_seconds=60).stdout.decode()


def x264_settings(encode: Encode) -> dict[str, str]:
    """What x264 wrote into its stream of how it encoded."""
    found = re.search(rb"x264 - core .*? - options: ([ -~]*)", encode.media_path.read_bytes())
    assert found is not None
    return dict(word.partition("=")[::2] for word in found[1].decode().split())


def test_only_plain_encodes_say_how_they_were_made(source: ReferenceSource, tmp_path: Path) -> None:
    names = ("x264-medium", "x264-medium+ref=3")
    points = [OperatingPoint(by_name(name), 192, 108, 30) for name in names]
    (plain, tuned), _ = encode_shot(source, Shot(0, 24), points, tmp_path)
    assert x264_settings(plain)["ref"] == "3"
    assert b"x264" not in tuned.media_path.read_bytes()
    assert plain.num_bytes - tuned.num_bytes == 693
    assert plain.codec_sha256 == tuned.codec_sha256
    assert decoded(plain, tmp_path) == decoded(tuned, tmp_path)


def test_a_tuning_of_x264_reaches_the_stream(source: ReferenceSource, tmp_path: Path) -> None:
    tuning = "psy-rd=0.4,0:ref=2:bframes=1:weightp=1:aq-strength=0.7:rc-lookahead=17:me=umh"
    plain, tuned = encoded(source, tmp_path, "x264-medium", f"x264-medium+{tuning}")
    assert x264_settings(plain).items() >= {
        "psy_rd": "1.00:0.00", "ref": "3", "bframes": "3", "weightp": "2", "aq": "1:1.00",
        "rc_lookahead": "40", "me": "hex", "stitchable": "1", "keyint": "infinite",
    }.items()  # fmt: skip
    assert x264_settings(tuned).items() >= {
        "psy_rd": "0.40:0.00", "ref": "2", "bframes": "1", "weightp": "1", "aq": "1:0.70",
        "rc_lookahead": "17", "me": "umh", "stitchable": "1", "keyint": "infinite",
    }.items()  # fmt: skip


@pytest.mark.parametrize("name", ["default", "popular", "quick"])
def test_the_recipe_of_a_profile_is_what_its_stream_says(
    source: ReferenceSource, tmp_path: Path, name: str
) -> None:
    recipe = load_profile(name).recipe("x264")
    (encode,) = encoded(source, tmp_path, recipe.name)
    says = x264_settings(encode)
    tuning = dict(part.split("=") for part in recipe.tuning.split(":"))
    assert says["psy_rd"] == "0.40:0.00"
    assert tuning["psy-rd"] == "0.4,0"
    for parameter in ("ref", "bframes", "weightp"):
        assert says[parameter] == tuning[parameter]
    assert says["subme"] == {"faster": "4", "slow": "8", "veryslow": "10"}[recipe.preset]


@pytest.mark.parametrize("tuned", ["x265-medium+aq-mode=0", "svtav1-faster+tune=2"])
def test_a_tuning_of_other_codecs_changes_the_bits(
    source: ReferenceSource, tmp_path: Path, tuned: str
) -> None:
    one, other = encoded(source, tmp_path, by_name(tuned).plain.name, tuned)
    assert one.media_path.read_bytes() != other.media_path.read_bytes()


@pytest.mark.parametrize("one", delivered(), ids=str)
def test_a_tuned_recipe_has_one_configuration_over_all_crfs(
    source: ReferenceSource, tmp_path: Path, one: Recipe
) -> None:
    """Segments of different CRFs share an init, or players show garbage."""
    low, high = one.crf_range
    points = [OperatingPoint(one, 192, 108, crf) for crf in (low, 20, 33, high)]
    encodes, _ = encode_shot(source, Shot(0, 24), points, tmp_path)
    assert len({encode.codec_sha256 for encode in encodes}) == 1
