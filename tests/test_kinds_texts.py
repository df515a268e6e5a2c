"""Text subtitles are kept and in time, or said to be lost with their number."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from cluster.jobs.source_findings import describe_source
from cluster.jobs.text_findings import describe_texts
from cluster.stages.texts import texts_in_title
from cluster.stages.title import Title, open_title
from cluster.store import Store
from encoder.errors import SourceUnusable
from encoder.media import Shot
from encoder.package.audio import known_language
from encoder.package.encodings import usual_encoding
from encoder.source.choices import SourceChoices
from fixtures.kinds import ff
from fixtures.kinds import texts as kinds


def opened(path: Path, **options: str) -> Title:
    source = open_title(path, path.parent, choices=SourceChoices(**options))
    return Title(path.name, source, (Shot(0, source.reference.frames),))


def read(path: Path, **options: str) -> tuple[list[tuple[float, float, str]], list[str]]:
    """Cues of the first text, and what a run warns of."""
    title = opened(path, **options)
    texts = texts_in_title(title, Store(path.parent / "store"))
    cues = texts[0].cues if texts else ()
    found = [(float(c.start), float(c.end), re.sub("<[^<>]*>", "", c.text)) for c in cues]
    findings = (*describe_source(title.reference, path), *describe_texts(texts))
    return found, [finding.sentence for finding in findings if finding.state == "warn"]


@pytest.mark.parametrize("kind", kinds.KINDS, ids=lambda kind: kind.file)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_subtitles_are_in_time_with_their_pictures(kind, seed: int, tmp_path: Path):
    path = tmp_path / kind.file
    truth = kind.make(path, random.Random(seed))
    if truth.refused:
        with pytest.raises(SourceUnusable, match=re.escape(truth.refused)):
            read(path)
        return
    found, sentences = read(path, **truth.options)
    assert truth.cues is not None
    assert [cue[2] for cue in found] == [cue[2] for cue in truth.cues]
    assert [cue[:2] for cue in found] == [pytest.approx(cue[:2], abs=0.0011) for cue in truth.cues]
    assert truth.says in "; ".join(sentences)
    assert bool(truth.says) == any("subtitles" in sentence for sentence in sentences)


@pytest.mark.parametrize(("language", "encoding", "text"), kinds.ENCODED)
def test_text_is_in_the_usual_encoding_of_its_language(language: str, encoding: str, text: str):
    content = text.encode(encoding)
    assert usual_encoding(known_language(language), content) == encoding
    assert usual_encoding(None, content) is None


@pytest.mark.parametrize(
    ("language", "text", "encoding"),
    [
        ("en", "Где ты был вчера вечером?", "CP1251"),  # Matroska takes eng where none is stated
        ("en", "你昨天晚上在哪里？", "GB18030"),
        ("ru", "Grüße aus München", "CP1252"),
        ("zh", "Grüße aus München", "CP1252"),
        ("ja", "Где ты был вчера вечером? ё", "KOI8-R"),
        ("mul", "Grüße", "CP1252"),
    ],
)
def test_text_in_another_encoding_is_not_read_in_that_one(language: str, text: str, encoding: str):
    assert usual_encoding(language, text.encode(encoding)) is None


def test_the_ways_out_of_an_unknown_encoding_work(tmp_path: Path):
    lines = kinds.write_encoded(tmp_path / "in.mkv", "", "CP1252", "Grüße, Gruß")
    with pytest.raises(SourceUnusable) as caught:
        read(tmp_path / "in.mkv")
    ways = re.findall(r"ffmpeg (.*?)(?:,|$)", caught.value.message)
    assert len(ways) == 2
    for number, (way, cues) in enumerate(zip(ways, (list(lines), []), strict=True)):
        out = tmp_path / f"{number}.mkv"
        files = {"IN": tmp_path / "in.mkv", "OUT": out, "OUT.mkv": out}
        ff(*(files.get(word, word) for word in way.split()))
        assert read(out) == (cues, [])
