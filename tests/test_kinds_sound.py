"""Sound of broadcasts and masters: each kind is heard where and how it should be."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import av
import m3u8
import numpy as np
import numpy.typing as npt
import pytest

from cluster.jobs.request import LadderRequest, RunOptions
from cluster.jobs.sound_findings import describe_sound
from cluster.jobs.source_findings import examine_source
from cluster.stages.tracks import HeardSound, decide
from cluster.store import Blob, open_store
from cluster.store.records import record_bytes
from encoder.errors import BadInput
from encoder.package.audio import SoundFacts, encode_audio, encode_sound, listen
from encoder.package.audio_commands import SURROUND_BIT_RATE, Part, Sound
from encoder.package.audio_jumps import Run, overlap_seconds, repair, runs, small_steps, true_runs
from encoder.source.choices import SourceChoices
from encoder.source.planning import plan_source
from encoder.source.probing.audio_streams import named_role, shown_title
from encoder.source.reference import ReferenceSource
from encoder.source.sound.plan import SourceSound
from fixtures.kinds import X264, Truth, beeping, ff
from fixtures.kinds import sound as kinds
from tests.running import quick_profile, records, run_inline

RATE = 48_000
DASH = "{urn:mpeg:dash:schema:mpd:2011}"
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
        first_video_pts=source.start_seconds,
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
    assert "stereo at 48000 Hz from 0.000 s, 5.1 at 48000 Hz from" in said.found
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
    (said,) = [one for one in examine_source(path) if "stereo mix" in one.found]
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


@pytest.mark.parametrize("seed", range(3))
def test_sound_with_holes_keeps_its_place(tmp_path: Path, seed: int) -> None:
    path, out = tmp_path / "holes.mkv", tmp_path / "out.mp4"
    truth = kinds.make_holes(path, random.Random(seed))
    source = plan_source(path, tmp_path)
    encode(source, 0, out)
    sound = decoded(out)
    assert exact(sound, source.timeline.duration_seconds)
    assert onsets(sound[0]) == pytest.approx(truth.beeps, abs=0.002)


@pytest.mark.parametrize("seed", range(5))
def test_one_damaged_timestamp_moves_no_other_sound(tmp_path: Path, seed: int) -> None:
    path, out = tmp_path / "jumps.ts", tmp_path / "out.mp4"
    truth = kinds.make_jumps(path, random.Random(seed))
    source = plan_source(path, tmp_path)
    assert encode(source, 0, out).jumps
    sound = decoded(out)
    assert exact(sound, source.timeline.duration_seconds)
    assert onsets(sound[0]) == pytest.approx(truth.beeps, abs=0.002)


def test_the_runs_that_last_longest_are_where_they_say() -> None:
    before = Run(0, 9, (0, 900), 0.0, 1.0)
    away = Run(9, 3, (900, 1200), 50.0, 0.3)
    back = Run(12, 9, (1200, 2100), 1.3, 5.0)
    assert true_runs([before, away, back]) == {0, 2}
    (moved,) = repair([before, away, back])
    assert moved == r"asetpts=PTS+(between(N\,900\,1199)*(-49.000000))/TB"
    # Without room it is left out.
    (dropped,) = repair([before, away, replace(back, start=1.1)])
    assert dropped == r"aselect=not(between(n\,9\,11))"
    assert repair([before, Run(9, 9, (900, 1800), 5.0, 1.0)]) == ()  # a hole
    assert repair([]) == ()


def test_runs_that_overlap_are_both_played() -> None:
    """A minute and two more that begin 0.4 s before its end: none of them is left out."""
    first = Run(0, 2500, (0, 2_880_000), 0.0, 60.0)
    second = Run(2500, 5000, (2_880_000, 8_640_000), 59.6, 120.0)
    assert true_runs([first, second]) == {0, 1}
    assert repair([first, second]) == ()
    assert overlap_seconds([first, second]) == pytest.approx(0.4)
    assert true_runs([replace(second, start=0.0), replace(first, start=119.6)]) == {0, 1}
    # A damaged stretch within the time of another is none of them, be it behind or ahead.
    for away in (59.0, 60.3):
        damaged = Run(2500, 5, (0, 0), away, 0.12)
        back = replace(second, start=60.12)
        assert true_runs([first, damaged, back]) == {0, 2}


def stamps(*starts: float) -> list[str]:
    """Lines of the log for frames of 1200 samples at these times."""
    line = "[ashowinfo@stamp @ 0] n:{} pts:{} pts_time:0 fmt:flt rate:48000 nb_samples:1200 x"
    return [line.format(n, round(start * RATE)) for n, start in enumerate(starts)]


def test_only_steps_that_last_are_steps() -> None:
    steady = [n * 0.025 for n in range(40)]
    jitter = [start + 0.03 * (n % 3 == 0) for n, start in enumerate(steady)]
    drift = [start * 1.01 for start in steady]
    step = [start + 0.04 * (n >= 20) for n, start in enumerate(steady)]
    for times, found in ((steady, 0), (jitter, 0), (drift, 0), (step, 1)):
        assert len(small_steps(runs(stamps(*times)))) == found
    squeezed = [*steady[:20], *(0.475 + n * 0.001 for n in range(1, 9)), *(0.5 + s for s in steady)]
    assert overlap_seconds(runs(stamps(*squeezed))) == pytest.approx(8 * 0.025, abs=0.02)


@pytest.mark.parametrize(
    ("maker", "suffix", "seed"),
    [(kinds.make_overlapping, "ts", n) for n in range(5)]
    + [(kinds.make_stepping, "mkv", n) for n in range(4)],
)
def test_sound_of_joined_recordings_is_whole_and_in_time(
    tmp_path: Path, maker: Callable[..., Truth], suffix: str, seed: int
) -> None:
    path, out = tmp_path / f"joined.{suffix}", tmp_path / "out.mp4"
    truth = maker(path, random.Random(seed))
    source = plan_source(path, tmp_path)
    facts = encode(source, 0, out)
    sound = decoded(out)
    if maker is kinds.make_stepping:
        assert facts.overlap_seconds or facts.steps
    assert exact(sound, source.timeline.duration_seconds)
    assert onsets(sound[0]) == pytest.approx(truth.beeps, abs=0.025)


@pytest.mark.parametrize(
    "name", ["aac.mkv", "mp3.mkv", "libopus.mkv", "flac.mkv", "aac.mp4", "ac3.ts"]
)
def test_sound_without_steps_is_encoded_as_before(tmp_path: Path, name: str) -> None:
    path, out = tmp_path / name, tmp_path / "out.mp4"
    picture = ("-f", "lavfi", "-i", "testsrc2=size=64x64:rate=25:duration=2")
    ff(*picture, "-f", "lavfi", "-i", beeping(2, (0.4,)), *X264, "-c:a", path.stem, path)
    source = plan_source(path, tmp_path)
    facts = encode(source, 0, out)
    assert (facts.jumps, facts.steps, facts.overlap_seconds) == (0, 0, 0.0)


# -- discrete channels -----------------------------------------------------------------------------


def master(path: Path, *tones: str, options: Sequence[str] = (), codec: str = "pcm_s16le") -> Path:
    """A file with a track of one channel for each lavfi expression or beep."""
    inputs = [part for tone in tones for part in ("-f", "lavfi", "-i", tone)]
    maps = [part for n in range(len(tones) + 1) for part in ("-map", str(n))]
    picture = ("-f", "lavfi", "-i", "testsrc2=size=64x64:rate=25:duration=1")
    ff(*picture, *inputs, *maps, "-c:v", "mpeg4", "-c:a", codec, *options, path)
    return path


def pitch(number: int) -> int:
    """Frequency of the tone of a channel, Hz: the fourth is what an LFE can have."""
    return 100 if number == 3 else 300 + 200 * number


def tones(count: int) -> list[str]:
    return [f"sine=frequency={pitch(number)}:duration=1" for number in range(count)]


SILENCE = "anullsrc=channel_layout=mono:sample_rate=44100:duration=1"


def pitches(samples: Samples) -> list[int]:
    """Frequencies of the tones in one channel, Hz, to the nearest hundred."""
    part = samples[RATE // 4 : RATE * 3 // 4]
    power = np.abs(np.fft.rfft(part * np.hanning(len(part))))
    strong = np.flatnonzero(power > max(power.max() / 4, 1)) * RATE / len(part)
    return sorted({round(float(hertz), -2) for hertz in strong})


def heard(
    path: Path, tmp_path: Path, layout: str | None = None
) -> list[tuple[HeardSound, Samples]]:
    """The tracks that a package of the file has, decoded."""
    source = plan_source(path, tmp_path, SourceChoices(audio_layout=layout))
    times = {
        "first_video_pts": source.start_seconds,
        "duration": source.timeline.duration_seconds,
    }
    found: list[tuple[HeardSound, Samples]] = []

    def hear(sound: Sound, planned: SourceSound, surround: bool) -> tuple[SoundFacts, Blob | None]:
        digest = f"{len(list(tmp_path.glob('*.mp4'))):064x}"
        facts = encode_sound(sound, tmp_path / f"{digest}.mp4", **times, surround=surround)
        return facts, Blob(digest, 0) if facts.audible else None

    for one in decide(source, hear):
        if one.media is not None:
            found.append((one, decoded(tmp_path / f"{one.media.sha256}.mp4")))
    return found


def test_left_is_left_and_right_is_right(tmp_path: Path) -> None:
    path = master(tmp_path / "two.mov", *tones(2))
    ((one, sound),) = heard(path, tmp_path)
    assert [pitches(side) for side in sound] == [[300], [500]]
    assert one.sound.by_rule
    (said,) = [f for f in examine_source(path) if "joined" in f.then]
    assert said.found == "tracks 1+2 as stereo"
    assert said.state == "warn"


def test_six_tracks_are_a_5_1(tmp_path: Path) -> None:
    (_, stereo), (_, five) = heard(master(tmp_path / "six.mov", *tones(6)), tmp_path)
    assert [pitches(side) for side in five] == [[300], [500], [700], [100], [1100], [1300]]
    assert [pitches(side) for side in stereo] == [[300, 700, 1100], [500, 700, 1300]]


def test_eight_tracks_are_a_5_1_and_its_stereo(tmp_path: Path) -> None:
    (_, stereo), (_, five) = heard(master(tmp_path / "eight.mov", *tones(8)), tmp_path)
    assert [pitches(side) for side in stereo] == [[1500], [1700]]
    assert [pitches(side) for side in five] == [[300], [500], [700], [100], [1100], [1300]]


@pytest.mark.parametrize("count", [6, 8])
def test_tracks_of_which_the_fourth_is_no_lfe_are_pairs(tmp_path: Path, count: int) -> None:
    """Programme, music and effects, another language: as common in masters as a 5.1."""
    wide = [f"sine=frequency={300 + 200 * number}:duration=1" for number in range(count)]
    wide[3] = "sine=frequency=2000:duration=1"
    path = master(tmp_path / "pairs.mov", *wide)
    found = heard(path, tmp_path)
    assert [len(sound) for _, sound in found] == [2] * (count // 2)
    assert [pitches(side) for side in found[1][1]] == [[700], [2000]]
    (said,) = [f for f in examine_source(path) if "no LFE" in f.found]
    assert "pairs" in said.then


def test_one_stream_of_eight_channels_without_positions(tmp_path: Path) -> None:
    path = tmp_path / "eight.mkv"
    eight = "|".join(f"0.3*sin(2*PI*{pitch(n)}*t)" for n in range(8))
    picture = ("-f", "lavfi", "-i", "testsrc2=size=64x64:rate=25:duration=1")
    ff(*picture, "-f", "lavfi", "-i", f"aevalsrc='{eight}':d=1:c=7.1", "-c:v", "mpeg4",
       "-c:a", "pcm_s16le", path)  # fmt: skip
    layout = "5.1=1.1+1.2+1.3+1.4+1.5+1.6,stereo=1.7+1.8"
    (_, stereo), (_, five) = heard(path, tmp_path, layout)
    assert [pitches(side) for side in stereo] == [[1500], [1700]]
    assert [pitches(side) for side in five] == [[300], [500], [700], [100], [1100], [1300]]
    (said,) = [
        f
        for f in examine_source(path)
        if "channels without positions" in f.found and f.state == "warn"
    ]
    assert "--audio-layout can name channels" in said.then


def test_tracks_that_are_silent_are_no_channels(tmp_path: Path) -> None:
    """A camera with one microphone; eight tracks of which a broadcaster uses two."""
    one_side = master(tmp_path / "camera.mov", *tones(1), SILENCE)
    ((one, sound),) = heard(one_side, tmp_path)
    assert [pitches(side) for side in sound] == [[300], [300]]
    assert one.instead == 0
    assert any("only track 1 is not silent" in f.found for f in examine_source(one_side))
    eight = master(tmp_path / "eight.mov", *tones(2), *[SILENCE] * 6)
    ((_, sound),) = heard(eight, tmp_path)
    assert [pitches(side) for side in sound] == [[300], [500]]


@pytest.mark.parametrize(
    ("options", "codec"),
    [
        (("-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=fre"), "pcm_s16le"),
        (("-metadata:s:a:1", "title=Commentary"), "pcm_s16le"),
        ((), "aac"),
    ],
    ids=["two languages", "a title", "compressed"],
)
def test_tracks_that_may_be_apart_stay_apart(
    tmp_path: Path, options: tuple[str, ...], codec: str
) -> None:
    path = master(tmp_path / "apart.mov", *tones(2), options=options, codec=codec)
    (_, first), (_, second) = heard(path, tmp_path)
    assert [pitches(side) for side in (*first, *second)] == [[300], [300], [500], [500]]
    hints = [f for f in examine_source(path) if "--audio-layout" in f.then]
    assert bool(hints) == (codec == "aac")


@pytest.mark.parametrize(
    ("labels", "sides"), [(("FL", "FR"), [[300], [500]]), (("FR", "FL"), [[500], [300]])]
)
def test_labels_say_which_is_left(
    tmp_path: Path, labels: tuple[str, str], sides: list[list[int]]
) -> None:
    made = [
        f"{tone},aformat=channel_layouts={label}"
        for tone, label in zip(tones(2), labels, strict=True)
    ]
    path = master(tmp_path / "labelled.mov", *made)
    ((one, sound),) = heard(path, tmp_path)
    assert [pitches(side) for side in sound] == sides
    assert not one.sound.by_rule


def test_what_the_user_says_of_tracks(tmp_path: Path) -> None:
    path = master(tmp_path / "three.mov", *tones(3), codec="aac")
    (main, first), (told, second) = heard(path, tmp_path, "2+1, commentary=3")
    assert [pitches(side) for side in (*first, *second)] == [[500], [300], [700], [700]]
    assert (main.sound.roles, told.sound.roles) == ((), ("commentary",))
    ((_, only),) = heard(path, tmp_path, "3")
    assert pitches(only[0]) == [700]
    found = examine_source(path, SourceChoices(audio_layout="3"))
    (said,) = [f for f in found if f.then == "are left out"]
    assert said.found == "tracks 1, 2, which --audio-layout does not list"


@pytest.mark.parametrize(
    ("layout", "says"),
    [
        ("1+", "'' is not the number of a track"),
        ("1+2+3", "lists 3 tracks instead of one, two or six tracks"),
        ("5.1=1+2", "lists 2 tracks instead of 6 tracks or one"),
        ("left=1", "'left' is none of mono, stereo, 5.1, description"),
        ("0+1", "'0' is not the number of a track"),
        ("1+3", "names track 3, and"),
        ("1.2+1", "names track 1.2, and that track of"),
    ],
)
def test_a_layout_that_cannot_be_is_refused_in_one_line(
    tmp_path: Path, layout: str, says: str
) -> None:
    path = master(tmp_path / "two.mov", *tones(2))
    with pytest.raises(BadInput) as caught:
        examine_source(path, SourceChoices(audio_layout=layout))
    assert says in caught.value.message
    assert "--audio-layout" in caught.value.message
    assert "\n" not in caught.value.message
    if "and that track" not in says and "names track" not in says:
        with pytest.raises(BadInput, match="--audio-layout"):
            LadderRequest.of(RunOptions(source=path, out=tmp_path / "o", audio_layout=layout))


# -- titles and roles ------------------------------------------------------------------------------


def packaged(path: Path, tmp_path: Path) -> tuple[list[Any], str]:
    """The audio tracks of the HLS playlist of a package, and its DASH manifest."""
    out = tmp_path / "out"
    profile = quick_profile()
    run_inline(path, out, tmp_path / "store", search="exhaustive", profile=profile, heights=(90,))
    media = m3u8.load(str(out / "master.m3u8")).media
    return [one for one in media if one.type == "AUDIO"], (out / "manifest.mpd").read_text()


def test_titles_and_roles_reach_the_playlists(tmp_path: Path) -> None:
    path = tmp_path / "roles.mkv"
    long = "A" * 500
    ff(
        *("-f", "lavfi", "-i", "testsrc2=size=160x90:rate=25:duration=1"),
        *(part for tone in tones(5) for part in ("-f", "lavfi", "-i", tone)),
        *(part for n in range(6) for part in ("-map", n)),
        *("-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac"),
        *("-metadata:s:a", "language=eng", "-disposition:a:0", "visual_impaired"),
        *("-metadata:s:a:1", "title=Main", "-disposition:a:2", "comment"),
        *("-metadata:s:a:2", 'title=The "director" & <b>\nnew line'),
        *("-metadata:s:a:3", f"title={long}", "-metadata:s:a:4", "title=Main", path),
    )
    sound, manifest = packaged(path, tmp_path)
    told = [(m.name, m.default, m.autoselect, m.characteristics) for m in sound]
    assert told == [
        ("Main", "YES", "YES", None),
        ("A" * 99 + "\N{HORIZONTAL ELLIPSIS}", "NO", "NO", None),
        ("Main 2", "NO", "NO", None),
        ("en audio description", "NO", "YES", "public.accessibility.describes-video"),
        ("The 'director' & <b> new line", "NO", "NO", None),
    ]
    sets = [one for one in ET.fromstring(manifest).iter(f"{DASH}AdaptationSet")
            if one.get("contentType") == "audio"]  # fmt: skip
    roles = [[role.get("value") for role in one.iter(f"{DASH}Role")] for one in sets]
    assert roles == [["main"], ["alternate"], ["alternate"], ["alternate"], ["commentary"]]
    assert [one.findtext(f"{DASH}Label") for one in sets] == [
        "Main", "A" * 99 + "\N{HORIZONTAL ELLIPSIS}", "Main", None, 'The "director" & <b> new line',
    ]  # fmt: skip
    (purpose,) = [one for each in sets for one in each.iter(f"{DASH}Accessibility")]
    assert purpose in list(sets[3])
    assert purpose.get("value") == "1"
    assert purpose.get("schemeIdUri") == "urn:tva:metadata:cs:AudioPurposeCS:2007"


@pytest.mark.parametrize("suffix", ["mkv", "ts", "mp4"])
def test_description_that_comes_first_does_not_play_by_default(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"first.{suffix}"
    ff(
        *("-f", "lavfi", "-i", "testsrc2=size=160x90:rate=25:duration=1"),
        *(part for tone in tones(2) for part in ("-f", "lavfi", "-i", tone)),
        *(
            "-map",
            0,
            "-map",
            1,
            "-map",
            2,
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-c:a",
            "aac",
        ),
        *("-metadata:s:a", "language=eng", "-disposition:a:0", "visual_impaired"),
        *("-disposition:a:1", 0, path),
    )
    info = plan_source(path, tmp_path).info
    assert [(s.index, s.roles) for s in info.audio] == [(2, ()), (1, ("description",))]
    (said,) = [f for f in examine_source(path) if "is first in the file" in f.found]
    assert said.then == "track 2 plays by default"


@pytest.mark.parametrize(
    ("given", "title"),
    [
        *(("DTS-HD MA 5.1", None), ("Stereo", None), ("AC3 5.1 @ 640 kbps", None), ("", None)),
        *(("Stereo commentary", "Stereo commentary"), ("Main", "Main"), (" a\tb\x00c ", "a b c")),
        ("1" * 5000 + "x", "1" * 99 + "\N{HORIZONTAL ELLIPSIS}"),
    ],
)
def test_a_name_that_only_tells_the_format_of_the_source_is_none(
    given: str, title: str | None
) -> None:
    assert shown_title(given) == title


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("Director's Commentary", ("commentary",)),
        ("Audiokommentar von Regisseur", ("commentary",)),
        ("Commentaire du réalisateur", ("commentary",)),
        ("Audio Description", ("description",)),
        ("English AD", ("description",)),
        ("Deutsch (Hörfilmfassung)", ("description",)),
        ("English - Descriptive Audio", ("description",)),
        ("Stereo, no commentary", ()),
        ("Main", ()),
        ("Ad break mix", ()),
        ("Documentary", ()),
        ("", ()),
    ],
)
def test_a_name_that_tells_the_role(name: str, role: tuple[str, ...]) -> None:
    assert named_role(name) == role


@pytest.mark.parametrize(
    ("names", "first"),
    [
        (("Director's Commentary", "Main"), 2),
        (("Audio Description", "English"), 2),
        (("Commentary A", "Commentary B"), 1),
        (("Commentary",), 1),
    ],
)
def test_commentary_by_name_does_not_play_by_default(
    tmp_path: Path, names: tuple[str, ...], first: int
) -> None:
    """The container marks the first track as default, as FFmpeg does unasked."""
    path = master(
        tmp_path / "named.mkv",
        *tones(len(names)),
        codec="ac3",
        options=[
            part
            for number, name in enumerate(names)
            for part in (
                f"-metadata:s:a:{number}",
                f"title={name}",
                f"-disposition:a:{number}",
                "0",
            )
        ],
    )
    source = plan_source(path, tmp_path)
    assert source.info.audio[0].index == first
    said = [found for found in describe_sound(source) if found.state == "warn"]
    assert bool([one for one in said if "first in the file" in one.found]) == (first == 2)


def test_sound_of_an_earlier_release_is_made_anew_where_it_was_wrong(tmp_path: Path) -> None:
    """Its record says nothing of formats: what it holds is listened to, once."""
    path = tmp_path / "changing.ts"
    truth = kinds.make_changing(path, Chosen(0))
    profile = quick_profile()
    place = tmp_path / "store"
    asked = {"search": "exhaustive", "profile": profile, "heights": (90,)}
    run_inline(path, tmp_path / "first", place, **asked)
    store = open_store(place)
    for key in records(place, "audio"):
        older = store.get(key)
        assert older is not None
        (file,) = (place / "records").rglob(f"{key}.json")
        file.write_bytes(record_bytes(replace(older, value={"audible": True})))
    run_inline(path, tmp_path / "second", place, **asked)
    assert len(records(place, "audio-check")) >= 1
    (sound,) = [decoded(tmp_path / "second/audio/media.m3u8")]
    assert onsets(sound[0]) == pytest.approx(truth.beeps, abs=0.002)


def test_makers_tell_what_they_make(tmp_path: Path) -> None:
    for kind in kinds.KINDS:
        truth = kind.make(tmp_path / kind.file, random.Random(0))
        assert isinstance(truth, Truth)
        assert (tmp_path / kind.file).stat().st_size > 0
