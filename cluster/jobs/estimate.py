"""What a run will cost, without doing it."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

from cluster import events
from cluster.execution.executor import Executor, InlineExecutor
from cluster.jobs.request import LadderRequest, RunOptions
from cluster.jobs.setup import infeasible, set_up
from cluster.stages.analysis import find_title
from cluster.stages.encodes import find_encode
from cluster.stages.title import open_title
from cluster.store import open_store
from encoder.media import OperatingPoint, Request, Size
from encoder.recipes import typical_cpu_seconds
from ladder.constraints import InfeasibleResult
from ladder.profiles import Profile
from vmaf import models


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run would cost, before it is done. Rough: within a factor of two or so."""

    title: str
    frames: int
    shots: int
    sizes: tuple[Size, ...]
    search: str
    """``predict``, ``sparse`` or ``exhaustive``: what is really going to search."""
    encodes: int
    """Distinct operating points of shots that it is expected to ask for."""
    grid_encodes: int
    """Size of the full grid: shots times sizes times CRFs."""
    delivered_encodes: int
    """At most: rungs times shots."""
    cached_encodes: int
    """Of ``encodes``, already in the store."""
    cpu_hours: dict[str, float]
    """``encode`` and ``vmaf``, without what is cached."""
    store_bytes: int
    wall_seconds: float
    """On ``workers`` workers."""
    workers: int


def plan_run(
    options: RunOptions, on_event: events.Listener, executor: Executor | None = None
) -> Estimate:
    """What :func:`run_title` would cost. Only the title's shots, their features and what is
    predicted from them are made (and kept) for it.

    Raises:
        BadInput: as :func:`run_title`.
        Infeasible: it is known before any encode that no ladder keeps the constraints.
    """
    request = LadderRequest.of(options)
    request.check_encoders()
    workers = options.workers or len(os.sched_getaffinity(0))
    with (
        contextlib.closing(open_store(options.store)) as store,
        store.scratch() as workdir,
    ):
        source = open_title(options.source, workdir, tone_map=options.tone_map)
        request.check_depth(source.reference)
        running = executor or InlineExecutor()
        title = find_title(options.source, source, store, running, on_event)
        setups = set_up(request, title, store, running, on_event)
        setup = setups[0]
        requests: list[Request] = []
        for one in setups:
            known = one.known({})
            first = one.search.step(known)
            if isinstance(first, InfeasibleResult):
                raise infeasible(first)
            requests += one.search.expected_requests(known)
        missing = [
            (shot, point)
            for shot, point in requests
            if find_encode(store, source, title.shots[shot], point, (setup.quality_model,)) is None
        ]
        reference = title.reference
        encode_seconds = sum(
            typical_cpu_seconds(p.recipe, p.width, p.height, title.shots[s].frames, p.crf)
            for s, p in missing
        )
        vmaf_seconds = sum(
            models.typical_cpu_seconds(
                setup.quality_model, reference.width, reference.height, title.shots[s].frames
            )
            for s, _ in missing
        )
        rungs = len(setups) * _most_rungs(setup.profile)
        return Estimate(
            title=title.name,
            frames=reference.frames,
            shots=len(title.shots),
            sizes=setup.sizes,
            search=setup.search.name,
            encodes=len(requests),
            grid_encodes=sum(one.grid_encodes for one in setups),
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
