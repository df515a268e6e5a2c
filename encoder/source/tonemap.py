"""High dynamic range as a standard display shows it: one stated mapping for everything that looks.

Quality models, detectors and stills know pictures of standard range. PQ or HLG codes given to them
would be numbers without a meaning, so they are given this, and scores carry its name
(:data:`NAME`):

1. linear light (ITU-R BT.2100; HLG as on a display with a peak of 1,000 cd/m2, its system gamma of
   1.2 on each of R, G and B, as zimg has it) in units of the reference white of 203 cd/m2 (ITU-R
   BT.2408), which becomes 1;
2. BT.709 primaries, by the matrix in linear light;
3. ffmpeg's ``tonemap=mobius``: the largest of R, G and B is left as it is up to 0.3 and then bent
   towards 1 for 1,000 cd/m2, the other two go with it, so that hues stay. What is brighter lands
   above white, where it still counts;
4. BT.1886 (gamma 2.4) codes, BT.709 matrix, limited range.

Nothing in it depends on the picture or on its metadata: what is compared is mapped alike, titles
alike as well. :func:`seen` is the mapping as filters, :func:`small_seen` the same in numpy for the
small frames of the analysis pass.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final, Literal

import numpy as np

from encoder.arrays import AnyArray, Float32, UInt8

Transfer = Literal["pq", "hlg"]

NAME: Final = "mobius1000"
"""Of the mapping; raise or change it when any pixel of it changes."""
FILTERS: Final = ("zscale", "tonemap")
"""That ffmpeg has to have for it."""

PEAK_NITS: Final = 1000.0
WHITE_NITS: Final = 203.0
_PEAK = PEAK_NITS / WHITE_NITS
_KNEE = 0.3
_STEPS = 4096

CICP: Final[dict[Transfer, tuple[int, int, int]]] = {"pq": (9, 16, 9), "hlg": (9, 18, 9)}
"""Code points of ITU-T H.273: primaries, transfer, matrix. Nothing else is taken."""
TAGS: Final[dict[Transfer, str]] = {"pq": "smpte2084", "hlg": "arib-std-b67"}
"""Of the transfer, as ffmpeg names it."""


def seen(node: Any, transfer: Transfer | None) -> Any:
    """``node`` (limited range, 4:2:0) of ``ffmpeg-python`` as :data:`NAME` maps it; one of standard
    range as it is."""
    for name, arguments in filters(transfer) if transfer else ():
        node = node.filter(name, **arguments)
    return node


def filters(transfer: Transfer) -> list[tuple[str, dict[str, Any]]]:
    """The mapping of pictures in limited range and 4:2:0, in order."""
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
    """Arguments of ``setparams`` for the only colours that are taken with ``transfer``."""
    return {
        "range": "limited",
        "color_primaries": "bt2020",
        "color_trc": TAGS[transfer],
        "colorspace": "bt2020nc",
    }


def small_seen(yuv: AnyArray, transfer: Transfer) -> UInt8:
    """The mapping of a picture without chroma subsampling.

    Args:
        yuv: (height, width, 3) BT.2020 codes, limited range, of 16 bit: ``yuv444p16le`` as PyAV
            gives it.
        transfer: what they are codes of.

    Returns:
        (3, height, width) BT.709 codes, limited range, of 8 bit.
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
"""Linear light, BT.2020 primaries to those of BT.709 (ITU-R BT.2087)."""

_RGB_TO_YUV: Final[Float32] = np.array(
    [
        [219 * 0.2126, 219 * 0.7152, 219 * 0.0722],
        [-112 * 0.2126 / 0.9278, -112 * 0.7152 / 0.9278, 112],
        [112, -112 * 0.7152 / 0.7874, -112 * 0.0722 / 0.7874],
    ],
    np.float32,
)
"""BT.709, R'G'B' of 0 to 1 to codes of 8 bit without their offsets."""


def _linear(coded: Float32, transfer: Transfer) -> Float32:
    """Light of the display, 1 at the reference white."""
    table = _light(transfer)
    places = np.clip(np.rint(coded * _STEPS), 0, len(table) - 1).astype(np.int32)
    light: Float32 = table[places]
    return light


@cache
def _light(transfer: Transfer) -> Float32:
    """By code from 0 in :data:`_STEPS`; saturated colours have codes above 1."""
    code = np.arange(3 * _STEPS // 2) / _STEPS
    if transfer == "pq":
        power = code ** (32 / 2523)
        ratio = np.maximum(power - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * power)
        return np.asarray(10_000 / WHITE_NITS * ratio ** (8192 / 1305), np.float32)
    low = code**2 / 3
    high = (np.exp((code - 0.55991073) / 0.17883277) + 0.28466892) / 12
    return np.asarray(_PEAK * np.where(code <= 0.5, low, high) ** 1.2, np.float32)


def _mobius(light: Float32) -> Float32:
    """ffmpeg's ``mobius``: itself up to the knee, 1 at the peak, smooth between."""
    knee, peak = _KNEE, _PEAK
    a = -(knee**2) * (peak - 1) / (knee**2 - 2 * knee + peak)
    b = (knee**2 - 2 * knee * peak + peak) / (peak - 1)
    scale = (b**2 + 2 * b * knee + knee**2) / (b - a)
    bent = np.float32(scale) * (light + np.float32(a)) / (light + np.float32(b))
    kept: Float32 = np.where(light <= knee, light, bent)
    return kept
