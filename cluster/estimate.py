"""What a run will cost, without doing it."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

from cluster import events
from cluster.executor import Executor, InlineExecutor
from cluster.setup import (
    RunOptions,
    check_options,
    codecs_of,
    default_store,
    known_to_search,
    set_up,
)
from cluster.stages import collect
from cluster.store import Store
from cluster.title import find_title, open_title
from encoder.media import OperatingPoint
from encoder.recipes import typical_cpu_seconds
from ladder.profiles import Profile, Size
from vmaf import models


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run would cost, before it is done. Rough: within a factor of two or so."""

    title: str
    frames: int
    shots: int
    sizes: tuple[Size, ...]
    grid_encodes: int
    delivered_encodes: int
    """At most: rungs times shots."""
    cached_encodes: int
    """Of the grid, already in the store."""
    cpu_hours: dict[str, float]
    """``encode`` and ``vmaf``, without what is cached."""
    store_bytes: int
    wall_seconds: float
    """On ``workers`` workers."""
    workers: int


def plan_run(
    options: RunOptions, report: events.Report, executor: Executor | None = None
) -> Estimate:
    """What :func:`run_title` would cost. Only the title's shots are found (and kept) for it.

    Raises:
        BadInput: as :func:`run_title`.
    """
    check_options(options)
    workers = options.workers or len(os.sched_getaffinity(0))
    with (
        contextlib.closing(Store(options.store or default_store())) as store,
        store.scratch() as workdir,
    ):
        source = open_title(options.source, workdir)
        title = find_title(options.source, source, store, executor or InlineExecutor(), report)
        codecs, running = codecs_of(options), executor or InlineExecutor()
        setups = [set_up(options, title, store, running, report, codec) for codec in codecs]
        setup = setups[0]
        requests = [r for one in setups for r in one.search.outlook(known_to_search(one, {}))]
        missing = [
            (shot, point)
            for shot, point in requests
            if collect(store, source, title.shots[shot], point, (setup.model,)) is None
        ]
        reference = title.reference
        encode_seconds = sum(
            typical_cpu_seconds(p.recipe, p.width, p.height, title.shots[s].frames, p.crf)
            for s, p in missing
        )
        vmaf_seconds = sum(
            models.typical_cpu_seconds(
                setup.model, reference.width, reference.height, title.shots[s].frames
            )
            for s, _ in missing
        )
        rungs = len(setups) * _most_rungs(setup.profile)
        return Estimate(
            title=title.name,
            frames=reference.frames,
            shots=len(title.shots),
            sizes=setup.sizes,
            grid_encodes=len(requests),
            delivered_encodes=rungs * len(title.shots),
            cached_encodes=len(requests) - len(missing),
            cpu_hours={"encode": encode_seconds / 3600, "vmaf": vmaf_seconds / 3600},
            store_bytes=round(sum(_typical_bytes(p, title.shots[s].frames) for s, p in missing)),
            wall_seconds=(encode_seconds + vmaf_seconds) / workers,
            workers=workers,
        )


def _most_rungs(profile: Profile) -> int:
    return 2 + int((profile.max_quality - profile.min_quality) / profile.jnd)


def _typical_bytes(point: OperatingPoint, frames: int) -> float:
    """Natural video at x264 medium: about 0.1 bit a pixel at CRF 24, halved every 5.5 steps."""
    return 0.1 * 2 ** ((24 - point.crf) / 5.5) * point.width * point.height * frames / 8
