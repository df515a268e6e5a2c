"""Captions and subtitles of real sources: what they say, when and where."""

from __future__ import annotations

import random
import re
from fractions import Fraction
from pathlib import Path

import m3u8
import pytest

from cluster.jobs.source_findings import examine_source
from cluster.package.package import Package
from cluster.stages.title import Title, open_title
from cluster.stages.tracks import subtitle_tracks
from cluster.store import Store
from encoder.media import Shot
from encoder.package.ass import Event, webvtt
from encoder.package.layout import SubtitleTrack
from encoder.package.styled import styled
from encoder.package.subtitles import cues
from fixtures.kinds import captions as kinds
from fixtures.kinds import ff
from tests.running import profile_like, run_inline


def tracks(path: Path) -> tuple[SubtitleTrack, ...]:
    """Tracks of text as a package has them, of a title of one shot."""
    source = open_title(path, path.parent)
    title = Title(path.name, source, (Shot(0, source.reference.frames),))
    return subtitle_tracks(title, Store(path.parent / "store"))


def read(track: SubtitleTrack) -> list[tuple[float, float, str]]:
    found = cues(track.whole, Fraction(0), Fraction(1000))
    return [(float(c.start), float(c.end), re.sub("<[^<>]*>", "", c.text)) for c in found]


@pytest.mark.parametrize("kind", kinds.KINDS, ids=lambda kind: kind.file)
@pytest.mark.parametrize("seed", [0, 1])
def test_captions_say_what_was_written_when_it_was_shown(kind, seed: int, tmp_path: Path):
    truth = kind.make(tmp_path / kind.file, random.Random(seed))
    assert truth.cues is not None
    (track,) = tracks(tmp_path / kind.file)
    found = read(track)
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
        profile=profile_like("two-crfs", crf_grid={codec: [30, 40]}, source_cap=False),
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
    said = [(c.start, c.end, c.text) for c in cues(whole, Fraction(0), Fraction(100))]
    assert truth.cues is not None
    assert [cue[2] for cue in said] == [cue[2] for cue in truth.cues]
    Package.open(out).verify()


# -- subtitles with places and drawings ----------------------------------------------------------

HEADER = """[Script Info]
ScriptType: v4.00+
PlayResX: 640
PlayResY: 360
[V4+ Styles]
Format: Name, Fontname, Bold, Italic, Underline, Alignment
Style: Default,Arial,0,0,0,2
Style: Thought,Arial,0,-1,0,2
Style: Sign,Arial,0,0,0,8
"""


def event(text: str, start: float = 1, end: float = 2, style: str = "Default") -> Event:
    return Event(Fraction(str(start)), Fraction(str(end)), f"0,0,{style},,0,0,0,,{text}")


def converted(*events: Event, comments: bool = True) -> list[str] | None:
    text = webvtt(HEADER, events, comments=comments)
    if text is None:
        return None
    return [f"{c.settings}|{c.text}" for c in cues(text, Fraction(0), Fraction(1000))]


@pytest.mark.parametrize(
    ("text", "cue"),
    [
        (r"{\an8}Top", "line:0|Top"),
        (r"{\a6}Top", "line:0|Top"),
        (r"{\an7}Left", "line:0 align:left|Left"),
        (r"{\an5}Middle", "line:47%|Middle"),
        (r"{\an3}Right", "align:right|Right"),
        (r"{\pos(320,36)}Sign", "line:5% position:50%|Sign"),
        (r"{\an7\pos(64,180)}Sign", "line:50% position:10% align:left|Sign"),
        (r"{\move(320,90,320,360)\an8}Falls", "line:25% position:50%|Falls"),
        (r"{\an8}{\i1}it{\i0} plain {\b1}bold{\b0}", "line:0|<i>it</i> plain <b>bold</b>"),
        (r"{\an8}{\rThought}a{\r}b", "line:0|<i>a</i>b"),
        (r"{\an8}a < b & c -->", "line:0|a &lt; b &amp; c --→"),
        (r"one\hword", "|one\N{NO-BREAK SPACE}word"),
        (r"{note to self}said", "|said"),
        (r"{\p1}m 0 0 l 9 9{\p0}word", "|word"),
        (r"first\N\Nsecond", "|first\nsecond"),
        (r"\Nlow", "|low"),
    ],
)
def test_an_event_becomes_a_cue_at_its_place(text: str, cue: str):
    assert converted(event(text)) == [cue]


@pytest.mark.parametrize(
    "text",
    [
        r"{\pos(10,10)\p1}m 0 0 l 100 0 100 100 0 100{\p0}",
        r"{\p4\bord0}m 0 0 s 1600 0{\p0}",
        r"{\an7\p1}m 0 0 l 100 0",
        r"{\alpha&HFF&}invisible",
        r"{only a comment}",
    ],
)
def test_what_is_no_text_is_no_cue(text: str):
    assert converted(event(text)) == []


@pytest.mark.parametrize("text", [r"a\Nb", r"{\i1}a{\i0}", r"{\k20}ka{\k30}ra", r"{\fad(9,9)}x"])
def test_plain_text_is_left_as_it_was(text: str):
    assert converted(event(text), event("next", 2, 3)) is None


def test_styles_place_their_events():
    assert converted(event("Sign", style="Sign"), event("Thought", 2, 3, "Thought")) == [
        "line:0|Sign",
        "|<i>Thought</i>",
    ]
    legacy = HEADER.replace("[V4+ Styles]", "[V4 Styles]").replace("0,8", "0,6")
    assert "line:0\nSign" in str(webvtt(legacy, [event("Sign", style="Sign")]))


def test_a_sign_that_is_drawn_for_every_picture_is_one_cue():
    frames = [event(rf"{{\pos({n},50)}}EXIT", n / 25, (n + 1) / 25) for n in range(250)]
    text = webvtt(HEADER, frames)
    assert text is not None
    (cue,) = cues(text, Fraction(0), Fraction(100))
    assert (float(cue.start), float(cue.end), cue.text) == (0, 10, "EXIT")
    # Layers of one text as well; a line that somebody says twice stays two cues.
    assert converted(event("x"), event("x")) == ["|x"]
    assert converted(event("No."), event("No.", 2.01, 3)) is None


def test_braces_are_text_outside_ass():
    assert converted(event(r"{\an8}{laughs} Ha"), comments=False) == ["line:0|{laughs} Ha"]
    assert converted(event("{laughs} Ha"), comments=False) is None


def test_places_reach_the_package(tmp_path: Path):
    for name, maker, place in (
        ("top.mkv", kinds.make_top, "line:0"),
        ("placed.mkv", kinds.make_placed_webvtt, "line:"),
        ("sign.mkv", kinds.make_sign, "line:"),
    ):
        maker(tmp_path / name, random.Random(0))
        (track,) = tracks(tmp_path / name)
        first, *others = cues(track.whole, Fraction(0), Fraction(100))
        assert first.settings.startswith(place)
        assert not any(cue.settings for cue in others)


def test_subtitles_without_places_keep_their_bytes_and_key(tmp_path: Path):
    """What ffmpeg makes of plain text stands, under the key that it always had."""
    path = tmp_path / "plain.mkv"
    kinds.make_top(path, random.Random(0))
    assert styled(path, {1: "subrip"})
    words = tmp_path / "plain.srt"
    words.write_text("1\n00:00:00,200 --> 00:00:00,900\n{laughs} <i>a</i> &amp; b\n")
    ff("-i", path, "-i", words, "-map", "0:v", "-map", "1", "-c", "copy", tmp_path / "b.mkv")
    assert styled(tmp_path / "b.mkv", {1: "subrip"}) == {}
    (track,) = tracks(tmp_path / "b.mkv")
    assert read(track) == [(0.2, 0.9, "{laughs} a &amp; b")]


def test_what_becomes_of_captions_is_said(tmp_path: Path):
    kinds.make_h264(tmp_path / "cc.mp4", random.Random(0))
    kinds.make_track(tmp_path / "c608.mov", random.Random(0))
    said = {
        name: [
            (finding.found, finding.then, finding.state)
            for finding in examine_source(tmp_path / name)
            if finding.topic in ("captions", "subtitles")
        ]
        for name in ("cc.mp4", "c608.mov")
    }
    then = "become WebVTT for every codec, declared as captions"
    ((found, treated, state),) = said["cc.mp4"]
    assert found.startswith("in the pictures, CC")
    assert (treated, state) == (f"{then}; the copy in the pictures is left out", "ok")
    ((found, treated, state),) = said["c608.mov"]
    assert found.startswith("in a caption track (stream 1: eng), CC")
    assert (treated, state) == (then, "ok")
    (track,) = tracks(tmp_path / "c608.mov")
    assert (track.language, track.captions[:2], track.hearing_impaired) == ("en", "CC", True)
