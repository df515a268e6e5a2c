"""Scores of every Nth frame only, which take about half of the CPU time.

The name of such a quality model ends with ``+everyN``: its scores are not those of the whole model,
have store keys of their own, and never enter a training table. libvmaf computes the features that
look at neighbouring frames for all frames (its option ``n_subsample``), so a frame that has a score
has exactly the score that it has where all frames have one. Leaving frames out before libvmaf would
change the motion feature.

N is odd. Encoders spend their bits in a rhythm of two, four or eight frames; even steps meet the
same kind of picture again and again, and a step of four was measured to be off by up to 3.6 points,
one of three by up to 0.7 (``docs/measured.md``).
"""

from __future__ import annotations

import re

from encoder.errors import BadInput

MOST_EVERY = 9
"""Largest step. Beyond it errors grow and nothing is saved: the rest is spent on every frame."""
LEAST_SCORED = 8
"""Number of frames of a shot that have a score at least, where it has as many."""

_STEP = re.compile(r"\+every(\d+)$")


def check_step(every: int, named: str) -> int:
    """Return ``every`` if scores may be of every so many frames; ``named`` is what it was given as.

    Raises:
        BadInput: the number is even, or out of range.
    """
    if every % 2 == 0 or not 1 <= every <= MOST_EVERY:
        raise BadInput(
            f"{named} is {every}; it has to be an odd number from 1 (every frame) to {MOST_EVERY}, "
            "because encoders treat every second and every fourth frame alike"
        )
    return every


def sampled_name(name: str, every: int) -> str:
    """Return the name of a quality model whose scores are of every ``every``-th frame."""
    return f"{without_step(name)}+every{every}" if every > 1 else without_step(name)


def without_step(name: str) -> str:
    """Return the name of the model that scores every frame."""
    return _STEP.sub("", name)


def step_of(name: str) -> int:
    """Return the distance between frames that have a score; 1 where all have one."""
    found = _STEP.search(name)
    return int(found[1]) if found else 1


def scored_frames(name: str) -> str:
    """Return in words which frames a model scores."""
    return "all frames" if (step := step_of(name)) == 1 else f"one frame in {step}"


def step_within(step: int, frames: int) -> int:
    """Return the odd step for a shot of so many frames that leaves it enough scores."""
    most = max(1, min(step, frames // LEAST_SCORED))
    return most - (most + 1) % 2


def spread(scored: dict[int, float], frames: int) -> tuple[float, ...]:
    """Return a score for each of ``frames`` frames: that of the nearest frame which has one.

    So a shot's mean weighs its frames alike, and so does the mean of a title of unequal shots.
    """
    numbers = sorted(scored)
    return tuple(scored[min(numbers, key=lambda n: (abs(n - frame), n))] for frame in range(frames))
