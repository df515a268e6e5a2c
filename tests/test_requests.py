"""What a run's options mean, and the options of earlier releases."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.jobs.request import LadderOptions, LadderRequest, RunOptions, changed_ladder_options
from encoder import ffmpeg
from encoder.errors import BadInput
from encoder.recipes import CODECS, Recipe
from ladder.profiles import (
    Profile,
    load_profile,
    profile_document,
    profile_from_document,
    profile_names,
    profile_sha256,
)
from tests.running import quick_profile


def asked(**options: Any) -> RunOptions:
    return RunOptions(Path("title.mp4"), Path("out"), **options)


def recipes(**options: Any) -> list[str]:
    return [str(recipe) for recipe in LadderRequest.of(asked(**options)).recipes]


def title(hdr: str | None) -> Any:
    return SimpleNamespace(hdr=hdr)


@pytest.mark.parametrize("name", profile_names())
def test_a_profile_chooses_codecs_and_recipes(name: str) -> None:
    profile = load_profile(name)
    assert recipes(profile=name) == [str(profile.recipe(codec)) for codec in profile.codecs]


def test_a_codec_has_the_recipe_of_the_profile() -> None:
    profile = load_profile("popular")
    assert recipes(profile="popular", codec="svtav1,x265") == [
        str(profile.recipe("svtav1")),
        str(profile.recipe("x265")),
    ]


def test_a_preset_keeps_the_tuning() -> None:
    for codec in ("x264", "svtav1"):
        own = load_profile().recipe(codec)
        assert own.tuning
        assert recipes(codec=codec, preset="faster") == [f"{codec}-faster+{own.tuning}"]
    assert recipes(profile="default-0.1", preset="slow") == ["x264-slow"]


def test_the_default_is_no_changed_option() -> None:
    assert changed_ladder_options(asked()) == []
    assert changed_ladder_options(asked(codec="x264", preset="medium")) == ["codec", "preset"]


# -- high dynamic range --------------------------------------------------------------------------


def test_a_title_of_high_dynamic_range_has_the_codecs_for_it() -> None:
    request = LadderRequest.of(asked(profile="auto"))
    profile = request.profile
    hdr, sdr = request.for_source(title("hdr10")), request.for_source(title(None))
    assert hdr.recipes == tuple(profile.recipe(codec) for codec in profile.hdr_codecs)
    assert sdr.recipes == tuple(profile.recipe(codec) for codec in profile.codecs)
    assert hdr.hdr_recipes == sdr.hdr_recipes == ()


def test_a_codec_that_was_asked_for_is_not_replaced() -> None:
    request = LadderRequest.of(asked(profile="auto", codec="x265"))
    assert [str(one) for one in request.for_source(title("hlg")).recipes] == ["x265-medium"]
    with pytest.raises(BadInput, match=r"\(hlg\).*rungs of x264 have 8 here; use --codec x265"):
        LadderRequest.of(asked(profile="auto", codec="x264")).for_source(title("hlg"))


def test_a_profile_without_codecs_for_it_refuses_high_dynamic_range() -> None:
    with pytest.raises(BadInput, match=r"title.mp4 is high dynamic range \(hdr10\)"):
        LadderRequest.of(asked()).for_source(title("hdr10"))


def test_every_codec_of_a_profile_needs_a_grid() -> None:
    for change in ({"codecs": ("x264", "x265")}, {"hdr_codecs": ("x265",)}):
        with pytest.raises(BadInput, match="two-crfs has no CRF grid for x265"):
            LadderRequest.of(asked(profile=quick_profile(**change)))


def test_a_tuning_that_the_encoder_does_not_take_is_refused_before_any_work() -> None:
    for change in (
        {"recipes": {"x264": "medium+me=foo"}},
        {"recipes": {"x265": "medium+me=foo"}, "hdr_codecs": ("x265",)},
    ):
        grid = {"x264": [24, 40], "x265": [24, 40]}
        profile = replace(quick_profile(), crf_grid=grid, **change)
        with pytest.raises(BadInput, match="does not take the tuning 'me=foo'"):
            LadderRequest.of(asked(profile=profile)).check_encoders()


def test_tunings_of_built_in_profiles_are_tried_on_another_ffmpeg_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[Recipe] = []
    monkeypatch.setattr("encoder.encode.check_tuning", tried.append)
    for profile, preset in (("auto", None), ("auto", "fast"), ("default-0.1", None)):
        LadderRequest.of(asked(profile=profile, preset=preset)).check_encoders()
    assert {recipe.preset for recipe in tried} == {"fast"}
    assert ffmpeg.is_bundled()

    tried.clear()
    monkeypatch.setattr(ffmpeg, "is_bundled", lambda: False)
    request = LadderRequest.of(asked(profile="auto"))
    request.check_encoders()
    assert set(tried) == set(request.recipes)


# -- documents -----------------------------------------------------------------------------------


def roundtrip(options: RunOptions) -> LadderOptions:
    return LadderOptions.from_document(json.loads(json.dumps(options.document())))


@pytest.mark.parametrize("profile", [*profile_names(), quick_profile()], ids=str)
def test_a_document_gives_the_same_options_back(profile: str | Profile) -> None:
    options = asked(profile=profile, codec="vp9", heights=(90,), also=("vmaf_v0.6.1",))
    back = roundtrip(options)
    for field in fields(LadderOptions):
        assert getattr(back, field.name) == getattr(options, field.name)
    document = options.document()
    meant = load_profile(profile) if isinstance(profile, str) else profile
    assert document["profile"] == meant.name
    assert profile_from_document(document["profile_content"]) == meant
    assert document["profile_sha256"] == profile_sha256(meant)


def test_a_profile_of_another_release_keeps_its_content() -> None:
    """Its name tells that it is not this release's."""
    other = replace(load_profile("archive"), jnd=5.0)
    document = {**asked().document(), "profile": "archive"}
    document["profile_content"] = profile_document(other)
    back = LadderOptions.from_document(document)
    assert isinstance(back.profile, Profile)
    assert replace(back.profile, name="archive") == other
    assert back.profile.name == f"archive-{profile_sha256(other)[:8]}"
    assert LadderRequest.of(asked().like(back)).profile == back.profile


OF_0_1 = {
    "search": "predict",
    "codec": "x264",
    "preset": "medium",
    "profile": "default",
    "heights": None,
    "policy": "locked",
    "also": [],
    "tone_map": False,
    "tail": "hold",
    "program": None,
    "accept_truncated": False,
    "audio_layout": None,
    "face_model": None,
    "weights": None,
}
"""Options in a run.json or a manifest of release 0.1."""


@pytest.mark.parametrize("name", ["default", "constrained", "replace-fixed", "archive"])
def test_options_of_release_0_1_mean_what_they_meant(name: str) -> None:
    options = LadderOptions.from_document({**OF_0_1, "profile": name})
    assert options.profile == f"{name}-0.1"
    request = LadderRequest.of(asked().like(options))
    assert [str(recipe) for recipe in request.recipes] == ["x264-medium"]
    assert request.profile == load_profile(f"{name}-0.1")


def test_a_custom_profile_of_release_0_1_has_plain_recipes() -> None:
    content = profile_document(quick_profile())
    assert "recipes" not in content
    options = LadderOptions.from_document(
        {**OF_0_1, "profile": "two-crfs", "profile_content": content}
    )
    assert options.profile == quick_profile()
    assert isinstance(options.profile, Profile)
    for codec in CODECS:
        assert options.profile.recipe(codec).name == f"{codec}-medium"
