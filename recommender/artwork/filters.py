"""Filters that drop unusable stills, each up to a quota.

A filter measures how bad stills are in one way, and drops the worst of them. It drops at most
:data:`QUOTA` of the title's stills, because a filter that finds half of a title unusable has
misunderstood the title (a night film is dark, a screen capture is text). Stills that it finds
beyond its quota are *flagged*: they stay, but rank behind all others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np

from encoder.arrays import Float32, Mask
from recommender.artwork.stills import Stills

QUOTA: Final = 0.15
"""Largest share of a title's stills that one filter may drop."""

FILTERS_VERSION: Final = 2
"""Part of the store keys. Raise it when any filter changes."""

NEAR_CUT_SECONDS: Final = Fraction(1, 8)
BESIDE_SECONDS: Final = Fraction(1, 2)
HEAD_SHARE, TAIL_SHARE = 0.06, 0.10
"""Beginning and end of a title with studio logos and credits, as shares of its length."""


@dataclass(frozen=True, slots=True, eq=False)
class TitleStills:
    """The stills of a title with the facts about the title that filters need."""

    stills: Stills
    frames: int
    """Number of frames in the title."""
    frame_rate: Fraction

    def __getitem__(self, name: str) -> Float32:
        return self.stills.measure(name)


@dataclass(frozen=True, slots=True, eq=False)
class Filtered:
    """Which stills are dropped or flagged, and by which filters."""

    dropped_by: tuple[str | None, ...]
    """Name of the filter that drops each still; None if the still is kept."""
    flags: tuple[tuple[str, ...], ...]
    """Names of the filters that found each still but had used up their quota."""
    found: Mapping[str, int]
    """Number of stills that each filter found, dropped or not."""

    @property
    def kept(self) -> Mask:
        """True for the stills that are kept, (n,)."""
        return np.array([name is None for name in self.dropped_by], bool)

    @property
    def flagged(self) -> Mask:
        """True for the stills that have flags, (n,)."""
        return np.array([bool(flags) for flags in self.flags], bool)


def black(title: TitleStills) -> Float32:
    """Find stills with hardly anything bright: the upper end of their levels is low."""
    return _over(0.16 - title["bright"], 0.0)


def uniform(title: TitleStills) -> Float32:
    """Find stills of one tone: nearly all blocks are flat, or there is next to no contrast."""
    flat = _over(title["uniform"], 0.93)
    return np.maximum(flat, _over(0.05 - title["contrast"], 0.0))


def blurred(title: TitleStills) -> Float32:
    """Find stills whose sharpest parts lose unusually little when they are blurred again."""
    blur, sharpness = title["blur"], title["sharpness"]
    usual = float(np.median(blur))
    soft = _over(blur, max(0.5, usual + 0.12))
    # Far less detail than usual means lost focus, however soft the title is.
    faint = _over(0.3 - sharpness / max(1e-3, float(np.median(sharpness))), 0.0)
    return np.maximum(soft, np.where(blur > usual + 0.05, faint, 0)).astype(np.float32)


def transition(title: TitleStills) -> Float32:
    """Find stills in a dissolve or a fade, and those beside them.

    A still in a transition is the mean of the pictures before and after it. Right beside it, the
    other picture only begins to show.
    """
    blend = _over(title["blend"], 0.45)
    frames, beside = title.stills.frames, float(BESIDE_SECONDS * title.frame_rate)
    badness = blend.copy()
    for at in np.flatnonzero(blend):
        first, end = np.searchsorted(frames, (frames[at] - beside, frames[at] + beside + 1))
        badness[first:end] = np.maximum(badness[first:end], 0.1 * blend[at])
    return badness


def near_cut(title: TitleStills) -> Float32:
    """Find stills next to a hard cut: they may mix two scenes, or still be in motion."""
    near = max(1, round(NEAR_CUT_SECONDS * title.frame_rate))
    distance = title["cut_distance"]
    return np.where(distance < near, near - distance, 0).astype(np.float32)


def moving(title: TitleStills) -> Float32:
    """Find stills smeared by motion: much has moved, and blur has a direction or is unusual."""
    change, blur = title["change"], title["blur"]
    smear = _over(title["motion_blur"], 0.18) + _over(blur, float(np.median(blur)) + 0.04)
    fast = change > max(45.0, 1.5 * float(np.median(change)))
    return np.where(fast, change * smear, 0).astype(np.float32)


def text(title: TitleStills) -> Float32:
    """Find cards and captions: more letters than the title shows all the time."""
    letters = title["text"] * np.where(title["uniform"] > 0.6, 3, 1)
    # A watermark is legible in some scenes only: what a quarter of the stills has is no caption.
    return _over(letters, max(0.4, float(np.quantile(letters, 0.75)) + 0.2))


def credits(title: TitleStills) -> Float32:
    """Find logos and credits at head and tail: letters, or one thing on an even ground."""
    place = title.stills.frames / max(1, title.frames)
    outer = (place < HEAD_SHARE) | (place > 1 - TAIL_SHARE)
    letters, even = title["text"], title["uniform"]
    sparse = _over(even, max(0.72, float(np.median(even)) + 0.2))
    some = _over(letters, max(0.15, float(np.median(letters)) + 0.1))
    return np.where(outer, some + sparse, 0).astype(np.float32)


FILTERS: Final[Mapping[str, Callable[[TitleStills], Float32]]] = {
    "black": black,
    "uniform": uniform,
    "blurred": blurred,
    "transition": transition,
    "text": text,
    "credits": credits,
    "near_cut": near_cut,
    "moving": moving,
}
"""Filters in the order in which they drop; each returns how bad every still is, 0 if it is fine."""


SPARE_PORTRAITS: Final = frozenset({"uniform", "blurred", "credits"})
"""Filters that take a portrait for something else: a face before a soft or an even background."""


def apply_filters(title: TitleStills, quality: Float32, portraits: Mask | None = None) -> Filtered:
    """Drop the worst stills that each filter finds, within its quota.

    One still always stays: the one of the best ``quality`` (n,) if all are bad. ``portraits`` is
    True for the stills of a large sharp face, (n,), which :data:`SPARE_PORTRAITS` leave alone.
    """
    count = len(title.stills)
    spared = np.zeros(count, bool) if portraits is None else portraits
    dropped_by: list[str | None] = [None] * count
    flags: list[tuple[str, ...]] = [()] * count
    found = {}
    for name, measure_badness in FILTERS.items():
        badness = measure_badness(title)
        if name in SPARE_PORTRAITS:
            badness = np.where(spared, np.float32(0), badness)
        found[name] = int(np.count_nonzero(badness > 0))
        quota = int(QUOTA * count)
        for at in np.argsort(-badness, kind="stable")[: found[name]]:
            if dropped_by[at] is not None:
                continue
            if quota > 0:
                dropped_by[at] = name
                quota -= 1
            else:
                flags[at] = (*flags[at], name)
    if count and all(dropped_by):
        best = int(np.argmax(quality))
        flags[best], dropped_by[best] = (*flags[best], str(dropped_by[best])), None
    return Filtered(tuple(dropped_by), tuple(flags), found)


def _over(values: Float32, limit: float) -> Float32:
    """Return by how much each value exceeds ``limit``, 0 if it does not."""
    return np.asarray(np.maximum(values - limit, 0), np.float32)
