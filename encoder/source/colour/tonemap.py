"""Tone mapping: high dynamic range as a standard display shows it, by one fixed mapping.

Quality models, detectors and stills expect pictures of standard range, and PQ or HLG codes mean
nothing to them. All of them therefore see tone-mapped pictures, and scores carry the name of the
mapping (:data:`NAME`):

1. linear light (ITU-R BT.2100; HLG as on a display with a peak of 1,000 cd/m2, with its system
   gamma of 1.2 on each of R, G and B, as zimg does it) in units of the reference white of 203 cd/m2
   (ITU-R BT.2408), which becomes 1;
2. BT.709 primaries, by the matrix in linear light;
3. ffmpeg's ``tonemap=mobius``: the largest of R, G and B stays as it is up to 0.3 and then bends
   towards 1 at 1,000 cd/m2; the other two keep their proportion to it, so that hues stay. Brighter
   light lands above white, where it still counts;
4. BT.1886 (gamma 2.4) codes, BT.709 matrix, limited range.

The mapping depends neither on the picture nor on its metadata, so scores of different titles can be
compared. :func:`tone_mapped` is the mapping as filters, :func:`tone_map_small` the same mapping in
numpy for the small frames of the analysis pass.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final, Literal

import numpy as np

from encoder.arrays import AnyArray, Float32, UInt8

Transfer = Literal["pq", "hlg"]
"""Transfers of high dynamic range."""

NAME: Final = "mobius1000"
"""Name of the mapping; change it when any of its pixels changes."""
FILTERS: Final = ("zscale", "tonemap")
"""Filters that ffmpeg needs for the mapping."""

PEAK_NITS: Final = 1000.0
"""Luminance that is mapped to 1, cd/m2."""
WHITE_NITS: Final = 203.0
"""Luminance of the reference white, cd/m2."""
_PEAK = PEAK_NITS / WHITE_NITS
_KNEE = 0.3
_STEPS = 4096

CICP: Final[dict[Transfer, tuple[int, int, int]]] = {"pq": (9, 16, 9), "hlg": (9, 18, 9)}
"""Code points of ITU-T H.273: primaries, transfer, matrix. No others are accepted."""
TAGS: Final[dict[Transfer, str]] = {"pq": "smpte2084", "hlg": "arib-std-b67"}
"""ffmpeg's name of the transfer."""


def tone_mapped(node: Any, transfer: Transfer | None) -> Any:
    """Tone-map an ``ffmpeg-python`` node (limited range, 4:2:0); without a transfer, return it."""
    for name, arguments in filters(transfer) if transfer else ():
        node = node.filter(name, **arguments)
    return node


def filters(transfer: Transfer) -> list[tuple[str, dict[str, Any]]]:
    """Return the filters that tone-map pictures in limited range and 4:2:0, in order."""
    return [
        ("format", {"pix_fmts": "yuv420p10le"}),
        ("setparams", tags(transfer)),
        ("zscale", {"transfer": "linear", "npl": f"{WHITE_NITS:g}", "cin": "left"}),
        ("format", {"pix_fmts": "gbrpf32le"}),
        ("zscale", {"primaries": "bt709"}),
        (
            "tonemap",
            {"tonemap": "mobius", "param": _KNEE, "desat": 0, "peak": f"{_PEAK:.6f}"},
        ),
        ("zscale", {"transfer": "bt709", "matrix": "bt709", "range": "limited", "c": "left"}),
        ("format", {"pix_fmts": "yuv420p10le"}),
    ]


def tags(transfer: Transfer) -> dict[str, str]:
    """Return the arguments of ``setparams`` for the only colours accepted with ``transfer``."""
    return {
        "range": "limited",
        "color_primaries": "bt2020",
        "color_trc": TAGS[transfer],
        "colorspace": "bt2020nc",
    }


def tone_map_small(yuv: AnyArray, transfer: Transfer) -> UInt8:
    """Tone-map a picture without chroma subsampling.

    ``yuv`` is (height, width, 3) BT.2020 codes of 16 bit, PyAV's ``yuv444p16le``; the result is
    (3, height, width) BT.709 codes of 8 bit. Both have limited range.
    """
    levels = np.moveaxis(yuv, -1, 0).astype(np.float32) / 256
    luma = (levels[0] - 16) / 219
    blue, red = (levels[1] - 128) / 224, (levels[2] - 128) / 224
    coded = np.stack(
        [
            luma + np.float32(1.4746) * red,
            luma - np.float32(0.16455) * blue - np.float32(0.57135) * red,
            luma + np.float32(1.8814) * blue,
        ]
    )
    linear = np.tensordot(_TO_BT709, _linear(coded, transfer), axes=1)
    largest = np.maximum(linear.max(axis=0), np.float32(1e-6))
    light = np.clip(linear * (_mobius(largest) / largest), 0, None) ** np.float32(1 / 2.4)
    mapped = np.tensordot(_RGB_TO_YUV, light, axes=1)
    mapped[0] += 16
    mapped[1:] += 128
    return np.clip(np.rint(mapped), 0, 255).astype(np.uint8)


_TO_BT709: Final[Float32] = np.array(
    [
        [1.660491, -0.587641, -0.072850],
        [-0.124550, 1.132900, -0.008349],
        [-0.018151, -0.100579, 1.118730],
    ],
    np.float32,
)
"""Linear light from BT.2020 to BT.709 primaries (ITU-R BT.2087)."""

_RGB_TO_YUV: Final[Float32] = np.array(
    [
        [219 * 0.2126, 219 * 0.7152, 219 * 0.0722],
        [-112 * 0.2126 / 0.9278, -112 * 0.7152 / 0.9278, 112],
        [112, -112 * 0.7152 / 0.7874, -112 * 0.0722 / 0.7874],
    ],
    np.float32,
)
"""BT.709 R'G'B' of 0 to 1 to 8-bit codes without their offsets."""


def _linear(coded: Float32, transfer: Transfer) -> Float32:
    """Return the light of the display, 1 at the reference white."""
    table = _light(transfer)
    places = np.clip(np.rint(coded * _STEPS), 0, len(table) - 1).astype(np.int32)
    light: Float32 = table[places]
    return light


@cache
def _light(transfer: Transfer) -> Float32:
    """Return the light for codes from 0 in steps of 1 / :data:`_STEPS`.

    Saturated colours have codes above 1.
    """
    code = np.arange(3 * _STEPS // 2) / _STEPS
    if transfer == "pq":
        power = code ** (32 / 2523)
        ratio = np.maximum(power - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * power)
        return np.asarray(10_000 / WHITE_NITS * ratio ** (8192 / 1305), np.float32)
    low = code**2 / 3
    high = (np.exp((code - 0.55991073) / 0.17883277) + 0.28466892) / 12
    return np.asarray(_PEAK * np.where(code <= 0.5, low, high) ** 1.2, np.float32)


def _mobius(light: Float32) -> Float32:
    """Apply ffmpeg's ``mobius``: identity up to the knee, 1 at the peak, smooth between."""
    knee, peak = _KNEE, _PEAK
    a = -(knee**2) * (peak - 1) / (knee**2 - 2 * knee + peak)
    b = (knee**2 - 2 * knee * peak + peak) / (peak - 1)
    scale = (b**2 + 2 * b * knee + knee**2) / (b - a)
    bent = np.float32(scale) * (light + np.float32(a)) / (light + np.float32(b))
    kept: Float32 = np.where(light <= knee, light, bent)
    return kept
