"""Sound by choice: codec, bitrates, languages and loudness are delivered as they were asked for."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from cluster import events
from cluster.cli.options import parse_names
from cluster.jobs.options import SOUND_NAMES
from cluster.jobs.request import LadderOptions, LadderRequest, RunOptions
from cluster.package.package import Package
from cluster.service.options import JobOptions
from cluster.service.queue.work import run_options
from encoder import mp4
from encoder.errors import BadInput, VerificationFailed
from encoder.ffmpeg import Command, run
from encoder.package.audio import encode_sound, segment_audio
from encoder.package.audio_commands import Part, Sound
from encoder.package.loudness import MixLoudness, second_pass
from encoder.package.sound_choices import SOUND_CODECS, SoundChoices
from encoder.package.verify_sound import ExpectedSound, FoundSound, difference
from encoder.review import loudness
from fixtures.clips import make
from ladder.profiles import profile_from_file
from tests.running import SHORT, quick_profile, records, run_inline

SECONDS = 3
PEAKY = "0.03*sin(2*PI*500*t)+0.8*sin(2*PI*900*t)*between(mod(t,1),0,0.004)|0.03*sin(2*PI*500*t)"
QUIET = "0.02*sin(2*PI*500*t)|0.02*sin(2*PI*700*t)"


def sound_file(path: Path, levels: str) -> Path:
    graph = f"aevalsrc='{levels}':s=48000:d={SECONDS}"
    run(Command.of(["-v", "error", "-f", "lavfi", "-i", graph, "-c:a", "pcm_s24le", path]))
    return path


def encoded(source: Path, out: Path, channels: int = 2, **options: Any) -> Any:
    return encode_sound(
        Sound((Part(source, 0),), channels=channels),
        out,
        first_video_pts=Fraction(0),
        duration=Fraction(SECONDS),
        **options,
    )


@pytest.mark.parametrize("tag", ["x y", "english", "", " fr", "1"])
def test_what_is_no_language_is_refused_and_not_taken_for_sound_without_one(tag: str) -> None:
    with pytest.raises(BadInput, match="no tag of a language"):
        SoundChoices(languages=("en", tag)).check()
    SoundChoices(languages=("en", "pt-BR", "und", "zh_Hans")).check()
    assert parse_names("en, fr") == ("en", "fr")


@pytest.mark.parametrize("codec", SOUND_CODECS)
def test_every_codec_is_cut_at_shots_and_states_what_it_is(codec: str, tmp_path: Path) -> None:
    source = sound_file(tmp_path / "six.mkv", "|".join(f"0.1*sin({n}*1000*t)" for n in range(1, 7)))
    choices = SoundChoices(codec)
    for surround, channels in ((False, 2), (True, 6)):
        out = tmp_path / "out.mp4"
        rate = choices.bit_rate(surround=surround)
        encoded(source, out, 6, codec=codec, surround=surround, bit_rate=rate)
        data = out.read_bytes()
        found = mp4.audio_configuration(mp4.split_fragmented(data)[0])
        assert found.codecs.startswith(SOUND_CODECS[codec].codecs)
        assert (found.channels, found.sample_rate) == (channels, 48_000)
        track = segment_audio(data, [Fraction(1), Fraction(SECONDS)])
        assert [each.start > 0 for each in track.segments] == [False, True]
        nearest = Fraction(found.frame_samples, 2 * found.sample_rate)
        assert abs(track.segments[1].start - 1) <= nearest
        assert sum(s.duration for s in track.segments) == SECONDS


@pytest.mark.parametrize("codec", ["aac", "opus"])
def test_quiet_sound_is_raised_by_one_gain(codec: str, tmp_path: Path) -> None:
    source, out = sound_file(tmp_path / "in.mkv", QUIET), tmp_path / "out.mp4"
    facts = encoded(source, out, codec=codec, target_lufs=-23.0).loudness
    assert facts.linear
    assert facts.reached
    assert loudness(out, 75).integrated == pytest.approx(-23, abs=0.2)
    assert facts.integrated == loudness(out, 75).integrated
    assert facts.source == pytest.approx(loudness(source, 75).integrated, abs=0.1)


def test_peaks_are_limited_where_a_gain_would_clip(tmp_path: Path) -> None:
    source, out = sound_file(tmp_path / "in.mkv", PEAKY), tmp_path / "out.mp4"
    facts = encoded(source, out, target_lufs=-18.0).loudness
    measured = loudness(out, 75)
    assert not facts.linear
    assert measured.true_peak is not None
    assert measured.true_peak < -0.5
    assert facts.integrated == measured.integrated
    assert facts.reached == (abs((measured.integrated or 0) + 18) <= 0.5)


def test_silence_has_no_loudness_and_stays(tmp_path: Path) -> None:
    source = sound_file(tmp_path / "in.mkv", "0.0001*sin(2*PI*500*t)|0")
    plain, out = tmp_path / "plain.mp4", tmp_path / "out.mp4"
    encoded(source, plain)
    facts = encoded(source, out, target_lufs=-23.0)
    assert (facts.loudness.source, facts.loudness.reached) == (None, False)
    assert out.read_bytes() == plain.read_bytes()


def test_a_range_of_nothing_does_not_change_the_gain() -> None:
    (filters, rate) = second_pass(MixLoudness(-30.0, -20.0, 0.0, -40.0), -23.0)
    assert "measured_LRA=0.1:" in filters
    assert "LRA=1:" in filters
    assert "linear=true" in filters
    assert "48000" in rate


# -- whole packages ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_languages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of film with English, French and a commentary in English."""
    folder = tmp_path_factory.mktemp("sound")
    film = make(replace(SHORT, audio=False), folder / "film.mp4")
    path = folder / "languages.mkv"
    tones = [f"sine=f={f}:d=1:r=48000,volume=0.5,pan=stereo|c0=c0|c1=c0" for f in (300, 500, 700)]
    inputs = [word for tone in tones for word in ("-f", "lavfi", "-i", tone)]
    maps = [word for n in range(4) for word in ("-map", n)]
    tags = ("eng", "fre", "eng")
    stated = [w for n, t in enumerate(tags) for w in (f"-metadata:s:a:{n}", f"language={t}")]
    run(
        Command.of(
            [
                *("-v", "error", "-i", film, *inputs, *maps, *stated),
                *("-disposition:a:2", "comment", "-c:v", "copy", "-c:a", "flac", path),
            ]
        )
    )
    return path


ASKED: dict[str, Any] = {
    "audio_codec": "opus",
    "audio_rates": (64e3,),
    "audio_languages": ("fr", "de", "en"),
    "loudness": -20.0,
}


@pytest.fixture(scope="module")
def made(two_languages: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder, seen = tmp_path_factory.mktemp("made"), list[events.Event]()
    out, store = folder / "out", folder / "store"
    common = {"profile": quick_profile(), "heights": (54,), "search": "exhaustive"}
    run_inline(two_languages, out, store, seen.append, **common, **ASKED)
    return out, store, seen, common


def test_a_package_has_the_sound_that_was_asked_for(made: Any) -> None:
    out, _, seen, _ = made
    ladder = Package.open(out).ladder
    assert ladder.sound is not None
    assert [one.language for one in ladder.sound] == ["fr", "en", "en"]  # commentary comes last
    for one in ladder.sound:
        assert (one.codec, one.codecs, one.channels, one.bitrate) == ("opus", "opus", 2, 64_000)
        assert one.loudness is not None
        assert one.loudness.integrated == pytest.approx(-20, abs=0.5)
    master = (out / "master.m3u8").read_text()
    assert master.count('LANGUAGE="fr",') + master.count('LANGUAGE="fr"\n') == 1
    assert ",opus" in master
    run = json.loads((out / "run.json").read_text())
    assert {name: run["options"][name] for name in SOUND_NAMES} == {
        name: list(value) if isinstance(value, tuple) else value for name, value in ASKED.items()
    }
    assert LadderOptions.from_document(run["options"]).audio_languages == ("fr", "de", "en")
    said = [event.message for event in seen if isinstance(event, events.Warned | events.Noted)]
    assert any("no track is in de" in message for message in said)
    assert sum(message.startswith("loudness of track") for message in said) == 3


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("codecs", "mp4a.40.2", "codecs 'opus'"),
        ("channels", 6, "channels 2"),
        ("bitrate", 6_000, "kbit/s for 6 asked for"),
        ("language", "it", "language 'fr'"),
        ("loudness", -23.0, "a loudness of -20"),
    ],
)
def test_the_verifier_sees_other_sound(
    name: str, value: Any, reason: str, made: Any, tmp_path: Path
) -> None:
    out, *_ = made
    package = Package.open(out)
    sound = package.ladder.sound
    assert sound is not None
    first = sound[0]
    if name == "loudness":
        value = first.loudness.model_copy(update={"integrated": value})  # type: ignore[union-attr]
    other = [first.model_copy(update={name: value}), *sound[1:]]
    from cluster.package.assemble import verify_directory

    verify_directory(out, package.ladder.rungs, package.frame_rate, sound)
    with pytest.raises(VerificationFailed, match=reason):
        verify_directory(out, package.ladder.rungs, package.frame_rate, other)
    with pytest.raises(VerificationFailed, match="has the sound"):
        verify_directory(out, package.ladder.rungs, package.frame_rate, sound[1:])


def test_other_sound_encodes_no_picture_again(
    made: Any, two_languages: Path, tmp_path: Path
) -> None:
    _, store, _, common = made
    before = records(store, "encode")
    run_inline(two_languages, tmp_path / "plain", store, **common)
    assert records(store, "encode") == before
    ladder = json.loads((tmp_path / "plain/ladder.json").read_text())
    assert "sound" not in ladder
    assert len(list((tmp_path / "plain/audio").glob("*/media.m3u8"))) == 2


def test_a_language_that_the_source_lacks_is_refused(two_languages: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"names it, and the source has sound in en, fr"):
        run_inline(
            two_languages,
            tmp_path / "out",
            tmp_path / "store",
            profile=quick_profile(),
            audio_languages=("it",),
        )
    assert not (tmp_path / "out").exists()


# -- options -----------------------------------------------------------------------------------


def request(**options: Any) -> LadderRequest:
    return LadderRequest.of(RunOptions(Path("in.mp4"), Path("out"), **options))


def test_jobs_profiles_and_commands_ask_alike(tmp_path: Path) -> None:
    document = {name: list(v) if isinstance(v, tuple) else v for name, v in ASKED.items()}
    job = LadderRequest.of(run_options(JobOptions.model_validate(document), Path(), Path()))
    path = tmp_path / "mine.toml"
    path.write_text(
        'audio_codec = "opus"\naudio_rates = [64_000]\naudio_languages = ["fr", "de", "en"]\n'
        "loudness = -20\n"
    )
    profile = profile_from_file(path)
    expected = SoundChoices("opus", (64e3,), ("fr", "de", "en"), -20.0)
    assert request(**ASKED).sound == job.sound == request(profile=profile).sound == expected
    quiet = request(profile=profile, loudness=0, audio_codec="aac").sound
    assert quiet == SoundChoices("aac", (), ("fr", "de", "en"))
    assert JobOptions().model_dump() == JobOptions.model_validate({}).model_dump()
    assert not set(SOUND_NAMES) & set(JobOptions().model_dump())


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"audio_codec": "mp3"}, "choose one of aac, opus, ac3, eac3"),
        ({"audio_rates": (1e3,)}, "is no bitrate of stereo aac"),
        ({"audio_rates": (128e3, 9e6)}, "is no bitrate of 5.1 aac"),
        ({"audio_rates": (1e5, 2e5, 3e5)}, "at most two"),
        ({"audio_codec": "ac3", "audio_rates": (200e3,)}, "the nearest is 192k"),
        ({"loudness": 23.0}, "is out of range"),
        ({"loudness": -90.0}, "is out of range"),
    ],
)
def test_impossible_sound_is_refused_at_once(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        request(**options)


def test_a_track_differs_in_what_it_says() -> None:
    asked = ExpectedSound("audio", "opus", 2, 96_000, "en", -23.0)
    found = FoundSound("audio", "opus", 2, 97_000.0, "en", -23.1)
    assert difference(asked, found) is None
    assert "no loudness" in (difference(asked, replace(found, integrated_lufs=None)) or "")
    assert "150 kbit/s" in (difference(asked, replace(found, bit_rate=150_000.0)) or "")
