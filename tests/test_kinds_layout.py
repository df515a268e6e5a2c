"""What a user says about the sounds of a source: streams that change, and what cannot be."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from cluster.jobs.request import LadderRequest, RunOptions
from cluster.jobs.source_findings import examine_source
from encoder.errors import BadInput, SourceUnusable
from encoder.ffmpeg import PATIENCE_VARIABLE
from encoder.package.audio import encode_sound, listen
from encoder.package.audio_commands import Part, Sound
from encoder.source.choices import SourceChoices
from encoder.source.planning import plan_source
from fixtures.kinds import X264, beeping, ff
from fixtures.kinds import sound as kinds
from tests.test_kinds_sound import RATE, Chosen, exact, heard, master, onsets, tones


def joined_stream(path: Path, stretches: list[list[tuple[str, int, str]]], codec: str) -> Path:
    """A transport stream of stretches of 2 s, whose sounds each have a layout, a rate and a tone.

    A tone is a lavfi source of sound.
    """
    data = b""
    for number, sounds in enumerate(stretches):
        part = path.with_name(f"part-{number}.ts")
        inputs: list[object] = ["-f", "lavfi", "-i", "testsrc2=size=160x96:rate=25:duration=2"]
        options: list[object] = ["-map", "0:v"]
        for track, (layout, rate, tone) in enumerate(sounds):
            inputs += ["-f", "lavfi", "-i", f"{tone},aresample={rate}:ochl={layout}"]
            options += ["-map", f"{track + 1}:a"]
        ff(
            *(*inputs, *options, *X264, "-bf", 0, "-c:a", codec, "-b:a", "192k"),
            *("-muxdelay", 0, "-muxpreload", 0, "-output_ts_offset", 10 + 2 * number, part),
        )
        data += part.read_bytes()
    path.write_bytes(data)
    return path


def two_mono_tracks(path: Path) -> Path:
    """Left beeps at 0.5 s of each stretch, right at 1.2 s; the rate changes between them."""
    left, right = beeping(2, (0.5,)), beeping(2, (1.2,))
    stretches = [[("mono", rate, left), ("mono", rate, right)] for rate in (48000, 44100, 32000)]
    return joined_stream(path, stretches, "mp2")


def test_tracks_whose_rate_changes_are_joined(tmp_path: Path) -> None:
    """ffmpeg made the graph of both anew at the change, and failed."""
    path = two_mono_tracks(tmp_path / "mono.ts")
    ((one, sound),) = heard(path, tmp_path, "1+2")
    source = plan_source(path, tmp_path)
    assert exact(sound, source.timeline.duration_seconds)
    assert onsets(sound[0]) == pytest.approx([0.5, 2.5, 4.5], abs=0.003)
    assert onsets(sound[1]) == pytest.approx([1.2, 3.2, 5.2], abs=0.003)
    assert [f.sample_rate for f in one.facts.formats] == [48000, 44100, 32000]
    assert not list(tmp_path.glob("*.nut"))
    found = examine_source(path, SourceChoices(audio_layout="1+2"))
    (said,) = [f for f in found if "format" in f.found]
    assert said.found.startswith("tracks 1+2 change their format: mono at 48000 Hz from 0.0")
    assert said.then == "the tracks are joined as channels, each part at its own time"
    assert not [f for f in found if "1 channels" in f.found]


def test_a_track_of_one_channel_that_becomes_stereo_is_as_loud(tmp_path: Path) -> None:
    left, right = beeping(2, (0.5,)), beeping(2, (1.2,))
    first = [("mono", 48000, left), ("mono", 48000, right)]
    second = [("stereo", 48000, f"{left},pan=stereo|c0=c0|c1=c0"), ("mono", 48000, right)]
    path = joined_stream(tmp_path / "wider.ts", [first, second], "mp2")
    ((one, sound),) = heard(path, tmp_path, "1+2")
    assert onsets(sound[0]) == pytest.approx([0.5, 2.5], abs=0.003)
    assert onsets(sound[1]) == pytest.approx([1.2, 3.2], abs=0.003)
    loud = [np.abs(sound[0][round(at * RATE) :][:3000]).max() for at in (0.53, 2.53)]
    assert loud[1] == pytest.approx(loud[0], rel=0.1)
    assert one.facts.lowered_db == 0


@pytest.mark.parametrize("plan", [0, 1, 2, 6])
@pytest.mark.timeout(120)
def test_channels_of_a_track_whose_layout_changes_are_joined(tmp_path: Path, plan: int) -> None:
    """It hung: ffmpeg waited for ever for one of the two inputs."""
    path = tmp_path / "changing.ts"
    truth = kinds.make_changing(path, Chosen(plan))
    source = plan_source(path, tmp_path)
    channels = source.info.audio[0].channels
    layout = "1.1+1.2" if channels > 1 else "1"
    ((one, sound), *wide) = heard(path, tmp_path, layout)
    assert sound.shape[0] == 2
    assert bool(wide) == (layout == "1")  # two channels are no 5.1
    assert exact(sound, source.timeline.duration_seconds)
    for side in sound:
        expected = truth.beeps if plan != 6 else truth.beeps[:2]  # at last in the centre
        assert onsets(side)[: len(expected)] == pytest.approx(expected, abs=0.003)
    assert len(one.facts.formats) == 3


def test_a_channel_that_a_stretch_lacks_is_silent_there(tmp_path: Path) -> None:
    six = "|".join(f"c{n}=c0" for n in range(6))
    wide = f"{beeping(2, (0.5,))},pan=5.1|{six}"
    narrow = f"{beeping(2, (0.5,))},pan=stereo|c0=c0|c1=c0"
    path = joined_stream(
        tmp_path / "lacks.ts",
        [[("5.1", 48000, wide)], [("stereo", 48000, narrow)], [("5.1", 48000, wide)]],
        "ac3",
    )
    ((one, sound),) = heard(path, tmp_path, "1.1+1.3")
    assert onsets(sound[0]) == pytest.approx([0.5, 2.5, 4.5], abs=0.01)
    assert onsets(sound[1]) == pytest.approx([0.5, 4.5], abs=0.01)
    ((_, sound),) = heard(path, tmp_path, "1.3")
    for side in sound:
        assert onsets(side) == pytest.approx([0.5, 4.5], abs=0.01)
    assert len(one.facts.formats) == 3
    found = examine_source(path, SourceChoices(audio_layout="1.1+1.3"))
    (said,) = [f for f in found if "change their format" in f.found]
    assert said.then.endswith("one that a part lacks is silent there")


def test_joining_that_hangs_ends_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = master(tmp_path / "two.mov", *tones(2))
    sound = Sound((Part(path, 1), Part(path, 2)), "stereo", 2)
    times = {"first_video_pts": Fraction(0), "duration": Fraction(1)}
    monkeypatch.setenv(PATIENCE_VARIABLE, "0.00001")
    calls = (lambda: listen(sound, **times), lambda: encode_sound(sound, tmp_path / "o", **times))
    for call in calls:
        with pytest.raises(SourceUnusable, match="leave --audio-layout out") as caught:
            call()
        assert "\n" not in caught.value.message
    monkeypatch.delenv(PATIENCE_VARIABLE)
    assert [len(side) for _, side in heard(path, tmp_path, "1,2")] == [2, 2]  # the way out


# -- layouts that conflict with the source ---------------------------------------------------------


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("six") / "six.mkv"
    every = "|".join(["0.2*sin(2*PI*440*t)"] * 6)
    ff(
        *("-f", "lavfi", "-i", "testsrc2=size=64x64:rate=25:duration=1"),
        *("-f", "lavfi", "-i", f"aevalsrc='{every}':s=48000:d=1:c=5.1"),
        *("-f", "lavfi", "-i", "sine=duration=1"),
        *("-map", 0, "-map", 1, "-map", 2, "-c:v", "mpeg4", "-c:a", "flac", path),
    )
    return path


@pytest.mark.parametrize(
    ("layout", "says", "instead"),
    [
        ("mono=1", "calls track 1 mono, and it has 6 channels", ("1", "mono=1.1")),
        ("stereo=1", "calls track 1 stereo, and it has 6 channels", ("1", "stereo=1.1+1.2")),
        ("5.1=2", "calls track 2 5.1, and it has 1 channel;", ("2",)),
        ("stereo=1.3", "calls 1.3, one channel, stereo", ("1.3",)),
        ("2+2.1", "channel 2.1 twice in one sound", ("2",)),
        ("2,2.1", "lists a sound twice", ("2",)),
        ("1+1", "lists a part twice", ("1",)),
        ("1,1", "a sound is listed twice", ("1",)),
        ("1,commentary=1", "a sound is listed twice", ("1",)),
    ],
)
def test_a_layout_that_conflicts_with_the_source_is_refused(
    six: Path, tmp_path: Path, layout: str, says: str, instead: tuple[str, ...]
) -> None:
    with pytest.raises(BadInput) as caught:
        plan_source(six, tmp_path, SourceChoices(audio_layout=layout))
    assert says in caught.value.message
    assert "\n" not in caught.value.message
    for other in instead:
        assert f"({other})" in caught.value.message or "twice" in says or other == "1.3"
        plan_source(six, tmp_path, SourceChoices(audio_layout=other))


@pytest.mark.parametrize("layout", ["1+1", "1,1", "1.2+1.2", "5.1=1+2+3+4+5+5"])
def test_what_is_named_twice_is_refused_without_the_source(tmp_path: Path, layout: str) -> None:
    with pytest.raises(BadInput, match="twice"):
        LadderRequest.of(RunOptions(source=tmp_path, out=tmp_path / "o", audio_layout=layout))


def test_channels_may_be_in_two_sounds(six: Path, tmp_path: Path) -> None:
    layout = "5.1=1,stereo=1.1+1.2,mono=2"
    plan_source(six, tmp_path, SourceChoices(audio_layout=layout))


def test_a_source_without_sound_says_so(tmp_path: Path) -> None:
    path = tmp_path / "mute.mkv"
    ff("-f", "lavfi", "-i", "testsrc2=size=64x64:rate=25:duration=1", "-c:v", "mpeg4", path)
    with pytest.raises(BadInput, match="the source has no sound; leave the option out"):
        plan_source(path, tmp_path, SourceChoices(audio_layout="1"))
    plan_source(path, tmp_path)


# -- what is said ----------------------------------------------------------------------------------


def test_the_first_line_says_that_there_is_a_5_1(tmp_path: Path) -> None:
    """It said stereo alone of a stream that begins as stereo and becomes 5.1."""
    path = tmp_path / "changing.ts"
    kinds.make_changing(path, Chosen(0))
    first = next(f for f in examine_source(path) if f.topic == "sound")
    assert first.then == "is encoded as stereo AAC, and 5.1 beside it"
    two = examine_source(path, SourceChoices(audio_layout="1.1+1.2"))
    assert next(f for f in two if f.topic == "sound").then == "is encoded as stereo AAC"


def test_what_is_said_of_joined_tracks(tmp_path: Path) -> None:
    path = master(tmp_path / "four.mov", *itertools.islice(tones(4), 4))
    found = [f for f in examine_source(path) if f.topic == "sound"]
    assert found[0].then.endswith("tracks 1+2 play by default")
    assert found[1].then == (
        "joined by the order of masters; if they are separate, say so with --audio-layout 1,2,3,4"
    )
    assert ": pcm_s16le, 1 channel, 44100 Hz" in found[0].found
    left = examine_source(path, SourceChoices(audio_layout="1,2,3"))
    (said,) = [f for f in left if f.then == "is left out"]
    assert said.found == "track 4, which --audio-layout does not list"
