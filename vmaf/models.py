"""Quality models that the bundled libvmaf carries, by the names that we print.

Scores by different models never stand in one column, so a model is always named in full. All of
them know standard dynamic range only. High dynamic range titles are scored as they look on a
display of standard range (:mod:`encoder.source.tonemap`), and the model's name then says so:
``vmaf_v1.0.16_3d0h+mobius1000``.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from encoder.errors import BadInput
from encoder.source import tonemap

if TYPE_CHECKING:  # whoever only names models needs no media libraries
    from encoder.source.reference import ReferenceSource

V1 = "vmaf_v1.0.16_3d0h"
V1_HIGH_FRAME_RATE = "vmaf_v1.0.16_hfr_3d0h"
V1_2160 = "vmaf_v1.0.16_3d0h_2160"
V1_2160_NEAR = "vmaf_v1.0.16_1d5h_2160"
V1_PHONE = "vmaf_v1.0.16_5d0h"
V0 = "vmaf_v0.6.1"
V0_NEG = "vmaf_v0.6.1neg"

PUBLISHED = (V0, V0_NEG)
"""Models of published numbers, measured beside the quality model where claims are made."""

KNOWN = (
    V1,
    V1_HIGH_FRAME_RATE,
    V1_2160,
    V1_2160_NEAR,
    V1_PHONE,
    "vmaf_v1.0.16_hfr_3d0h_2160",
    "vmaf_v1.0.16_hfr_1d5h_2160",
    "vmaf_v1.0.16_hfr_5d0h",
    V0,
    V0_NEG,
    "vmaf_4k_v0.6.1",
    "vmaf_4k_v0.6.1neg",
)

MAPPED = f"+{tonemap.NAME}"
"""Ends the name of a model that was shown pictures of high dynamic range, mapped."""

HIGH_FRAME_RATE = 48
"""From this frame rate VMAF v1 has variants of its own."""


def default_model(height: int, frame_rate: Fraction, *, hdr: bool = False) -> str:
    """The quality model for a title: VMAF v1 at three picture heights, its ``hfr`` variant from
    48 fps, and the 2160p viewing condition (1.5 heights) above 1440 lines.
    """
    if height > 1440:
        model = "vmaf_v1.0.16_hfr_1d5h_2160" if frame_rate >= HIGH_FRAME_RATE else V1_2160_NEAR
    else:
        model = V1_HIGH_FRAME_RATE if frame_rate >= HIGH_FRAME_RATE else V1
    return for_title(model, hdr=hdr)


def title_model(source: ReferenceSource) -> str:
    """The quality model for a planned source."""
    return default_model(
        min(source.width, source.height), source.frame_rate, hdr=source.hdr is not None
    )


def for_title(name: str, *, hdr: bool) -> str:
    """``name`` as it is called on titles of this kind of range."""
    plain = name.removesuffix(MAPPED)
    return f"{plain}{MAPPED}" if hdr else plain


def check(name: str) -> str:
    """``name`` if it is a model we know.

    Raises:
        BadInput: it is not.
    """
    if name not in KNOWN:
        raise BadInput(f"unknown quality model {name!r}; choose one of {', '.join(KNOWN)}")
    return name


def akin(name: str) -> tuple[str, ...]:
    """Models whose scores are most like those of ``name``, the nearest first: the same on
    standard range, at usual frame rates, at the usual distance.

    For predictions that measurements correct: no score of one may ever stand for another's.
    """
    plain = name.removesuffix(MAPPED)
    usual = plain.replace("_hfr", "")
    first = V1 if looks_at_encoder(plain) else V0
    return tuple(dict.fromkeys(one for one in (plain, usual, first, V1) if one != name))


def looks_at_encoder(name: str) -> bool:
    """Whether the model has a banding feature (CAMBI) that wants the encode's own geometry."""
    return name.startswith("vmaf_v1")


def typical_cpu_seconds(name: str, width: int, height: int, frames: int) -> float:
    """A rough guess of the CPU time of a score, for planning and for ordering work.

    Measured over whole grids with both cores of a machine busy: v1 18 ms a 480p frame and 51 ms a
    1080p frame, decoding and upscaling the encode included; v0.6.1 a third more.
    """
    seconds = 8e-3 + 20e-9 * width * height
    return frames * seconds * (1.0 if looks_at_encoder(name) else 1.3)
