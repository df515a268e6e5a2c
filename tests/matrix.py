"""Every kind of source with every codec, to a verified package: ``python -m tests.matrix``.

The sources are those of :mod:`fixtures.awkward` and a handful that are refused, and with
``--corpus`` the real clips as well (with x264 alone: ``--codecs x264``). A cell passes when a run
ends in a package that verifies, or when its source is one that is refused, and is.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.executor import InlineExecutor
from cluster.job import run_title
from cluster.options import RunOptions
from encoder.errors import ShotladderError, SourceUnusable
from encoder.recipes import CODECS
from fixtures import awkward
from fixtures.awkward import FILM, Awkward, _clip, _source
from ladder import profiles
from tests.conftest import CORPUS

PASSED, REFUSED = "passes", "refused"
HDR = "color_primaries=bt2020:color_trc={}:colorspace=bt2020nc"
TELECINED = (
    f"-f lavfi -i mandelbrot=size=320x240:rate={FILM}:start_scale=0.8:end_scale=0.05:end_pts=120 "
    "-t 2 -vf telecine -c:v ffv1 -g 10"
)
REFUSALS: tuple[tuple[Awkward, str], ...] = (
    (_clip("telecine.mkv", 60, 30, TELECINED), "telecine"),
    (_clip("tape.mxf", 12, 12, f"{_source(25, 1)} -c:v mpeg2video"), "it is MXF"),
    (_clip("cinema.mov", 12, 12, f"{_source(12, 1)} -c:v jpeg2000"), "JPEG 2000"),
    (
        _clip(
            "hdr10.mkv",
            12,
            12,
            f"{_source(12, 1)} -vf setparams={HDR.format('smpte2084')} -pix_fmt yuv420p10le "
            "-c:v ffv1",
        ),
        "high dynamic range (pq)",
    ),
    (
        _clip(
            "hlg.mkv",
            12,
            12,
            f"{_source(12, 1)} -vf setparams={HDR.format('arib-std-b67')} -pix_fmt yuv420p10le "
            "-c:v ffv1",
        ),
        "high dynamic range (hlg)",
    ),
)
"""Sources that cannot be done right, each with words of its refusal."""

GRID = {"x264": [30], "x265": [30], "svtav1": [40], "vp9": [40]}


@dataclass(frozen=True, slots=True)
class Cell:
    """A source with a codec."""

    source: str
    codec: str
    outcome: str
    """:data:`PASSED`, :data:`REFUSED`, or what went wrong."""
    seconds: float

    @property
    def fine(self) -> bool:
        return self.outcome in (PASSED, REFUSED)


@contextmanager
def quick_profile() -> Iterator[str]:
    """A profile with a single CRF: one rung, of which every step of a run is done."""
    before = profiles._tables

    def tables() -> dict[str, dict[str, Any]]:
        return {**before(), "matrix": {"crf_grid": GRID, "source_cap": False}}

    profiles._tables = tables  # type: ignore[assignment]
    try:
        yield "matrix"
    finally:
        profiles._tables = before


def cell(source: Path, codec: str, folder: Path, refusal: str | None = None) -> Cell:
    """Run one source with one codec; a run verifies its package before it publishes it."""
    started = time.monotonic()
    options = RunOptions(
        source,
        folder / f"{source.name}-{codec}",
        search="exhaustive",
        codec=codec,
        preset="ultrafast",
        profile="matrix",
        heights=(90,),
        store=folder / "store",
    )
    try:
        run_title(options, lambda event: None, InlineExecutor())
        outcome = PASSED if refusal is None else "was not refused"
    except SourceUnusable as error:
        asked = refusal is not None and refusal in error.message
        outcome = REFUSED if asked else error.message
    except ShotladderError as error:
        outcome = f"{type(error).__name__}: {error.message}"
    return Cell(source.name, codec, outcome, time.monotonic() - started)


def run_matrix(
    clips: Sequence[tuple[Awkward, str | None]], codecs: Sequence[str], real: Sequence[Path] = ()
) -> Iterator[Cell]:
    """Every clip with every codec; each is made once."""
    with quick_profile(), tempfile.TemporaryDirectory(prefix="matrix-") as name:
        folder = Path(name)
        for clip, refusal in clips:
            source = awkward.make(clip, folder)
            for codec in codecs:
                yield cell(source, codec, folder, refusal)
        for source in real:
            for codec in codecs:
                yield cell(source, codec, folder)


def all_clips() -> list[tuple[Awkward, str | None]]:
    """Those that pass, then those that are refused."""
    return [*((clip, None) for clip in awkward.CLIPS), *REFUSALS]


def table(cells: Sequence[Cell], codecs: Sequence[str]) -> str:
    """As Markdown: a row for each source."""
    rows: dict[str, dict[str, Cell]] = {}
    for one in cells:
        rows.setdefault(one.source, {})[one.codec] = one
    lines = [f"| source | {' | '.join(codecs)} |", "|---" * (len(codecs) + 1) + "|"]
    for source, row in rows.items():
        shown = (row[c].outcome if row[c].fine else "FAILS" for c in codecs)
        lines.append(f"| {source} | {' | '.join(shown)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--codecs", default=",".join(CODECS))
    parser.add_argument("--sources", default="", help="only those whose name holds this")
    parser.add_argument("--corpus", action="store_true")
    asked = parser.parse_args()
    codecs = asked.codecs.split(",")
    kinds = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".264")
    real = (
        sorted(p for p in CORPUS.resolve().glob("*") if p.suffix in kinds) if asked.corpus else []
    )
    clips = [] if asked.corpus else [c for c in all_clips() if asked.sources in c[0].file]
    cells = []
    for one in run_matrix(clips, codecs, [p for p in real if asked.sources in p.name]):
        cells.append(one)
        print(f"{one.source} {one.codec}: {one.outcome} ({one.seconds:.0f} s)", file=sys.stderr)
    print(table(cells, codecs))
    bad = [one for one in cells if not one.fine]
    print(f"{len(cells)} cells, {len(bad)} fail")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
