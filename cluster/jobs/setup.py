"""What is asked of a run, resolved against a title."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cluster import events
from cluster.execution.executor import Executor
from cluster.jobs.options import RunOptions, codecs_of
from cluster.stages.encodes import Measured
from cluster.stages.prediction import packaged_weights, predict_title
from cluster.stages.title import Title
from cluster.store import Store
from encoder import ffmpeg
from encoder.errors import BadInput, Infeasible
from encoder.media import Request, Size
from encoder.recipes import Recipe, recipe
from encoder.source.reference import ReferenceSource
from ladder.complexity.prediction import TitlePrediction
from ladder.constraints import InfeasibleResult
from ladder.curves import Measurement
from ladder.profiles import Profile, load_profile, rung_sizes
from ladder.rungs import Policy
from ladder.search.predict import PredictSearch
from ladder.search.steps import ExhaustiveSearch, Known, Search, TitleShape
from vmaf import models

_HDR_DEPTH = 10

SPARSE_EVERY = 3
"""CRFs of the grid that the sparse search measures: 14, 26, 38 and 46 for x264."""


@dataclass(frozen=True, slots=True)
class Setup:
    """Options, checked and resolved against a title."""

    recipe: Recipe
    profile: Profile
    sizes: tuple[Size, ...]
    model: str
    search: Search
    policy: Policy
    title: Title
    prediction: TitlePrediction | None
    """What the search starts from, where it predicts."""


def check_encoders(options: RunOptions) -> None:
    """See that this ffmpeg has the encoders asked for, before any work is done for them.

    Raises:
        BadInput: one is not there.
    """
    # x264 is in every ffmpeg that is of use here; another one's builds differ in the rest.
    recipes = [recipe(codec, options.preset) for codec in codecs_of(options)]
    encoders = [one.encoder for one in recipes if one.codec != "x264"]
    if encoders and (missing := ffmpeg.lacking(encoders)):
        raise BadInput(
            f"--codec {options.codec} needs {', '.join(missing)}, which this ffmpeg lacks; "
            f"unset {ffmpeg.ENVIRONMENT_VARIABLE} or name one built with it"
        )


def check_depth(options: RunOptions, source: ReferenceSource) -> None:
    """See that the codecs asked for have the bits that a title needs.

    Raises:
        BadInput: one has 8, and the title is of high dynamic range.
    """
    recipes = [recipe(codec, options.preset) for codec in codecs_of(options)]
    shallow = [one.codec for one in recipes if one.bit_depth < _HDR_DEPTH]
    if source.hdr is not None and shallow:
        raise BadInput(
            f"{options.source} is high dynamic range ({source.hdr}), which 8 bit cannot hold, and "
            f"rungs of {' and '.join(shallow)} have 8 here; use --codec x265, svtav1 or both, or "
            "--tone-map for a ladder of standard range"
        )


def set_up(
    options: RunOptions,
    title: Title,
    store: Store,
    executor: Executor,
    on_event: events.Listener,
    codec: str | None = None,
) -> Setup:
    """Resolve checked options against a title, and predict its curves where the search does.

    For one codec: ``codec``, or the first that the options name.

    Without usable weights the sparse search takes over, and a warning says so; weights that were
    named have to be usable.

    Raises:
        BadInput: no height that was asked for fits the title, or the weights named are unusable.
    """
    profile = load_profile(options.profile)
    reference = title.reference
    sizes = rung_sizes(reference.width, reference.height, options.heights or profile.heights)
    if not sizes:
        raise BadInput(
            f"none of the heights asked for fits a source of {reference.width}x{reference.height}"
        )
    chosen = recipe(codec or codecs_of(options)[0], options.preset)
    model = models.title_model(reference)
    prediction = None
    if options.search == "predict":
        grid = profile.crf_grid[chosen.codec]
        weights = options.weights or packaged_weights(chosen.codec)
        try:
            prediction = predict_title(
                title, sizes, chosen, model, (grid[0], grid[-1]), weights, store, executor
            )
        except BadInput as error:
            if options.weights is not None:
                raise
            on_event(events.Warned(f"{error.message}; the sparse search takes over"))
        else:
            if prediction.quality_model != model:
                on_event(
                    events.Warned(
                        f"the weights know no {model}: its scores are predicted as those of "
                        f"{prediction.quality_model}, so more has to be measured; train on titles "
                        "like this one"
                    )
                )
    return Setup(
        recipe=chosen,
        profile=profile,
        sizes=sizes,
        model=model,
        search=_search(options.search, prediction),
        policy=options.policy,
        title=title,
        prediction=prediction,
    )


def _search(name: str, prediction: TitlePrediction | None) -> Search:
    if name == "exhaustive":
        return ExhaustiveSearch()
    if prediction is None:
        return ExhaustiveSearch(every=SPARSE_EVERY)
    return PredictSearch(prediction)


def known_to_search(setup: Setup, found: Mapping[Request, Measured]) -> Known:
    """What a search decides from, given what has been measured."""
    title = setup.title
    return Known(
        title=TitleShape(
            shots=title.shots,
            frame_rate=title.reference.frame_rate,
            sizes=setup.sizes,
            recipe=setup.recipe,
            source_bits=8 * title.reference.index.packet_bytes,
        ),
        profile=setup.profile,
        policy=setup.policy,
        measurements={
            request: Measurement(made.bits, made.mean_quality[setup.model])
            for request, made in found.items()
            if request[1].recipe == setup.recipe
        },
    )


def forbidden(result: InfeasibleResult) -> Infeasible:
    """The error for a ladder that the constraints forbid."""
    return Infeasible(
        f"no ladder keeps the constraint {result.constraint!r}: {result.detail}",
        shortfall=result.shortfall,
        shots=result.shots,
    )
