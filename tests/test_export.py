"""A rung as one file: the frames that were scored, the package's sound, in time, or no file."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest

from cluster.store.files import name_new_file
from encoder.errors import BadInput, VerificationFailed
from encoder.ffmpeg import Command, run
from encoder.package.audio import encode_audio, segment_audio
from encoder.package.progressive import (
    MediaFiles,
    check_progressive,
    read_sounds,
    read_texts,
    write_progressive,
)
from encoder.package.subtitles import Cue, subtitle_track
from encoder.package.verify import ExpectedSegment
from encoder.package.write import write_package
from tests.cli_material import called
from tests.package_media import onset, samples, title
from tests.running import SmallRun

RATE = Fraction(25)
SHOTS = ((0, 25), (25, 60), (60, 75))
BEEP_SECONDS = 1.0


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A package with sound in English and German and subtitles; the hashes of its rung's frames."""
    folder = tmp_path_factory.mktemp("written")
    package, expected = title(SHOTS, {90: (20, 40, 30)}, frame_rate=RATE, cut=40)
    beep = folder / "beep.wav"
    tone = f"sine=d=3,volume=enable='lt(t,{BEEP_SECONDS})':volume=0"
    run(Command.of(["-v", "error", "-f", "lavfi", "-i", tone, beep]))
    made = encode_audio(beep, 0, folder / "a.mp4", first_video_pts=Fraction(0),
                        duration=package.duration)  # fmt: skip
    assert made is not None
    sound = segment_audio(made.read_bytes(), package.boundaries)
    cues = (Cue(Fraction(1, 2), Fraction(3, 2), "Hello"), Cue(Fraction(2), Fraction(5, 2), "World"))
    package = replace(
        package,
        audio=replace(sound, language="en"),
        more_audio=(replace(sound, language="de"),),
        subtitles=(subtitle_track(cues, package.boundaries, language="fr"),),
    )
    write_package(package, folder / "out")
    return folder / "out", hashes_of(expected["v90"])


def hashes_of(segments: list[ExpectedSegment]) -> list[str]:
    return [one for segment in segments for one in segment.frame_hashes]


def rung_of(package: Path) -> MediaFiles:
    folder = package / "video" / "v90"
    return MediaFiles(folder / "init.mp4", tuple(sorted(folder.glob("*.m4s"))))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_file_has_the_frames_the_sound_and_the_text_in_time(
    written: tuple[Path, list[str]], tmp_path: Path, suffix: str
) -> None:
    package, hashes = written
    out = tmp_path / f"film{suffix}"
    sounds, texts = read_sounds(package), read_texts(package)
    write_progressive(out, rung_of(package), sounds, texts)
    done = check_progressive(out, RATE, hashes, sounds, len(texts))
    assert (done.frames, done.sounds, done.texts) == (75, 2, 1)
    with av.open(str(out)) as container:  # another reader than the one that checked
        assert container.start_time == 0
        assert [stream.language for stream in container.streams.audio] == ["eng", "deu"]
        assert [stream.language for stream in container.streams.subtitles] == ["fra"]
        times = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    assert times == pytest.approx([number / 25 for number in range(75)], abs=1e-3)
    for number in range(2):
        sound = samples(out, "-map", f"0:a:{number}")
        assert onset(sound) == pytest.approx(BEEP_SECONDS, abs=0.03)
    text = run(Command.of(["-v", "error", "-i", out, "-map", "0:s:0", "-f", "srt", "pipe:1"]))
    assert b"00:00:00,500 --> 00:00:01,500\nHello" in text.stdout.replace(b"\r", b"")
    assert b"00:00:02,000 --> 00:00:02,500\nWorld" in text.stdout.replace(b"\r", b"")


def test_mp4_begins_with_its_index(written: tuple[Path, list[str]], tmp_path: Path) -> None:
    out = tmp_path / "film.mp4"
    write_progressive(out, rung_of(written[0]), [], [])
    content = out.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_hevc_is_called_as_players_of_mp4_want_it(tmp_path: Path) -> None:
    package, expected = title(((0, 10), (10, 20)), {90: (30, 30)}, frame_rate=RATE, codec="libx265")
    write_package(package, tmp_path / "out")
    out = tmp_path / "film.mp4"
    write_progressive(out, rung_of(tmp_path / "out"), [], [])
    assert check_progressive(out, RATE, hashes_of(expected["v90"]), [], 0).frames == 20
    with av.open(str(out)) as container:
        assert container.streams.video[0].codec_tag == "hvc1"


def other_frames(film: Path, bad: Path) -> None:
    command = ["-v", "error", "-i", film, "-c:v", "libx264", "-crf", 40, "-c:a", "copy", bad]
    run(Command.of(command))


def a_frame_less(film: Path, bad: Path) -> None:
    run(Command.of(["-v", "error", "-i", film, "-c", "copy", "-frames:v", 74, bad]))


def late_pictures(film: Path, bad: Path) -> None:
    run(Command.of(["-v", "error", "-i", film, "-itsoffset", 0.5, "-i", film, "-map", "1:v",
                    "-map", "0:a:0", "-c", "copy", bad]))  # fmt: skip


def late_sound(film: Path, bad: Path) -> None:
    run(Command.of(["-v", "error", "-i", film, "-itsoffset", 0.04, "-i", film, "-map", "0:v",
                    "-map", "1:a:0", "-c", "copy", bad]))  # fmt: skip


def other_sound(film: Path, bad: Path) -> None:
    run(Command.of(["-v", "error", "-i", film, "-c:v", "copy", "-af", "volume=0.5", bad]))


def no_sound(film: Path, bad: Path) -> None:
    run(Command.of(["-v", "error", "-i", film, "-map", "0:v", "-c", "copy", bad]))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (other_frames, "frame 0 of .* is not the one that was scored"),
        (a_frame_less, "has 74 frames instead of 75"),
        (late_pictures, "is shown at|begins at"),
        (late_sound, "sound track 0 of .* begins at 0.01"),
        (other_sound, "sound track 0 of .* is not the package's"),
        (no_sound, "the sound of .* does not decode"),
    ],
)
def test_what_differs_is_found(
    written: tuple[Path, list[str]],
    tmp_path: Path,
    spoil: Callable[[Path, Path], None],
    message: str,
) -> None:
    package, hashes = written
    film, bad, sounds = tmp_path / "film.mp4", tmp_path / "bad.mp4", read_sounds(package)[:1]
    write_progressive(film, rung_of(package), sounds, [])
    check_progressive(film, RATE, hashes, sounds, 0)
    spoil(film, bad)
    with pytest.raises(VerificationFailed, match=message):
        check_progressive(bad, RATE, hashes, sounds, 0)


def test_the_command_writes_a_rung_and_leaves_nothing_half_made(
    small_run: SmallRun, tmp_path: Path
) -> None:
    ladder = json.loads((small_run.out / "ladder.json").read_text())
    names = [rung["name"] for rung in ladder["rungs"]]
    out = tmp_path / "film.mp4"
    done = called("export", small_run.out, "-o", out, "--rung", "1", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])["result"]
    assert (result["rung"], result["frames"]) == (names[0], 36)
    assert result["bytes"] == out.stat().st_size
    for line, message in (
        (["-o", out], "exists; delete it"),
        (["-o", tmp_path / "film.avi"], "does not say which format"),
        (["-o", tmp_path / "b.mp4", "--rung", "9"], "a number from 1 to"),
        (["-o", tmp_path / "b.mp4", "--audio", "de"], "no sound in 'de'"),
        (["-o", tmp_path / "b.mp4", "--subtitles", "de"], "no subtitles in 'de'; it has none"),
        (["-o", tmp_path / "none" / "b.mp4"], "cannot be written"),
    ):
        refused = called("export", small_run.out, *line)
        assert refused.returncode == (1 if "written" in message else 2), refused.stderr
        assert message in " ".join(refused.stderr.split())
    top = small_run.out / ladder["rungs"][-1]["segments"][1]["uri"]
    content = bytearray(top.read_bytes())
    content[-200:-100] = os.urandom(100)
    top.write_bytes(content)
    damaged = called("export", small_run.out, "-o", tmp_path / "b.mp4")
    assert damaged.returncode == 1
    assert "error: " in damaged.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.mp4"]


def test_what_a_package_lacks_is_named(written: tuple[Path, list[str]], tmp_path: Path) -> None:
    package = tmp_path / "package"
    shutil.copytree(written[0], package)
    rung = rung_of(package)
    for damage in (lambda: rung.init.write_bytes(b"\0\0\0\x08ftyp"), rung.init.unlink):
        damage()
        with pytest.raises(VerificationFailed, match=r"init\.mp4 cannot be read"):
            write_progressive(tmp_path / "film.mp4", rung, [], [])
    manifest = package / "manifest.mpd"
    manifest.write_text(manifest.read_text().replace('contentType="text"', 'contentType="other"'))
    with pytest.raises(VerificationFailed, match="lacks the subtitles"):
        read_texts(package)
    assert [path.name for path in tmp_path.iterdir()] == ["package"]


def test_a_rung_of_several_sizes_is_refused(small_run: SmallRun, tmp_path: Path) -> None:
    path = small_run.out / "ladder.json"
    ladder = json.loads(path.read_text())
    ladder["rungs"][-1]["segments"][0]["height"] -= 2
    path.write_text(json.dumps(ladder))
    from cluster.package.export import export_rung
    from cluster.package.package import Package

    with pytest.raises(BadInput, match="several sizes"):
        export_rung(Package.open(small_run.out), "top", tmp_path / "film.mp4")


def test_a_file_gets_its_name_where_links_are_not_to_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    made, out = tmp_path / "made", tmp_path / "film.mp4"
    made.write_bytes(b"new")
    name_new_file(made, out)
    assert out.read_bytes() == b"new"
    made.write_bytes(b"newer")
    with pytest.raises(FileExistsError):
        name_new_file(made, out)
    assert out.read_bytes() == b"new"
