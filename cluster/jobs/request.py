"""What a user asks of a run, and the same resolved once.

:class:`RunOptions` holds the words of the command line, the HTTP interface or a Python caller.
:class:`LadderRequest` is what they mean: recipes and the profile as values, everything checked.
The request is made once, at the edge; from there on nothing is looked up by name again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.execution.security import SharedScheduler
from cluster.jobs.options import (
    DEFAULTS,
    LATER_NAMES,
    LIMIT_NAMES,
    PART_NAMES,
    RECIPE_CHECKS,
    SEARCHES,
    SOUND_NAMES,
    CommonOptions,
    as_lists,
    as_tuples,
    asked_limits,
)
from encoder import ffmpeg
from encoder.errors import BadInput
from encoder.names import path_of, shown
from encoder.package.sound_choices import DEFAULT_SOUND, SOUND_CODECS, SoundChoices
from encoder.recipes import CODECS, PRESETS, Recipe
from encoder.segmentation import Segmentation
from encoder.source.choices import TAILS, SourceChoices
from encoder.source.part import ExcerptChoices
from encoder.tunings import by_codec
from ladder.adjustments import adjusted, check_meaning
from ladder.choices import POLICIES
from ladder.profiles import (
    PLACEMENTS,
    Profile,
    as_profile,
    built_in_recipes,
    profile_before,
    profile_document,
    profile_from_document,
    profile_names,
    profile_sha256,
)
from vmaf import models
from vmaf.sampled import check_step, sampled_name

if TYPE_CHECKING:  # clients and the service make requests without loading PyAV
    from encoder.source.reference import ReferenceSource

PACKAGED_POLICIES = ("locked",)
"""Policies whose ladders can be packaged; the others are only predicted."""
_HDR_DEPTH = 10
"""Bits per sample that high dynamic range needs at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderOptions(CommonOptions):
    """The options that decide a package's bytes, as users name them: those that a job of the
    service has too, and paths of files.
    """

    profile: str | Path | Profile = DEFAULTS.profile
    """Name of a built-in profile, path of a TOML file, or a profile."""
    weights: Path | None = None
    """Weights of the complexity model instead of the packaged ones."""
    embedding: str | None = None
    """``MODULE:FUNCTION`` of what makes the embeddings of stills instead of the classical ones."""
    nudity: bool = False
    """True to score the nudity of stills, with the extra ``vision``."""

    @property
    def source_choices(self) -> SourceChoices:
        """What the user decided about the source."""
        names = (field.name for field in fields(SourceChoices))
        return SourceChoices(**{name: getattr(self, name) for name in names})

    @property
    def part(self) -> ExcerptChoices:
        """Which part of the source becomes the title."""
        return ExcerptChoices(self.start, self.duration, self.sample)

    def document(self) -> dict[str, Any]:
        """Return the options as JSON: what ``run.json`` and a run's manifest keep.

        The profile is kept with its content and its digest, because another release may have
        another one of that name. Limits are kept only where they were asked for.
        """
        document = {field.name: getattr(self, field.name) for field in fields(LadderOptions)}
        for name in LIMIT_NAMES:
            del document[name]
        for name in ("encoder_params", "split_at", *SOUND_NAMES, *PART_NAMES):
            if document[name] == getattr(DEFAULTS, name):
                del document[name]
        for name in ("embedding", "nudity"):
            if not document[name]:
                del document[name]
        profile = as_profile(self.profile)
        document["profile"] = profile.name
        document["profile_content"] = profile_document(profile)
        document["profile_sha256"] = profile_sha256(profile)
        for name, value in document.items():
            if isinstance(value, tuple):
                # No heights have always been kept as null.
                document[name] = as_lists(value) or (None if name == "heights" else [])
            elif isinstance(value, Path):
                document[name] = shown(value.resolve())
        return document | {name: as_lists(value) for name, value in asked_limits(self).items()}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> LadderOptions:
        """Return the options that :meth:`document` made a document of, in this or an earlier
        release: options that the document lacks have their defaults.

        Raises:
            BadInput: the profile in the document is not one that this version reads.
        """
        names = {field.name for field in fields(LadderOptions)}
        known = {name: value for name, value in document.items() if name in names}
        known.setdefault("recipe_check", "never")  # releases without the option had no check
        if known.get("weights"):
            known["weights"] = path_of(known["weights"])
        for name in ("heights", "also", *LATER_NAMES):
            if known.get(name) is not None:
                known[name] = as_tuples(known[name])
        if (content := document.get("profile_content")) is not None:
            known["profile"] = _named(profile_from_document(content))
        elif "profile" in known:  # of release 0.1, which kept only the names of built-in profiles
            known["profile"] = profile_before(known["profile"])
        return LadderOptions(**known)


def _named(profile: Profile) -> str | Profile:
    """Return the name of a built-in profile, or the profile; one that had the name of a built-in
    profile in another release gets its digest into its name.
    """
    if profile.name not in profile_names():
        return profile
    if profile == as_profile(profile.name):
        return profile.name
    return replace(profile, name=f"{profile.name}-{profile_sha256(profile)[:8]}")


@dataclass(frozen=True, slots=True)
class RunOptions(LadderOptions):
    """What a user asks of a run: a ladder, and where and how to make it."""

    source: Path
    """Path of the source."""
    out: Path
    """Folder for the package."""
    store: Path | str | None = None
    """Folder or URL (such as ``s3://bucket/folder``) of the store; None is the default store."""
    workers: int | None = None
    """Number of local worker processes; None is one per core."""
    scheduler: str | SharedScheduler | None = None
    """A running Dask scheduler, or only its address, instead of local workers."""
    priority: int = 0
    """Rank among the runs on one scheduler: the higher goes first."""

    def like(self, earlier: LadderOptions) -> RunOptions:
        """Return these options with everything that decides the package taken from ``earlier``."""
        here = {f.name: getattr(self, f.name) for f in fields(self)}
        ladder = {f.name: getattr(earlier, f.name) for f in fields(LadderOptions)}
        return RunOptions(**{**here, **ladder})


@dataclass(frozen=True, slots=True)
class LadderRequest:
    """A run's options, resolved: every name is looked up, every combination checked."""

    options: RunOptions
    """The options as the user named them, for documents and messages."""
    recipes: tuple[Recipe, ...]
    """One recipe per codec; every player has to be able to play the first."""
    profile: Profile
    hdr_recipes: tuple[Recipe, ...] = ()
    """The recipes of a title of high dynamic range, where they are others."""
    sound: SoundChoices = DEFAULT_SOUND
    """How the sound is encoded."""
    decided: frozenset[str] = frozenset()
    """Codecs whose encoder parameters the user named, so that no check replaces them."""

    @classmethod
    def of(cls, options: RunOptions) -> LadderRequest:
        """Resolve a run's options. Neither the source nor a tool is looked at yet.

        Raises:
            BadInput: an option names something that does not exist, or two options conflict.
        """
        profile = as_profile(options.profile)
        _check_limits(options, profile)
        profile = adjusted(profile, asked_limits(options))
        codecs, hdr_codecs = profile.codecs, profile.hdr_codecs
        if options.codec is not None:
            codecs, hdr_codecs = tuple(part.strip() for part in options.codec.split(",")), ()
        if unknown := [codec for codec in codecs if codec not in CODECS]:
            raise BadInput(_no_codec(unknown[0]))
        if len(set(codecs)) != len(codecs):
            raise BadInput(f"--codec names a codec twice: {options.codec}")
        parameters = by_codec(options.encoder_params, tuple(dict.fromkeys((*codecs, *hdr_codecs))))
        profile = profile.with_parameters(parameters)
        recipes = tuple(profile.recipe(codec, options.preset) for codec in codecs)
        hdr_recipes = tuple(profile.recipe(codec, options.preset) for codec in hdr_codecs)
        every = dict.fromkeys((*codecs, *hdr_codecs))
        if lacking := [codec for codec in every if codec not in profile.crf_grid]:
            raise BadInput(f"profile {profile.name} has no CRF grid for {', '.join(lacking)}")
        if options.workers is not None and options.workers < 1:
            raise BadInput(f"the number of workers is {options.workers}; give 1 or more")
        if options.search not in SEARCHES:
            raise BadInput(f"no search {options.search!r}; choose one of {', '.join(SEARCHES)}")
        if options.recipe_check not in RECIPE_CHECKS:
            raise BadInput(
                f"no recipe check {options.recipe_check!r}; choose one of "
                f"{', '.join(RECIPE_CHECKS)}"
            )
        if options.measure_every is not None:
            check_step(options.measure_every, "--measure-every")
        check_step(profile.measure_every, f"measure_every of the profile {profile.name}")
        if options.embedding is not None or options.nudity:
            from recommender.artwork.vision import sight_of  # loads OpenCV, and is rarely asked

            sight_of(options.embedding, options.nudity)
        if options.weights is not None and not options.weights.is_file():
            raise BadInput(f"no weights at {options.weights}; `shotladder train` makes them")
        if options.policy not in POLICIES:
            raise BadInput(f"no policy {options.policy!r}; choose one of {', '.join(POLICIES)}")
        if options.policy not in PACKAGED_POLICIES:
            raise BadInput(
                f"policy {options.policy!r} cannot be packaged yet; use 'locked' "
                "(ladder.json says what that costs against 'mixed')"
            )
        options.source_choices.check()
        Segmentation.of(profile.segments, profile.longest_segment, options.split_at)
        options.part.check()
        for model in options.also:
            models.check(model)
        return cls(
            options, recipes, profile, hdr_recipes, _sound(options, profile), frozenset(parameters)
        )

    @property
    def segmentation(self) -> Segmentation:
        """Where the title's segments begin."""
        profile = self.profile
        return Segmentation.of(profile.segments, profile.longest_segment, self.options.split_at)

    def check_encoders(self) -> None:
        """Check that this ffmpeg has an encoder for every recipe, which takes the recipe's tuning.

        The tests check that the bundled ffmpeg takes the tunings of the built-in profiles.

        Raises:
            BadInput: an encoder is missing, or refuses a parameter.
        """
        from encoder.encode import check_tuning

        # x264 is in every ffmpeg that is of use here; builds differ in the other encoders.
        recipes = (*self.recipes, *self.hdr_recipes)
        encoders = {one.encoder: one.codec for one in recipes if one.codec != "x264"}
        if encoders and (missing := ffmpeg.lacking(list(encoders))):
            raise BadInput(
                f"the codec {encoders[missing[0]]} needs {', '.join(missing)}, which this ffmpeg "
                f"lacks; unset {ffmpeg.ENVIRONMENT_VARIABLE} or name one built with it"
            )
        tested = built_in_recipes() if ffmpeg.is_bundled() else frozenset()
        for recipe in recipes:
            if recipe.tuning and recipe not in tested:
                check_tuning(recipe)

    def quality_model(self, source: ReferenceSource) -> str:
        """Return the quality model of a title, which says which frames have a score."""
        every = self.options.measure_every or self.profile.measure_every
        return sampled_name(models.title_model(source), every)

    def for_source(self, source: ReferenceSource) -> LadderRequest:
        """Return the request with the recipes that the dynamic range of a source asks for.

        Raises:
            BadInput: the source has high dynamic range and a recipe has 8 bits.
        """
        if source.hdr is None:
            return replace(self, hdr_recipes=())
        recipes = self.hdr_recipes or self.recipes
        shallow = [one.codec for one in recipes if one.bit_depth < _HDR_DEPTH]
        if shallow:
            raise BadInput(
                f"{self.options.source} is high dynamic range ({source.hdr}), which 8 bit cannot "
                f"hold, and rungs of {' and '.join(shallow)} have 8 here; use --codec x265, "
                "svtav1 or both, or --tone-map for a ladder of standard range"
            )
        return replace(self, recipes=recipes, hdr_recipes=())


def _sound(options: LadderOptions, profile: Profile) -> SoundChoices:
    """Return how the sound is encoded: as the options say, or else as the profile does.

    Raises:
        BadInput: a value is none that any sound can have.
    """
    asked = (getattr(options, name) for name in SOUND_NAMES)
    own = (getattr(profile, name) for name in SOUND_NAMES)
    codec, rates, languages, loudness = (
        own_value if value is None or value == () else value
        for value, own_value in zip(asked, own, strict=True)
    )
    if options.audio_codec not in (None, profile.audio_codec) and not options.audio_rates:
        rates = ()  # the profile's are those of its own codec
    choices = SoundChoices(codec, tuple(rates), tuple(languages), loudness or None)
    choices.check()
    return choices


def _no_codec(name: str) -> str:
    """Say which codecs there are, and where 10 bits are asked of H.264, why it has 8."""
    text = f"no recipe for codec {name!r:.40}; choose one of {', '.join(CODECS)}"
    if "10" in name and name.startswith(("x264", "h264", "avc")):
        text += (
            ". H.264 is encoded with 8 bits, because browsers and most devices decode no other; "
            "x265 and svtav1 encode 10"
        )
    return text


def _check_limits(options: RunOptions, profile: Profile) -> None:
    """Check that what is asked of the rungs can mean something together."""
    if options.placement not in (None, *PLACEMENTS):
        raise BadInput(
            f"no placement {options.placement!r:.40}; choose one of {', '.join(PLACEMENTS)}"
        )
    if options.placement is None:
        check_meaning(profile, asked_limits(options))
    if options.heights and (
        lacking := [height for height in options.rung_heights if height not in options.heights]
    ):
        raise BadInput(
            f"rung_heights has {lacking[0]}, which is not among the heights "
            f"{', '.join(map(str, options.heights))}; leave heights out, or add it"
        )


def changed_ladder_options(options: RunOptions) -> list[str]:
    """Return the names of the options that decide the package and have another value than their
    default.
    """
    return [
        field.name
        for field in fields(LadderOptions)
        if getattr(options, field.name) != field.default
    ]


def choices() -> dict[str, tuple[str, ...]]:
    """Return the values that options take by name, where they can be listed."""
    return {
        "search": SEARCHES,
        "codec": tuple(CODECS),
        "preset": PRESETS,
        "profile": profile_names(),
        "policy": PACKAGED_POLICIES,
        "also": models.KNOWN,
        "tail": TAILS,
        "recipe_check": RECIPE_CHECKS,
        "placement": PLACEMENTS,
        "audio_codec": tuple(SOUND_CODECS),
    }
