"""What must not be shown, and how much of a title may be dropped for it.

Each filter finds stills that are bad in one way and how bad they are. It drops the worst of them,
but at most :data:`QUOTA` of the title's stills: a filter that finds half of a title unusable has
misunderstood the title (a night film is dark, a screen capture is text). What a filter finds and
may not drop is *flagged*: it stays, but behind everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np

from encoder.arrays import Float32, Mask
from recommender.artwork.sampling import Stills

QUOTA: Final = 0.15
"""Largest share of a title's stills that one filter drops."""

FILTERS_VERSION: Final = 1

NEAR_CUT_SECONDS: Final = Fraction(1, 8)
BESIDE_SECONDS: Final = Fraction(1, 2)
HEAD_SHARE, TAIL_SHARE = 0.06, 0.10
"""Where studio logos and credits are: shares of the title's length."""


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """A title's stills with what filters need to know of the title."""

    stills: Stills
    frames: int
    """Of the title."""
    frame_rate: Fraction

    def __getitem__(self, name: str) -> Float32:
        return self.stills.measure(name)


@dataclass(frozen=True, slots=True, eq=False)
class Filtered:
    """What became of each still."""

    reasons: tuple[str | None, ...]
    """Which filter dropped it; None: it stays."""
    flags: tuple[tuple[str, ...], ...]
    """Filters that would have dropped it, had their quota allowed."""
    found: Mapping[str, int]
    """By filter: how many stills are bad in its way, dropped or not."""

    @property
    def kept(self) -> Mask:
        """(n,)"""
        return np.array([reason is None for reason in self.reasons], bool)

    @property
    def flagged(self) -> Mask:
        """(n,)"""
        return np.array([bool(flags) for flags in self.flags], bool)


def black(shown: Shown) -> Float32:
    """Hardly anything is bright: the upper end of the levels is low."""
    return _over(0.16 - shown["bright"], 0.0)


def uniform(shown: Shown) -> Float32:
    """One tone: nothing to see in nearly all blocks, or next to no contrast."""
    flat = _over(shown["uniform"], 0.93)
    return np.maximum(flat, _over(0.05 - shown["contrast"], 0.0))


def blurred(shown: Shown) -> Float32:
    """Even the sharpest parts lose little by blurring, and less than the title's own usually do."""
    blur, sharpness = shown["blur"], shown["sharpness"]
    usual = float(np.median(blur))
    soft = _over(blur, max(0.5, usual + 0.12))
    # Far less detail than the title usually has is a loss of focus in a title of any softness.
    faint = _over(0.3 - sharpness / max(1e-3, float(np.median(sharpness))), 0.0)
    return np.maximum(soft, np.where(blur > usual + 0.05, faint, 0)).astype(np.float32)


def transition(shown: Shown) -> Float32:
    """In a dissolve or a fade: the mean of what is before and after; or right beside such a
    still, where the other picture only begins to show."""
    found = _over(shown["blend"], 0.45)
    frames, beside = shown.stills.frames, float(BESIDE_SECONDS * shown.frame_rate)
    around = found.copy()
    for at in np.flatnonzero(found):
        first, end = np.searchsorted(frames, (frames[at] - beside, frames[at] + beside + 1))
        around[first:end] = np.maximum(around[first:end], 0.1 * found[at])
    return around


def near_cut(shown: Shown) -> Float32:
    """Next to a hard change: half of what is there may be of another scene, or still in motion."""
    near = max(1, round(NEAR_CUT_SECONDS * shown.frame_rate))
    distance = shown["cut_distance"]
    return np.where(distance < near, near - distance, 0).astype(np.float32)


def moving(shown: Shown) -> Float32:
    """Smeared by motion: much has moved, and blur has a direction or is more than usual."""
    change, blur = shown["change"], shown["blur"]
    smear = _over(shown["motion_blur"], 0.18) + _over(blur, float(np.median(blur)) + 0.04)
    fast = change > max(45.0, 1.5 * float(np.median(change)))
    return np.where(fast, change * smear, 0).astype(np.float32)


def text(shown: Shown) -> Float32:
    """A card or a caption: more letters than the title shows all the time."""
    letters = shown["text"] * np.where(shown["uniform"] > 0.6, 3, 1)
    # A watermark is read in some scenes and not in others: what a quarter has is the title's own.
    return _over(letters, max(0.4, float(np.quantile(letters, 0.75)) + 0.2))


def credits(shown: Shown) -> Float32:
    """Logos and credits at head and tail: letters, or one thing on an even ground."""
    place = shown.stills.frames / max(1, shown.frames)
    outer = (place < HEAD_SHARE) | (place > 1 - TAIL_SHARE)
    letters, even = shown["text"], shown["uniform"]
    sparse = _over(even, max(0.72, float(np.median(even)) + 0.2))
    some = _over(letters, max(0.15, float(np.median(letters)) + 0.1))
    return np.where(outer, some + sparse, 0).astype(np.float32)


FILTERS: Final[Mapping[str, Callable[[Shown], Float32]]] = {
    "black": black,
    "uniform": uniform,
    "blurred": blurred,
    "transition": transition,
    "text": text,
    "credits": credits,
    "near_cut": near_cut,
    "moving": moving,
}
"""In the order in which they drop; what one has dropped does not count for the next."""


def apply_filters(shown: Shown, quality: Float32) -> Filtered:
    """Drop what must not be shown, each filter within its quota; one still always stays.

    Args:
        shown: the stills; at least one.
        quality: (n,) of each still, to say which one stays if all are bad.
    """
    count = len(shown.stills)
    most = int(QUOTA * count)
    reasons: list[str | None] = [None] * count
    flags: list[tuple[str, ...]] = [()] * count
    found = {}
    for name, badness in FILTERS.items():
        bad = badness(shown)
        found[name] = int(np.count_nonzero(bad > 0))
        order = [at for at in np.argsort(-bad, kind="stable") if bad[at] > 0]
        left = most
        for at in order:
            if reasons[at] is not None:
                continue
            if left > 0:
                reasons[at] = name
                left -= 1
            else:
                flags[at] = (*flags[at], name)
    if count and all(reason is not None for reason in reasons):
        best = int(np.argmax(quality))
        flags[best], reasons[best] = (*flags[best], str(reasons[best])), None
    return Filtered(tuple(reasons), tuple(flags), found)


def _over(values: Float32, limit: float) -> Float32:
    """How far over ``limit`` each value is; 0 where it is not."""
    return np.asarray(np.maximum(values - limit, 0), np.float32)
