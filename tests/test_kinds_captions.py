"""Captions and subtitles of real sources: what they say, when and where."""

from __future__ import annotations

import random
from fractions import Fraction
from pathlib import Path

import m3u8
import pytest

from cluster.package.package import Package
from cluster.stages.captions import captions
from encoder.package.subtitles import cues
from encoder.source.reference import plan_source
from fixtures.kinds import captions as kinds
from tests.running import profile_like, run_inline


def plain(cues) -> tuple[tuple[float, float, str], ...]:
    return tuple((round(float(c.start), 3), round(float(c.end), 3), c.text) for c in cues)


def read(path: Path) -> dict[str, tuple[tuple[float, float, str], ...]]:
    source = plan_source(path, path.parent)
    return {name: plain(cues) for name, _, cues in captions(source)}


@pytest.mark.parametrize("kind", kinds.KINDS, ids=lambda kind: kind.file)
@pytest.mark.parametrize("seed", [0, 1])
def test_captions_say_what_was_written_when_it_was_shown(kind, seed: int, tmp_path: Path):
    truth = kind.make(tmp_path / kind.file, random.Random(seed))
    assert truth.cues is not None
    (found,) = read(tmp_path / kind.file).values()
    assert [cue[2] for cue in found] == [cue[2] for cue in truth.cues]
    assert [cue[:2] for cue in found] == [pytest.approx(cue[:2], abs=0.002) for cue in truth.cues]


@pytest.mark.parametrize("codec", ["x264", "x265"])
def test_captions_of_pictures_are_a_declared_track_of_every_codec(codec: str, tmp_path: Path):
    path, out = tmp_path / "cc.mp4", tmp_path / "out"
    truth = kinds.make_h264(path, random.Random(0))
    run_inline(
        path,
        out,
        tmp_path / "store",
        search="exhaustive",
        profile=profile_like("quick", crf_grid={codec: [30, 40]}, source_cap=False),
        heights=(90,),
        codec=codec,
    )
    master = m3u8.load(str(out / "master.m3u8"))
    (track,) = [medium for medium in master.media if medium.type == "SUBTITLES"]
    assert (track.name, track.autoselect, track.characteristics) == (
        "Captions",
        "YES",
        "public.accessibility.transcribes-spoken-dialog,"
        "public.accessibility.describes-music-and-sound",
    )
    assert {p.stream_info.closed_captions for p in master.playlists} == {"NONE"}
    assert not any(b"GA94" in media.read_bytes() for media in out.rglob("*.m4s"))
    manifest = (out / "manifest.mpd").read_text()
    assert 'urn:tva:metadata:cs:AudioPurposeCS:2007" value="2"' in manifest
    assert 'urn:mpeg:dash:role:2011" value="caption"' in manifest
    whole = (out / "subtitles" / "subtitles-1" / "subtitles.vtt").read_text()
    said = plain(cues(whole, Fraction(0), Fraction(100)))
    assert truth.cues is not None
    assert [cue[2] for cue in said] == [cue[2] for cue in truth.cues]
    Package.open(out).verify()
