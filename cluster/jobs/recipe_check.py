"""Check recipes on the title before the search: encode a sample both ways, judge it, decide.

:mod:`ladder.recipe_check` says what is encoded and what follows from it, and
:mod:`ladder.recipe_evidence` which titles need no check. Here the sample is encoded and scored
through the store, so a run that was killed finds it there. The sample's encodes by the recipe that
stays are given to the search, which delivers them where they fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from cluster import events
from cluster.jobs.recipe_samples import measured_bits, sample_requests, samples_of
from cluster.jobs.recipe_words import codec_warning, in_words, judges_over
from cluster.jobs.request import LadderRequest
from cluster.jobs.setup import CodecSetup, set_up_codec, weights_for
from cluster.stages.analysis import find_features
from cluster.stages.encodes import Costs
from cluster.stages.measurer import Measurer
from encoder.media import Request
from encoder.recipes import Recipe
from ladder.document import RecipeCheck
from ladder.recipe_check import (
    HARM_PERCENT,
    LEAST_OVERLAP,
    Judged,
    Sample,
    compare,
    confirmed_useless,
    further_options_loss,
    least_losses,
    options_loss,
    saves_nothing,
    wider_crfs,
)
from ladder.recipe_evidence import Evidence, read_evidence, settled, title_features
from vmaf import models

Percents = dict[str, float | None]
"""Rate over that of another recipe in percent, by judge; None where the judge cannot tell."""


@dataclass(frozen=True, slots=True)
class CheckedRecipes:
    """What the check left of a request's codecs."""

    setups: tuple[CodecSetup, ...]
    """Setups with the recipes that the title is encoded by, without codecs that save nothing."""
    checks: tuple[RecipeCheck, ...]
    """What was compared, for ``ladder.json``."""
    costs: Costs = field(default_factory=Costs)
    """What the check's encodes and scores took."""
    record_keys: tuple[str, ...] = ()
    """Keys of the store's records that the check used."""


def check_recipes(
    request: LadderRequest, setups: Sequence[CodecSetup], measurer: Measurer
) -> CheckedRecipes:
    """Compare each tuned recipe with the plain one, and each further codec with the first.

    The measurements of the sample become known to ``measurer``, and their costs are added.

    Raises:
        BadInput: the evidence beside the weights cannot be read.
        ShotladderError: some of the encodes failed for good.
    """
    if request.options.recipe_check == "never":
        return CheckedRecipes(tuple(setups), ())
    checking = _Checking(request, tuple(setups), measurer)
    kept = checking.codecs(checking.options())
    for check in checking.checks:
        if check.warning:
            measurer.on_event(events.Warned(check.warning))
    judge = checking.judge
    return CheckedRecipes(kept, tuple(checking.checks), judge.costs, tuple(judge.record_keys()))


class _Checking:
    """One title's check, step by step."""

    def __init__(
        self, request: LadderRequest, setups: tuple[CodecSetup, ...], measurer: Measurer
    ) -> None:
        self.request = request
        self.setups = setups
        self.measurer = measurer
        self.judge = judging(measurer)
        self.checks: list[RecipeCheck] = []
        self._samples: Mapping[str, Sample] = {}
        """Samples by codec, once one is needed."""
        self._added = Costs()
        """Costs of the judge that the measurer has already."""

    def planned(self) -> list[Recipe]:
        """Return the recipes that the check will encode if no recipe does harm."""
        pairs = [(one.recipe, one.recipe.plain) for one in self._tuned()]
        pairs += [(one.recipe, self.setups[0].recipe) for one in self.setups[1:]]
        unsettled = [pair for pair in pairs if not self._settled(*pair)]
        return list(dict.fromkeys(recipe for pair in unsettled for recipe in pair))

    def _tuned(self) -> list[CodecSetup]:
        """Return the setups whose recipe has options that the user did not name."""
        decided = self.request.decided
        return [one for one in self.setups if one.recipe.tuning and one.recipe.codec not in decided]

    def options(self) -> list[CodecSetup]:
        """Return the setups with plain recipes where the options do harm."""
        tuned = self._tuned()
        unsettled = [one for one in tuned if not self._settled(one.recipe, one.recipe.plain)]
        self._measure([r for one in unsettled for r in (one.recipe, one.recipe.plain)])
        chosen: list[CodecSetup] = []
        for setup in self.setups:
            if setup in tuned:
                recipe, plain = setup.recipe, setup.recipe.plain
                if setup in unsettled:
                    first = chosen[0].recipe if chosen else None
                    check = self._options_check(recipe, plain, first)
                else:
                    check = _by_evidence(recipe, plain)
                self.checks.append(check)
                if not check.kept:
                    setup = self._set_up(plain)
            chosen.append(setup)
        return chosen

    def codecs(self, chosen: Sequence[CodecSetup]) -> tuple[CodecSetup, ...]:
        """Return the setups without further codecs that save nothing, with the sample given."""
        first, *others = chosen
        unsettled = [one for one in others if not self._settled(one.recipe, first.recipe)]
        if unsettled:
            self._measure([one.recipe for one in (first, *unsettled)])
        kept = [first]
        for setup in others:
            if setup in unsettled:
                check = self._codec_check(setup.recipe, first.recipe)
            else:
                check = _by_evidence(setup.recipe, first.recipe)
            self.checks.append(check)
            if check.kept:
                kept.append(setup)
        return tuple(map(self._given, kept))

    def _settled(self, recipe: Recipe, against: Recipe) -> bool:
        """Return whether evidence answers the question for this title."""
        if self.request.options.recipe_check == "always":
            return False
        evidence = self._evidence.of(recipe.name, against.name)
        if evidence is None:
            return False
        # A further codec has to save something; options may lose a little.
        allowed = HARM_PERCENT if recipe.codec == against.codec else 0.0
        return settled(evidence, self.judge.models, self._features, allowed)

    @cached_property
    def _evidence(self) -> Evidence:
        return read_evidence(weights_for(self.request))

    @cached_property
    def _features(self) -> Mapping[str, float]:
        title = self.measurer.title
        vectors = title.shot_features or find_features(title.source, self.measurer.store.place)
        return title_features(
            (shot.frames, vector.values) for shot, vector in zip(title.shots, vectors, strict=True)
        )

    def _set_up(self, recipe: Recipe) -> CodecSetup:
        of = self.measurer
        return set_up_codec(self.request, recipe, of.title, of.store, of.executor, of.on_event)

    def _measure(self, recipes: Sequence[Recipe]) -> None:
        """Encode and judge the sample with each recipe, at two CRFs of each shot."""
        if not recipes:
            return
        if not self._samples:
            bits = (
                None if self.setups[0].prediction else measured_bits(self.setups[0], self.measurer)
            )
            self._samples = samples_of(self.setups, bits)
        self._measure_all([(one, self._samples[one.codec]) for one in recipes])

    def _measure_all(self, samples: Sequence[tuple[Recipe, Sample]]) -> None:
        wanted = {r for recipe, sample in samples for r in sample_requests(sample, recipe)}
        self.judge.measure(sorted(wanted), stage="recipe check")
        self.measurer.costs += self.judge.costs.since(self._added)
        self._added = self.judge.costs
        self.measurer.known |= self.judge.known

    def _given(self, setup: CodecSetup) -> CodecSetup:
        """Return a setup with the sample's encodes, if its recipe was encoded."""
        measured = {one for one in self.judge.known if one[1].recipe == setup.recipe}
        if not measured:
            return setup.given(())
        sample = set(sample_requests(self._samples[setup.recipe.codec], setup.recipe))
        return setup.given(tuple(sorted(measured & sample)), tuple(sorted(measured - sample)))

    def _judged(self, recipe: Recipe, sample: Sample | None = None) -> list[list[Judged]]:
        """Return a sample's encodes with a recipe, shot by shot, by ascending CRF; those of two
        CRFs unless a sample is given."""
        sample = sample or self._samples[recipe.codec]
        judged = map(self._judged_one, sample_requests(sample, recipe))
        return [[next(judged) for _ in crfs] for crfs in sample.crfs.values()]

    def _judged_one(self, request: Request) -> Judged:
        encode = self.judge.measured_encode(request)
        scores = {model: encode.mean_quality(model) for model in self.judge.models}
        return Judged(encode.shot.frames, 8 * encode.num_bytes, scores)

    def _compared(self, recipe: Recipe, against: Recipe) -> Percents:
        return _rounded(compare(self._judged(against), self._judged(recipe)))

    def _options_check(self, recipe: Recipe, plain: Recipe, first: Recipe | None) -> RecipeCheck:
        """Compare a recipe with the plain one; ``first`` is that of the first codec, if another."""
        percents = self._compared(recipe, plain)
        loss = options_loss(percents, self.judge.models[0])
        if first is not None:
            self._measure([first])
            tuned, without = self._compared(recipe, first), self._compared(plain, first)
            loss = further_options_loss(tuned, without)
        harmed = loss is not None and loss > HARM_PERCENT
        warning = (
            f"{recipe} loses more than {HARM_PERCENT:g} % on this title by "
            f"{judges_over(HARM_PERCENT, percents)} ({in_words(percents)} against {plain}); the "
            f"title is encoded with {plain}"
        )
        return self._document(recipe, plain, percents, not harmed, warning if harmed else None)

    def _codec_check(self, recipe: Recipe, first: Recipe) -> RecipeCheck:
        """Compare a further codec with the first at two CRFs, and at more before it is left out."""
        percents, model = self._compared(recipe, first), self.judge.models[0]
        if not saves_nothing(percents, model):
            return self._document(recipe, first, percents, True, None)
        percents, certain = self._compared_at_more(recipe, first)
        named = self.request.options.codec is not None
        kept = named or not confirmed_useless(percents, certain, model)
        warning = codec_warning(recipe, first, percents, certain, named=named)
        return self._document(recipe, first, percents, kept, warning)

    def _compared_at_more(self, recipe: Recipe, first: Recipe) -> tuple[Percents, Percents]:
        """Compare a further codec with the first at more CRFs, which are measured now.

        Returns:
            Rates over the first codec's in percent by judge, and what they exceed for certain.
        """
        ours, theirs = self._wider(recipe, first), self._wider(first, recipe)
        self._measure_all([(recipe, ours), (first, theirs)])
        anchor, test = self._judged(first, theirs), self._judged(recipe, ours)
        shots = self.measurer.title.shots
        sampled = sum(shots[number].frames for number in ours.crfs)
        share = sampled / sum(shot.frames for shot in shots)
        percents = _rounded(compare(anchor, test, LEAST_OVERLAP))
        return percents, least_losses(anchor, test, share)

    def _wider(self, recipe: Recipe, other: Recipe) -> Sample:
        """Return a recipe's sample with further CRFs, by its scores and by those of the other."""
        sample = self._samples[recipe.codec]
        of_shots = zip(sample.crfs.items(), self._judged(recipe), self._judged(other), strict=True)
        crfs = {
            shot: wider_crfs(pair, own, theirs, recipe.crf_range, recipe.crf_step)
            for (shot, pair), own, theirs in of_shots
        }
        return Sample(sample.size, crfs)

    def _document(
        self,
        recipe: Recipe,
        against: Recipe,
        percents: Percents,
        kept: bool,
        warning: str | None,
    ) -> RecipeCheck:
        sample = self._samples[recipe.codec]
        return RecipeCheck(
            recipe=recipe.name,
            against=against.name,
            kept=kept,
            shots=list(sample.crfs),
            width=sample.size.width,
            height=sample.size.height,
            percent=percents,
            warning=warning,
        )


def judging(measurer: Measurer) -> Measurer:
    """Return a measurer of the same title that scores by the fidelity judges too."""
    judges = (models.beside(measurer.models[0], judge) for judge in models.JUDGES)
    return Measurer(
        measurer.title,
        (measurer.models[0], *judges),
        measurer.store,
        measurer.executor,
        measurer.on_event,
    )


def planned_requests(
    request: LadderRequest, setups: Sequence[CodecSetup], measurer: Measurer
) -> list[Request]:
    """Return the encodes that :func:`check_recipes` is expected to ask for; nothing is encoded."""
    if request.options.recipe_check == "never":
        return []
    recipes = _Checking(request, tuple(setups), measurer).planned()
    longest = {number: float(shot.frames) for number, shot in enumerate(setups[0].title.shots)}
    samples = samples_of(setups, None if setups[0].prediction else longest) if recipes else {}
    return sorted({r for one in recipes for r in sample_requests(samples[one.codec], one)})


def _by_evidence(recipe: Recipe, against: Recipe) -> RecipeCheck:
    return RecipeCheck(recipe=recipe.name, against=against.name, kept=True, by_evidence=True)


def _rounded(percents: Mapping[str, float | None]) -> Percents:
    return {
        model: None if percent is None else round(percent, 4) for model, percent in percents.items()
    }
