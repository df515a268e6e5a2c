"""Options that several commands share, and the parsers of their values.

A new option of ``run`` is a field of :class:`RunFlags`, or of the base that holds the commands
which take it too, and a field of the same name of :class:`cluster.jobs.request.RunOptions`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster.cli.command import option
from encoder.errors import BadInput
from encoder.source.choices import DEFAULT_CHOICES, help_of

# -- parsers -----------------------------------------------------------------------------------


def parse_heights(text: str) -> tuple[int, ...]:
    """Return the numbers in ``--heights``.

    Raises:
        BadInput: the text is not a list of positive numbers.
    """
    try:
        heights = tuple(int(part) for part in text.split(","))
    except ValueError:
        heights = ()
    if not heights or min(heights) < 2:
        raise BadInput(
            f"--heights takes heights in pixels, separated by commas, such as 234,360,720; got "
            f"{text!r}"
        )
    return heights


def parse_profile(text: str) -> str | Path:
    """Return the name of a built-in profile, or the path of a file that holds one."""
    from ladder.profiles import profile_names

    path = Path(text)
    is_path = path.suffix == ".toml" or (text not in profile_names() and path.is_file())
    return path if is_path else text


def parse_policy(text: str) -> str:
    """Return the policy called ``text``.

    Raises:
        BadInput: there is none.
    """
    if text not in ("locked", "mixed"):
        raise BadInput(f"no policy {text!r}; choose 'locked' or 'mixed'")
    return text


def parse_names(text: str) -> tuple[str, ...]:
    """Return the parts of a list that is separated by commas."""
    return tuple(text.split(","))


def given(flags: Any) -> dict[str, Any]:
    """Return the options that have a value, for the library to supply the others' defaults."""
    return {name: value for name, value in asdict(flags).items() if value is not None}


# -- single options ----------------------------------------------------------------------------

Directory = Annotated[
    Path,
    typer.Argument(
        metavar="DIR", help="Directory of a finished package: the `--out` of `shotladder run`."
    ),
]
MovedSource = Annotated[
    Path | None,
    typer.Option(
        "--source", metavar="FILE", help="Path of the source, if it has moved since the run."
    ),
]
StorePath = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="PATH|URL",
        envvar="SHOTLADDER_STORE",
        help="Store that keeps finished work for reuse: a folder, or `s3://bucket/folder`. "
        "[default: ~/.cache/shotladder/store]",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        help="Number of worker processes on this machine. [default: the number of its cores]",
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="URL",
        help="Address of a Dask scheduler to run on, `tcp://host:8786`. Its workers need access "
        "to the same store, and to the same files unless the store is a URL.",
    ),
]
FaceModel = Annotated[
    Path | None,
    typer.Option(
        "--face-model",
        metavar="FILE",
        help="YuNet model (ONNX) that detects faces in artwork. Without it, artwork.json says "
        "`faces: null`.",
    ),
]
Profile = Annotated[
    str,
    typer.Option(
        "--profile",
        metavar="NAME|FILE",
        parser=parse_profile,
        help="Ladder profile: rung spacing, rate and quality limits, sizes and CRFs. The name of "
        "a built-in profile, or a TOML file.",
    ),
]
Heights = Annotated[
    tuple[int, ...] | None,
    typer.Option(
        "--heights",
        metavar="N,N,...",
        parser=parse_heights,
        help="Candidate heights instead of the profile's, for example `234,360,720`. The "
        "source's own height is always a candidate. The heights are kept as they are; where the "
        "profile fits sizes to whole blocks, only widths move.",
    ),
]


# -- groups ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GridFlags:
    """Options of ``run``, ``submit`` and ``sweep``: what is encoded and scored."""

    codec: str | None = option(
        None,
        metavar="NAME,...",
        help="Video codec instead of the profile's: `x264`, `x265`, `svtav1` or `vp9`. Several, "
        "such as `x264,svtav1`, go into one package; every player must be able to play the first.",
    )
    preset: str | None = option(
        None,
        metavar="NAME",
        help="Encoder preset instead of the profile's, `ultrafast` (fastest) to `veryslow` "
        "(smallest). The profile's other encoder settings stay.",
    )
    profile: Profile = "default"
    heights: Heights = None
    also: tuple[str, ...] = option(
        (),
        metavar="MODEL",
        help="Additional quality model to score with, for example `vmaf_v0.6.1neg`, or a judge, "
        "`xpsnr` or `ssim`. May be repeated.",
    )


@dataclass(frozen=True)  # a second base with slots would be an error
class SourceFlags:
    """Options of ``run``, ``submit``, ``doctor`` and ``shots``: the fields of
    :class:`encoder.source.choices.SourceChoices`, which has their words and defaults."""

    tail: str = option(DEFAULT_CHOICES.tail, metavar="NAME", help=help_of("tail"))
    program: int | None = option(DEFAULT_CHOICES.program, metavar="N", help=help_of("program"))
    accept_truncated: bool = option(
        DEFAULT_CHOICES.accept_truncated, "--accept-truncated", help=help_of("accept_truncated")
    )
    audio_layout: str | None = option(
        DEFAULT_CHOICES.audio_layout, metavar="LAYOUT", help=help_of("audio_layout")
    )


@dataclass(frozen=True, slots=True)
class LadderFlags(GridFlags, SourceFlags):
    """Options of ``run`` and ``submit``: what decides the ladder."""

    search: str | None = option(
        None,
        metavar="NAME",
        help="Search for operating points. `predict` encodes the ladder that the complexity "
        "model predicts, and corrects the prediction by what it measures; `exhaustive` "
        "measures every size and CRF of the grid; `sparse` measures every third CRF. "
        "[default: predict]",
    )
    tone_map: bool = option(
        False, "--tone-map", help="Make an SDR ladder of an HDR source (PQ or HLG)."
    )
    recipe_check: str = option(
        "auto",
        metavar="NAME",
        help="When encoder settings beyond a preset are compared on three shots of the title with "
        "the preset alone, by VMAF, XPSNR and SSIM, and further codecs with the first. `auto`: "
        "unless the evidence that comes with the weights covers the title; `always`; `never`. "
        "Settings that lose more than 2 % are not used; codecs of the profile that save nothing "
        "are left out.",
    )


@dataclass(frozen=True, slots=True)
class RunFlags(LadderFlags):
    """Options of ``run`` that are fields of :class:`cluster.jobs.request.RunOptions`."""

    policy: str = option(
        "locked",
        metavar="NAME",
        parser=parse_policy,
        help="Policy for sizes. `locked`: all shots of a rung have one size and differ in CRF.",
    )
    weights: Path | None = option(
        None,
        metavar="FILE",
        help="Weights of the complexity model. [default: those that come with shotladder]",
    )
    face_model: FaceModel = None
    workers: Workers = None
    scheduler: Scheduler = None
    priority: int = option(
        0,
        metavar="N",
        help="Priority among the runs on one scheduler: higher goes first, equal ones take turns.",
    )
    store: StorePath = None
