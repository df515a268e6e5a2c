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
from pathlib import Path
from typing import Any

from encoder.source.choices import DEFAULT_CHOICES, Tail, help_of
from ladder.choices import Policy

SEARCHES = ("predict", "sparse", "exhaustive")
"""Searches that ``--search`` takes."""

RECIPE_CHECKS = ("auto", "always", "never")
"""Values of ``--recipe-check``; ``auto`` checks titles that no evidence covers."""

_OPERATOR = "its operator gives it to `serve`"
_PATHS = "a path on the service's machine"
NOT_OF_JOBS: Mapping[str, str] = {
    "out": "the service keeps the packages of all jobs in its own folder",
    "store": "the service keeps one store per source in its own folder",
    "weights": f"it is {_PATHS}; {_OPERATOR}",
    "embedding": f"it is code on the service's machine; {_OPERATOR}",
    "nudity": f"it needs an extra that is installed on the service's machine; {_OPERATOR}",
    "workers": "the service's operator says how many `serve` starts",
    "scheduler": "the service's operator gives its address to `serve`",
    "tls_ca": "the service's operator gives the cluster's certificates to `serve`",
    "tls_cert": "the service's operator gives the cluster's certificates to `serve`",
    "tls_key": "the service's operator gives the cluster's certificates to `serve`",
    "metrics_port": "the service has `/metrics`",
    "from": "`force`, beside `options`, makes a package anew",
    "options": "`options` of the submission is what such a file says",
    "json": "the service answers with JSON",
    "verbose": "the service has every event of a job",
    "source": "`source` stands beside `options`",
    "priority": "`priority` stands beside `options`",
    "cpu_price": "an estimate has CPU hours, and whoever reads it knows the price",
    "plan": "`kind`, beside `options`, is `plan` or `run`",
}
"""Options of ``run`` that no job takes, and why: they are the operator's or the submission's."""


def _declared(default: Any, meaning: str) -> Any:
    return field(default=default, metadata={"help": meaning})


def _choice(name: str) -> Any:
    """Declare a choice about the source, which :mod:`encoder.source.choices` describes."""
    return _declared(getattr(DEFAULT_CHOICES, name), help_of(name))


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderLimits:
    """Where rungs lie and what they keep, for runs, for jobs and for ``what-if``.

    Each option changes the key of the profile that has its name (:mod:`ladder.adjustments`); None,
    or nothing listed, leaves the profile as it is.
    """

    rates: tuple[float, ...] = _declared(
        (),
        "Rates of the rungs, such as `400k,1.2M,3M`. They end where quality saturates or a limit "
        "lies.",
    )
    qualities: tuple[float, ...] = _declared(
        (), "Qualities (VMAF) of the rungs instead of their rates, such as `60,75,85,93`."
    )
    rung_heights: tuple[int, ...] = _declared(
        (),
        "Heights of the rungs, one rung for each, such as `360,720,1080`: at the rates or "
        "qualities of the same number, or else at the rate up to which the height looks best.",
    )
    max_rate: float | None = _declared(
        None, "Highest average rate of any rung, such as `4M` or `800k`; 0 removes the limit."
    )
    min_quality: float | None = _declared(None, "Lowest mean quality (VMAF) of any rung.")
    max_quality: float | None = _declared(
        None, "Highest mean quality (VMAF) that a rung is planned for."
    )
    floor: float | None = _declared(
        None, "Lowest quality of any shot in any rung; 0 removes the limit."
    )
    peak_ratio: float | None = _declared(
        None, "Highest ratio of peak to average rate of a rung; 0 removes the limit."
    )
    vbv_seconds: float | None = _declared(
        None, "Size of the decoder buffer in seconds at the peak rate; 0 removes the limit."
    )
    jnd: float | None = _declared(None, "Largest difference in quality between neighbouring rungs.")
    rung_count: tuple[int, int] | None = _declared(
        None, "Number of rungs, or the fewest and the most, such as `6` or `4-8`."
    )
    least_ratio: float | None = _declared(
        None, "Smallest ratio of the rates of neighbouring rungs, such as `1.5`."
    )
    merge_within: tuple[float, ...] | None = _declared(
        None,
        "Merge two rungs that are nearer than a ratio of rates and points of quality, such as "
        "`1.25,2`; `off` merges none.",
    )
    size_limits: tuple[tuple[float, int], ...] = _declared(
        (),
        "Largest size by rate, such as `800k=360,2M=720`: rungs planned for at most 800 kbit/s "
        "have at most 360 lines.",
    )
    native_top: bool = _declared(False, "Give the highest rung the size of the source.")
    segments: str | None = _declared(
        None,
        "Where segments begin: `shots`, or a fixed grid, `2s` for the frames nearest every 2 "
        "seconds or `48f` for every 48 frames.",
    )
    longest_segment: float | None = _declared(
        None, "Longest segment in seconds where segments are shots. [default: 6]"
    )
    # Median throughputs, or pairs of the upper end of a bin in bit/s and its share of the viewers.
    # From Python also the path of a CSV file with such rows.
    viewers: Any = field(
        default=None,
        metadata={
            "help": "Viewers to place rungs for: median throughputs of populations of equal size, "
            "such as `1M,3M,10M`."
        },
    )
    device_lines: tuple[tuple[int, float], ...] | None = _declared(
        None,
        "Devices that play at most so many lines, and the share of viewers who have one, such as "
        "`720=0.3`.",
    )
    tolerance: float | None = _declared(
        None, "Points of quality that a viewer may lose against the reference ladder."
    )
    placement: str | None = _declared(
        None,
        "How rungs are placed. `fewest-bits`: fewest bits received at no viewer's loss; "
        "`most-quality`: most quality for the bits of the reference ladder; `spacing`: by "
        "differences in quality.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonOptions(LadderLimits):
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
    encoder_params: tuple[str, ...] = _declared(
        (),
        "Encoder parameters beyond the profile's, such as `ref=4:bframes=5` or `tune=film`; in a "
        "ladder of several codecs with the codec before them, `x265:rd=4`. May be repeated. "
        "Parameters that would break stitching or make the result depend on the machine are "
        "refused.",
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
    start: float | None = _declared(
        None,
        "Make only a part of the source, from this time on, such as `90`, `2m` or `1:02:03`, for a "
        "quick look. It begins at a keyframe, and the package says that it is a part.",
    )
    duration: float | None = _declared(
        None, "Length of the part, such as `90`, `2m` or `1:30`. It ends at a keyframe."
    )
    sample: float | None = _declared(
        None,
        "Make only a part of this length, such as `2m`: that whose rate in the source is nearest "
        "the whole title's.",
    )
    audio_codec: str | None = _declared(
        None,
        "Codec of the sound: `aac`, `opus`, `ac3` or `eac3`. Browsers play the first two; many "
        "devices do not play the others. [default: the profile's, aac unless it says otherwise]",
    )
    audio_rates: tuple[float, ...] = _declared(
        (),
        "Bitrates of stereo and of 5.1, such as `192k` or `192k,448k`. [default: the profile's, or "
        "else 128k,320k for aac, 96k,256k for opus, 192k,448k for ac3, 192k,384k for eac3]",
    )
    audio_languages: tuple[str, ...] = _declared(
        (),
        "Languages of the sound that are kept, such as `en,fr`; the first plays by default. `und` "
        "is sound that states none. [default: all]",
    )
    loudness: float | None = _declared(
        None,
        "Integrated loudness in LUFS to which each sound is brought, such as -23 (EBU R128), and "
        "at which it is measured: by one gain, or, where peaks leave no room, by a gain that "
        "changes, which is said. 0 leaves sound as it is. [default: the profile's, 0 unless it "
        "says otherwise]",
    )
    recipe_check: str = _declared(
        "auto",
        "When encoder settings beyond a preset are compared on three shots of the title with the "
        "preset alone, by VMAF, XPSNR and SSIM, and further codecs with the first. `auto`: unless "
        "the evidence that comes with the weights covers the title; `always`; `never`. Settings "
        "that lose more than 2 % are not used; codecs of the profile that save nothing are left "
        "out.",
    )
    # Time in seconds, duration of the break in seconds (0 for none) and id of each cue. From the
    # command line also the path of a CSV file with such rows.
    split_at: Any = field(
        default=(),
        metadata={
            "help": "Times in seconds at which a segment begins in any case, with cue tags for ad "
            "insertion in the playlists: each with the duration of the break that it begins (0 "
            "where something goes between two pictures) and an id."
        },
    )
    # See vmaf.sampled. None is the profile's.
    measure_every: int | None = _declared(
        None,
        "Score every Nth frame only, an odd number: a score takes less CPU time and is a little "
        "off. Such scores have names of their own (`+every5`) and are not trained on. "
        "[default: the profile's, 1 unless it says otherwise]",
    )


LIMIT_NAMES = tuple(declared.name for declared in fields(LadderLimits))
"""Names of the options that ``what-if`` has too."""
DEFAULTS = CommonOptions()
"""Options of a user who named none."""


def asked_limits(options: LadderLimits) -> dict[str, Any]:
    """Return the limits that differ from the defaults, by name; a histogram of viewers is read.

    Raises:
        BadInput: it cannot be.
    """
    asked: dict[str, Any] = {name: getattr(options, name) for name in LIMIT_NAMES}
    if isinstance(asked["viewers"], Path):
        from ladder.viewers import histogram_from_csv

        asked["viewers"] = histogram_from_csv(asked["viewers"]).bins
    return {name: value for name, value in asked.items() if value != getattr(DEFAULTS, name)}


def as_lists(value: Any) -> Any:
    """Return a value with its tuples as lists, as JSON has them."""
    return [as_lists(each) for each in value] if isinstance(value, tuple) else value


def as_tuples(value: Any) -> Any:
    """Return a value of JSON with its lists as tuples."""
    return tuple(as_tuples(each) for each in value) if isinstance(value, list) else value


PART_NAMES = ("start", "duration", "sample")
"""Names of the options that make a part of the source the title."""
SOUND_NAMES = ("audio_codec", "audio_rates", "audio_languages", "loudness")
"""Names of the options about sound that profiles have keys for."""
LATER_NAMES = (*LIMIT_NAMES, *SOUND_NAMES, "encoder_params", "split_at")
"""Names of the options that documents leave out where they were not asked for."""
COMMON_NAMES = tuple(declared.name for declared in fields(CommonOptions))
"""Names of the options that runs and jobs have in common."""


def meaning_of(option: str) -> str:
    """Return what an option that runs and jobs have in common means to a user."""
    (text,) = (each.metadata["help"] for each in fields(CommonOptions) if each.name == option)
    return str(text)
