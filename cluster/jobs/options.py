"""The options that ``shotladder run`` and a job of the service have in common, each declared once.

:class:`CommonOptions` has their names, their defaults and what they mean. The command line, Python
and the HTTP interface take them from here, each in its own form: a profile, for example, is a name
or the path of a file for ``run``, and a name or a content for a job. All of them are values.
:data:`NOT_OF_JOBS` are the other options of ``run``, which no job takes.

A new option that decides a package's bytes is a field here, one of
:class:`cluster.cli.options.LadderFlags` and one of :class:`cluster.service.options.JobOptions`;
manifests, ``run.json`` and repeated runs then have it. This module loads nothing heavy, because
every command imports it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from encoder.source.choices import DEFAULT_CHOICES, Tail, help_of
from ladder.choices import Policy

SEARCHES = ("predict", "sparse", "exhaustive")
"""Searches that ``--search`` takes."""

RECIPE_CHECKS = ("auto", "always", "never")
"""Values of ``--recipe-check``; ``auto`` checks titles that no evidence covers."""

_PATHS = "a path on the service's machine"
NOT_OF_JOBS: Mapping[str, str] = {
    "out": "the service keeps the packages of all jobs in its own folder",
    "store": "the service keeps one store per source in its own folder",
    "weights": f"it is {_PATHS}; its operator gives it to `serve`",
    "workers": "the service's operator says how many `serve` starts",
    "scheduler": "the service's operator gives its address to `serve`",
    "tls_ca": "the service's operator gives the cluster's certificates to `serve`",
    "tls_cert": "the service's operator gives the cluster's certificates to `serve`",
    "tls_key": "the service's operator gives the cluster's certificates to `serve`",
    "metrics_port": "the service has `/metrics`",
    "from": "`force`, beside `options`, makes a package anew",
    "json": "the service answers with JSON",
    "source": "`source` stands beside `options`",
    "priority": "`priority` stands beside `options`",
    "plan": "`kind`, beside `options`, is `plan` or `run`",
}
"""Options of ``run`` that no job takes, and why: they are the operator's or the submission's."""


def _declared(default: Any, meaning: str) -> Any:
    return field(default=default, metadata={"help": meaning})


def _choice(name: str) -> Any:
    """Declare a choice about the source, which :mod:`encoder.source.choices` describes."""
    return _declared(getattr(DEFAULT_CHOICES, name), help_of(name))


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonOptions:
    """The values that decide a package's bytes, for runs and for jobs."""

    search: str = _declared(
        "predict",
        "Search for operating points. `predict` encodes the ladder that the complexity model "
        "predicts, and corrects the prediction by what it measures; `exhaustive` measures every "
        "size and CRF of the grid; `sparse` measures every third CRF. [default: predict]",
    )
    # Several of encoder.recipes.CODECS, separated by commas. None is the profile's.
    codec: str | None = _declared(
        None,
        "Video codec instead of the profile's: `x264`, `x265`, `svtav1` or `vp9`. Several, such "
        "as `x264,svtav1`, go into one package; every player must be able to play the first.",
    )
    preset: str | None = _declared(
        None,
        "Encoder preset instead of the profile's, `ultrafast` (fastest) to `veryslow` (smallest). "
        "The profile's other encoder settings stay.",
    )
    profile: Any = field(
        default="default",
        metadata={"help": "Ladder profile: rung spacing, rate and quality limits, sizes and CRFs."},
    )
    heights: tuple[int, ...] | None = _declared(
        None,
        "Candidate heights instead of the profile's, for example `234,360,720`. The source's own "
        "height is always a candidate. The heights are kept as they are; where the profile fits "
        "sizes to whole blocks, only widths move.",
    )
    policy: Policy = field(
        default="locked",
        metadata={
            "help": "Policy for sizes. `locked`: all shots of a rung have one size and differ in "
            "CRF."
        },
    )
    also: tuple[str, ...] = _declared(
        (),
        "Additional quality model to score with, for example `vmaf_v0.6.1neg`, or a judge, "
        "`xpsnr` or `ssim`. May be repeated.",
    )
    tone_map: bool = _declared(False, "Make an SDR ladder of an HDR source (PQ or HLG).")
    tail: Tail = field(default=DEFAULT_CHOICES.tail, metadata={"help": help_of("tail")})
    program: int | None = _choice("program")
    accept_truncated: bool = _choice("accept_truncated")
    audio_layout: str | None = _choice("audio_layout")
    recipe_check: str = _declared(
        "auto",
        "When encoder settings beyond a preset are compared on three shots of the title with the "
        "preset alone, by VMAF, XPSNR and SSIM, and further codecs with the first. `auto`: unless "
        "the evidence that comes with the weights covers the title; `always`; `never`. Settings "
        "that lose more than 2 % are not used; codecs of the profile that save nothing are left "
        "out.",
    )
    # See vmaf.sampled. None is the profile's.
    measure_every: int | None = _declared(
        None,
        "Score every Nth frame only, an odd number: a score takes less CPU time and is a little "
        "off. Such scores have names of their own (`+every5`) and are not trained on. "
        "[default: the profile's, 1 unless it says otherwise]",
    )


DEFAULTS = CommonOptions()
"""Options of a user who named none."""
COMMON_NAMES = tuple(declared.name for declared in fields(CommonOptions))
"""Names of the options that runs and jobs have in common."""


def meaning_of(option: str) -> str:
    """Return what an option that runs and jobs have in common means to a user."""
    (text,) = (each.metadata["help"] for each in fields(CommonOptions) if each.name == option)
    return str(text)
