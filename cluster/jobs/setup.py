"""One codec of a request, resolved against a title: its sizes, its prediction and its search."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cluster import events
from cluster.execution.executor import Executor
from cluster.jobs.request import LadderRequest
from cluster.stages.prediction import packaged_weights, predict_title
from cluster.stages.title import Title
from cluster.store import Store
from encoder.errors import BadInput, Infeasible
from encoder.media import Request, Size
from encoder.recipes import Recipe
from ladder.choices import Policy
from ladder.complexity.prediction import TitlePrediction
from ladder.constraints import InfeasibleResult
from ladder.curves import Measurement
from ladder.profiles import Profile
from ladder.search.predict import PredictSearch
from ladder.search.steps import ExhaustiveSearch, Known, Search, TitleShape
from ladder.sizes import NATIVE_MARGIN
from ladder.source_limit import SourceVideo, allowance_bits
from vmaf import models

SPARSE_EVERY = 3
"""The sparse search measures every third CRF of the grid: 14, 26, 38 and 46 for x264."""


@dataclass(frozen=True, slots=True)
class CodecSetup:
    """Everything that the search for one codec's ladder needs."""

    title: Title
    recipe: Recipe
    profile: Profile
    policy: Policy
    sizes: tuple[Size, ...]
    """Candidate sizes of the rungs, smallest first."""
    quality_model: str
    search: Search
    prediction: TitlePrediction | None
    """Curves that the search starts from; None where it does not predict."""
    sample: tuple[Request, ...] = ()
    """Encodes that were made to check the recipe. The search delivers some of those that it
    was given."""

    @property
    def allowance_bits(self) -> int:
        """Bits that a rung may take beyond those of the source."""
        reference, shots, covered = self.title.reference, self.title.shots, self.title.covered
        edits = reference.copied.edits  # applied in a copy of another codec
        video = SourceVideo(
            bits=int(8 * reference.index.packet_bytes * covered),
            codec=edits.codec if edits else reference.info.codec,
            keyframes=int(
                covered * (edits.keyframes if edits else len(reference.index.keyframe_pts))
            ),
            pixels=reference.width * reference.height,
            frames=sum(shot.frames for shot in shots),
            seconds=float(reference.timeline.duration_seconds * covered),
        )
        keyframes = sum(1 + len(shot.cuts) for shot in shots)
        lowest_rate = self.profile.first_rate[0]
        return allowance_bits(video, self.recipe.codec, keyframes, lowest_rate)

    def known(self, measured: Mapping[Request, Measurement]) -> Known:
        """Return everything that the search decides from, given what was measured so far."""
        reference = self.title.reference
        return Known(
            title=TitleShape(
                shots=self.title.shots,
                frame_rate=reference.frame_rate,
                sizes=self.sizes,
                recipe=self.recipe,
                source_bits=int(8 * reference.index.packet_bytes * self.title.covered),
                allowance_bits=self.allowance_bits,
            ),
            profile=self.profile,
            policy=self.policy,
            measurements={r: m for r, m in measured.items() if r[1].recipe == self.recipe},
        )

    def given(self, sample: tuple[Request, ...], further: tuple[Request, ...] = ()) -> CodecSetup:
        """Return the setup with encodes that were made to check the recipe.

        The search starts from those of ``sample``. It does not see the ``further`` ones, so that a
        codec's ladder does not depend on how long another codec was checked.
        """
        search = self.search
        if sample and self.prediction is not None:
            search = PredictSearch(self.prediction, given=sample)
        return replace(self, sample=(*sample, *further), search=search)

    @property
    def grid_encodes(self) -> int:
        """Number of encodes in the full grid: shots times sizes times CRFs."""
        crfs = self.profile.crf_grid[self.recipe.codec]
        return len(self.sizes) * len(self.title.shots) * len(crfs)


def set_up(
    request: LadderRequest,
    title: Title,
    store: Store,
    executor: Executor,
    on_event: events.Listener,
) -> tuple[CodecSetup, ...]:
    """Resolve a request against a title, and predict the title's curves where the search does.

    Without usable weights the sparse search takes over, with a warning; weights that the user
    named have to be usable.

    Returns:
        One setup per recipe of the request, in the same order.

    Raises:
        BadInput: no height fits the title, or the weights that were named cannot be used.
    """
    for warning in _heights_left_out(request, title):
        on_event(events.Warned(warning))
    return tuple(
        set_up_codec(request, recipe, title, store, executor, on_event)
        for recipe in request.recipes
    )


def _heights_left_out(request: LadderRequest, title: Title) -> Iterator[str]:
    """Say which heights that the user named the title has no size of."""
    own = min(title.reference.width, title.reference.height)
    for height in request.options.heights or request.profile.rung_heights:
        if height > own:
            yield f"no size of {height} lines: the source has {own}"
        elif own < height * NATIVE_MARGIN and height != own:
            yield f"no size of {height} lines: the source's own {own} are hardly more"


def set_up_codec(
    request: LadderRequest,
    recipe: Recipe,
    title: Title,
    store: Store,
    executor: Executor,
    on_event: events.Listener,
) -> CodecSetup:
    """Resolve one recipe of a request against a title, see :func:`set_up`."""
    options, profile, reference = request.options, request.profile, title.reference
    sizes = profile.sizes(reference.width, reference.height, options.heights)
    if not sizes:
        raise BadInput(
            f"none of the heights asked for fits a source of {reference.width}x{reference.height}"
        )
    prediction = None
    if options.search == "predict":
        prediction = _predict(request, recipe, title, sizes, store, executor, on_event)
    return CodecSetup(
        title=title,
        recipe=recipe,
        profile=profile,
        policy=options.policy,
        sizes=sizes,
        quality_model=request.quality_model(reference),
        search=_search(options.search, prediction),
        prediction=prediction,
    )


def weights_for(request: LadderRequest) -> Path:
    """Return the path of the weights that a request predicts by."""
    return request.options.weights or packaged_weights()


def _predict(
    request: LadderRequest,
    recipe: Recipe,
    title: Title,
    sizes: tuple[Size, ...],
    store: Store,
    executor: Executor,
    on_event: events.Listener,
) -> TitlePrediction | None:
    """Predict the title's curves for one recipe; None, with a warning, without usable weights."""
    named, model = request.options.weights, models.title_model(title.reference)
    grid = request.profile.crf_grid[recipe.codec]
    weights = weights_for(request)
    try:
        prediction = predict_title(
            title, sizes, recipe, model, (grid[0], grid[-1]), weights, store, executor
        )
    except BadInput as error:
        if named is not None:
            raise
        on_event(events.Warned(f"{error.message}; the sparse search takes over"))
        return None
    for warning in _substitutes(prediction, recipe, model):
        on_event(events.Warned(warning))
    return prediction


def _substitutes(prediction: TitlePrediction, recipe: Recipe, model: str) -> Iterator[str]:
    """Yield a warning for everything that the weights do not know and predict by analogy."""
    if prediction.quality_model != model:
        yield (
            f"the weights do not know {model}: its scores are predicted as those of "
            f"{prediction.quality_model}, so the search measures more; train on titles like this "
            "one"
        )
    if prediction.recipe != recipe.name:
        yield (
            f"the weights do not know the recipe {recipe.name}: its curves are predicted from "
            f"those of {prediction.recipe}, so the search measures more; train on jobs that used "
            "it (`shotladder train --from-store`)"
        )


def _search(name: str, prediction: TitlePrediction | None) -> Search:
    if prediction is not None:
        return PredictSearch(prediction)
    return ExhaustiveSearch(every=1 if name == "exhaustive" else SPARSE_EVERY)


def infeasible(result: InfeasibleResult) -> Infeasible:
    """Return the error for a ladder that the constraints forbid."""
    return Infeasible(
        f"no ladder keeps the constraint {result.constraint!r}: {result.detail}",
        shortfall=result.shortfall,
        shots=result.shots,
    )
