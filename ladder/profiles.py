"""Profiles, the numbers behind a ladder.

The built-in profiles are in ``profiles.toml``, which says what each number is for.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from encoder.errors import BadInput
from encoder.media import Size
from encoder.package.sound_choices import SOUND_CODECS, SoundChoices
from encoder.recipes import CODECS, Recipe, by_name, recipe
from encoder.segmentation import SHOTS, Segmentation
from encoder.tunings import with_parameters
from ladder.sizes import Fit, rung_sizes
from ladder.viewers import MEDIANS, TOLERANCE, Audience, Histogram, LogNormal, Mix

PLAIN_RECIPES = dict.fromkeys(CODECS, "medium")
"""Recipes of profiles that name none, as those of release 0.1."""

PLACEMENTS = ("spacing", "fewest-bits", "most-quality")
"""Ways to place rungs."""
SPACING_KEYS = frozenset({"jnd", "max_rate_ratio", "min_quality", "first_rate", "saturation"})
"""Keys that say where spaced rungs lie."""
LEAST_RATIO = 1.1
"""Ratio of two rates above which each of them is worth a rung."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Profile:
    """The numbers that decide where a ladder's rungs lie and what they must keep.

    Equal profiles compare equal whatever they were made from: lists become ascending tuples,
    numbers become floats, and limits of 0 become None, which is off.

    Raises:
        BadInput: a value has a wrong type or makes no sense.
    """

    name: str
    heights: tuple[int, ...]
    """Lengths in pixels of the smaller side of the sizes that rungs may have."""
    crf_grid: Mapping[str, tuple[float, ...]]
    """CRFs that the exhaustive search measures, by codec."""
    jnd: float
    """Points of quality by which neighbouring rungs differ at most: one just noticeable
    difference."""
    max_rate_ratio: float
    """Ratio of the rates of neighbouring rungs at most; over 1."""
    min_quality: float
    """Quality at which the lowest rung lies, within the rates of ``first_rate``."""
    first_rate: tuple[float, float]
    """Lowest and highest rate in bit/s that the lowest rung may have."""
    saturation: float
    """Points of quality that doubling the rate must add for another rung to be worth it."""
    max_quality: float
    """Quality above which no rung lies."""
    peak_ratio: float | None
    """Peak rate over windows of 0.5 to 1.5 target durations, as a multiple of the rung's rate;
    None for no limit."""
    vbv_seconds: float | None
    """Decoder buffer in seconds of the peak rate; None for no limit."""
    floor: float | None
    """Quality that every shot of every rung must reach; None for no limit."""
    source_cap: bool
    """True where no rung may take more than the rate of the source's own video."""
    rates: tuple[float, ...] = ()
    """Rates in bit/s at which rungs lie up to saturation; empty where rungs are spaced by
    ``jnd`` and ``max_rate_ratio``."""
    codecs: tuple[str, ...] = ("x264",)
    """Codecs of the ladder; every player must be able to play the first."""
    hdr_codecs: tuple[str, ...] = ()
    """Codecs of the ladder of a title of high dynamic range; empty for those of ``codecs``."""
    recipes: Mapping[str, str] = field(default_factory=lambda: dict(PLAIN_RECIPES))
    """How each codec encodes: its preset, and its tuning after a plus sign, as in
    ``slow+psy-rd=0.4,0:ref=3``."""
    fit_sizes: bool = False
    """True where sizes move to where codecs pad little or nothing, see :mod:`ladder.sizes`."""
    placement: str = "spacing"
    """How rungs are placed: one of :data:`PLACEMENTS`. ``spacing`` is by ``jnd`` and
    ``max_rate_ratio``, from ``first_rate`` to ``saturation``; the others are by what viewers
    receive (:mod:`ladder.placement`)."""
    reference: tuple[tuple[float, int], ...] = ()
    """Rate in bit/s and 16:9 height of each rung of the ladder that no viewer of a placed ladder
    may lose against, rising; empty for that of the Apple HLS authoring table."""
    tolerance: float = TOLERANCE
    """Points of quality that a viewer of a placed ladder may lose against the reference."""
    viewers: tuple[float, ...] = MEDIANS
    """Median throughputs in bit/s of the populations, of equal size, that rungs are placed for."""
    throughputs: tuple[tuple[float, float], ...] = ()
    """Measured throughputs instead: upper end in bit/s of each bin and its share of the viewers."""
    device_lines: tuple[tuple[int, float], ...] = ()
    """Lines that some devices play at most, and the share of viewers with such devices."""
    rung_count: tuple[int, int] = (1, 12)
    """Fewest and most rungs of a placed ladder."""
    least_ratio: float = 1.1
    """Ratio of the rates of neighbouring rungs of a placed ladder at least."""
    largest_steps: bool = False
    """True where ``jnd`` and ``max_rate_ratio`` limit the steps of a placed ladder too."""
    measure_every: int = 1
    """Distance between the frames that have a score, an odd number; 1 where all have one."""
    qualities: tuple[float, ...] = ()
    """Qualities at which rungs lie, instead of ``rates``; empty where none are listed."""
    rung_heights: tuple[int, ...] = ()
    """Heights of the rungs, one rung for each: at the ``rates`` or ``qualities`` of the same
    number, or, where there are none, at the rate up to which the height looks best. Empty where
    each rung has the size that looks best."""
    max_rate: float | None = None
    """Highest rate of a rung in bit/s, which gives way to nothing; None for no limit."""
    quality_limits: bool = False
    """True where ``min_quality`` and ``max_quality`` hold for rungs however they lie."""
    merge_within: tuple[float, ...] = ()
    """Ratio of rates and points of quality: two rungs nearer than both are merged. Empty where
    rungs may lie as near as they like."""
    size_limits: tuple[tuple[float, int], ...] = ()
    """Rates in bit/s, rising, each with the lines that rungs up to that rate have at most."""
    native_top: bool = False
    """True where the highest rung has the size of the source."""
    audio_codec: str = "aac"
    """Codec of the sound."""
    audio_rates: tuple[float, ...] = ()
    """Bitrates in bit/s of stereo and of 5.1; empty for those that are usual for the codec."""
    audio_languages: tuple[str, ...] = ()
    """Languages of the sound that are kept, the default one first; empty for all."""
    loudness: float | None = None
    """Integrated loudness in LUFS that sound is brought to; None leaves it as it is."""
    segments: str = SHOTS
    """Where segments begin: ``shots``, or the step of a grid in seconds or frames, as in ``2s`` or
    ``48f``."""
    longest_segment: float | None = None
    """Longest segment in seconds where segments are shots; None for 6."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise BadInput(
                f"a profile's name is {self.name!r:.80}; it has to be 1 to 64 letters, digits, "
                "dots, underscores and hyphens"
            )
        for key, (read, expected) in _READERS.items():
            value = getattr(self, key)
            try:
                object.__setattr__(self, key, read(value))
            except (OverflowError, TypeError, ValueError):
                raise BadInput(
                    f"profile {self.name}: {key} is {value!r:.60}; it has to be {expected}"
                ) from None
        positive = (
            *(self.jnd, self.max_rate_ratio - 1),
            *(*self.heights, *self.first_rate, *self.rates),
        )
        if min(positive) <= 0 or self.first_rate[0] > self.first_rate[1]:
            raise BadInput(
                f"profile {self.name}: jnd, heights, rates and first_rate are positive, "
                "first_rate ascends and max_rate_ratio is over 1"
            )
        if self.peak_ratio is not None and self.peak_ratio < 1:
            raise BadInput(f"profile {self.name}: peak_ratio {self.peak_ratio:g} is under 1")
        if self.vbv_seconds is not None and self.peak_ratio is None:
            raise BadInput(f"profile {self.name}: vbv_seconds needs a peak_ratio")
        for codec, grid in self.crf_grid.items():
            if codec not in CODECS:
                raise BadInput(
                    f"profile {self.name}: crf_grid has the unknown codec {codec!r}; "
                    f"choose one of {', '.join(CODECS)}"
                )
            recipe = CODECS[codec]()
            (low, high), step = recipe.crf_range, recipe.crf_step
            if not grid or any(crf % step or not low <= crf <= high for crf in grid):
                raise BadInput(
                    f"profile {self.name}: crf_grid of {codec} needs CRFs in steps of {step:g}, "
                    f"from {low:g} to {high:g}"
                )
        self._check_codecs()
        self._check_placement()
        self._check_rungs()
        try:
            self.sound.check()
            Segmentation.of(self.segments, self.longest_segment)
        except BadInput as error:
            raise BadInput(f"profile {self.name}: {error.message}") from error

    @property
    def sound(self) -> SoundChoices:
        """How the sound is encoded."""
        return SoundChoices(self.audio_codec, self.audio_rates, self.audio_languages, self.loudness)

    def _check_rungs(self) -> None:
        """Check what rungs have to be wherever they lie."""
        listed = self.rates or self.qualities
        if self.rates and self.qualities:
            raise BadInput(
                f"profile {self.name}: rates and qualities both say where rungs lie; give one"
            )
        if listed and self.rung_heights and len(listed) != len(self.rung_heights):
            raise BadInput(
                f"profile {self.name}: {len(self.rung_heights)} rung_heights for {len(listed)} "
                f"{'rates' if self.rates else 'qualities'}; give as many"
            )
        if min((*self.qualities, *self.rung_heights, self.max_rate or 1.0, 1.0)) <= 0:
            raise BadInput(
                f"profile {self.name}: qualities, rung_heights and max_rate have to be positive"
            )
        if self.floor is not None and not 0 < self.floor < 100:
            raise BadInput(
                f"profile {self.name}: floor {self.floor:g} is no quality that a shot can have; "
                "give one between 0 and 100"
            )
        if self.quality_limits and self.min_quality >= self.max_quality:
            raise BadInput(
                f"profile {self.name}: min_quality {self.min_quality:g} is not under max_quality "
                f"{self.max_quality:g}"
            )
        merge = self.merge_within
        if merge and (len(merge) != 2 or merge[0] < 1 or merge[1] < 0):
            raise BadInput(
                f"profile {self.name}: merge_within is a ratio of rates of at least 1 and points "
                "of quality, such as [1.25, 2.0], or []"
            )
        limits = self.size_limits
        if [rate for rate, _ in limits] != sorted({rate for rate, _ in limits}) or any(
            lines < 2 for _, lines in limits
        ):
            raise BadInput(
                f"profile {self.name}: size_limits are rising rates, each with the most lines of "
                "rungs up to that rate"
            )

    @property
    def lists_rungs(self) -> bool:
        """True where the rungs themselves are listed, by rate, by quality or by height."""
        return bool(self.rates or self.qualities or self.rung_heights)

    def most_lines(self, rate: float) -> float:
        """Return the lines that a rung of ``rate`` bit/s may have at most; inf for no limit."""
        limits = (lines for most, lines in self.size_limits if rate <= most)
        return min(limits, default=math.inf)

    def _check_placement(self) -> None:
        if self.placement not in PLACEMENTS:
            raise BadInput(
                f"profile {self.name}: placement is {self.placement!r:.40}; choose one of "
                f"{', '.join(PLACEMENTS)}"
            )
        rates, lines = [rate for rate, _ in self.reference], [lines for _, lines in self.reference]
        if rates != sorted(set(rates)) or lines != sorted(lines) or min((*lines, 2)) < 2:
            raise BadInput(
                f"profile {self.name}: reference has to have rising rates with heights that never "
                "fall"
            )
        if not self.viewers or min(self.viewers) <= 0 or self.tolerance < 0:
            raise BadInput(
                f"profile {self.name}: viewers are positive median throughputs, at least one, and "
                "tolerance is not negative"
            )
        if not 1 <= self.rung_count[0] <= self.rung_count[1] or self.least_ratio < LEAST_RATIO:
            raise BadInput(
                f"profile {self.name}: rung_count is the fewest and the most rungs, and "
                f"least_ratio is at least {LEAST_RATIO:g}"
            )
        try:
            _ = self.audience
        except BadInput as error:
            raise BadInput(f"profile {self.name}: {error.message}") from error

    @property
    def audience(self) -> Audience:
        """Viewers that rungs are placed for."""
        if self.throughputs:
            return Audience(Histogram(self.throughputs), self.device_lines)
        return Audience(Mix(tuple(map(LogNormal, self.viewers))), self.device_lines)

    def _check_codecs(self) -> None:
        if not self.codecs:
            raise BadInput(f"profile {self.name}: codecs is empty; name at least one codec")
        for key, codecs in (("codecs", self.codecs), ("hdr_codecs", self.hdr_codecs)):
            if len(set(codecs)) != len(codecs):
                raise BadInput(f"profile {self.name}: {key} names a codec twice")
        for codec in (*self.codecs, *self.hdr_codecs, *self.recipes):
            if codec not in CODECS:
                raise BadInput(
                    f"profile {self.name}: the codec {codec!r:.40} is unknown; choose one of "
                    f"{', '.join(CODECS)}"
                )
        try:
            for codec in (*self.codecs, *self.hdr_codecs, *self.recipes):
                self.recipe(codec)
        except BadInput as error:
            raise BadInput(f"profile {self.name}: {error.message}") from error

    def recipe(self, codec: str, preset: str | None = None) -> Recipe:
        """Return how the profile encodes with ``codec``, at another preset if one is named.

        A codec that the profile has no recipe for has the plain one.

        Raises:
            BadInput: the codec or the preset is unknown.
        """
        own = by_name(f"{codec}-{self.recipes.get(codec, PLAIN_RECIPES['x264'])}")
        return own if preset is None else recipe(codec, preset, own.tuning)

    def with_parameters(self, parameters: Mapping[str, str]) -> Profile:
        """Return the profile with further encoder parameters for some codecs.

        Raises:
            BadInput: they are none that a tuning may set.
        """
        recipes = dict(self.recipes)
        for codec, more in parameters.items():
            own = self.recipe(codec)
            tuning = with_parameters(codec, own.tuning, more)
            recipes[codec] = f"{own.preset}+{tuning}"
        return replace(self, recipes=recipes)

    def sizes(
        self, display_width: int, display_height: int, named_heights: Sequence[int] | None = None
    ) -> tuple[Size, ...]:
        """Return the sizes that rungs of a title may have, see :func:`ladder.sizes.rung_sizes`.

        Heights that a user names instead of the profile's are kept, as are those of
        ``rung_heights``; where the profile fits sizes, only the widths are fitted.
        """
        named = named_heights or tuple(dict.fromkeys(self.rung_heights))
        fit: Fit = "off" if not self.fit_sizes else "width" if named else "size"
        return rung_sizes(display_width, display_height, named or self.heights, fit)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError
    return float(value)


def _limit(value: Any) -> float | None:
    return None if value is None else _number(value) or None


def _numbers(value: Any) -> tuple[float, ...]:
    if not isinstance(value, list | tuple):
        raise TypeError
    return tuple(sorted(map(_number, value)))


def _heights(value: Any) -> tuple[int, ...]:
    heights = _numbers(value)
    if not all(height.is_integer() for height in heights):
        raise ValueError
    return tuple(map(int, heights))


def _merge(value: Any) -> tuple[float, ...]:
    if not isinstance(value, list | tuple):
        raise TypeError
    return tuple(map(_number, value))


def _first_rate(value: Any) -> tuple[float, float]:
    if not isinstance(value, list | tuple):
        raise TypeError
    low, high = map(_number, value)
    return low, high


def _grids(value: Any) -> dict[str, tuple[float, ...]]:
    if not isinstance(value, Mapping) or not value:
        raise TypeError
    return {codec: tuple(sorted(set(_numbers(grid)))) for codec, grid in value.items()}


def _pairs(value: Any) -> tuple[tuple[float, float], ...]:
    if not isinstance(value, list | tuple):
        raise TypeError
    return tuple(_first_rate(pair) for pair in value)


def _whole(value: float) -> int:
    if not value.is_integer():
        raise ValueError
    return int(value)


def _positive(value: Any) -> int:
    if (number := _whole(_number(value))) < 1:
        raise ValueError
    return number


def _rates_with_lines(value: Any) -> tuple[tuple[float, int], ...]:
    return tuple((rate, _whole(lines)) for rate, lines in _pairs(value))


def _device_lines(value: Any) -> tuple[tuple[int, float], ...]:
    return tuple((_whole(lines), share) for lines, share in _pairs(value))


def _count(value: Any) -> tuple[int, int]:
    fewest, most = _first_rate(value)
    return _whole(fewest), _whole(most)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise TypeError
    return tuple(value)


def _recipes(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise TypeError
    return dict(zip(value, _names(list(value.values())), strict=True))


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


_READERS: Mapping[str, tuple[Callable[[Any], Any], str]] = {
    "heights": (_heights, "a list of whole numbers"),
    "crf_grid": (_grids, "a table with a list of CRFs for each codec"),
    "jnd": (_number, "a number"),
    "max_rate_ratio": (_number, "a number"),
    "min_quality": (_number, "a number"),
    "first_rate": (_first_rate, "two numbers, the lowest and the highest rate in bit/s"),
    "saturation": (_number, "a number"),
    "max_quality": (_number, "a number"),
    "peak_ratio": (_limit, "a number, 0 for no limit"),
    "vbv_seconds": (_limit, "a number, 0 for no limit"),
    "floor": (_limit, "a number, 0 for no limit"),
    "source_cap": (_flag, "true or false"),
    "rates": (_numbers, "a list of rates in bit/s"),
    "codecs": (_names, "a list of codecs"),
    "hdr_codecs": (_names, "a list of codecs"),
    "recipes": (_recipes, "a table with a preset, and a tuning after a plus sign, by codec"),
    "fit_sizes": (_flag, "true or false"),
    "placement": (_text, f"one of {', '.join(PLACEMENTS)}"),
    "reference": (_rates_with_lines, "a list of pairs, a rate in bit/s and a height"),
    "tolerance": (_number, "a number"),
    "viewers": (_numbers, "a list of median throughputs in bit/s"),
    "throughputs": (_pairs, "a list of pairs, the upper end of a bin in bit/s and its share"),
    "device_lines": (_device_lines, "a list of pairs, a number of lines and a share of viewers"),
    "rung_count": (_count, "two whole numbers, the fewest and the most rungs"),
    "least_ratio": (_number, "a number"),
    "largest_steps": (_flag, "true or false"),
    "measure_every": (_positive, "a whole number of frames, 1 for every frame"),
    "qualities": (_numbers, "a list of qualities"),
    "rung_heights": (_heights, "a list of whole numbers"),
    "max_rate": (_limit, "a rate in bit/s, 0 for no limit"),
    "quality_limits": (_flag, "true or false"),
    "merge_within": (_merge, "a ratio of rates and points of quality, or []"),
    "size_limits": (_rates_with_lines, "a list of pairs, a rate in bit/s and the most lines"),
    "native_top": (_flag, "true or false"),
    "audio_codec": (_text, f"one of {', '.join(SOUND_CODECS)}"),
    "audio_rates": (_merge, "a list of bitrates in bit/s, that of stereo and that of 5.1, or []"),
    "audio_languages": (_names, "a list of language tags, or []"),
    "loudness": (_limit, "a loudness in LUFS such as -23, 0 to leave sound as it is"),
    "segments": (_text, "`shots`, or the step of a grid, such as 2s or 48f"),
    "longest_segment": (_limit, "a number of seconds, 0 for the usual limit"),
}
"""How the value of each key is read, and what it has to be, in words."""

_LATER = (
    "codecs",
    "hdr_codecs",
    "recipes",
    "fit_sizes",
    "placement",
    "reference",
    "tolerance",
    "viewers",
    "throughputs",
    "device_lines",
    "rung_count",
    "least_ratio",
    "largest_steps",
    "measure_every",
    "qualities",
    "rung_heights",
    "max_rate",
    "quality_limits",
    "merge_within",
    "size_limits",
    "native_top",
    "audio_codec",
    "audio_rates",
    "audio_languages",
    "loudness",
    "segments",
    "longest_segment",
)
"""Keys that release 0.1 did not have."""


def built_in_text() -> str:
    """Return the file of the built-in profiles."""
    return resources.files("ladder").joinpath("profiles.toml").read_text("utf-8")


@functools.cache
def profiles_about() -> dict[str, str]:
    """Return what each built-in profile is for, by name."""
    return {name: table["about"] for name, table in tomllib.loads(built_in_text()).items()}


@functools.cache
def _tables() -> dict[str, dict[str, Any]]:
    """Return the built-in profiles by name, each with every key."""
    whole: dict[str, dict[str, Any]] = {}
    for name, table in tomllib.loads(built_in_text()).items():
        table.pop("about")
        whole[name] = _over(whole.get(table.pop("based_on", "default"), {}), table)
    return whole


def _over(base: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of ``table`` over those of ``base``; ``recipes`` codec by codec."""
    merged = {**base, **table}
    recipes = base.get("recipes"), table.get("recipes")
    if all(isinstance(each, Mapping) for each in recipes):
        merged["recipes"] = {**base["recipes"], **table["recipes"]}
    return merged


def profile_names() -> tuple[str, ...]:
    """Return the names of the built-in profiles."""
    return tuple(_tables())


@functools.cache
def built_in_recipes() -> frozenset[Recipe]:
    """Return the recipes of all codecs in all built-in profiles."""
    profiles = [profile_from(name, table) for name, table in _tables().items()]
    return frozenset(profile.recipe(codec) for profile in profiles for codec in CODECS)


def load_profile(name: str = "default") -> Profile:
    """Return the built-in profile called ``name``.

    Raises:
        BadInput: no built-in profile has that name.
    """
    tables = _tables()
    if name not in tables:
        raise BadInput(
            f"no profile is called {name!r}; choose one of {', '.join(tables)}, or give the "
            "path of a TOML file"
        )
    return profile_from(name, tables[name])


def profile_from_file(path: Path) -> Profile:
    """Return the profile of a TOML file, named after the file.

    The file has the keys of a table of ``profiles.toml``. Keys that it leaves out, and recipes of
    codecs that it leaves out, are those of the built-in profile that its key ``based_on`` names,
    ``default`` unless given. The key ``about`` is for people. A file that has keys of the spacing
    (:data:`SPACING_KEYS`) and none of the placement has its rungs spaced.

    Raises:
        BadInput: the file cannot be read, is not TOML, has the name of a built-in profile, or
            has an unknown key or a wrong value.
    """
    tables = _tables()
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise BadInput(f"the profile file {path} cannot be read ({error.strerror})") from error
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise BadInput(f"the profile file {path} is not valid TOML ({reason})") from error
    if path.stem in tables:
        raise BadInput(
            f"the profile file {path} has the name of the built-in profile {path.stem}; rename it"
        )
    base = table.pop("based_on", "default")
    table.pop("about", None)
    try:
        return _based_on(base, path.stem, table)
    except BadInput as error:
        raise BadInput(f"the profile file {path}: {error.message}") from error


def _based_on(base: Any, name: str, table: Mapping[str, Any]) -> Profile:
    """Return a profile whose keys are those of ``table`` over those of a built-in profile."""
    tables = _tables()
    if not isinstance(base, str) or base not in tables:
        raise BadInput(f"based_on is {base!r:.80}; choose one of {', '.join(tables)}")
    if SPACING_KEYS & table.keys() and not table.keys() & {"placement", "largest_steps"}:
        # What such a table meant before rungs were placed.
        table = {**table, "placement": "spacing"}
    return profile_from(name, _over(tables[base], table))


def as_profile(profile: str | Path | Profile) -> Profile:
    """Return the built-in profile of a name, the profile of a TOML file, or the profile itself.

    Raises:
        BadInput: no built-in profile has that name, or the file holds no profile.
    """
    if isinstance(profile, Profile):
        if profile.name in _tables() and profile != load_profile(profile.name):
            raise BadInput(
                f"the profile {profile.name!r} differs from the built-in profile of that name; "
                "give it another name"
            )
        return profile
    return profile_from_file(profile) if isinstance(profile, Path) else load_profile(profile)


def profile_from(name: str, table: Mapping[str, Any]) -> Profile:
    """Return a profile from a table as in ``profiles.toml``, with every key given.

    Keys that later releases added may be missing; the profile is then what it was before.

    Raises:
        BadInput: a key is missing or unknown, or a value is wrong.
    """
    if unknown := sorted(set(table) - set(_READERS)):
        raise BadInput(
            f"profile {name}: unknown key {unknown[0]!r}; the keys are {', '.join(_READERS)}"
        )
    if missing := [key for key in _READERS if key not in table and key not in _LATER]:
        raise BadInput(
            f"profile {name}: the key {missing[0]!r} is missing; give every key, or based_on"
        )
    return Profile(name=name, **table)


def profile_document(profile: Profile) -> dict[str, Any]:
    """Return the profile as JSON values; :func:`profile_from_document` reads them back.

    Keys that release 0.1 did not have are left out where they say what it did, so that the digest
    of such a profile stays what it was.
    """
    document: dict[str, Any] = {}
    for each in fields(profile):
        value = getattr(profile, each.name)
        default = each.default if each.default is not MISSING else None
        if each.default_factory is not MISSING:
            default = each.default_factory()
        if each.name in _LATER and value == default:
            continue
        if isinstance(value, tuple):
            value = [list(v) if isinstance(v, tuple) else v for v in value]
        elif isinstance(value, Mapping):
            value = {k: list(v) if isinstance(v, tuple) else v for k, v in value.items()}
        document[each.name] = value
    return document


def profile_before(name: str) -> str:
    """Return the name that a built-in profile of release 0.1 has now; other names unchanged."""
    earlier = f"{name}-0.1"
    return earlier if earlier in _tables() else name


def profile_from_document(document: Mapping[str, Any]) -> Profile:
    """Return the profile that :func:`profile_document` made ``document`` from.

    A document that a person wrote may have ``based_on`` instead of every key: the keys that it
    leaves out are those of the built-in profile of that name.

    Raises:
        BadInput: the document is not that of a profile.
    """
    if not isinstance(document, Mapping) or not isinstance(document.get("name"), str):
        raise BadInput("a profile's document is an object with a name and a profile's keys")
    table = {key: value for key, value in document.items() if key not in ("name", "based_on")}
    if "based_on" in document:
        return _based_on(document["based_on"], document["name"], table)
    return profile_from(document["name"], table)


def profile_sha256(profile: Profile) -> str:
    """Return the SHA-256 of the profile's canonical JSON: equal profiles have equal digests."""
    canonical = json.dumps(profile_document(profile), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
