"""What is asked of a run, and whether it exists: known without a title, and without its tools."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from encoder.errors import BadInput
from encoder.recipes import CODECS, PRESETS, recipe
from ladder.profiles import load_profile, profile_names
from ladder.rungs import Policy
from vmaf import models

SEARCHES = ("predict", "sparse", "exhaustive")
"""What ``--search`` takes."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What is asked of a run."""

    source: Path
    out: Path
    search: str = "predict"
    codec: str = "x264"
    """One of ``encoder.recipes.CODECS``, or several with commas between, of which the first is
    what every player has to be able to play."""
    preset: str = "medium"
    profile: str = "default"
    heights: tuple[int, ...] | None = None
    """Rung heights instead of the profile's."""
    policy: Policy = "locked"
    store: Path | str | None = None
    """A folder, or a URL such as ``s3://bucket/folder``."""
    workers: int | None = None
    """Local workers; the machine's cores by default."""
    scheduler: str | None = None
    """Address of a running Dask scheduler instead of local workers."""
    priority: int = 0
    """Among runs on one scheduler: the higher goes first."""
    also: tuple[str, ...] = ()
    """Quality models measured on delivered segments beside the title's own."""
    face_model: Path | None = None
    """YuNet model that finds faces in artwork; without one nobody looks for any."""
    tone_map: bool = False
    """Whether a source of high dynamic range becomes a title of standard range."""
    weights: Path | None = None
    """Of the complexity model, instead of those that come with the product."""


def choices() -> dict[str, tuple[str, ...]]:
    """What options by name may be, where that can be listed."""
    return {
        "search": SEARCHES,
        "codec": tuple(CODECS),
        "preset": PRESETS,
        "profile": profile_names(),
        "also": models.KNOWN,
    }


def codecs_of(options: RunOptions) -> tuple[str, ...]:
    """The codecs asked for, in order.

    Raises:
        BadInput: one is asked for twice.
    """
    asked = tuple(part.strip() for part in options.codec.split(","))
    if len(set(asked)) != len(asked):
        raise BadInput(f"--codec names a codec twice: {options.codec}")
    return asked


def check_options(options: RunOptions) -> None:
    """See that what is asked for exists, before any work is done for it.

    Raises:
        BadInput: something does not.
    """
    for codec in codecs_of(options):
        recipe(codec, options.preset)
    profile = load_profile(options.profile)
    lacking = [codec for codec in codecs_of(options) if codec not in profile.crf_grid]
    if lacking:
        raise BadInput(f"profile {profile.name} has no CRF grid for {', '.join(lacking)}")
    if options.search not in SEARCHES:
        raise BadInput(f"no search {options.search!r}; choose one of {', '.join(SEARCHES)}")
    if options.weights is not None and not options.weights.is_file():
        raise BadInput(f"no weights at {options.weights}; `shotladder train` makes them")
    if options.policy != "locked":
        raise BadInput(
            f"policy {options.policy!r} cannot be packaged yet; use 'locked' "
            "(ladder.json says what that costs against 'mixed')"
        )
    for model in options.also:
        models.check(model)
