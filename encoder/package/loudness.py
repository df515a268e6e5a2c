"""Bring a mix to a loudness by two passes of ffmpeg's ``loudnorm``, and measure it (EBU R128).

The first pass measures the mix. Where its peaks leave room, the second pass is linear: one gain for
all of the sound. Otherwise ``loudnorm`` changes the gain over time and limits the peaks.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from encoder.package.audio_commands import SAMPLE_RATE
from encoder.package.sound_choices import LOUDEST_LUFS

TRUE_PEAK_DBTP = -2.0
"""True peak to which a mix is limited: lossy codecs overshoot by up to a decibel."""
TOLERANCE_LU = 0.5
"""Difference from the target that EBU R128 allows a programme."""
CORRECTED_LU = 0.2
"""Difference from which a sound is encoded once more: codecs and limiters change the loudness."""
_QUIETEST_LUFS = -70.0
_LEAST_RANGE, _MOST_RANGE = 0.1, 50.0
_REPORT = re.compile(r"\{[^{}]*\"input_i\"[^{}]*\}")


@dataclass(frozen=True, slots=True)
class MixLoudness:
    """What the first pass measured of a mix."""

    integrated: float
    """LUFS."""
    true_peak: float
    """dBTP."""
    range: float
    """LU."""
    threshold: float
    """Gate of the measurement, LUFS."""

    @property
    def measurable(self) -> bool:
        """False where the sound is silent, or so short or quiet that it has no loudness."""
        return math.isfinite(self.integrated) and _QUIETEST_LUFS < self.integrated < 0

    def is_linear(self, target: float) -> bool:
        """Return True where one gain for all of the sound reaches a loudness."""
        return self.true_peak + target - self.integrated <= TRUE_PEAK_DBTP


@dataclass(frozen=True, slots=True)
class LoudnessFacts:
    """How a sound was brought to a loudness."""

    target: float
    """LUFS that were asked for."""
    source: float | None
    """LUFS of the mix before; None where it has no loudness and was left as it is."""
    integrated: float | None
    """LUFS of the encode."""
    true_peak: float | None
    """dBTP of the encode."""
    linear: bool = True
    """False where the gain changes over time, because peaks leave no room for one gain."""

    @property
    def reached(self) -> bool:
        """True where the encode has the loudness that was asked for."""
        return self.integrated is not None and abs(self.integrated - self.target) <= TOLERANCE_LU

    def document(self) -> dict[str, Any]:
        """Return the facts as JSON; ``LoudnessFacts(**document)`` reads them."""
        return {
            "target": self.target,
            "source": self.source,
            "integrated": self.integrated,
            "true_peak": self.true_peak,
            "linear": self.linear,
        }


def first_pass(target: float) -> str:
    """Return the filter of the first pass."""
    return f"loudnorm=I={target:g}:TP={TRUE_PEAK_DBTP:g}:print_format=json"


def read_first_pass(stderr: str) -> MixLoudness:
    """Read what the first pass measured.

    Raises:
        ValueError: the log has no measurement.
    """
    found = _REPORT.findall(stderr)
    if not found:
        raise ValueError("ffmpeg's loudnorm reported no measurement")
    values: Mapping[str, str] = json.loads(found[-1])
    return MixLoudness(
        *(float(values[f"input_{name}"]) for name in ("i", "tp", "lra", "thresh")),
    )


def in_range(target: float) -> float:
    """Return the loudness nearest to a target that ``loudnorm`` takes, LUFS."""
    return min(max(target, _QUIETEST_LUFS), LOUDEST_LUFS)


def second_pass(mix: MixLoudness, target: float) -> tuple[str, ...]:
    """Return the filters of the second pass.

    The range of the mix is the range that is asked for, so that the range alone never makes
    ``loudnorm`` change the gain. A range of 0 would, too.
    """
    kept = min(max(mix.range, _LEAST_RANGE), _MOST_RANGE)
    asked = math.ceil(max(kept, 1.0) * 100) / 100
    values = {
        "I": f"{target:.2f}",
        "TP": f"{TRUE_PEAK_DBTP:g}",
        "LRA": f"{asked:g}",
        "measured_I": f"{mix.integrated:g}",
        "measured_TP": f"{mix.true_peak:g}",
        "measured_LRA": f"{kept:g}",
        "measured_thresh": f"{mix.threshold:g}",
        "linear": "true",
    }
    options = ":".join(f"{name}={value}" for name, value in values.items())
    # loudnorm works at 192 kHz where it changes the gain.
    return (f"loudnorm={options}", f"aresample={SAMPLE_RATE}:osf=fltp")
