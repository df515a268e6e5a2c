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
from encoder.media import Shot
from encoder.source.choices import SourceChoices
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
    found, sentences = read(path, **truth.options)
    assert truth.cues is not None
    assert [cue[2] for cue in found] == [cue[2] for cue in truth.cues]
    assert [cue[:2] for cue in found] == [pytest.approx(cue[:2], abs=0.0011) for cue in truth.cues]
    assert truth.says in "; ".join(sentences)
    assert bool(truth.says) == any("subtitles" in sentence for sentence in sentences)
