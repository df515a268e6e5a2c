"""Several tracks of sound and subtitles, from the source to a verified package."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import m3u8
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.jobs.source_findings import examine_source
from encoder.errors import VerificationFailed
from encoder.ffmpeg import Command, run
from encoder.package.audio import known_language
from encoder.package.readback import parse_texts
from encoder.package.subtitles import Cue, cues, document, subtitle_track
from encoder.source.probing.probe import probe
from tests.running import quick_profile, run_inline

SRT = """1
00:00:05,200 --> 00:00:05,900
Hello & <i>welcome</i>

2
00:00:05,800 --> 00:00:06,600
Zwei Zeilen,
ein Pfeil: -->

3
00:00:20,000 --> 00:00:21,000
After the end
"""


def make(folder: Path) -> Path:
    """2 s from 5 s on: two languages of sound, one of them 5.1, three of subtitles."""
    (folder / "words.srt").write_text(SRT, encoding="utf-8")
    whole = folder / "title.mkv"
    tone = "sine=frequency={}:duration=2"
    run(
        Command.of(
            [
                *("-v", "error", "-y", "-f", "lavfi", "-i"),
                "testsrc2=size=320x180:rate=12:duration=2",
                *("-f", "lavfi", "-i", tone.format(440)),
                *("-f", "lavfi", "-i", tone.format(660) + ",pan=5.1|c0=c0|c1=c0|c2=c0|c4=c0"),
                *("-itsoffset", "-5", "-i", folder / "words.srt"),
                *("-map", "0:v", "-map", "1:a", "-map", "2:a", "-map", "3:s", "-map", "3:s"),
                *("-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", "-c:s:0", "srt"),
                *("-c:s:1", "ass", "-output_ts_offset", "5"),
                *("-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=fra"),
                *("-metadata:s:s:0", "language=eng", "-metadata:s:s:1", "language=fra"),
                *("-disposition:s:1", "forced", whole),
            ]
        ),
        timeout_seconds=60,
    )
    return whole


@pytest.fixture(scope="module")
def title(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("languages"))


def test_streams_are_listed_with_their_languages(title: Path):
    info = probe(title)
    assert [(a.language, a.channels) for a in info.audio] == [("eng", 1), ("fra", 6)]
    assert [(s.language, s.codec, s.forced, s.text) for s in info.subtitles] == [
        ("eng", "subrip", False, True),
        ("fra", "ass", True, True),
    ]
    told = {finding.topic: finding for finding in examine_source(title)}
    assert "fra: aac, 6 channels" in told["sound"].found
    assert "5.1 beside it" in told["sound"].then
    assert "become WebVTT" in [f.then for f in examine_source(title) if f.topic == "subtitles"]


def test_a_package_in_two_languages(title: Path, tmp_path: Path):
    out = tmp_path / "out"
    profile = quick_profile()
    run_inline(title, out, tmp_path / "store", search="exhaustive", profile=profile, heights=(180,))
    master = m3u8.load(str(out / "master.m3u8"))
    sound = [m for m in master.media if m.type == "AUDIO"]
    assert [(m.name, m.language, m.channels, m.default, m.autoselect) for m in sound] == [
        ("en", "en", "2", "YES", "YES"),
        ("fr", "fr", "2", "NO", "YES"),
        ("fr 5.1", "fr", "6", "NO", "NO"),
    ]
    words = [m for m in master.media if m.type == "SUBTITLES"]
    assert [(m.name, m.language, m.forced) for m in words] == [
        ("en", "en", "NO"),
        ("fr forced", "fr", "YES"),
    ]
    assert all(p.stream_info.audio and p.stream_info.subtitles for p in master.playlists)
    # On the title's clock, which begins 5 s into the file's; what comes after its end is left out.
    whole = (out / "subtitles" / "subtitles-1" / "subtitles.vtt").read_text()
    assert "00:00:00.200 --> 00:00:00.900\nHello" in whole
    assert "<i>welcome</i>\n" in whole
    assert "00:00:00.800 --> 00:00:01.600\nZwei Zeilen,\nein Pfeil: --" in whole
    assert "After the end" not in whole
    assert parse_texts((out / "manifest.mpd").read_text()) == (
        "subtitles/subtitles-1/subtitles.vtt",
        "subtitles/subtitles-2/subtitles.vtt",
    )
    assert (out / "manifest.mpd").read_text().count('value="alternate"') == 2
    # What verification reads, it reads whole.
    (out / "subtitles" / "subtitles-2" / "00000.vtt").unlink()
    from cluster.package.package import Package

    with pytest.raises(VerificationFailed, match=r"subtitles-2.*missing"):
        Package.open(out).verify()


@pytest.mark.parametrize(
    ("written", "tag"),
    [
        *(("eng", "en"), ("fre", "fr"), ("fra", "fr"), ("ger", "de"), ("chi", "zh")),
        *(("por-BR", "pt-BR"), ("en_us", "en-US"), ("zh-Hant", "zh-Hant"), ("mul", "mul")),
        *(("und", None), ("", None), (None, None), ("english", None), ('e"n', None)),
    ],
)
def test_languages_are_written_as_playlists_want_them(written, tag):
    assert known_language(written) == tag


# -- cues, without media -------------------------------------------------------------------------

times = st.integers(0, 20_000).map(lambda millis: Fraction(millis, 1000))
pieces = ["a", "b", ">", "-", " ", "\N{GREEK SMALL LETTER ALPHA}", "&amp;", "&lt;", "<i>", "</i>"]
texts = st.lists(st.sampled_from(pieces), min_size=1, max_size=9).map("".join)


@given(st.lists(st.tuples(times, times, texts.filter(str.strip)), max_size=8), times, times)
def test_cues_are_read_back_shifted_and_within_the_title(rows, offset, duration):
    given_ = [Cue(*sorted((a, b)), text.replace("-->", "->")) for a, b, text in rows if a != b]
    found = cues(document(given_), offset, duration)
    expected = [
        (max(c.start - offset, Fraction(0)), min(c.end - offset, duration), c.text) for c in given_
    ]
    kept = [row for row in expected if row[0] < row[1]]
    assert sorted((c.start, c.end, c.text) for c in found) == sorted(kept)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("1 < 2 & 3 > 2", "1 &lt; 2 &amp; 3 > 2"),
        ("AT&T; &amp; &#38; &nbsp;", "AT&amp;T; &amp; &#38; &nbsp;"),
        ("<i>so</i> <b.loud>be</b> <v Eve>it", "<i>so</i> <b.loud>be</b> <v Eve>it"),
        ("<00:00:01.000>when <foo> </font", "<00:00:01.000>when &lt;foo> &lt;/font"),
    ],
)
def test_signs_that_mean_themselves_are_not_swallowed(said, shown):
    text = f"WEBVTT\n\n00:00.000 --> 00:01.000\n{said}\n"
    (cue,) = cues(text, Fraction(0), Fraction(1))
    assert cue.text == shown


def test_segments_hold_every_cue_that_they_touch():
    found = [Cue(Fraction(0), Fraction(3), "both"), Cue(Fraction(2), Fraction(3), "second")]
    track = subtitle_track(found, [Fraction(2), Fraction(4)], language="en")
    assert ["both" in text for text in track.segments] == [True, True]
    assert ["second" in text for text in track.segments] == [False, True]
    assert all("X-TIMESTAMP-MAP=MPEGTS:0,LOCAL:00:00:00.000" in text for text in track.segments)
    assert "X-TIMESTAMP-MAP" not in track.whole


@pytest.mark.parametrize("text", ["", "1\n00:00", "WEB VTT"])
def test_what_is_no_webvtt_is_an_error(text):
    with pytest.raises(ValueError, match="not WebVTT"):
        cues(text, Fraction(0), Fraction(1))


def test_settings_and_nonsense():
    text = (
        "WEBVTT\n\nNOTE --> not a cue\n\nid\n00:01.000 --> 00:02.000 line:0 evil:<x> align:start\n"
        "shown\n\n00:05.000 --> 00:04.000\nbackwards\n\n00:03.000 --> 00:04.000\n\n"
    )
    (cue,) = cues(text, Fraction(0), Fraction(10))
    assert (cue.text, cue.settings) == ("shown", "line:0 align:start")
