"""Quality models by the names that documents and output use: VMAF's models, and the judges.

Scores of different models are not comparable, so every score carries its model's full name. VMAF's
scores lie between 0 and 100, those of the judges (:mod:`vmaf.judges`) between 0 and 60 dB. All
models are made for SDR. HDR titles are tone-mapped before they are scored
(:mod:`encoder.source.colour.tonemap`), and the model's name then says so:
``vmaf_v1.0.16_3d0h+mobius1000``. So does the name of a model of which only every third frame has
a score: ``vmaf_v1.0.16_3d0h+every3`` (:mod:`vmaf.sampled`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from encoder.errors import BadInput
from encoder.source.colour import tonemap
from vmaf.sampled import sampled_name, step_of, without_step

if TYPE_CHECKING:  # naming a model needs no media libraries
    from encoder.source.reference import ReferenceSource

V1 = "vmaf_v1.0.16_3d0h"
V1_HIGH_FRAME_RATE = "vmaf_v1.0.16_hfr_3d0h"
V1_2160 = "vmaf_v1.0.16_3d0h_2160"
V1_2160_NEAR = "vmaf_v1.0.16_1d5h_2160"
V1_PHONE = "vmaf_v1.0.16_5d0h"
V0 = "vmaf_v0.6.1"
V0_NEG = "vmaf_v0.6.1neg"

PUBLISHED = (V0, V0_NEG)
"""Models that published results use."""

JUDGES = ("xpsnr", "ssim")
"""Models that are not VMAF's and stand beside it in comparisons; see :mod:`vmaf.judges`. A ladder
is never solved for them."""

VMAF = (
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
"""VMAF models of the bundled libvmaf."""

KNOWN = (*VMAF, *JUDGES)
"""All quality models."""

TONE_MAPPED = f"+{tonemap.NAME}"
"""Suffix of a model's name where it scored tone-mapped HDR pictures."""

HIGH_FRAME_RATE = 48
"""Frame rate from which VMAF v1's ``hfr`` variants apply."""


def default_model(height: int, frame_rate: Fraction, *, hdr: bool = False) -> str:
    """Return the quality model for a title of this size and frame rate.

    It is VMAF v1 for a viewing distance of three picture heights, its ``hfr`` variant from 48 fps,
    and its 2160p variant (1.5 picture heights) above 1440 lines.
    """
    if height > 1440:
        model = "vmaf_v1.0.16_hfr_1d5h_2160" if frame_rate >= HIGH_FRAME_RATE else V1_2160_NEAR
    else:
        model = V1_HIGH_FRAME_RATE if frame_rate >= HIGH_FRAME_RATE else V1
    return name_for(model, hdr=hdr)


def title_model(source: ReferenceSource) -> str:
    """Return the quality model for a planned source."""
    return default_model(
        min(source.width, source.height), source.frame_rate, hdr=source.hdr is not None
    )


def name_for(name: str, *, hdr: bool) -> str:
    """Return the name of a model on HDR or SDR titles, with or without the tone-map suffix."""
    whole = without_step(name)
    mapped = f"{plain_name(name)}{TONE_MAPPED}" if hdr else plain_name(name)
    return mapped + name.removeprefix(whole)


def beside(own: str, name: str) -> str:
    """Return the name of a further model where it scores the same pictures as the model ``own``.

    Judges score every frame, whatever the model does.
    """
    named = name_for(name, hdr=without_step(own).endswith(TONE_MAPPED))
    return named if is_judge(named) else sampled_name(named, step_of(own))


def plain_name(name: str) -> str:
    """Return the name of a model as libvmaf knows it, without what is said of the pictures."""
    return without_step(name).removesuffix(TONE_MAPPED)


def check(name: str) -> str:
    """Return ``name`` if it is a model of the bundled libvmaf or a judge.

    Raises:
        BadInput: there is no such model.
    """
    if name not in KNOWN:
        raise BadInput(f"unknown quality model {name!r}; choose one of {', '.join(KNOWN)}")
    return name


def is_judge(name: str) -> bool:
    """Tell whether the name, with or without the tone-map suffix, is that of a judge."""
    return plain_name(name) in JUDGES


def by_step(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the models that one call can score: of VMAF's, those that score the same frames.

    Judges, which score every frame, go with the first.
    """
    judges = tuple(name for name in names if is_judge(name))
    quality = [name for name in names if name not in judges]
    steps = dict.fromkeys(map(step_of, quality)) or {1: None}
    for step in steps:
        own = tuple(name for name in quality if step_of(name) == step)
        if own or judges:
            yield own + judges
        judges = ()


def unit(name: str) -> str:
    """Return the unit of a model's scores as text after a number: nothing for VMAF, or `` dB``."""
    return " dB" if is_judge(name) else ""


def similar_models(name: str) -> tuple[str, ...]:
    """Return the models whose scores are most like those of ``name``, the most similar first.

    They are the same model for every frame, then for SDR, then for usual frame rates, then for the
    usual viewing distance. Use them only for predictions that measurements correct, never in place
    of a score.
    Nothing is like a judge.
    """
    if is_judge(name):
        return ()
    sdr = plain_name(name)
    usual_rate = sdr.replace("_hfr", "")
    usual_distance = V1 if has_banding_feature(sdr) else V0
    models = (without_step(name), sdr, usual_rate, usual_distance, V1)
    return tuple(dict.fromkeys(model for model in models if model != name))


def has_banding_feature(name: str) -> bool:
    """Tell whether the model has a banding feature (CAMBI), which needs the encode's own size."""
    return name.startswith("vmaf_v1")


EVERY_FRAME_SHARE = 0.4
"""Share of a score's CPU time that is spent on every frame even if only some have a score:
decoding, scaling and the motion feature."""
_COSTS = {V0: 1.3, "xpsnr": 0.5, "ssim": 0.3}


def typical_cpu_seconds(name: str, width: int, height: int, frames: int) -> float:
    """Estimate the CPU time of a score, for planning and for ordering work.

    Measured over whole grids with both cores of a machine busy: v1 takes 18 ms per 480p frame and
    51 ms per 1080p frame, decoding and upscaling the encode included; v0.6.1 takes a third more.
    Measured on two encodes of 48 frames at 480p, 720p and 1080p: XPSNR alone takes half of v1's
    time, SSIM alone a third, both 0.6. Beside v1, which decodes and upscales, both add 0.4.
    """
    seconds = 8e-3 + 20e-9 * width * height
    plain, step = plain_name(name), step_of(name)
    share = EVERY_FRAME_SHARE + (1 - EVERY_FRAME_SHARE) / step
    cost = 1.0 if has_banding_feature(plain) else _COSTS.get(plain, _COSTS[V0])
    return frames * seconds * cost * share
