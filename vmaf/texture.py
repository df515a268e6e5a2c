"""How much fine texture an encode keeps: the energy of its luma at high spatial frequencies.

Grain and foliage are energy above a quarter of the sampling rate (0.25 cycles per pixel, half of
the highest frequency that a picture can hold). Quality models that compare with the source reward
an encoder for removing it, because noise that is a little off costs more than no noise; people see
a picture that has become flat. So this energy is looked at beside the quality models
(:mod:`ladder.evaluation.recipe_rule`), at equal rate.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from encoder.arrays import AnyArray, Float64

CUTOFF = 0.25
"""Frequency in cycles per pixel above which energy counts, in any direction."""


def fine_energy(luma: AnyArray) -> float:
    """Return the mean square of a picture's components above :data:`CUTOFF`.

    The picture, (height, width) in any unit, is weighed with a Hann window, so that its borders,
    which do not continue each other, are no detail. White noise of variance 1 has
    ``1 - pi/16 = 0.80``.

    Raises:
        ValueError: the picture is smaller than 8 pixels on a side.
    """
    if luma.ndim != 2 or min(luma.shape) < 8:
        raise ValueError(f"fine energy needs a picture of 8x8 pixels or more, got {luma.shape}")
    height, width = luma.shape
    window = np.outer(np.hanning(height), np.hanning(width))
    spectrum = np.fft.rfft2((luma - luma.mean(dtype=np.float64)) * window)
    power = np.square(np.abs(spectrum)) * _multiplicity(width)
    high = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]) > CUTOFF
    return float(power[high].sum() / (luma.size * np.square(window).sum()))


def mean_fine_energy(frames: Iterable[AnyArray]) -> float:
    """Return the mean of :func:`fine_energy` over pictures.

    Raises:
        ValueError: there are no pictures, or one is too small.
    """
    energies = [fine_energy(frame) for frame in frames]
    if not energies:
        raise ValueError("fine energy needs one picture or more, got none")
    return sum(energies) / len(energies)


def _multiplicity(width: int) -> Float64:
    """Return how often each column of a real picture's half spectrum occurs in the whole one."""
    times = np.full(width // 2 + 1, 2.0)
    times[0] = 1.0
    if width % 2 == 0:
        times[-1] = 1.0
    return times
