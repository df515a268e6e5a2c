"""One file of a given quality: reached, in time, with the source's sound, or said why not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.execution.executor import InlineExecutor
from cluster.jobs.encode import EncodedTitle, EncodeRequest, encode_title, next_goal
from cluster.jobs.request import RunOptions
from encoder.errors import BadInput
from encoder.ffmpeg import Command, run
from fixtures.clips import make
from tests.cli_material import called
from tests.conftest import Once
from tests.package_media import onset, samples
from tests.running import SMALL

ASKED = EncodeRequest(quality=88.0)


@pytest.fixture(scope="module")
def source(once: Once) -> Path:
    """Three shots of 1 s, with a beep from 0.5 to 1 s and from 2 to 2.2 s."""

    def fill(folder: Path) -> None:
        silent = make(replace(SMALL, audio=False), folder / "silent.mp4")
        beeps = "sine=d=3,volume=enable='not(between(t,0.5,1)+between(t,2,2.2))':volume=0"
        run(Command.of(["-v", "error", "-i", silent, "-f", "lavfi", "-i", beeps, "-map", "0:v",
                        "-map", "1:a", "-c:v", "copy", "-c:a", "aac", "-metadata:s:a:0",
                        "language=fra", folder / "title.mp4"]))  # fmt: skip

    return once("encode-source", fill) / "title.mp4"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all tests, so that they share their encodes."""
    return tmp_path_factory.mktemp("store")


def encoded(
    source: Path, out: Path, store: Path, asked: EncodeRequest = ASKED, **options: Any
) -> EncodedTitle:
    wanted = RunOptions(source=source, out=out, store=store, preset="ultrafast",
                        **{"codec": "x264", "recipe_check": "never", **options})  # fmt: skip
    return encode_title(wanted, asked, lambda event: None, InlineExecutor())


def packets(path: Path, kind: str) -> list[bytes]:
    with av.open(str(path)) as container:
        (stream,) = (one for one in container.streams if one.type == kind)
        return [bytes(packet) for packet in container.demux(stream) if packet.size]


def test_the_quality_is_reached_and_the_sound_is_the_sources_own(
    source: Path, store: Path, tmp_path: Path
) -> None:
    out = tmp_path / "film.mp4"
    line = ["encode", source, "-o", out, "--vmaf", 88, "--preset", "ultrafast", "--store", store,
            "--recipe-check", "never", "--workers", 1, "--json"]  # fmt: skip
    said = called(*line, "--compare")
    assert said.returncode == 0, said.stderr
    result = json.loads(said.stdout.splitlines()[-1])["result"]
    assert result["reached"]
    assert 88 - 0.1 <= result["quality"]["mean"] <= 88 + 0.8  # CRFs have steps
    assert result["sound"] == {"tracks": 1, "copied": True, "why_encoded": None}
    assert result["bytes"] == out.stat().st_size
    assert result["single_crf"]["more_bits_percent"] > -2
    # All that the file plays was in the source; packets before the beginning may be missing.
    assert set(packets(out, "audio")) <= set(packets(source, "audio"))
    assert onset(samples(out, "-map", "0:a:0", "-ac", 2)) == pytest.approx(0.5, abs=0.03)
    with av.open(str(out)) as container:
        assert container.streams.audio[0].language == "fra"
        assert len(list(container.decode(video=0))) == 36
        assert container.streams.video[0].height == 180
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]
    first = out.rename(tmp_path / "first.mp4")
    again = called(*line)  # without the comparison, and without an encode
    assert out.read_bytes() == first.read_bytes()
    planned = [json.loads(text) for text in again.stdout.splitlines()]
    encodes = [one for one in planned if one.get("unit") == "encodes"]
    assert all(one["total"] == one["cached"] for one in encodes)
    refused = called(*line)
    assert refused.returncode == 2
    assert "exists; delete it" in refused.stdout


def test_another_pooling_is_reached_without_sound(
    source: Path, store: Path, tmp_path: Path
) -> None:
    asked = EncodeRequest(quality=75, pooling="p5", sound="none")
    done = encoded(source, tmp_path / "film.mkv", store, asked)
    assert done.reached
    assert 75 - 0.1 <= done.quality.p5 <= 75 + 2.5
    assert done.file.file.sounds == 0


@given(slope=st.floats(0.3, 3.0), apart=st.floats(-40.0, 0.0), wanted=st.floats(20.0, 97.0))
def test_the_goal_comes_near_any_pooling(slope: float, apart: float, wanted: float) -> None:
    def value(goal: float) -> float:  # what percentiles do beside the mean, more or less
        return min(max(90 + apart + slope * (goal - 90), 0.0), 99.0)

    goal: float | None = wanted
    reached: dict[float, float] = {}
    while goal is not None and len(reached) < 8:
        reached[goal] = value(goal)
        goal = next_goal(reached, wanted, 99.0)
    if value(1.0) < wanted <= value(99.0):
        assert min(abs(one - wanted) for one in reached.values()) <= 1.5


def test_sound_that_the_format_does_not_hold_is_encoded_and_said(
    source: Path, store: Path, tmp_path: Path
) -> None:
    other = tmp_path / "unusual.mkv"
    run(Command.of(["-v", "error", "-i", source, "-c:v", "copy", "-c:a", "libvorbis", other]))
    done = encoded(other, tmp_path / "film.mp4", store)
    assert not done.file.copied
    assert "vorbis is not usual in MP4" in done.file.why_not
    assert done.file.file.sounds == 1


def test_a_layout_of_sound_is_followed_and_not_the_streams_of_the_source(
    source: Path, store: Path, tmp_path: Path
) -> None:
    other = tmp_path / "two.mkv"
    run(Command.of(["-v", "error", "-i", source, "-map", "0:v", "-map", "0:a", "-map", "0:a",
                    "-c", "copy", other]))  # fmt: skip
    done = encoded(other, tmp_path / "film.mp4", store, audio_layout="2")
    assert done.file.file.sounds == 1
    assert not done.file.copied
    assert "--audio-layout" in done.file.why_not


def test_pictures_that_begin_late_stay_in_time(source: Path, store: Path, tmp_path: Path) -> None:
    late = tmp_path / "late.mkv"  # sound from 0, pictures from 0.25 s: the title begins with them
    run(Command.of(["-v", "error", "-itsoffset", 0.25, "-i", source, "-i", source, "-map", "0:v",
                    "-map", "1:a", "-c", "copy", late]))  # fmt: skip
    out = tmp_path / "film.mkv"
    done = encoded(late, out, store, tail="cut")
    with av.open(str(out)) as container:
        first = next(iter(container.decode(video=0))).time
    begins = onset(samples(out, "-map", "0:a:0", "-ac", 2))
    held = done.file.file.frames - 36  # pictures that stand for the sound before the first
    assert begins - first == pytest.approx(0.25 + held / 12, abs=0.09)


def test_what_means_nothing_is_refused(source: Path, store: Path, tmp_path: Path) -> None:
    for asked, message in (
        (replace(ASKED, quality=101), "from 1 to 99.9"),
        (replace(ASKED, pooling="median"), "no pooling 'median'"),
        (replace(ASKED, sound="mp3"), "no sound 'mp3'"),
    ):
        with pytest.raises(BadInput, match=message):
            encoded(source, tmp_path / "film.mp4", store, asked)
    for out, message in (("a.avi", "which format"), ("x/a.mp4", "is not a folder")):
        with pytest.raises(BadInput, match=message):
            encoded(source, tmp_path / out, store)
    for path in (Path("/proc/film.mp4"), tmp_path / f"{'n' * 300}.mp4"):
        with pytest.raises(BadInput, match="cannot be written"):
            encode_title(RunOptions(source, path, store=store), ASKED, pytest.fail)
    with pytest.raises(BadInput, match="one codec"):
        encoded(source, tmp_path / "film.mp4", store, codec="x264,svtav1")
    assert [*tmp_path.iterdir()] == []
