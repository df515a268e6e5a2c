"""A title made ready: its source planned and digested, its shots found, its facts collected."""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from cluster.keys import file_sha256, key
from cluster.stages import TitleSource
from cluster.store import Store
from encoder.errors import SourceUnusable
from encoder.frames import feed, small_frames
from encoder.media import Shot
from encoder.reference import ReferenceSource, plan_source
from encoder.shots import CutDetector, plan_shots
from ladder.document import TitleFacts

SHOTS_VERSION = 1
"""Part of the key of a title's shots: raise it when detection or planning changes."""

# Distributions that decide what the analysis sees and says.
_ANALYSERS = ("av", "numpy", "opencv-python", "scenedetect")


@dataclass(frozen=True, slots=True)
class Title:
    """A source and its shots."""

    name: str
    """File name of the source."""
    source: TitleSource
    shots: tuple[Shot, ...]

    @property
    def reference(self) -> ReferenceSource:
        """How its canonical frames are read."""
        return self.source.reference

    @property
    def id(self) -> str:
        """First 16 hexadecimal digits of the source's digest."""
        return self.source.sha256[:16]

    def facts(self, audio: bool) -> TitleFacts:
        """As ``ladder.json`` has them."""
        reference = self.reference
        rate = reference.frame_rate
        return TitleFacts(
            id=self.id,
            source=self.name,
            sha256=self.source.sha256,
            width=reference.width,
            height=reference.height,
            frame_rate=f"{rate.numerator}/{rate.denominator}",
            frames=reference.frames,
            source_bitrate=reference.index.bitrate,
            audio=audio,
        )


def open_title(path: Path, workdir: Path) -> TitleSource:
    """Probe, index and digest a source.

    Raises:
        SourceUnusable: it cannot be read, or not by us.
    """
    reference = plan_source(path, workdir)
    hdr = reference.info.hdr
    if hdr is not None:
        raise SourceUnusable(
            f"{path} is high dynamic range ({hdr}), and the quality models here see standard "
            "dynamic range only; tone-map it first"
        )
    return TitleSource(reference=reference, sha256=file_sha256(path))


def shots_key(source: TitleSource) -> str:
    """Identity of a title's shots."""
    return key(
        "shots",
        SHOTS_VERSION,
        source=source.sha256,
        reference=source.reference.graph_id,
        tools={name: version(name) for name in _ANALYSERS},
    )


def find_shots(source: TitleSource, store_root: str) -> tuple[Shot, ...]:
    """The title's shots, from the store or by the analysis pass. Runs on any worker.

    Raises:
        SourceUnusable: a frame does not decode.
    """
    store = Store(store_root)
    identity = shots_key(source)
    with store.claim(identity):
        record = store.get(identity)
        if record is None:
            reference = source.reference
            before = time.process_time()
            detector = CutDetector(reference.frame_rate)
            feed(small_frames(reference), detector)
            found = plan_shots(detector.cuts(), reference.frames, reference.frame_rate)
            cpu_seconds = time.process_time() - before
            record = store.publish(
                identity,
                value=[[shot.start, shot.end, list(shot.cuts)] for shot in found],
                cpu_seconds={"other": cpu_seconds},
                stage="shots",
                version=SHOTS_VERSION,
            )
    return tuple(Shot(start, end, tuple(cuts)) for start, end, cuts in record.value)
