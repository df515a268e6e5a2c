"""Transport and program streams of kinds that users report: one programme, all of it, in time."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from cluster.jobs.source_findings import describe_source
from encoder.analysis.frames import small_frames
from encoder.errors import SourceUnusable
from encoder.package.audio import encode_audio
from encoder.source.choices import SourceChoices
from encoder.source.reference import ReferenceSource, plan_source
from fixtures.kinds import Truth, transport


def flashes(source: ReferenceSource) -> list[float]:
    """Return when white pictures begin, seconds."""
    bright = [float(np.mean(small.luma)) > 200 for small in small_frames(source)]
    begins = [n for n, on in enumerate(bright) if on and not (n and bright[n - 1])]
    return [float(n / source.frame_rate) for n in begins]


def beeps(source: ReferenceSource, made: Path, track: int = 0) -> list[float]:
    """Return when tones begin in a track, seconds."""
    out = encode_audio(
        Path(source.path),
        source.info.audio[track].index,
        made,
        first_video_pts=source.start_seconds,
        duration=source.timeline.duration_seconds,
        channels=source.info.audio[track].channels,
    )
    assert out is not None
    with av.open(str(out)) as container:
        frames = [np.abs(frame.to_ndarray()[0]) for frame in container.decode(audio=0)]
    loud = np.flatnonzero(np.concatenate(frames) > 0.1)
    begins = loud[np.concatenate([[True], np.diff(loud) > 4800])] if len(loud) else loud
    return [float(n) / 48000 for n in begins]


def check(path: Path, truth: Truth, workdir: Path) -> ReferenceSource:
    """Compare what is planned for a source with what is right."""
    source = plan_source(path, workdir, replace(SourceChoices(), **truth.options))
    assert (source.frames, source.frame_rate) == (truth.frames, truth.frame_rate)
    assert (source.width, source.height) == truth.size
    assert flashes(source) == pytest.approx(list(truth.flashes), abs=1e-6)
    assert len(source.info.audio) == truth.tracks
    assert beeps(source, workdir / "sound.mp4") == pytest.approx(list(truth.beeps), abs=0.02)
    said = [f for f in describe_source(source, path) if f.state == "warn"]
    assert not truth.says or any(truth.says in f"{f.topic} {f.found}" for f in said)
    return source


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", transport.KINDS, ids=lambda kind: kind.file)
def test_a_kind_of_stream_is_read_right(kind, seed: int, tmp_path: Path):
    path = tmp_path / kind.file
    truth = kind.make(path, random.Random(seed))
    if truth.refused:
        with pytest.raises(SourceUnusable, match=truth.refused):
            plan_source(path, tmp_path, replace(SourceChoices(), **truth.options))
    else:
        check(path, truth, tmp_path)
