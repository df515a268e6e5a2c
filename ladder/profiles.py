"""Named profiles of a ladder (``profiles.toml``) and the sizes that its rungs can have."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import resources
from typing import Any

from encoder.errors import BadInput
from encoder.media import Size

NATIVE_MARGIN = 1.1
"""A listed height this close under the source's own gives way to it: same cost, no scaling."""


@dataclass(frozen=True, slots=True)
class Profile:
    """The numbers behind a ladder; ``profiles.toml`` says what each is for."""

    name: str
    heights: tuple[int, ...]
    """Candidate sizes, as lengths of the smaller side."""
    crf_grid: Mapping[str, tuple[float, ...]]
    """By codec: the CRFs that the exhaustive search measures."""
    jnd: float
    max_rate_ratio: float
    min_quality: float
    first_rate: tuple[float, float]
    """bit/s."""
    saturation: float
    """Quality per doubling of the rate."""
    max_quality: float
    peak_ratio: float | None
    vbv_seconds: float | None
    floor: float | None
    source_cap: bool
    rates: tuple[float, ...] = ()
    """bit/s at which rungs lie, ascending, instead of evenly spaced ones; () is spaced."""

    def __post_init__(self) -> None:
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


@functools.cache
def _tables() -> dict[str, dict[str, Any]]:
    return tomllib.loads(resources.files("ladder").joinpath("profiles.toml").read_text("utf-8"))


def profile_names() -> tuple[str, ...]:
    """The profiles there are."""
    return tuple(_tables())


def load_profile(name: str = "default") -> Profile:
    """The profile called ``name``.

    Raises:
        BadInput: there is none of that name.
    """
    tables = _tables()
    if name not in tables:
        raise BadInput(f"no profile is called {name!r}; there are {', '.join(tables)}")
    return profile_from(name, {**tables["default"], **tables[name]})


def profile_from(name: str, table: Mapping[str, Any]) -> Profile:
    """A profile from a table as in ``profiles.toml``, with every key given.

    Raises:
        BadInput: a key is missing or unknown, or a number makes no sense.
    """
    known = {field.name for field in fields(Profile)} - {"name"}
    if set(table) != known:
        raise BadInput(f"profile {name}: keys {sorted(set(table) ^ known)} are missing or unknown")
    low, high = table["first_rate"]
    return Profile(
        name=name,
        heights=tuple(sorted(table["heights"])),
        crf_grid={
            codec: tuple(sorted(float(crf) for crf in grid))
            for codec, grid in table["crf_grid"].items()
        },
        jnd=float(table["jnd"]),
        max_rate_ratio=float(table["max_rate_ratio"]),
        min_quality=float(table["min_quality"]),
        first_rate=(float(low), float(high)),
        saturation=float(table["saturation"]),
        max_quality=float(table["max_quality"]),
        peak_ratio=float(table["peak_ratio"]) or None,
        vbv_seconds=float(table["vbv_seconds"]) or None,
        floor=float(table["floor"]) or None,
        source_cap=bool(table["source_cap"]),
        rates=tuple(sorted(float(rate) for rate in table["rates"])),
    )


def rung_sizes(display_width: int, display_height: int, heights: Sequence[int]) -> tuple[Size, ...]:
    """Sizes for a title of this display size, smallest first, the title's own last.

    ``heights`` are lengths of the smaller side, so portrait titles work alike. Listed heights
    over the title's are dropped; the title's own is always there, and takes the place of a
    listed one that it exceeds by less than 10 %. Sides are even, the other side is the even
    number nearest to the title's shape (:func:`aspect_error` says how near).
    """
    own = min(display_width, display_height)
    if own < 2:
        raise ValueError(f"a title is at least 2 pixels high, got {display_width}x{display_height}")
    listed = {height & ~1 for height in heights if height >= 2 and height * NATIVE_MARGIN <= own}
    return tuple(_sized(display_width, display_height, h) for h in sorted({*listed, own & ~1}))


def _sized(display_width: int, display_height: int, shorter: int) -> Size:
    short, long = sorted((display_width, display_height))
    longer = _even(long * shorter / short)
    return Size(longer, shorter) if display_width >= display_height else Size(shorter, longer)


def size_within(display_width: int, display_height: int, height: int) -> tuple[Size, float]:
    """Size of a title that fits a 16:9 frame of ``height`` lines (upright for portrait).

    Returns the size, never over the title's own, and by how much filling the frame would scale
    the title (over 1: enlarge it).
    """
    short, long = sorted((display_width, display_height))
    box_long = height * 16 / 9
    scale = min(height / short, box_long / long)
    if scale >= 1:
        return _sized(display_width, display_height, short & ~1), scale
    if scale == height / short:
        return _sized(display_width, display_height, height & ~1), scale
    # Wider than 16:9: the long side fills the frame, the short one follows.
    sides = _even(box_long), _even(short * scale)
    return Size(*(sides if display_width >= display_height else sides[::-1])), scale


def _even(length: float) -> int:
    return max(2, 2 * round(length / 2))


def aspect_error(size: Size, display_width: int, display_height: int) -> float:
    """How much wider (positive) or narrower a size makes the picture, as a share of its shape."""
    return size.width / size.height / (display_width / display_height) - 1
