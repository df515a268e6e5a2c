"""What is asked of a run, checked, and resolved against a title."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster.measuring import Request
from cluster.stages import Measured
from cluster.title import Title
from encoder.errors import BadInput
from encoder.recipes import Recipe, recipe
from ladder.curves import Measurement
from ladder.profiles import Profile, Size, load_profile, rung_sizes
from ladder.rungs import Policy
from ladder.search import ExhaustiveSearch, Known, Search, TitleShape
from vmaf import models

STORE_VARIABLE = "SHOTLADDER_STORE"
"""Where the store is, unless a run says otherwise."""


SEARCHES: Mapping[str, Callable[[], Search]] = {"exhaustive": ExhaustiveSearch}
"""By the name that ``--search`` takes."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What is asked of a run."""

    source: Path
    out: Path
    search: str = "exhaustive"
    codec: str = "x264"
    preset: str = "medium"
    profile: str = "default"
    heights: tuple[int, ...] | None = None
    """Rung heights instead of the profile's."""
    policy: Policy = "locked"
    store: Path | None = None
    workers: int | None = None
    """Local workers; the machine's cores by default."""
    scheduler: str | None = None
    """Address of a running Dask scheduler instead of local workers."""
    also: tuple[str, ...] = ()
    """Quality models measured on delivered segments beside the title's own."""
    face_model: Path | None = None
    """YuNet model that finds faces in artwork; without one nobody looks for any."""


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


def default_store() -> Path:
    """``SHOTLADDER_STORE``, or a folder in the user's cache."""
    if set_by_user := os.environ.get(STORE_VARIABLE):
        return Path(set_by_user)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "shotladder" / "store"


def check_options(options: RunOptions) -> None:
    """See that what is asked for exists, before any work is done for it.

    Raises:
        BadInput: something does not.
    """
    recipe(options.codec, options.preset)
    load_profile(options.profile)
    if options.search not in SEARCHES:
        raise BadInput(f"no search {options.search!r}; choose one of {', '.join(SEARCHES)}")
    if options.policy != "locked":
        raise BadInput(
            f"policy {options.policy!r} cannot be packaged yet; use 'locked' "
            "(ladder.json says what that costs against 'mixed')"
        )
    for model in options.also:
        models.check(model)


def set_up(options: RunOptions, title: Title) -> Setup:
    """Resolve checked options against a title.

    Raises:
        BadInput: no height that was asked for fits the title.
    """
    profile = load_profile(options.profile)
    reference = title.reference
    sizes = rung_sizes(reference.width, reference.height, options.heights or profile.heights)
    if not sizes:
        raise BadInput(
            f"none of the heights asked for fits a source of {reference.width}x{reference.height}"
        )
    chosen = recipe(options.codec, options.preset)
    return Setup(
        recipe=chosen,
        profile=profile,
        sizes=sizes,
        model=models.default_model(min(reference.width, reference.height), reference.frame_rate),
        search=SEARCHES[options.search](),
        policy=options.policy,
        title=title,
    )


def known_to_search(setup: Setup, found: Mapping[Request, Measured]) -> Known:
    """What a search decides from, given what has been measured."""
    title = setup.title
    return Known(
        title=TitleShape(
            shots=title.shots,
            frame_rate=title.reference.frame_rate,
            sizes=setup.sizes,
            recipe=setup.recipe.name,
            codec=setup.recipe.codec,
            source_bits=8 * title.reference.index.packet_bytes,
        ),
        profile=setup.profile,
        policy=setup.policy,
        measurements={
            request: Measurement(made.bits, made.mean_quality[setup.model])
            for request, made in found.items()
        },
    )
