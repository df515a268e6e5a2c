"""Inputs of every kind that users report, each to a package that is judged by a straight decode:
``python -m tests.kinds [COUNT] [SEED]``, or ``--each`` for one input of every kind.

The makers of :mod:`fixtures.kinds` vary their inputs by chance. Each input goes through a whole
run. Right is a package in which :mod:`tests.independent` finds no difference from what is known of
the input, with the warning that it asks for; or the refusal that it asks for. With ``--kept FILE``
what came of each input is kept there, and a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster import events
from cluster.execution.executor import InlineExecutor
from cluster.jobs.request import RunOptions
from cluster.jobs.run import run_title
from encoder.errors import ShotladderError
from encoder.names import shown
from fixtures.kinds import Kind, all_kinds
from tests.independent import differences
from tests.running import profile_like

RIGHT, REFUSED = "right", "refused"
GRID = {"x264": [22], "x265": [24], "svtav1": [30], "vp9": [30]}
"""CRFs that keep colours and flashes easy to tell."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """An input, and what came of it."""

    name: str
    outcome: str
    """:data:`RIGHT`, :data:`REFUSED`, or what is wrong."""
    seconds: float

    @property
    def fine(self) -> bool:
        return self.outcome in (RIGHT, REFUSED)


def outcome_of(kind: Kind, folder: Path, chance: random.Random, codec: str = "x264") -> str:
    """Make an input of a kind, run it, and judge what comes of it."""
    path = folder / kind.file
    truth = kind.make(path, chance)
    warnings: list[str] = []

    def listen(event: events.Event) -> None:
        if isinstance(event, events.Warned):
            warnings.append(event.message)

    options = RunOptions(
        source=path,
        out=folder / f"out-{codec}",
        search="exhaustive",
        codec=codec,
        preset="ultrafast",
        profile=profile_like("kinds", crf_grid=GRID, source_cap=False),
        store=folder / "store",
        **{"heights": (90,), **truth.options},
    )
    try:
        run_title(options, listen, InlineExecutor())
    except ShotladderError as error:
        if truth.refused and truth.refused in error.message:
            return REFUSED if "\n" not in error.message else f"several lines: {error.message}"
        return f"{type(error).__name__}: {error.message}"
    except Exception:
        return f"defect: {traceback.format_exc().strip().splitlines()[-1]}"
    if truth.refused:
        return f"was not refused with {truth.refused!r}"
    wrong = differences(options.out, truth)
    if truth.says and not any(truth.says in warning for warning in warnings):
        wrong.append(f"no warning says {truth.says!r}, only {warnings}")
    return "; ".join(wrong) or RIGHT


def inputs(
    count: int | None, seed: int, names: str = ""
) -> Iterator[tuple[str, Kind, random.Random]]:
    """Names, kinds and chances of ``count`` inputs; kinds take turns. None is one of each kind."""
    kinds = {name: kind for name, kind in all_kinds().items() if names in name}
    for number in range(len(kinds) if count is None else count):
        name = sorted(kinds)[number % len(kinds)]
        title = f"{number}-{shown(name)}"
        yield title, kinds[name], random.Random(f"{seed}/{title}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=500)
    parser.add_argument("seed", type=int, nargs="?", default=1)
    parser.add_argument("--each", action="store_true", help="one input of every kind")
    parser.add_argument("--codecs", default="x264", help="every input with each of these")
    parser.add_argument("--kinds", default="", help="only those whose name holds this")
    parser.add_argument("--kept", type=Path, help="where outcomes are kept, to go on from")
    parser.add_argument("--part", default="0/1", help="the K-th of N equal parts, as K/N")
    asked = parser.parse_args()
    part, parts = map(int, asked.part.split("/"))
    lines = asked.kept.read_text().splitlines() if asked.kept and asked.kept.exists() else []
    found = {one.name: one for one in (Outcome(**json.loads(line)) for line in lines)}
    count = None if asked.each else asked.count
    cells = [
        (f"{name} {codec}", kind, chance, codec)
        for name, kind, chance in inputs(count, asked.seed, asked.kinds)
        for codec in asked.codecs.split(",")
    ]
    for number, (name, kind, chance, codec) in enumerate(cells):
        if number % parts != part or name in found:
            continue
        started, state = time.monotonic(), chance.getstate()
        with tempfile.TemporaryDirectory(prefix="kinds-") as folder:
            outcome = outcome_of(kind, Path(folder), chance, codec)
        chance.setstate(state)  # the same input for the next codec
        one = found[name] = Outcome(name, outcome, time.monotonic() - started)
        if asked.kept is not None:
            with asked.kept.open("a") as file:
                file.write(json.dumps(asdict(one)) + "\n")
        if not one.fine:
            print(f"{one.name}: {one.outcome}", file=sys.stderr, flush=True)
    counts = Counter(one.outcome if one.fine else "wrong" for one in found.values())
    print(f"{len(found)} inputs of {len(all_kinds())} kinds, seed {asked.seed}: {dict(counts)}")
    for one in found.values():
        if not one.fine:
            print(f"{one.name}: {one.outcome}")
    return 1 if counts["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
