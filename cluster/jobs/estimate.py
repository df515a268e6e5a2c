"""Estimate what a run will cost, without encoding anything.

A short title is analysed whole, and a run finds that in the store. Of a long one a sample is
looked at (:mod:`encoder.analysis.sample`), unless the store has its analysis already: the answer
takes as long for any length, but for one reading of the file for its digest, which is remembered.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cluster import events
from cluster.execution.executor import Executor, InlineExecutor
from cluster.jobs.cost_ranges import Correction, Range, corrected, range_of, sample_deviation
from cluster.jobs.cost_ranges import wall_seconds as wall
from cluster.jobs.expected import Expected, expect, fixed_seconds, sound_bytes
from cluster.jobs.past_runs import corrections
from cluster.jobs.recipe_check import judging, planned_requests
from cluster.jobs.request import LadderRequest, RunOptions
from cluster.jobs.setup import CodecSetup, set_up
from cluster.stages.analysis import features_key, find_title, shots_key
from cluster.stages.digests import remembered
from cluster.stages.measurer import Measurer
from cluster.stages.quarantine import reading
from cluster.stages.title import Title, TitleSource, open_title
from cluster.store import Store, open_store
from encoder.analysis.sample import TitleSample, take_sample, windows_of
from encoder.media import Request, Size
from encoder.names import shown
from encoder.recipes import typical_cpu_seconds
from ladder.profiles import Profile
from recommender.artwork.sampling import StillSampler
from recommender.artwork.scrub import ScrubSampler
from vmaf import models

CORES = (2, 16, 64)
"""Numbers of cores for which the duration is stated, beside the workers of this machine."""
TYPICAL_ANALYSIS_NS = 6.0
"""Nanoseconds of CPU for each pixel of the title that analysis and decoding take, where no sample
tells; :data:`ANALYSIS_MS` more for each frame."""
ANALYSIS_MS = 5.0
ALONE_SHARE = 0.6
"""Share of ``rest`` that one core does while the others wait: verification and the report."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run is expected to cost."""

    title: str
    """Name of the title."""
    frames: int
    """Number of frames in the title."""
    shots: int
    """Number of shots in the title, an estimate where only a sample was looked at."""
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
    """CPU hours without what the store already has: of ``analysis``, ``encode``, ``vmaf``, the
    ``recipe check`` where there is one, and the ``rest``."""
    store_bytes: int
    """Bytes that the run will add to the store."""
    wall_seconds: float
    """Duration of the run on ``workers`` workers."""
    workers: int
    """Number of local worker processes."""
    sampled_frames: int | None = None
    """Number of frames that were looked at; None where all were."""
    cpu_hours_range: tuple[float, float] | None = None
    """CPU hours between which four of five runs lie."""
    wall_seconds_range: tuple[float, float] | None = None
    """Duration in seconds between which four of five runs lie."""
    wall_seconds_on: dict[str, float] = field(default_factory=dict)
    """Duration in seconds by number of cores."""
    delivered_bytes: int | None = None
    """Size of the package's video and sound; None where nothing predicts it."""
    delivered_bytes_range: tuple[int, int] | None = None
    """Size between which four of five packages lie."""
    past_runs: int = 0
    """Number of earlier runs of the store by which the estimate was corrected."""

    @property
    def total_cpu_hours(self) -> float:
        """CPU hours of everything."""
        return sum(self.cpu_hours.values())


def plan_run(
    options: RunOptions, on_event: events.Listener, executor: Executor | None = None
) -> Estimate:
    """Estimate what :func:`cluster.jobs.run.run_title` would cost.

    The shots and features of a short title, and the prediction made from them, are computed and
    kept in the store; a run then finds them there. Nothing is kept of the sample of a long one.

    Raises:
        BadInput: an option cannot be satisfied, as for a run.
        Infeasible: no ladder satisfies the profile's constraints; the search knows without encodes.
    """
    request = LadderRequest.of(options)
    request.check_encoders()
    with (
        contextlib.closing(open_store(options.store)) as store,
        store.scratch() as workdir,
    ):
        source = open_title(
            options.source,
            workdir,
            tone_map=options.tone_map,
            choices=options.source_choices,
            digest=remembered(store),
            segmentation=request.segmentation,
            part=options.part,
        )
        request = request.for_source(source.reference)
        running = executor or InlineExecutor()
        with reading(store, source) as store:
            title, sample, analysis = _looked_at(options, source, store, running, on_event)
            setups = set_up(request, title, store, running, on_event)
            measurer = Measurer(title, (setups[0].quality_model,), store, running, on_event)
            counted = _counted(request, setups, measurer, sample)
            known = corrections(store, [setup.recipe.name for setup in setups])
    return _estimate(request, setups, counted, known, analysis, sample)


def _looked_at(
    options: RunOptions,
    source: TitleSource,
    store: Store,
    executor: Executor,
    on_event: events.Listener,
) -> tuple[Title, TitleSample | None, float]:
    """Return the title, whole or as a sample, and the CPU seconds of the analysis that a run still
    has to do.
    """
    reference = source.reference
    analysed = all(store.get(each(source)) for each in (shots_key, features_key))
    windows = None if analysed else windows_of(reference)
    if windows is None:
        pixels = reference.width * reference.height
        usual = reference.frames * (1e-9 * TYPICAL_ANALYSIS_NS * pixels + 1e-3 * ANALYSIS_MS)
        title = find_title(options.source, source, store, executor, on_event)
        return title, None, 0.0 if analysed else usual
    frames = sum(end - start for start, end in windows)
    with events.stage(on_event, "sample", frames, unit="frames"):
        sample = take_sample(
            reference,
            windows,
            segmentation=source.segmentation,
            further=lambda: (StillSampler.of(reference), ScrubSampler.of(reference)),
        )
    title = Title(shown(options.source.name), source, sample.shots, sample.shot_features)
    return title, sample, sample.cpu_seconds_per_frame * reference.frames


@dataclass(frozen=True, slots=True)
class _Counted:
    """What has to be encoded, for the whole title."""

    expected: Expected
    check_seconds: float
    """CPU seconds of the check of recipes."""
    check_encodes: int
    wanted_encodes: float
    """Number of encodes, those of the store included."""
    cached_encodes: int
    sample_deviation: float


def _counted(
    request: LadderRequest,
    setups: Sequence[CodecSetup],
    measurer: Measurer,
    sample: TitleSample | None,
) -> _Counted:
    title = measurer.title
    title_shots = len(title.shots) if sample is None else sample.title_shots
    whole = expect(setups, title_shots)
    missing = whole.requests if sample else tuple(measurer.missing(whole.requests))
    expected = whole if sample else expect(setups, title_shots, missing)
    checked = planned_requests(request, setups, measurer)
    judge = judging(measurer)
    extra = measurer.missing(sorted(set(checked) - set(whole.requests)))
    unjudged = judge.missing(checked)
    check_seconds = 0.0
    if unjudged:
        check_seconds = _seconds(title, extra, ()) + _seconds(title, unjudged, judge.models[1:])
        check_seconds += _seconds(title, extra, judge.models[:1], encode=False)
    further = len(set(checked) - set(whole.requests))
    factor = float(1 / title.covered)
    return _Counted(
        expected=expected.scaled(factor) if sample else expected,
        check_seconds=check_seconds,
        check_encodes=further,
        wanted_encodes=whole.encodes * factor + further,
        cached_encodes=len(whole.requests) - len(missing) + further - len(extra),
        sample_deviation=_deviation(sample, expected),
    )


def _deviation(sample: TitleSample | None, expected: Expected) -> float:
    """Return by how much the costs of a title's windows say that the sample may be off."""
    if sample is None:
        return 0.0
    costs = [
        sum(
            seconds
            for shot, seconds in zip(sample.shots, expected.shot_seconds, strict=True)
            if start <= shot.start < end
        )
        for start, end in sample.windows
    ]
    return sample_deviation(costs, [float(end - start) for start, end in sample.windows])


def _seconds(
    title: Title, requests: Sequence[Request], quality_models: Sequence[str], *, encode: bool = True
) -> float:
    """Return the CPU seconds that encoding and scoring usually take."""
    size, total = (title.reference.width, title.reference.height), 0.0
    for shot, point in requests:
        frames = title.shots[shot].frames
        if encode and not quality_models:
            total += typical_cpu_seconds(point.recipe, *point.size, frames, point.crf)
        total += sum(models.typical_cpu_seconds(one, *size, frames) for one in quality_models)
    return total


def _estimate(
    request: LadderRequest,
    setups: Sequence[CodecSetup],
    counted: _Counted,
    known: Mapping[str, Correction],
    analysis_seconds: float,
    sample: TitleSample | None,
) -> Estimate:
    first, expected = setups[0], counted.expected
    title, reference = first.title, first.title.reference
    workers = request.options.workers or len(os.sched_getaffinity(0))
    rest = expected.care_seconds + fixed_seconds(first)
    parts = corrected(
        {"encode": expected.encode_seconds, "vmaf": expected.vmaf_seconds, "rest": rest}, known
    )
    parts["analysis"] = analysis_seconds
    if counted.check_seconds:
        parts["recipe check"] = counted.check_seconds * known["encode"].factor
    deviations = {name: one.deviation for name, one in known.items()}
    deviations["recipe check"] = known["encode"].deviation
    total = range_of(parts, deviations, counted.sample_deviation)
    alone = ALONE_SHARE * parts["rest"]
    shared = total.expected - alone
    on = {cores: wall(shared, alone, cores) for cores in sorted({*CORES, workers})}
    video = _video(expected, known["delivered_bytes"], counted.sample_deviation)
    sound = sound_bytes(first, request.sound)
    order = ("analysis", "encode", "vmaf", "recipe check", "rest")
    factor = float(1 / title.covered)
    shots = len(title.shots) if sample is None else sample.title_shots
    return Estimate(
        title=title.name,
        frames=reference.frames,
        shots=shots,
        sizes=first.sizes,
        search=first.search.name,
        encodes=round(counted.wanted_encodes),
        grid_encodes=round(sum(setup.grid_encodes for setup in setups) * factor),
        delivered_encodes=len(setups) * _most_rungs(first.profile) * shots,
        cached_encodes=counted.cached_encodes,
        cpu_hours={name: parts[name] / 3600 for name in order if name in parts},
        store_bytes=round(expected.encoded_bytes),
        wall_seconds=on[workers],
        workers=workers,
        sampled_frames=None if sample is None else sample.frames,
        cpu_hours_range=(total.low / 3600, total.high / 3600),
        wall_seconds_range=_scaled(total, on[workers]),
        wall_seconds_on={str(cores): seconds for cores, seconds in on.items()},
        delivered_bytes=None if video is None else round(video.expected + sound),
        delivered_bytes_range=None
        if video is None
        else (round(video.low + sound), round(video.high + sound)),
        past_runs=known["encode"].runs,
    )


def _most_rungs(profile: Profile) -> int:
    """Return the largest number of rungs that a ladder of the profile can have."""
    return 2 + int((profile.max_quality - profile.min_quality) / profile.jnd)


def _scaled(total: Range, expected: float) -> tuple[float, float]:
    """Return the range of a duration that goes with a total."""
    if not total.expected:
        return expected, expected
    found = total.times(expected / total.expected)
    return found.low, found.high


def _video(expected: Expected, known: Correction, deviation: float) -> Range | None:
    """Return the bytes of the package's video; None where nothing predicts them."""
    if expected.delivered_bytes is None:
        return None
    bits = {"video": expected.delivered_bytes * known.factor}
    return range_of(bits, {"video": known.deviation}, deviation)
