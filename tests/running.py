"""Short runs of the main job on tiny titles, for the tests of its parts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from cluster.execution.executor import InlineExecutor
from cluster.jobs.options import RunOptions
from cluster.jobs.run import RunResult, run_title
from cluster.store import Store
from fixtures.clips import TINY
from ladder import profiles

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


def add_profile(monkeypatch: pytest.MonkeyPatch, name: str, **changes: Any) -> str:
    """A profile for one test: the default one with some numbers changed."""
    tables = profiles._tables()
    changed: Mapping[str, Any] = {**tables, name: changes}
    monkeypatch.setattr(profiles, "_tables", lambda: changed)
    return name


def quick_profile(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> str:
    """A profile with a grid of two CRFs, for runs of which only the end is looked at."""
    grid = {"x264": [24, 40]}
    return add_profile(monkeypatch, "quick", crf_grid=grid, source_cap=False, **changes)


def run_inline(source: Path, out: Path, store: Path, **options: Any) -> RunResult:
    """A run with the fastest preset, in this process."""
    asked = RunOptions(source, out, **{"preset": "ultrafast", "store": store, **options})
    return run_title(asked, lambda event: None, InlineExecutor())


def contents(folder: Path) -> dict[str, str]:
    """Digest of every file of a package but what tells what a run cost."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("run.json", "report.html")
    }


def records(store: Path, stage: str | None = None) -> dict[str, tuple[int, int]]:
    """Inode and modification time in ns of every record of the store, by key."""
    opened = Store(store) if stage else None
    found = {}
    for path in (store / "records").rglob("*.json"):
        if opened is not None:
            record = opened.get(path.stem)
            if record is None or record.stage != stage:
                continue
        status = path.stat()
        found[path.stem] = status.st_ino, status.st_mtime_ns
    return found
