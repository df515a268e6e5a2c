"""Keys of every stage, as released: a key that changes makes every store in the world start again.

The jobs are real; only the digest of the source and the versions of tools are fixed, as they are
what a key may follow. Keys hash the type names of values and the text of some of them (a title of
high dynamic range has its metadata in its keys), so that even a renamed class would be seen here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.execution.executor import InlineExecutor
from cluster.jobs.baselines import Baselines
from cluster.jobs.estimate import plan_run
from cluster.jobs.request import RunOptions
from cluster.jobs.run import run_title
from cluster.stages.analysis import find_shots, find_title
from cluster.stages.augment import make_augmented
from cluster.stages.pieces import store_pieces
from cluster.stages.title import TitleSource, open_title
from cluster.stages.title_record import store_title
from cluster.store import keys, open_store
from encoder import ffmpeg
from encoder.baseline import FixedRung
from encoder.source.colour.hdr_metadata import MasteringDisplay, StaticMetadata
from encoder.source.index import FrameIndex
from encoder.source.probing.source_info import SourceInfo
from encoder.source.reference import ReferenceSource
from encoder.source.timeline.constant_rate import Timeline
from fixtures.clips import TINY, make
from tests.matrix import quick_profile
from vmaf.models import JUDGES, V1

GOLDEN = Path(__file__).with_name("golden_keys.json")
VERSIONS = ("cluster.stages.analysis.version", "cluster.stages.artwork.version")


GRID = {"x264": [24, 40], "x265": [24, 40], "svtav1": [30, 55]}
FOLLOWS_MEASUREMENTS = "labels"
"""The stage whose keys hold what was encoded; every other key holds what was asked for."""

Keys = dict[str, dict[str, dict[str, Any]]]
"""Stage, key, and the parameters that the key was made of."""


@pytest.fixture
def keys_made(monkeypatch: pytest.MonkeyPatch) -> Keys:
    """Keys as they are made; sources and tools are the same wherever the test runs."""
    made: Keys = {}
    plain = keys.canonical_json

    def recording(document: Any) -> bytes:
        text = plain(document)
        if isinstance(document, dict) and document.keys() == {"stage", "version", "parameters"}:
            digest = hashlib.sha256(text).hexdigest()
            made.setdefault(document["stage"], {})[digest] = document["parameters"]
        return text

    monkeypatch.setattr(keys, "canonical_json", recording)
    monkeypatch.setattr("cluster.stages.title.file_sha256", lambda path: f"{path.stem:0>64}")
    monkeypatch.setattr(ffmpeg, "version", lambda: "golden")
    for name in VERSIONS:
        monkeypatch.setattr(name, lambda distribution: "golden")
    monkeypatch.setattr("cluster.stages.prediction.file_sha256", lambda path: "golden" * 8)
    return made


def test_every_stage_has_the_keys_that_it_had(
    keys_made: Keys, awkward_clip: Callable[[str], Path], tmp_path: Path
) -> None:
    tiny = make(replace(TINY, width=256, height=144), tmp_path / "tiny.mp4")
    words = tmp_path / "words.srt"
    words.write_text("1\n00:00:00,500 --> 00:00:02,000\nA word.\n")
    title = tmp_path / "title.mkv"
    ffmpeg.run(
        ffmpeg.Command.of(["-v", "error", "-i", tiny, "-i", words, "-c", "copy", "-y", title])
    )
    place = tmp_path / "store"

    def run(source: Path, out: str, **options: Any) -> None:
        asked = RunOptions(
            source,
            tmp_path / out,
            preset="ultrafast",
            profile=profile,
            recipe_check="never",
            store=place,
            **options,
        )
        run_title(asked, lambda event: None, InlineExecutor())

    profile = quick_profile(GRID)
    searched = {"search": "exhaustive", "heights": (54,)}
    run(title, "title", codec="x264,svtav1", also=("vmaf_v0.6.1",), **searched)
    run(awkward_clip("hdr10.mp4"), "hdr", codec="x265", **searched)
    predicted = RunOptions(title, tmp_path, heights=(54,), profile=profile, store=place)
    plan_run(predicted, lambda event: None, InlineExecutor())
    store = open_store(place)
    with store.scratch() as scratch:
        source = open_title(title, scratch)
        make_augmented(source, "grain", 1.0, 7, store)
        whole = find_title(title, source, store, InlineExecutor(), lambda event: None)
        store_pieces(whole, store, lambda event: None)
        baselines = Baselines(whole, store, InlineExecutor(), lambda event: None)
        baselines.make([FixedRung("x264", 256, 144, 145_000)], (V1, *JUDGES))
        assert find_shots(source, str(place)) == whole.shots
    described = [store_title(one, store) for one in (_plain(), _hdr())]
    found = _asked_for(keys_made)
    found["title"] = sorted(described)
    assert found == json.loads(GOLDEN.read_text())


def _asked_for(made: Keys) -> dict[str, list[str]]:
    """The keys that no measurement had a part in: CRFs of the grid, rates of the fixed ladder."""
    crfs = [crf for grid in GRID.values() for crf in grid]
    encodes = {one for one, asked in made["encode"].items() if asked["crf"] in crfs}
    fixed = {one for one, asked in made["baseline"].items() if "bitrate" in asked}
    kept = {"encode": encodes, "baseline": fixed} | {
        stage: {one for one, asked in made[stage].items() if asked["encode"] in encodes | fixed}
        for stage in ("score", "baseline-score")
    }
    others = made.keys() - kept.keys() - {FOLLOWS_MEASUREMENTS}
    return {stage: sorted(kept.get(stage, made[stage])) for stage in sorted({*kept, *others})}


def _plain() -> TitleSource:
    """A title of which every fact is written here."""
    times = np.arange(0, 48, dtype=np.int64) * 512
    info = SourceInfo(
        path="film.mp4",
        container="mov,mp4,m4a,3gp,3g2,mj2",
        stream_index=0,
        codec="h264",
        width=640,
        height=360,
        sample_aspect=Fraction(1),
        orientation=(),
        pix_fmt="yuv420p",
        bit_depth=8,
        chroma="420",
        color_range="limited",
        color_primaries="bt709",
        color_transfer="bt709",
        color_matrix="bt709",
        field_order="progressive",
        first_frame_interlaced=False,
        time_base=Fraction(1, 12288),
        base_rate_from_header=Fraction(24),
        average_rate_from_header=Fraction(24),
        rate_from_bitstream=Fraction(24),
        duration_seconds_from_header=Fraction(2),
        frames_from_header=48,
        audio=(),
    )
    return TitleSource(
        ReferenceSource(
            path="film.mp4",
            info=info,
            index=FrameIndex(Fraction(1, 12288), times, times[:1], times[:1], 512, 10_000),
            timeline=Timeline(Fraction(24), 48, None),
        ),
        "a" * 64,
    )


def _hdr() -> TitleSource:
    display = MasteringDisplay(
        (34000, 16000), (13250, 34500), (7500, 3000), (15635, 16450), 10_000_000, 50
    )
    plain = _plain()
    info = replace(
        plain.reference.info,
        color_transfer="smpte2084",
        static_metadata=StaticMetadata(display, (1000, 400)),
    )
    return replace(plain, reference=replace(plain.reference, info=info))
