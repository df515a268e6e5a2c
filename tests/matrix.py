"""Every kind of source with every codec, to a verified package: ``python -m tests.matrix``.

The sources are those of :mod:`fixtures.awkward` and a handful that are refused; of real clips it
is :mod:`tests.corpus_passes`. A cell passes when a run ends in a package that verifies, or when its
source is one that is refused, and is.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster.execution.executor import InlineExecutor
from cluster.jobs.request import RunOptions
from cluster.jobs.run import run_title
from encoder.errors import BadInput, ShotladderError
from encoder.recipes import CODECS
from fixtures import awkward
from fixtures.awkward import FILM, Awkward, _clip, _source
from ladder.profiles import Profile
from tests.running import profile_like

PASSED, REFUSED = "passes", "refused"
TELECINED = (
    f"-f lavfi -i mandelbrot=size=320x240:rate={FILM}:start_scale=0.8:end_scale=0.05:end_pts=120 "
    "-t 2 -vf telecine -c:v ffv1 -g 10"
)
REFUSALS: tuple[tuple[Awkward, str], ...] = (
    (_clip("telecine.mkv", 60, 30, TELECINED), "telecine"),
    (_clip("cinema.mov", 12, 12, f"{_source(12, 1)} -c:v jpeg2000"), "JPEG 2000"),
)
"""Sources that cannot be done right, each with words of its refusal."""

TOO_SHALLOW = "which 8 bit cannot hold"
SHALLOW = ("x264", "vp9")
"""Codecs that refuse high dynamic range, by these words."""

GRID = {"x264": [30], "x265": [30], "svtav1": [40], "vp9": [40]}


Clips = Sequence[tuple[Awkward, str | None]]
"""Each with words of its refusal, if it is refused whatever the codec."""


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


def quick_profile(grid: dict[str, list[int]] = GRID) -> Profile:
    """A profile with few CRFs, one unless told: a rung or two, every step of a run for each."""
    return profile_like("matrix", crf_grid=grid, source_cap=False)


def cell(
    source: Path,
    codec: str,
    folder: Path,
    refusal: str | None = None,
    profile: Profile | None = None,
) -> Cell:
    """Run one source with one codec; a run verifies its package before it publishes it."""
    started = time.monotonic()
    options = RunOptions(
        source,
        folder / f"{source.name}-{codec}",
        search="exhaustive",
        codec=codec,
        preset="ultrafast",
        profile=profile or quick_profile(),
        heights=(90,),
        store=folder / "store",
    )
    try:
        run_title(options, lambda event: None, InlineExecutor())
        outcome = PASSED if refusal is None else "was not refused"
    except BadInput as error:
        asked = refusal is not None and refusal in error.message
        outcome = REFUSED if asked else error.message
    except ShotladderError as error:
        outcome = f"{type(error).__name__}: {error.message}"
    return Cell(source.name, codec, outcome, time.monotonic() - started)


def run_matrix(
    clips: Clips, codecs: Sequence[str], known: Mapping[tuple[str, str], Cell] | None = None
) -> Iterator[Cell]:
    """Every clip with every codec, but those that are ``known``; each is made once."""
    known = known or {}
    with tempfile.TemporaryDirectory(prefix="matrix-") as name:
        folder = Path(name)
        for clip, refusal in clips:
            asked = [codec for codec in codecs if (clip.file, codec) not in known]
            source = awkward.make(clip, folder) if asked else Path(clip.file)
            for codec in codecs:
                found = known.get((clip.file, codec))
                shallow = clip.hdr and codec in SHALLOW
                words = TOO_SHALLOW if shallow else refusal
                yield found or cell(source, codec, folder, words)


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


def kept_cells(path: Path | None) -> dict[tuple[str, str], Cell]:
    """The cells that passed, or were refused, before; by source and codec."""
    lines = path.read_text().splitlines() if path is not None and path.exists() else []
    cells = (Cell(**json.loads(line)) for line in lines)
    return {(cell.source, cell.codec): cell for cell in cells}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--codecs", default=",".join(CODECS))
    parser.add_argument("--sources", default="", help="only those whose name holds this")
    parser.add_argument("--kept", type=Path, help="where cells are kept, to go on from")
    asked = parser.parse_args()
    codecs = asked.codecs.split(",")
    clips = [clip for clip in all_clips() if asked.sources in clip[0].file]
    cells, known = [], kept_cells(asked.kept)
    for one in run_matrix(clips, codecs, known):
        cells.append(one)
        if (one.source, one.codec) in known:
            continue
        line = f"{one.source} {one.codec}: {one.outcome} ({one.seconds:.0f} s)"
        print(line, file=sys.stderr, flush=True)
        if asked.kept is not None and one.fine:
            with asked.kept.open("a") as file:
                file.write(json.dumps(asdict(one)) + "\n")
    print(table(cells, codecs))
    bad = [one for one in cells if not one.fine]
    print(f"{len(cells)} cells, {len(bad)} fail")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
