"""Options that several commands share, and the parsers of their values.

A new option of ``run`` is a field of :class:`RunFlags`, or of the base that holds the commands
which take it too, and a field of the same name of :class:`cluster.jobs.request.RunOptions`. Options
that jobs of the service take too are declared in :mod:`cluster.jobs.options`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.cli.command import option
from cluster.cli.options_file import read_options
from cluster.jobs.options import DEFAULTS, meaning_of
from encoder.errors import BadInput
from ladder.choices import POLICIES

if TYPE_CHECKING:
    from cluster.execution.security import Certificates, SharedScheduler

CODEC_NAMES = {
    **dict.fromkeys(("h264", "h.264", "avc"), "x264"),
    **dict.fromkeys(("h265", "h.265", "hevc"), "x265"),
    "av1": "svtav1",
}
"""Encoders by what users call the codecs. Documents have the encoders' names."""

# -- parsers -----------------------------------------------------------------------------------


def parse_heights(text: str, option: str = "--heights") -> tuple[int, ...]:
    """Return the numbers in an option of heights.

    Raises:
        BadInput: the text is not a list of positive numbers.
    """
    try:
        heights = tuple(int(part) for part in text.split(","))
    except ValueError:
        heights = ()
    if not heights or min(heights) < 2:
        raise BadInput(
            f"{option} takes heights in pixels, separated by commas, such as 234,360,720; got "
            f"{text!r}"
        )
    return heights


def parse_profile(text: str) -> str | Path:
    """Return the name of a built-in profile, or the path of a file that holds one."""
    from ladder.profiles import profile_names

    path = Path(text)
    is_path = path.suffix == ".toml" or (text not in profile_names() and path.is_file())
    return path if is_path else text


def parse_rate(option: str) -> Callable[[str], float]:
    """Return a parser of a rate, for the option of that name."""

    def parse(text: str) -> float:
        from cluster.package.explain import parse_rate

        rate = 0.0 if text.strip() == "0" else parse_rate(text)
        if rate is None:
            raise BadInput(f"{option} takes a rate such as 800k or 4M; got {text!r}")
        return rate

    return parse


def parse_rates(option: str) -> Callable[[str], tuple[float, ...]]:
    """Return a parser of rates with commas between them, for the option of that name."""
    return lambda text: tuple(map(parse_rate(option), text.split(",")))


def parse_time(option: str) -> Callable[[str], float]:
    """Return a parser of a time in the title, for the option of that name."""

    def parse(text: str) -> float:
        from encoder.source.part import read_seconds

        try:
            return read_seconds(text)
        except ValueError:
            raise BadInput(
                f"{option} takes a time such as 90, 2m or 1:02:03; got {text!r}"
            ) from None

    return parse


def parse_numbers(option: str, example: str) -> Callable[[str], tuple[float, ...]]:
    """Return a parser of numbers with commas between them, for the option of that name."""

    def parse(text: str) -> tuple[float, ...]:
        try:
            return tuple(float(part) for part in text.split(","))
        except ValueError:
            raise BadInput(f"{option} takes numbers such as {example}; got {text!r}") from None

    return parse


def parse_merging(text: str) -> tuple[float, ...]:
    """Return the distance within which rungs are merged; nothing for ``off``."""
    return () if text == "off" else parse_numbers("--merge", "1.25,2, or off")(text)


def parse_rung_heights(text: str) -> tuple[int, ...]:
    """Return the heights of ``--rung-heights``."""
    return parse_heights(text, "--rung-heights")


def parse_size_limits(text: str) -> tuple[tuple[float, int], ...]:
    """Return the rates of ``--size-limits`` with their lines."""
    rate = parse_rate("--size-limits")
    try:
        pairs = [part.split("=") for part in text.split(",")]
        return tuple((rate(most), int(lines)) for most, lines in pairs)
    except ValueError:
        raise BadInput(
            f"--size-limits takes rates and lines such as 800k=360,2M=720; got {text!r}"
        ) from None


def parse_viewers(text: str) -> tuple[float, ...] | tuple[tuple[float, float], ...]:
    """Return median throughputs, or the bins of a histogram: ``1M=0.3,4M=0.7``, or a CSV file."""
    from cluster.package.explain import parse_rate
    from ladder.viewers import histogram_from_csv

    parts = [part.partition("=") for part in text.split(",")]
    rates = [parse_rate(rate) for rate, _, _ in parts]
    known = [rate for rate in rates if rate is not None]
    if len(known) < len(parts):
        return histogram_from_csv(Path(text)).bins
    if not any(equals for _, equals, _ in parts):
        return tuple(known)
    try:
        shares = [float(share) for _, _, share in parts]
    except ValueError:
        raise BadInput(
            f"--viewers takes medians such as 1M,3M, or bins such as 1M=0.3,4M=0.7; got {text!r}"
        ) from None
    return tuple(zip(known, shares, strict=True))


def parse_devices(text: str) -> tuple[tuple[int, float], ...]:
    """Return lines with the share of viewers whose devices play no more."""
    try:
        pairs = [part.split("=") for part in text.split(",")]
        return tuple((int(lines), float(share)) for lines, share in pairs)
    except ValueError:
        raise BadInput(
            f"--devices takes lines and shares such as 720=0.3,1080=0.2; got {text!r}"
        ) from None


def parse_longest_segment(text: str) -> float:
    """Return the longest segment in seconds."""
    try:
        return float(text.removesuffix("s"))
    except ValueError:
        raise BadInput(
            f"--longest-segment takes seconds, such as 4 or 2.5s; got {text!r}"
        ) from None


def parse_split_at(text: str) -> tuple[tuple[float, float, str], ...]:
    """Return times with their breaks, ``600,mid@1200.5+30``, or the rows of a CSV file."""
    from cluster.jobs.cues import cues_from_csv, cues_from_text

    return cues_from_text(text) or cues_from_csv(Path(text))


def parse_count(text: str) -> tuple[int, int]:
    """Return the fewest and the most rungs; both are a single number."""
    try:
        fewest, _, most = text.partition("-")
        return int(fewest), int(most or fewest)
    except ValueError:
        raise BadInput(
            f"--rungs takes a number such as 6 or a range such as 4-8; got {text!r}"
        ) from None


def parse_policy(text: str) -> str:
    """Return the policy called ``text``.

    Raises:
        BadInput: there is none.
    """
    if text not in POLICIES:
        raise BadInput(f"no policy {text!r}; choose one of {', '.join(POLICIES)}")
    return text


def parse_names(text: str) -> tuple[str, ...]:
    """Return the parts of a list that is separated by commas."""
    return tuple(part.strip() for part in text.split(","))


def parse_codecs(text: str) -> str:
    """Return the encoders of a list of codecs, in which the codec's own name may stand for one."""
    parts = [part.strip() for part in text.split(",")]
    return ",".join(CODEC_NAMES.get(part.lower(), part) for part in parts)


def parse_shares(text: str) -> tuple[float, ...]:
    """Return the shares of a list that is separated by commas.

    Raises:
        BadInput: a part is no number.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise BadInput(f"{text!r} is no list of shares; write, for example, 0,0.05,0.2") from None


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
        help="Address of a Dask scheduler to run on, `tls://host:8786`; `tcp://` without "
        "certificates. Its workers need access to the same store, and to the same files unless the "
        "store is a URL.",
    ),
]
TlsAuthority = Annotated[
    Path | None,
    typer.Option(
        "--tls-ca",
        metavar="FILE",
        envvar="SHOTLADDER_TLS_CA",
        help="Certificate (PEM) of the authority of a shared cluster's members.",
    ),
]
TlsCertificate = Annotated[
    Path | None,
    typer.Option(
        "--tls-cert",
        metavar="FILE",
        envvar="SHOTLADDER_TLS_CERT",
        help="This member's certificate (PEM), signed by that authority.",
    ),
]
TlsKey = Annotated[
    Path | None,
    typer.Option(
        "--tls-key",
        metavar="FILE",
        envvar="SHOTLADDER_TLS_KEY",
        help="Private key (PEM) of this member's certificate.",
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        metavar="FILE",
        help="Weights of the complexity model. [default: those that come with shotladder]",
    ),
]
Embedding = Annotated[
    str | None,
    typer.Option(
        "--embedding",
        metavar="MODULE:FUNCTION",
        help="Function that makes the embeddings of stills. [default: a classical description]",
    ),
]
Nudity = Annotated[
    bool,
    typer.Option(
        "--nudity", help="Score the nudity of stills; needs `pip install 'shotladder[vision]'`."
    ),
]
OptionsFile = Annotated[
    Path | None,
    typer.Option(
        "--options",
        metavar="FILE",
        is_eager=True,
        callback=read_options,
        help='Options from a TOML file, by their names here: `max-rate = "4M"`, '
        "`heights = [360, 720]`. Options on the command line win.",
    ),
]
Profile = Annotated[
    str,
    typer.Option(
        "--profile",
        metavar="NAME|FILE",
        parser=parse_profile,
        help=f"{meaning_of('profile')} The name of a built-in profile, or a TOML file.",
    ),
]
Heights = Annotated[
    tuple[int, ...] | None,
    typer.Option(
        "--heights",
        metavar="N,N,...",
        parser=parse_heights,
        help=meaning_of("heights"),
    ),
]


# -- groups ------------------------------------------------------------------------------------


def _common(name: str, *declarations: str, **settings: Any) -> Any:
    """Declare an option that runs and jobs have in common."""
    return option(getattr(DEFAULTS, name), *declarations, help=meaning_of(name), **settings)


def _listed(name: str, *declarations: str, **settings: Any) -> Any:
    """Declare an option that lists something, which has no value where it is not given."""
    return option(None, *declarations, help=meaning_of(name), **settings)


@dataclass(frozen=True)
class LimitFlags:
    """Options of ``run``, ``submit`` and ``what-if``: where rungs lie and what they keep. The
    fields of :class:`cluster.jobs.options.LadderLimits`, which has their words and defaults."""

    rates: tuple[float, ...] | None = _listed(
        "rates", metavar="RATE,RATE,...", parser=parse_rates("--rates")
    )
    qualities: tuple[float, ...] | None = _listed(
        "qualities", metavar="N,N,...", parser=parse_numbers("--qualities", "60,75,85,93")
    )
    rung_heights: tuple[int, ...] | None = _listed(
        "rung_heights", metavar="N,N,...", parser=parse_rung_heights
    )
    max_rate: float | None = _common("max_rate", metavar="RATE", parser=parse_rate("--max-rate"))
    min_quality: float | None = _common("min_quality", metavar="QUALITY")
    max_quality: float | None = _common("max_quality", metavar="QUALITY")
    floor: float | None = _common("floor", metavar="QUALITY")
    peak_ratio: float | None = _common("peak_ratio", metavar="RATIO")
    vbv_seconds: float | None = _common("vbv_seconds", metavar="SECONDS")
    jnd: float | None = _common("jnd", metavar="QUALITY")
    rung_count: tuple[int, int] | None = _common(
        "rung_count", "--rungs", "--rung-count", metavar="N|MIN-MAX", parser=parse_count
    )
    least_ratio: float | None = _common("least_ratio", "--gap", "--least-ratio", metavar="RATIO")
    merge_within: tuple[float, ...] | None = _common(
        "merge_within",
        "--merge",
        "--merge-within",
        metavar="RATIO,POINTS|off",
        parser=parse_merging,
    )
    size_limits: tuple[tuple[float, int], ...] | None = _listed(
        "size_limits", metavar="RATE=LINES,...", parser=parse_size_limits
    )
    native_top: bool = _common("native_top", "--native-top")
    segments: str | None = _common("segments", metavar="shots|STEP")
    longest_segment: float | None = _common(
        "longest_segment", metavar="SECONDS", parser=parse_longest_segment
    )
    viewers: Any = option(
        None,
        metavar="RATE,RATE,...|FILE",
        parser=parse_viewers,
        help=f"{meaning_of('viewers')} Or a histogram, the upper end of each bin with its share "
        "of the viewers: `1M=0.3,4M=0.7`, or a CSV file with such rows.",
    )
    device_lines: tuple[tuple[int, float], ...] | None = _common(
        "device_lines",
        "--devices",
        "--device-lines",
        metavar="LINES=SHARE,...",
        parser=parse_devices,
    )
    tolerance: float | None = _common("tolerance", metavar="QUALITY")
    placement: str | None = _common("placement", metavar="NAME")


@dataclass(frozen=True, slots=True)
class GridFlags:
    """Options of ``run``, ``submit`` and ``sweep``: what is encoded and scored."""

    codec: str | None = _common("codec", metavar="NAME,...", parser=parse_codecs)
    preset: str | None = _common("preset", metavar="NAME")
    profile: Profile = DEFAULTS.profile
    heights: Heights = None
    also: tuple[str, ...] = _common("also", metavar="MODEL")


@dataclass(frozen=True)  # a second base with slots would be an error
class SourceFlags:
    """Options of ``run``, ``submit``, ``doctor`` and ``shots``: the fields of
    :class:`encoder.source.choices.SourceChoices`, which has their words and defaults."""

    tail: str = _common("tail", metavar="NAME")
    program: int | None = _common("program", metavar="N")
    accept_truncated: bool = _common("accept_truncated", "--accept-truncated")
    audio_layout: str | None = _common("audio_layout", metavar="LAYOUT")


@dataclass(frozen=True)
class PartFlags:
    """Options of ``run``, ``submit`` and ``encode``: which part of the source is made."""

    start: float | None = _common("start", metavar="TIME", parser=parse_time("--start"))
    duration: float | None = _common("duration", metavar="TIME", parser=parse_time("--duration"))
    sample: float | None = _common("sample", metavar="TIME", parser=parse_time("--sample"))


@dataclass(frozen=True)
class SoundFlags:
    """Options of ``run``, ``submit`` and ``encode``: how sound is encoded. Their names are
    :data:`cluster.jobs.options.SOUND_NAMES`."""

    audio_codec: str | None = _common("audio_codec", metavar="NAME")
    audio_rates: tuple[float, ...] | None = _listed(
        "audio_rates", metavar="RATE[,RATE]", parser=parse_rates("--audio-rates")
    )
    audio_languages: tuple[str, ...] | None = _listed(
        "audio_languages", metavar="TAG,...", parser=parse_names
    )
    loudness: float | None = _common("loudness", metavar="LUFS")


@dataclass(frozen=True, slots=True)
class LadderFlags(GridFlags, SourceFlags, PartFlags, SoundFlags, LimitFlags):
    """Options of ``run`` and ``submit``: what decides the ladder."""

    encoder_params: tuple[str, ...] = _common("encoder_params", metavar="NAME=VALUE:...")
    search: str | None = option(None, metavar="NAME", help=meaning_of("search"))
    tone_map: bool = _common("tone_map", "--tone-map")
    recipe_check: str = _common("recipe_check", metavar="NAME")
    measure_every: int | None = _common("measure_every", metavar="N")
    split_at: Any = option(
        None,
        metavar="TIME,...|FILE",
        parser=parse_split_at,
        help=f"{meaning_of('split_at')} `600,mid-2@1200.5+30` is two, or a CSV file with the "
        "columns `time`, `duration` and `id`.",
    )
    policy: str = _common("policy", metavar="NAME", parser=parse_policy)


@dataclass(frozen=True, slots=True)
class EncodeFlags(SourceFlags, PartFlags, SoundFlags):
    """Options of ``encode`` that are fields of :class:`cluster.jobs.request.RunOptions`."""

    codec: str = option(
        "x264",
        metavar="NAME",
        parser=parse_codecs,
        help="Video codec: `x264` (or `h264`), `x265` (`hevc`), `svtav1` (`av1`) or `vp9`.",
    )
    preset: str | None = _common("preset", metavar="NAME")
    profile: Profile = DEFAULTS.profile
    encoder_params: tuple[str, ...] = _common("encoder_params", metavar="NAME=VALUE:...")
    floor: float | None = _common("floor", metavar="QUALITY")
    max_rate: float | None = _common("max_rate", metavar="RATE", parser=parse_rate("--max-rate"))
    peak_ratio: float | None = _common("peak_ratio", metavar="RATIO")
    tone_map: bool = _common("tone_map", "--tone-map")
    recipe_check: str = _common("recipe_check", metavar="NAME")
    measure_every: int | None = _common("measure_every", metavar="N")
    workers: Workers = None
    scheduler: Scheduler = None
    store: StorePath = None


@dataclass(frozen=True, slots=True)
class TlsFlags:
    """Options of the members of a shared cluster: how they know one another."""

    tls_ca: TlsAuthority = None
    tls_cert: TlsCertificate = None
    tls_key: TlsKey = None

    def certificates(self) -> Certificates | None:
        """Return the certificates; None if none are named.

        Raises:
            BadInput: they are incomplete or cannot be used.
        """
        from cluster.execution.security import Certificates

        return Certificates.of(self.tls_ca, self.tls_cert, self.tls_key)

    def shared(self, address: str | None) -> SharedScheduler | None:
        """Return the scheduler at an address, with the certificates; None for no address.

        Raises:
            BadInput: as :meth:`certificates`. Without an address they are not looked at, since the
                environment may name them for other commands.
        """
        from cluster.execution.security import SharedScheduler

        return None if address is None else SharedScheduler(address, self.certificates())


@dataclass(frozen=True, slots=True)
class RunFlags(LadderFlags):
    """Options of ``run`` that are fields of :class:`cluster.jobs.request.RunOptions`."""

    weights: Weights = None
    embedding: Embedding = None
    nudity: Nudity = False
    workers: Workers = None
    scheduler: Scheduler = None
    priority: int = option(
        0,
        metavar="N",
        help="Priority among the runs on one scheduler: higher goes first, equal ones take turns.",
    )
    store: StorePath = None
