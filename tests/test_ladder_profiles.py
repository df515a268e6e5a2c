"""Profiles."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from encoder.errors import BadInput
from encoder.recipes import CODECS, recipe
from ladder.profiles import (
    load_profile,
    profile_before,
    profile_document,
    profile_from,
    profile_from_document,
    profile_from_file,
    profile_names,
    profile_sha256,
)

HEIGHTS = load_profile().heights


def test_the_default_profile_says_what_the_design_says() -> None:
    profile = load_profile()
    assert profile.crf_grid["x264"] == tuple(float(crf) for crf in range(14, 47, 4))
    assert (profile.jnd, profile.max_rate_ratio, profile.peak_ratio) == (6, 2, 2)
    assert (profile.vbv_seconds, profile.floor, profile.source_cap) == (None, None, True)
    assert HEIGHTS == (224, 288, 432, 576, 720, 1080, 1440, 2160)


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_loads_and_has_nine_half_step_crfs_per_codec(name: str) -> None:
    profile = load_profile(name)
    for grid in profile.crf_grid.values():
        assert len(grid) == 9
        assert all(crf * 2 == int(crf * 2) for crf in grid)


def test_other_profiles_change_the_default() -> None:
    assert load_profile("constrained").vbv_seconds == 2
    assert load_profile("constrained").jnd == load_profile().jnd


def test_an_unknown_profile_names_those_there_are() -> None:
    with pytest.raises(BadInput, match="'nope'; choose one of default"):
        load_profile("nope")


def test_a_profile_with_wrong_keys_or_numbers_is_refused() -> None:
    good = {
        field.name: 0 if (value := getattr(load_profile(), field.name)) is None else value
        for field in dataclasses.fields(load_profile())
        if field.name != "name"
    }
    assert dataclasses.replace(load_profile(), name="x") == profile_from("x", good)
    with pytest.raises(BadInput, match="unknown key 'bogus'; the keys are heights, crf_grid"):
        profile_from("x", {**good, "bogus": 1})
    with pytest.raises(BadInput, match="first_rate ascends"):
        profile_from("x", {**good, "first_rate": [2, 1]})
    with pytest.raises(BadInput, match="rates and first_rate are positive"):
        profile_from("x", {**good, "rates": [0, 1]})
    with pytest.raises(BadInput, match="under 1"):
        profile_from("x", {**good, "peak_ratio": 0.5})
    with pytest.raises(BadInput, match="needs a peak_ratio"):
        profile_from("x", {**good, "peak_ratio": 0, "vbv_seconds": 1})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"jnd": "six"}, "jnd is 'six'; it has to be a number"),
        ({"jnd": True}, "jnd is True; it has to be a number"),
        ({"jnd": float("nan")}, "jnd is nan; it has to be a number"),
        ({"peak_ratio": "off"}, "peak_ratio is 'off'; it has to be a number, 0 for no limit"),
        ({"source_cap": 1}, "source_cap is 1; it has to be true or false"),
        ({"heights": 720}, "heights is 720; it has to be a list of whole numbers"),
        ({"heights": [720.5]}, r"heights is \[720.5\]; it has to be a list of whole numbers"),
        ({"first_rate": [1, 2, 3]}, "first_rate .* two numbers"),
        ({"rates": ["1M"]}, "rates .* a list of rates in bit/s"),
        ({"crf_grid": [14, 46]}, "crf_grid .* a table with a list of CRFs for each codec"),
        ({"crf_grid": {"h264": [14]}}, "crf_grid has the unknown codec 'h264'; choose one of x264"),
        ({"crf_grid": {"x264": [14.2]}}, "crf_grid of x264 needs CRFs in steps of 0.5"),
        ({"crf_grid": {"vp9": [15.5]}}, "crf_grid of vp9 needs CRFs in steps of 1"),
        ({"crf_grid": {"x264": [-10, 24]}}, "crf_grid of x264 needs CRFs .* from 4 to 51"),
        ({"jnd": 10**400}, "jnd is .*; it has to be a number"),
        ({"crf_grid": {"x264": []}}, "crf_grid of x264 needs CRFs"),
        ({"codecs": "x264"}, "codecs is 'x264'; it has to be a list of codecs"),
        ({"codecs": [264]}, r"codecs is \[264\]; it has to be a list of codecs"),
        ({"codecs": []}, "codecs is empty; name at least one codec"),
        ({"codecs": ["h264"]}, "the codec 'h264' is unknown; choose one of x264, x265"),
        ({"codecs": ["x264", "x264"]}, "codecs names a codec twice"),
        ({"hdr_codecs": ["x265", "x265"]}, "hdr_codecs names a codec twice"),
        ({"hdr_codecs": ["av1"]}, "the codec 'av1' is unknown; choose one of x264, x265"),
        ({"hdr_codecs": None}, "hdr_codecs is None; it has to be a list of codecs"),
        ({"recipes": ["slow"]}, r"recipes is \['slow'\]; it has to be a table with a preset"),
        ({"recipes": {"x264": 5}}, "recipes is {'x264': 5}; it has to be a table with a preset"),
        ({"recipes": {"h264": "slow"}}, "the codec 'h264' is unknown; choose one of x264"),
        ({"recipes": {"x264": "warp"}}, "x264 has no preset 'warp'; choose one of ultrafast"),
        ({"recipes": {"x264": "slow+crf=9"}}, "a tuning of x264 cannot set 'crf', .*; the param"),
        ({"recipes": {"x264": "slow+ref"}}, "the tuning 'ref' of x264 has 'ref'; write parameters"),
        ({"recipes": {"x264": "slow+"}}, "the recipe 'x264-slow.' has a plus sign and no tuning"),
        ({"recipes": {"vp9": "slow+ref=3"}}, "a tuning of vp9 cannot set 'ref', .* are: none"),
    ],
)
def test_a_wrong_value_is_named_with_what_it_has_to_be(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInput, match=f"^profile default: {message}") as caught:
        dataclasses.replace(load_profile(), **change)
    assert "\n" not in str(caught.value)


def test_equal_profiles_compare_equal_whatever_they_were_made_from() -> None:
    made = dataclasses.replace(
        load_profile(), heights=[720, 360], jnd=6, floor=0, first_rate=[145_000, 300_000]
    )
    assert (made.heights, made.floor) == ((360, 720), None)
    assert made == dataclasses.replace(load_profile(), heights=(360, 720))
    assert profile_sha256(made) == profile_sha256(
        dataclasses.replace(load_profile(), heights=(360, 720))
    )


def written(folder: Path, text: str, name: str = "sports.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_profile_file_changes_what_it_names(tmp_path: Path) -> None:
    profile = profile_from_file(written(tmp_path, "jnd = 4\nheights = [720, 360]\n"))
    assert profile == dataclasses.replace(
        load_profile(), name="sports", jnd=4.0, heights=(360, 720), placement="spacing"
    )


def test_a_profile_file_may_be_based_on_another_profile(tmp_path: Path) -> None:
    profile = profile_from_file(written(tmp_path, 'based_on = "archive"\nfloor = 50\n'))
    assert profile == dataclasses.replace(load_profile("archive"), name="sports", floor=50.0)


def test_a_profile_file_changes_the_recipes_that_it_names(tmp_path: Path) -> None:
    text = 'codecs = ["svtav1", "x264"]\n[recipes]\nx264 = "faster+ref=2"\n'
    profile, default = profile_from_file(written(tmp_path, text)), load_profile()
    assert profile.codecs == ("svtav1", "x264")
    assert profile.recipe("x264") == recipe("x264", "faster", "ref=2")
    for codec in ("x265", "svtav1", "vp9"):
        assert profile.recipe(codec) == default.recipe(codec)


def test_an_empty_profile_file_is_the_default_by_another_name(tmp_path: Path) -> None:
    assert profile_from_file(written(tmp_path, "")) == dataclasses.replace(
        load_profile(), name="sports"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jnd = six", "is not valid TOML"),
        ("bogus = 1", "sports.toml: profile sports: unknown key 'bogus'; the keys are heights"),
        ('jnd = "six"', "sports.toml: profile sports: jnd is 'six'; it has to be a number"),
        ('based_on = "nope"', "based_on is 'nope'; choose one of default, constrained"),
        ("based_on = [1]", r"based_on is \[1\]; choose one of default, constrained"),
        ("peak_ratio = 0.5", "peak_ratio 0.5 is under 1"),
        ('[recipes]\nx264 = "slow+stats=x"', "sports: a tuning of x264 cannot set 'stats'"),
        ('recipes = "slow"', "sports: recipes is 'slow'; it has to be a table"),
    ],
)
def test_a_wrong_profile_file_is_refused_in_one_line(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        profile_from_file(written(tmp_path, text))
    assert str(tmp_path / "sports.toml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_profile_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"gone.toml cannot be read \(No such file"):
        profile_from_file(tmp_path / "gone.toml")
    (tmp_path / "latin.toml").write_bytes(b'based_on = "\xe4"')
    with pytest.raises(BadInput, match="is not valid TOML"):
        profile_from_file(tmp_path / "latin.toml")


def test_a_profile_file_does_not_take_the_name_of_a_built_in_profile(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="name of the built-in profile archive; rename it"):
        profile_from_file(written(tmp_path, "jnd = 4", "archive.toml"))


@pytest.mark.parametrize("name", profile_names())
def test_a_document_gives_the_same_profile_back(name: str) -> None:
    profile = dataclasses.replace(load_profile(name), jnd=1 / 3, rates=(0.1 + 0.2, 1e6))
    document = json.loads(json.dumps(profile_document(profile)))
    assert document == profile_document(profile)
    assert profile_from_document(document) == profile
    assert profile_sha256(profile_from_document(document)) == profile_sha256(profile)


def test_digests_tell_profiles_apart() -> None:
    profiles = [load_profile(name) for name in profile_names()]
    profiles += [dataclasses.replace(profiles[0], name="other")]
    profiles += [dataclasses.replace(profiles[0], jnd=profiles[0].jnd + 1e-12)]
    digests = {profile_sha256(profile) for profile in profiles}
    assert len(digests) == len(profiles)
    assert all(len(digest) == 64 for digest in digests)


PROFILES_0_1 = {
    "default": "8acd4c9923e663062e08c8b5f27713cee1cc46eedb43dcd1106214d58e18f1ad",
    "constrained": "02a56f3a7e9a242f604a9d8c7f01d7831961012c84cc3fa67614e6513841ce5f",
    "replace-fixed": "98af251b04132a1763c59b8d9920be423aa6f9b7b7837417f95efb43ebedac0a",
    "archive": "9dea60ad802d2d4e2d47791e827d578a5b063dcf3dbe37280a39c9c3b2f4b0c8",
}
"""Digests of the built-in profiles of release 0.1."""


@pytest.mark.parametrize("name", PROFILES_0_1)
def test_the_profiles_of_release_0_1_are_what_they_were(name: str) -> None:
    """Documents, job identities and stored evaluations hold their digests."""
    profile = load_profile(profile_before(name))
    assert profile.name == f"{name}-0.1"
    was = dataclasses.replace(profile, name=name)
    assert profile_sha256(was) == PROFILES_0_1[name]
    assert [str(was.recipe(codec)) for codec in CODECS] == [f"{codec}-medium" for codec in CODECS]
    assert (was.codecs, was.hdr_codecs) == (("x264",), ())


def test_later_keys_stay_out_of_documents_that_do_not_use_them() -> None:
    plain = load_profile("default-0.1")
    document = profile_document(plain)
    assert not {"codecs", "hdr_codecs", "recipes"} & document.keys()
    assert profile_from_document(document) == plain
    for change in (
        {"codecs": ("x264", "vp9")},
        {"hdr_codecs": ("x265",)},
        {"recipes": {**plain.recipes, "x264": "slow"}},
    ):
        changed = dataclasses.replace(plain, name="x", **change)
        assert profile_document(changed).keys() - document.keys() == change.keys()
        assert profile_from_document(json.loads(json.dumps(profile_document(changed)))) == changed


def test_only_names_that_another_release_had_are_mapped() -> None:
    assert profile_before("auto") == "auto"
    assert profile_before("default-0.1") == "default-0.1"
    assert profile_before("sports") == "sports"


def test_another_preset_keeps_the_tuning_of_the_profile() -> None:
    profile = load_profile()
    tuning = profile.recipe("x264").tuning
    assert tuning
    assert profile.recipe("x264", "ultrafast") == recipe("x264", "ultrafast", tuning)
    assert profile.recipe("vp9", "fast") == recipe("vp9", "fast")
    with pytest.raises(BadInput, match="no preset 'warp'"):
        profile.recipe("x264", "warp")


def test_a_codec_without_a_recipe_has_the_plain_one() -> None:
    profile = dataclasses.replace(load_profile(), name="x", recipes={"x265": "slow"})
    assert profile.recipe("x265") == recipe("x265", "slow")
    assert profile.recipe("x264") == recipe("x264", "medium")


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_has_a_grid_and_a_recipe_for_its_codecs(name: str) -> None:
    profile = load_profile(name)
    for codec in (*profile.codecs, *profile.hdr_codecs):
        assert codec in profile.crf_grid
        assert codec in profile.recipes
    hdr = profile.hdr_codecs or profile.codecs
    assert profile.hdr_codecs == () or all(profile.recipe(c).bit_depth == 10 for c in hdr)


@pytest.mark.parametrize("document", [[], {}, {"name": 1}, {"name": ""}, {"name": "x"}])
def test_a_document_that_is_no_profile_is_refused(document: Any) -> None:
    with pytest.raises(BadInput):
        profile_from_document(document)
    with pytest.raises(BadInput, match="unknown key 'more'"):
        profile_from_document({**profile_document(load_profile()), "more": 1})


@pytest.mark.parametrize("name", ["", "\ud800", "a\nb", "../../x", "x" * 65, 3])
def test_a_name_is_plain(name: Any) -> None:
    with pytest.raises(BadInput, match=r"name is .*it has to be 1 to 64 letters, digits"):
        dataclasses.replace(load_profile(), name=name)


def test_a_grid_has_each_crf_once() -> None:
    twice = dataclasses.replace(load_profile(), name="x", crf_grid={"x264": [22, 22]})
    assert twice.crf_grid == {"x264": (22.0,)}
