"""Recipes: everything that changes the bits of an encode except size and CRF.

Only this module turns a recipe into encoder arguments, and only recipes know the direction, range
and step of a codec's CRF; the rest of the code deals in rate and quality.

All recipes have in common, by measurement:

- one thread per encode, so that the output does not depend on the machine;
- closed GOPs: a shot starts with a keyframe, has others only where they are requested (none at
  scene cuts), and no frame refers outside its group;
- one codec configuration for all CRFs of a size, so that segments of different CRFs share an init.

Codec by codec:

- **x264** has ``stitchable=1``: without it x264 writes CRF-dependent values into the PPS, and
  segments of different CRFs under one init decode to garbage that some browsers play without an
  error.
  With a tuning, ``filter_units`` takes out what x264 says of itself in the first frame of every
  encode: 693 bytes, 2 % of a two-second shot at 145 kbit/s. Plain recipes keep it, because their
  bits are those of release 0.1.
- **x265** has ``info=0``: otherwise an SEI of the configuration lists its options, CRF included.
  ``opt-qp-pps`` and ``opt-ref-list-length-pps`` would fit the PPS to the frames of one shot. It
  encodes 10 bit, which every decoder of HEVC video on demand supports, and which costs no bits.
- **SVT-AV1** takes its CRF as a parameter of its own, in quarters: ffmpeg rounds ``-crf`` to a
  whole number. ``lp=1`` is one thread. It encodes 10 bit, part of AV1's main profile.
- **VP9** takes whole CRFs. It encodes 8 bit, because decoders support profile 0.

A recipe may have a *tuning*: parameters of the encoder beyond its preset, such as
``psy-rd=0.4,0``, of those that :mod:`encoder.tunings` lists. Without one it is *plain*.

Presets have the same nine names for all codecs, and stand for numbers of SVT-AV1 and libvpx.
``medium`` takes 2.5 to 3 times the CPU of x264's with x265, SVT-AV1 and VP9; the steps between
presets are very different (:func:`typical_cpu_seconds`).
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from encoder.errors import BadInput
from encoder.source.colour.hdr_metadata import StaticMetadata
from encoder.tunings import check_parameters

PRESETS = (
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
    "slow",
    "slower",
    "veryslow",
)
"""Names of presets, fastest first."""

_SVT_PRESETS = (12, 11, 10, 9, 8, 6, 5, 4, 2)
# Values of libvpx' cpu-used, which its "good" deadline takes up to 5: faster ones are "realtime".
_VPX_SPEEDS = (8, 7, 6, 5, 5, 4, 2, 1, 0)
_VPX_REALTIME_PRESETS = 4


BLOCK: Mapping[str, int] = {"x264": 16, "x265": 8, "svtav1": 8, "vp9": 8}
"""Pixels to whose multiples a codec pads both sides of the picture, by codec."""

CRF_STEP = 0.5
"""Step of CRFs for encoders that take any."""


@dataclass(frozen=True, slots=True, order=True)
class Recipe:
    """A way of encoding. Equal recipes, sizes and CRFs give equal bits.

    Code passes the recipe itself; its name is text for people, documents and tables.
    """

    name: str
    """Codec and preset, as in ``x264-medium``, and the tuning, as in ``x264-slow+ref=3``."""
    codec: str
    """Codec as users name it, as in ``x264``."""
    preset: str
    """Name of the preset, one of :data:`PRESETS`."""
    encoder: str
    """ffmpeg's name of the encoder, ``libx264``."""
    options: tuple[tuple[str, str], ...]
    """Encoder options, in order, without size, CRF and keyframes."""
    pixel_format: str
    """Pixel format that the encoder is given, and that its encodes decode to."""
    crf_range: tuple[float, float]
    """Lowest (best) and highest (worst) CRF that make sense."""
    crf_step: float = CRF_STEP
    """Smallest difference between two CRFs that give different encodes."""
    tuning: str = ""
    """Encoder parameters beyond the preset, as in ``psy-rd=0.4,0:ref=3``; empty for a plain
    recipe. They are part of :attr:`options` already."""

    def __str__(self) -> str:
        return self.name

    def __hash__(self) -> int:
        # Operating points are the keys of large mappings; a name decides in practice.
        return hash(self.name)

    @property
    def bit_depth(self) -> int:
        """Bits per sample of the encodes."""
        return 10 if self.pixel_format.endswith("10le") else 8

    @property
    def plain(self) -> Recipe:
        """The recipe of the same preset without a tuning."""
        return recipe(self.codec, self.preset) if self.tuning else self

    @property
    def self_describing(self) -> Recipe:
        """The recipe, with what x264 says of itself left in its encodes."""
        options = tuple(option for option in self.options if option != _NO_DESCRIPTION)
        return replace(self, options=options)

    def arguments(self, crf: float) -> dict[str, str]:
        """Return the encoder options for ``crf``, as arguments of an ``ffmpeg-python`` output.

        Raises:
            ValueError: ``crf`` is outside the recipe's range, or between its steps.
        """
        low, high = self.crf_range
        if not low <= crf <= high:
            raise ValueError(f"CRF {crf:g} is outside {low:g} to {high:g} of {self.name}")
        if crf % self.crf_step:
            raise ValueError(f"CRF of {self.name} goes in steps of {self.crf_step:g}, got {crf:g}")
        options = {"c:v": self.encoder, **dict(self.options)}
        if self.codec == "svtav1":
            return options | {"svtav1-params": f"{options['svtav1-params']}:rc=0:crf={crf:g}"}
        if self.codec == "vp9":
            return options | {"crf": f"{crf:.0f}", "b:v": "0"}
        return options | {"crf": f"{crf:g}"}

    def carrying(self, options: dict[str, str], metadata: StaticMetadata) -> dict[str, str]:
        """Return ``options`` with the parameters that carry a title's HDR metadata.

        Raises:
            ValueError: there is metadata, and encodes of the codec cannot carry it.
        """
        more = metadata.parameters(self.codec)
        if not more:
            return options
        name = f"{self.codec}-params"
        return options | {name: f"{options[name]}:{more}"}


def _preset_number(codec: str, preset: str) -> int:
    if preset not in PRESETS:
        raise BadInput(f"{codec} has no preset {preset!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS.index(preset)


def _name(codec: str, preset: str, tuning: str) -> str:
    """Return the name of a recipe after checking its tuning."""
    check_parameters(codec, tuning)
    return f"{codec}-{preset}" + (f"+{tuning}" if tuning else "")


def _joined(parameters: str, tuning: str) -> str:
    return f"{parameters}:{tuning}" if tuning else parameters


def _tune(tuning: str) -> tuple[list[tuple[str, str]], str]:
    """Return ffmpeg's option for the tune in a tuning, which x264 and x265 take beside the preset
    and not among their parameters, and the other parameters."""
    parts = tuning.split(":") if tuning else []
    tunes = [part for part in parts if part.startswith("tune=")]
    others = ":".join(part for part in parts if part not in tunes)
    return [("tune", part.removeprefix("tune=")) for part in tunes], others


_NO_DESCRIPTION = ("bsf:v", "filter_units=remove_types=6")
# Type 6 is SEI. x264 writes no other than its description here: there is no HRD, and captions of
# the source are delivered as text.


def x264(preset: str = "medium", tuning: str = "") -> Recipe:
    """Return the x264 recipe at ``preset``: 8 bit H.264, High profile."""
    _preset_number("x264", preset)
    common = "keyint=infinite:scenecut=0:open-gop=0:stitchable=1"
    name = _name("x264", preset, tuning)
    tune, others = _tune(tuning)
    return Recipe(
        name=name,
        tuning=tuning,
        codec="x264",
        preset=preset,
        encoder="libx264",
        options=(
            ("preset", preset),
            *tune,
            ("threads", "1"),
            ("forced-idr", "1"),
            ("x264-params", _joined(common, others)),
            *([_NO_DESCRIPTION] if tuning else []),
        ),
        pixel_format="yuv420p",
        crf_range=(4.0, 51.0),
    )


_X265_COMMON = (
    "info=0:repeat-headers=0:opt-qp-pps=0:opt-ref-list-length-pps=0:hrd=0:"
    "pools=none:frame-threads=1:wpp=0:log-level=error"
)


def x265(preset: str = "medium", tuning: str = "") -> Recipe:
    """Return the x265 recipe at ``preset``: 10 bit HEVC, Main 10 profile."""
    _preset_number("x265", preset)
    common = f"keyint=-1:min-keyint=1:scenecut=0:open-gop=0:{_X265_COMMON}"
    name = _name("x265", preset, tuning)
    tune, others = _tune(tuning)
    return Recipe(
        name=name,
        tuning=tuning,
        codec="x265",
        preset=preset,
        encoder="libx265",
        options=(
            ("preset", preset),
            *tune,
            ("threads", "1"),
            ("forced-idr", "1"),
            ("tag:v", "hvc1"),
            ("x265-params", _joined(common, others)),
        ),
        pixel_format="yuv420p10le",
        crf_range=(4.0, 51.0),
    )


def svtav1(preset: str = "medium", tuning: str = "") -> Recipe:
    """Return the SVT-AV1 recipe at ``preset``: 10 bit AV1, main profile."""
    number = _SVT_PRESETS[_preset_number("svtav1", preset)]
    return Recipe(
        name=_name("svtav1", preset, tuning),
        tuning=tuning,
        codec="svtav1",
        preset=preset,
        encoder="libsvtav1",
        options=(
            ("preset", str(number)),
            ("svtav1-params", _joined("keyint=-1:scd=0:lp=1", tuning)),
        ),
        pixel_format="yuv420p10le",
        crf_range=(1.0, 63.0),
    )


def vp9(preset: str = "medium", tuning: str = "") -> Recipe:
    """Return the VP9 recipe at ``preset``: 8 bit, profile 0, alternate references on."""
    number = _preset_number("vp9", preset)
    return Recipe(
        name=_name("vp9", preset, tuning),
        tuning=tuning,
        codec="vp9",
        preset=preset,
        encoder="libvpx-vp9",
        options=(
            ("deadline", "realtime" if number < _VPX_REALTIME_PRESETS else "good"),
            ("cpu-used", str(_VPX_SPEEDS[number])),
            ("threads", "1"),
            ("row-mt", "0"),
            ("tile-columns", "0"),
            ("auto-alt-ref", "1"),
            ("lag-in-frames", "25"),
            ("g", "99999"),
        ),
        pixel_format="yuv420p",
        crf_range=(4.0, 63.0),
        crf_step=1.0,
    )


CODECS = {"x264": x264, "x265": x265, "svtav1": svtav1, "vp9": vp9}
"""Functions that return a codec's recipe at a preset, by codec."""


def recipe(codec: str, preset: str, tuning: str = "") -> Recipe:
    """Return the recipe of ``codec`` at ``preset``, with the encoder parameters of ``tuning``.

    Raises:
        BadInput: the codec or the preset is unknown, or the tuning is not one.
    """
    if codec not in CODECS:
        raise BadInput(f"no recipe for codec {codec!r}; choose one of {', '.join(CODECS)}")
    return CODECS[codec](preset, tuning)


@functools.lru_cache(maxsize=4096)  # names come from clients too
def by_name(name: str) -> Recipe:
    """Return the recipe called ``name`` in documents and tables.

    For example ``x264-medium`` or ``x264-slow+psy-rd=0.4,0:ref=3``.

    Raises:
        BadInput: no recipe has that name.
    """
    codec, _, rest = name.partition("-")
    preset, plus, tuning = rest.partition("+")
    if plus and not tuning:
        raise BadInput(f"the recipe {name!r:.120} has a plus sign and no tuning after it")
    return recipe(codec, preset, tuning)


_CODEC_TIMES = {"x264": 1.0, "x265": 2.5, "svtav1": 2.9, "vp9": 2.5}
# CPU of a codec's presets over that of its `medium`, fastest first.
_PRESET_TIMES = {
    "x264": (0.18, 0.31, 0.47, 0.77, 0.94, 1.0, 1.3, 2.6, 4.1),
    "x265": (0.27, 0.47, 0.60, 0.60, 0.78, 1.0, 2.0, 6.9, 13.0),
    "svtav1": (0.29, 0.29, 0.32, 0.42, 0.57, 1.0, 1.45, 1.7, 6.2),
    "vp9": (0.24, 0.30, 0.30, 0.40, 1.0, 1.0, 1.7, 2.1, 3.8),
}
# x264's slow presets are slow by their reference frames, which a tuning may pin.
_FEW_REFERENCES = {"slow": 1.25, "slower": 1.9, "veryslow": 2.2}


def _preset_factor(recipe: Recipe) -> float:
    """Return the CPU time of a recipe's preset over that of its codec's `medium`."""
    factor = _PRESET_TIMES[recipe.codec][PRESETS.index(recipe.preset)]
    if recipe.codec == "x264" and re.search(r"(?:^|:)ref=[1-3](?::|$)", recipe.tuning):
        factor = _FEW_REFERENCES.get(recipe.preset, factor)
    return factor


def typical_cpu_seconds(recipe: Recipe, width: int, height: int, frames: int, crf: float) -> float:
    """Estimate the CPU seconds of an encode, for planning and for ordering work.

    Measured over the grids of a natural 480p and an animated 1080p title with x264 medium, both
    cores of a machine busy: 77 and 34 ns a pixel at CRF 26, and 4 % more for each lower CRF. The
    estimate is 45 ns, times what a codec and its presets take over x264 medium: codecs over whole
    grids, presets on 24 frames of a natural title (docs/codecs.md).
    """
    factor = _preset_factor(recipe)
    factor *= _CODEC_TIMES[recipe.codec] * math.pow(1.04, 26 - crf)
    return 45e-9 * width * height * frames * factor


_BITS_POWER = 0.2
_NANOSECONDS = {"x264": 56.0, "x265": 185.0, "svtav1": 200.0, "vp9": 205.0}
# Of a codec's `medium`, for each pixel, at one bit per pixel.
_LEAST_BITS_PER_PIXEL = 1e-4


def expected_cpu_seconds(
    recipe: Recipe, width: int, height: int, frames: int, bits: float
) -> float:
    """Estimate the CPU seconds of an encode whose bits are known or predicted.

    What takes bits takes time: the time of a pixel goes with the fifth root of its bits. Fitted to
    4,000 encodes of the training tables, without the titles that plans are judged on: for single
    encodes the logarithm of the error has a standard deviation of 0.28 to 0.36 for each recipe,
    that of :func:`typical_cpu_seconds` 0.52 to 0.80.
    """
    pixels = width * height * frames
    density = math.pow(max(_LEAST_BITS_PER_PIXEL, bits / pixels), _BITS_POWER)
    return 1e-9 * _NANOSECONDS[recipe.codec] * _preset_factor(recipe) * density * pixels
