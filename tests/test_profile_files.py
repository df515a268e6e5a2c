"""Profiles as files, options as files, and encoder parameters."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from cluster.cli import main
from cluster.jobs.request import LadderRequest, RunOptions
from cluster.service.options import JobOptions
from cluster.service.queue.work import check_asked
from encoder.encode import check_tuning
from encoder.errors import BadInput
from encoder.recipes import by_name, recipe
from encoder.tunings import TUNES, by_codec, with_parameters
from ladder.complexity.recipe_inputs import other_parameters
from ladder.profile_text import key_comments, profile_toml
from ladder.profiles import (
    Profile,
    load_profile,
    profile_document,
    profile_from_file,
    profile_names,
)
from tests.cli_material import hand_made
from tests.test_limits import run_by

# -- profiles ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", profile_names())
def test_a_profile_that_was_written_out_is_read_back(name: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(profile_toml(load_profile(name), about='"quoted"'))
    assert dataclasses.replace(profile_from_file(path), name=name) == load_profile(name)


def test_every_key_of_a_profile_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    keys = {field.name for field in dataclasses.fields(Profile)} - {"name"}
    assert keys <= key_comments().keys()
    assert all(key_comments()[key] for key in keys)
    assert main(["profiles", "quick"]) == 0
    text = capsys.readouterr().out
    assert "# Decoder buffer in seconds of the peak rate; 0 is off.\nvbv_seconds = 0" in text


def test_profiles_are_listed_with_what_they_are_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["profiles"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert all(name in text for name in profile_names())
    assert "(x264 slow, svtav1 fast)" in text
    assert main(["profiles", "--json"]) == 0
    *rows, _ = map(json.loads, capsys.readouterr().out.splitlines())
    assert [row["name"] for row in rows] == list(profile_names())
    assert all(row["about"] for row in rows)


def test_the_profile_of_a_package_is_written_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = dataclasses.replace(load_profile("archive"), name="ours", jnd=5.0)
    options = RunOptions(Path("a"), Path("b"), profile=own, max_rate=4e6)
    run = {"schema": "shotladder/run/1", "options": options.document()}
    (tmp_path / "ladder.json").write_text(hand_made().to_json())
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert main(["profiles", str(tmp_path)]) == 0
    (path := tmp_path / "ours.toml").write_text(capsys.readouterr().out)
    assert profile_from_file(path) == own
    assert main(["profiles", "unknown"]) == 2
    assert "no profile is called 'unknown'" in capsys.readouterr().err


# -- options from a file -----------------------------------------------------------------------


def test_options_come_from_a_file_and_the_command_line_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "nightly.toml"
    path.write_text(
        """
        profile = "archive"
        max-rate = "4M"
        rates = [400_000, 1_200_000.0]
        heights = [360, 720]
        size-limits = { 800k = 360 }
        also = ["xpsnr", "ssim"]
        native_top = true
        encoder-params = "ref=2"
        """
    )
    line = ["run", "a.mp4", "--out", "b", "--options", str(path)]
    asked = run_by(line, monkeypatch)
    assert asked == RunOptions(
        Path("a.mp4"),
        Path("b"),
        profile="archive",
        max_rate=4e6,
        rates=(4e5, 1.2e6),
        heights=(360, 720),
        size_limits=((8e5, 360),),
        also=("xpsnr", "ssim"),
        native_top=True,
        encoder_params=("ref=2",),
    )
    over = run_by([*line, "--max-rate", "2M", "--profile", "quick"], monkeypatch)
    assert (over.max_rate, over.profile, over.heights) == (2e6, "quick", (360, 720))
    path.write_text("rungs = [3, 5]\npriority = 2")
    asked = run_by(line, monkeypatch)
    assert (asked.rung_count, asked.priority) == ((3, 5), 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_rat = 3", "has 'max_rat', which is no option that a file of `shotladder run`"),
        ("json = true", "has 'json', which is no option"),
        ("max_rate = ", "is not valid TOML"),
        ('max_rate = "fast"', "--max-rate takes a rate such as 800k or 4M; got 'fast'"),
        (None, "cannot be read"),
    ],
)
def test_a_mistake_in_an_options_file_is_one_line(
    text: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "options.toml"
    if text is not None:
        path.write_text(text)
    assert main(["run", "a.mp4", "--out", "b", "--options", str(path)]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


# -- encoder parameters ------------------------------------------------------------------------


def recipes(**options: Any) -> list[str]:
    request = LadderRequest.of(RunOptions(Path("a"), Path("b"), **options))
    assert request.decided == frozenset(by_codec(options["encoder_params"], request.profile.codecs))
    return [str(one) for one in request.recipes]


def test_encoder_parameters_stand_over_the_profiles() -> None:
    assert recipes(encoder_params=("ref=5:me=umh",)) == [
        "x264-slow+psy-rd=0.4,0:ref=5:bframes=3:weightp=2:me=umh"
    ]
    assert recipes(profile="default-0.1", preset="fast", encoder_params=("tune=film",)) == [
        "x264-fast+tune=film"
    ]
    both = recipes(profile="auto", encoder_params=("svtav1:tune=ssim", "x264:ref=1"))
    assert both[0].startswith("x264-slow+psy-rd=0.4,0:ref=1:")
    assert both[1] == "svtav1-fast+tune=2"
    check_asked(JobOptions(encoder_params=["ref=5"]))
    assert "encoder_params" not in JobOptions().model_dump(mode="json")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("keyint=48", "keyframes lie where shots begin"),
        ("open-gop=1", "keyframes lie where shots begin"),
        ("threads=8", "the same on every machine"),
        ("sliced-threads=1", "the same on every machine"),
        ("tune=zerolatency", "the same on every machine"),
        ("crf=20", "the rate is what the search decides"),
        ("qpfile=/etc/passwd", "names a file"),
        ("output-depth=10", "x264 and vp9 encode 8 bits here.*use --codec x265 or svtav1"),
        ("profile=high10", "x264 and vp9 encode 8 bits here"),
        ("preset=slow", "an option of their own, --preset"),
        ("tune=movie", "x264 has no tune 'movie'; its tunes are film, animation"),
        ("ref", "write parameters as name=value"),
        ("x265:rd=4", "are for 'x265', and the ladder has x264"),
    ],
)
def test_parameters_that_break_a_ladder_are_refused_with_the_reason(
    parameters: str, message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        LadderRequest.of(RunOptions(Path("a"), Path("b"), encoder_params=(parameters,)))
    with pytest.raises(BadInput, match=message):
        check_asked(JobOptions(encoder_params=[parameters]))


def test_parameters_of_several_codecs_name_them() -> None:
    with pytest.raises(BadInput, match=r"name no codec.* x264, svtav1; write, for example, x264:"):
        by_codec(("ref=4",), ("x264", "svtav1"))
    with pytest.raises(BadInput, match="given twice"):
        by_codec(("x264:ref=4", "x264:me=umh"), ("x264", "svtav1"))


def test_ten_bits_of_h264_are_refused_in_words() -> None:
    with pytest.raises(BadInput, match=r"H.264 is encoded with 8 bits, because .*svtav1 encode 10"):
        LadderRequest.of(RunOptions(Path("a"), Path("b"), codec="x264-10bit"))


@pytest.mark.parametrize("codec", ["x264", "x265", "svtav1"])
def test_every_tune_is_one_that_the_encoder_takes(codec: str) -> None:
    for tune in TUNES[codec]:
        tuned = recipe(codec, "ultrafast", with_parameters(codec, "", f"tune={tune}"))
        check_tuning(tuned)
        assert by_name(tuned.name) == tuned
        if codec != "svtav1":
            assert ("tune", tune) in tuned.options
            assert other_parameters(tuned) == {"tune": tune}


def test_the_content_of_a_profile_may_have_the_parameters() -> None:
    profile = load_profile().with_parameters({"x264": "tune=grain"})
    assert profile.recipe("x264").tuning.endswith(":tune=grain")
    named = dataclasses.replace(profile, name="grainy")
    assert profile_document(named)["recipes"]["x264"].endswith("tune=grain")
