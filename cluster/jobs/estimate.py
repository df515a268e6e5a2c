"""Estimate what a run will cost, without encoding anything."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass

from cluster import events
from cluster.execution.executor import Executor, InlineExecutor
from cluster.jobs.recipe_check import judging, planned_requests
from cluster.jobs.request import LadderRequest, RunOptions
from cluster.jobs.setup import CodecSetup, infeasible, set_up
from cluster.stages.analysis import find_title
from cluster.stages.measurer import Measurer
from cluster.stages.quarantine import reading
from cluster.stages.title import Title, open_title
from cluster.store import open_store
from encoder.media import OperatingPoint, Request, Size
from encoder.recipes import typical_cpu_seconds
from ladder.constraints import InfeasibleResult
from ladder.profiles import Profile
from vmaf import models


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run is expected to cost, right within a factor of about two."""

    title: str
    """Name of the title."""
    frames: int
    """Number of frames in the title."""
    shots: int
    """Number of shots in the title."""
    sizes: tuple[Size, ...]
    """Candidate sizes of the rungs, smallest first."""
    search: str
    """Search that will run: ``predict``, ``sparse`` or ``exhaustive``. Without usable weights it
    is not the one that the options name."""
    encodes: int
    """Number of encodes that the check of recipes and the search are expected to ask for."""
    grid_encodes: int
    """Number of encodes in the full grid: shots times sizes times CRFs, over all codecs."""
    delivered_encodes: int
    """Largest number of encodes in the package: rungs times shots."""
    cached_encodes: int
    """Number of the expected encodes that the store already has."""
    cpu_hours: dict[str, float]
    """CPU hours of ``encode`` and ``vmaf``, and of the ``recipe check`` where there is one, without
    what the store already has."""
    store_bytes: int
    """Bytes that the run will add to the store."""
    wall_seconds: float
    """Duration of the run on ``workers`` workers."""
    workers: int
    """Number of local worker processes."""


def plan_run(
    options: RunOptions, on_event: events.Listener, executor: Executor | None = None
) -> Estimate:
    """Estimate what :func:`cluster.jobs.run.run_title` would cost.

    The title's shots and features, and the prediction made from them, are computed and kept in the
    store; a run then finds them there.

    Raises:
        BadInput: an option cannot be satisfied, as for a run.
        Infeasible: no ladder satisfies the profile's constraints; the search knows without encodes.
    """
    request = LadderRequest.of(options)
    request.check_encoders()
    workers = options.workers or len(os.sched_getaffinity(0))
    with (
        contextlib.closing(open_store(options.store)) as store,
        store.scratch() as workdir,
    ):
        source = open_title(
            options.source, workdir, tone_map=options.tone_map, choices=options.source_choices
        )
        request = request.for_source(source.reference)
        running = executor or InlineExecutor()
        with reading(store, source) as store:
            title = find_title(options.source, source, store, running, on_event)
            setups = set_up(request, title, store, running, on_event)
            model = setups[0].quality_model
            requests = {wanted for setup in setups for wanted in _expected_requests(setup)}
            measurer = Measurer(title, (model,), store, running, on_event)
            missing = measurer.missing(sorted(requests))
            checked = planned_requests(request, setups, measurer)
            extra = measurer.missing(sorted(set(checked) - requests))
            judge = judging(measurer)
            unjudged = judge.missing(checked)
    cpu_seconds = _cpu_seconds(title, missing, (model,))
    if unjudged:
        made = _cpu_seconds(title, extra, (model,))
        judged = _cpu_seconds(title, unjudged, judge.models[1:])
        cpu_seconds["recipe check"] = sum(made.values()) + judged["vmaf"]
    first = setups[0]
    return Estimate(
        title=title.name,
        frames=title.reference.frames,
        shots=len(title.shots),
        sizes=first.sizes,
        search=first.search.name,
        encodes=len(requests.union(checked)),
        grid_encodes=sum(setup.grid_encodes for setup in setups),
        delivered_encodes=len(setups) * _most_rungs(first.profile) * len(title.shots),
        cached_encodes=len(requests.union(checked)) - len(missing) - len(extra),
        cpu_hours={name: seconds / 3600 for name, seconds in cpu_seconds.items()},
        store_bytes=round(
            sum(
                _typical_bytes(point, title.shots[shot].frames)
                for shot, point in [*missing, *extra]
            )
        ),
        wall_seconds=sum(cpu_seconds.values()) / workers,
        workers=workers,
    )


def _expected_requests(setup: CodecSetup) -> Sequence[Request]:
    """Return the encodes that one codec's search is expected to ask for.

    Raises:
        Infeasible: no ladder satisfies the profile's constraints.
    """
    known = setup.known({})
    step = setup.search.step(known)
    if isinstance(step, InfeasibleResult):
        raise infeasible(step)
    return setup.search.expected_requests(known)


def _cpu_seconds(
    title: Title, requests: Sequence[Request], quality_models: Sequence[str]
) -> dict[str, float]:
    """Return the CPU seconds that encoding and scoring usually take, by stage."""
    frames = [title.shots[shot].frames for shot, _ in requests]
    width, height = title.reference.width, title.reference.height
    return {
        "encode": sum(
            typical_cpu_seconds(point.recipe, point.width, point.height, count, point.crf)
            for (_, point), count in zip(requests, frames, strict=True)
        ),
        "vmaf": sum(
            models.typical_cpu_seconds(model, width, height, count)
            for model in quality_models
            for count in frames
        ),
    }


def _most_rungs(profile: Profile) -> int:
    """Return the largest number of rungs that a ladder of the profile can have."""
    return 2 + int((profile.max_quality - profile.min_quality) / profile.jnd)


def _typical_bytes(point: OperatingPoint, frames: int) -> float:
    """Return the size of natural video at x264 medium: about 0.1 bit per pixel at CRF 24, half as
    many every 5.5 steps.
    """
    return 0.1 * 2 ** ((24 - point.crf) / 5.5) * point.width * point.height * frames / 8
