"""Both entry playlists declare the same sound and text."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from encoder.ffmpeg import Command, run
from encoder.package.audio import encode_audio, segment_audio
from encoder.package.declared import check_declarations
from encoder.package.layout import AudioTrack, TitlePackage
from encoder.package.readback import parse_master, parse_sets
from encoder.package.subtitles import Cue, subtitle_track
from encoder.package.write import write_package
from tests.package_media import title

Playlists = tuple[str, str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[TitlePackage, AudioTrack]:
    """A package without sound, and a sound for it."""
    folder = tmp_path_factory.mktemp("declared")
    package, _ = title(((0, 25),), {90: (40,)}, frame_rate=Fraction(25))
    tone = folder / "tone.wav"
    run(Command.of(["-v", "error", "-f", "lavfi", "-i", "sine=d=1", tone]))
    found = encode_audio(
        tone, 0, folder / "a.mp4", first_video_pts=Fraction(0), duration=package.duration
    )
    assert found is not None
    return package, segment_audio(found.read_bytes(), package.boundaries)


def written(package: TitlePackage, folder: Path) -> Playlists:
    write_package(package, folder / "out")
    texts = (folder / "out" / name for name in ("master.m3u8", "manifest.mpd"))
    master, manifest = (text.read_text() for text in texts)
    return master, manifest


def check(playlists: Playlists) -> None:
    check_declarations(parse_master(playlists[0]), parse_sets(playlists[1]))


def test_whatever_is_written_is_declared_alike(made, tmp_path: Path):
    package, sound = made
    roles = [(), ("description",), ("clear speech", "description"), ("narration",), ("commentary",)]
    for number, role in enumerate(roles):
        folder = tmp_path / str(number)
        folder.mkdir()
        check(written(replace(package, audio=replace(sound, roles=role)), folder))
    more = tuple(replace(sound, roles=role, language="en") for role in (*roles, ("dub",)))
    (tmp_path / "all").mkdir()
    check(written(replace(package, audio=sound, more_audio=more), tmp_path / "all"))


@pytest.mark.parametrize(
    ("old", "new", "where", "message"),
    [
        ('NAME="en forced"', 'NAME="en"', 0, "the track 'en' twice in the group 'subtitles'"),
        ('LANGUAGE="de"', 'LANGUAGE="fr"', 0, "declares language 'fr', manifest.mpd 'de'"),
        ("FORCED=YES", "FORCED=NO", 0, "declares forced False, manifest.mpd True"),
        ('value="caption"', 'value="subtitle"', 1, "declares captions True, manifest.mpd False"),
        ("DEFAULT=YES", "DEFAULT=NO", 0, "declares main False, manifest.mpd True"),
        ('CHANNELS="2"', 'CHANNELS="6"', 0, "declares channels '6', manifest.mpd '2'"),
        ("describes-video", "easy-to-read", 0, "declares describes False, manifest.mpd True"),
        ('id="subtitles-2"', 'id="subtitles-9"', 1, "manifest.mpd has"),
    ],
)
def test_declarations_that_differ_are_found(made, tmp_path: Path, old, new, where, message):
    package, sound = made
    cues, ends = (Cue(Fraction(0), Fraction(1), "Hello"),), package.boundaries
    package = replace(
        package,
        audio=sound,
        more_audio=(replace(sound, language="en", roles=("description",)),),
        subtitles=(
            subtitle_track(cues, ends, language="en"),
            subtitle_track(cues, ends, language="en", forced=True),
            subtitle_track(cues, ends, language="de", hearing_impaired=True),
            subtitle_track(cues, ends, hearing_impaired=True, captions="CC1"),
            subtitle_track(cues, ends, hearing_impaired=True, captions="CC3"),
        ),
    )
    playlists = list(written(package, tmp_path))
    check((playlists[0], playlists[1]))
    assert old in playlists[where]
    playlists[where] = playlists[where].replace(old, new, 1)
    with pytest.raises(ValueError, match=message):
        check((playlists[0], playlists[1]))
