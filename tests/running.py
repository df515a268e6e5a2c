"""Short runs of the main job on tiny titles, for the tests of its parts."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from cluster import events
from cluster.execution.executor import InlineExecutor
from cluster.jobs.request import RunOptions
from cluster.jobs.run import RunResult, run_title
from cluster.store.records import parse_record
from fixtures.clips import TINY, make
from ladder.profiles import Profile, load_profile

SMALL = replace(
    TINY,
    scenes=tuple(replace(scene, frames=12) for scene in TINY.scenes),
    width=320,
    height=180,
    frame_rate=Fraction(12),
)
"""Three shots of 1 s at 12 fps, at a size that VMAF takes without a magnifier."""
SHORT = replace(TINY, scenes=TINY.scenes[:1])
"""The first shot of the tiny title: 1 s."""


def profile_like(name: str, **changes: Any) -> Profile:
    """The plain default profile of release 0.1 with another name and some numbers changed.

    Its keys and bits stay what they are while the built-in profiles get better.
    """
    return replace(load_profile("default-0.1"), name=name, **changes)


def quick_profile(**changes: Any) -> Profile:
    """A profile with a grid of two CRFs, for runs of which only the end is looked at."""
    return profile_like("two-crfs", crf_grid={"x264": [24, 40]}, source_cap=False, **changes)


def run_inline(
    source: Path,
    out: Path,
    store: Path,
    on_event: events.Listener = lambda event: None,
    **options: Any,
) -> RunResult:
    """A run with the fastest preset, in this process, that takes recipes as they are."""
    defaults = {"preset": "ultrafast", "recipe_check": "never", "store": store}
    asked = RunOptions(source, out, **{**defaults, **options})
    return run_title(asked, on_event, InlineExecutor())


@dataclass(frozen=True)
class SmallRun:
    """A run of :data:`SMALL` at the sizes of :data:`SMALL_HEIGHTS` by the default search."""

    source: Path
    out: Path
    store: Path
    result: RunResult
    events: list[events.Event]

    def copied(self, folder: Path) -> SmallRun:
        """Copy package and store into ``folder``; the source stays where it is."""
        out = shutil.copytree(self.out, folder / "out")
        store = shutil.copytree(self.store, folder / "store")
        return replace(self, out=out, store=store)


SMALL_HEIGHTS = (90,)


def run_small(folder: Path) -> SmallRun:
    """Make the small run in ``folder``."""
    source = make(SMALL, folder / "title.mp4")
    out, store, seen = folder / "out", folder / "store", list[events.Event]()
    result = run_inline(source, out, store, seen.append, heights=SMALL_HEIGHTS)
    return SmallRun(source, out, store, result, seen)


@contextlib.contextmanager
def few_rates() -> Iterator[None]:
    """Within it, per-title ladders have three or four rates: they are found as those of ten are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ladder.per_title.FEW", 3)
        patch.setattr("ladder.per_title.MANY", 4)
        patch.setattr("ladder.per_title.SPREAD_COUNT", (3, 3))
        yield


def contents(folder: Path) -> dict[str, str]:
    """Digest of every file of a package but what tells what a run cost."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("run.json", "report.html")
    }


def records(store: Path, stage: str | None = None) -> dict[str, tuple[int, int]]:
    """Inode and modification time in ns of every record of the store, by key.

    Records that are still in quarantine count too.
    """
    found = {}
    for place in ("quarantine", "records"):
        for path in (store / place).rglob("*.json"):
            with contextlib.suppress(FileNotFoundError):  # confirmed or removed meanwhile
                record = parse_record(path.read_bytes(), path.stem) if stage else None
                if stage and (record is None or record.stage != stage):
                    continue
                status = path.stat()
                found[path.stem] = status.st_ino, status.st_mtime_ns
    return found
