"""Sound of broadcasts and masters: each kind is heard where and how it should be."""

from __future__ import annotations

import random
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from cluster.jobs.source_findings import examine_source
from encoder.package.audio import SoundFacts, encode_audio, encode_sound, listen
from encoder.package.audio_commands import SURROUND_BIT_RATE, Part, Sound
from encoder.source.reference import ReferenceSource, plan_source
from fixtures.kinds import Truth, ff
from fixtures.kinds import sound as kinds

RATE = 48_000
Samples = npt.NDArray[np.float32]


class Chosen(random.Random):
    """Chance whose first choice is made."""

    def __init__(self, first: int) -> None:
        super().__init__(1)
        self.first: int | None = first

    def choice(self, seq: Sequence[Any]) -> Any:
        if self.first is not None:
            number, self.first = self.first, None
            return seq[number]
        return super().choice(seq)


def decoded(path: Path) -> Samples:
    """Samples by channel, shape (channels, samples), the priming skipped."""
    with av.open(str(path)) as container:
        return np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)


def onsets(samples: Samples) -> list[float]:
    """Times at which sound begins after at least 50 ms of silence."""
    loud = np.flatnonzero(np.abs(samples) > 0.05)
    first = [
        at for before, at in zip([-RATE, *loud], loud, strict=False) if at - before > RATE / 20
    ]
    return [float(at) / RATE for at in first]


def encode(
    source: ReferenceSource, number: int, out: Path, *, surround: bool = False
) -> SoundFacts:
    stream = source.info.audio[number]
    return encode_sound(
        Sound((Part(Path(source.path), stream.index),), channels=stream.channels),
        out,
        first_video_pts=source.index.start_seconds,
        duration=source.timeline.duration_seconds,
        surround=surround,
        **({"bit_rate": SURROUND_BIT_RATE} if surround else {}),
    )


def exact(samples: Samples, seconds: Fraction) -> bool:
    """True where sound has the title's length, and what fills its last AAC frame."""
    return 0 <= samples.shape[1] - seconds * RATE < 1024


@pytest.mark.parametrize("plan", range(7))
def test_sound_that_changes_its_format_stays_in_its_place(tmp_path: Path, plan: int) -> None:
    path, out = tmp_path / "changing.ts", tmp_path / "out.mp4"
    truth = kinds.make_changing(path, Chosen(plan))
    source = plan_source(path, tmp_path)
    assert source.frames == truth.frames
    facts = encode(source, 0, out)
    sound = decoded(out)
    assert sound.shape[0] == 2
    assert exact(sound, source.timeline.duration_seconds)
    for side in sound:
        assert onsets(side) == pytest.approx(truth.beeps, abs=0.002)
        # All parts are as loud: a single channel goes to both sides unchanged.
        starts = [round((at + 0.03) * RATE) for at in truth.beeps]
        assert all(0.71 < np.abs(side[s : s + 3000]).max() < 0.89 for s in starts)
    assert [one.seconds for one in facts.formats] == sorted(one.seconds for one in facts.formats)
    assert len(facts.formats) == 3
    assert not list(tmp_path.glob("*.nut"))
    if facts.widest == 6:
        assert encode(source, 0, out, surround=True).audible
        sound = decoded(out)
        assert sound.shape[0] == 6
        assert exact(sound, source.timeline.duration_seconds)
        assert set(onsets(sound[0])) | set(onsets(sound[2])) != set()
        assert not onsets(sound[3])


def test_a_change_is_said_with_its_time(tmp_path: Path) -> None:
    path = tmp_path / "changing.ts"
    kinds.make_changing(path, Chosen(0))
    (said,) = [one for one in examine_source(path) if "changes its format" in one.found]
    assert said.state == "warn"
    assert "track 1" in said.found
    assert "stereo at 48000 Hz from 0.000 s, 5.1(side) at 48000 Hz from" in said.found
    assert "front left and right" in said.then


def test_a_part_that_is_silent_does_not_mute_the_title(tmp_path: Path) -> None:
    """Only the last graph's loudness was looked at, and here the last part is silent."""
    path, out = tmp_path / "changing.ts", tmp_path / "out.mp4"
    parts = []
    for number, (layout, beep) in enumerate((("stereo", 0.5), ("mono", None))):
        part = tmp_path / f"{number}.ts"
        picture = "testsrc2=size=160x96:rate=25:duration=1"
        tone = kinds.tone(1, (beep,) if beep else (), layout, RATE)
        ff(
            *("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", tone, "-c:v", "mpeg2video"),
            *("-bf", 0, "-c:a", "mp2", "-muxdelay", 0, "-muxpreload", 0),
            *("-output_ts_offset", 10 + number, part),
        )
        parts.append(part.read_bytes())
    path.write_bytes(b"".join(parts))
    source = plan_source(path, tmp_path)
    assert encode(source, 0, out).audible
    assert onsets(decoded(out)[0]) == pytest.approx([0.5], abs=0.002)


# -- loud mixes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_a_loud_mix_does_not_clip(tmp_path: Path, seed: int) -> None:
    path, out = tmp_path / "loud.mkv", tmp_path / "out.mp4"
    truth = kinds.make_loud(path, random.Random(seed))
    source = plan_source(path, tmp_path)
    facts = encode(source, 0, out)
    assert facts.lowered_db > HEADROOM
    assert 0.7 < np.abs(decoded(out)).max() <= 1.0
    (said,) = [one for one in examine_source(path) if "exceeds full scale" in one.found]
    assert "lowered by at least" in said.then
    assert truth.says in said.sentence


HEADROOM = 1.0


def test_a_mix_that_does_not_clip_is_not_touched(tmp_path: Path) -> None:
    """Its bytes are those of the call that has always been made."""
    path, out = tmp_path / "quiet.mkv", tmp_path / "out.mp4"
    tone = "0.2*sin(2*PI*440*t)"
    six = f"aevalsrc='{'|'.join([tone] * 6)}':c=5.1:s=48000:d=1"
    ff("-f", "lavfi", "-i", six, "-c:a", "flac", path)
    times = {"first_video_pts": Fraction(0), "duration": Fraction(1)}
    sound = Sound((Part(path, 0),), channels=6)
    assert encode_sound(sound, out, **times).lowered_db == 0
    assert listen(sound, **times).lowered_db == 0
    assert encode_audio(path, 0, tmp_path / "plain.mp4", **times) is not None
    assert out.read_bytes() == (tmp_path / "plain.mp4").read_bytes()


# -- holes, overlaps, jumps -----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_sound_with_holes_and_jumps_keeps_its_place(tmp_path: Path, seed: int) -> None:
    path, out = tmp_path / "holes.mkv", tmp_path / "out.mp4"
    truth = kinds.make_holes(path, random.Random(seed))
    source = plan_source(path, tmp_path)
    encode(source, 0, out)
    sound = decoded(out)
    assert exact(sound, source.timeline.duration_seconds)
    assert onsets(sound[0]) == pytest.approx(truth.beeps, abs=0.002)


def test_makers_tell_what_they_make(tmp_path: Path) -> None:
    for kind in kinds.KINDS:
        truth = kind.make(tmp_path / kind.file, random.Random(0))
        assert isinstance(truth, Truth)
        assert (tmp_path / kind.file).stat().st_size > 0
