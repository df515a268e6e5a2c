"""Options that several commands share, and the parsers of their values.

A new option of ``run`` is a field of :class:`RunFlags`, or of the base that holds the commands
which take it too, and a field of the same name of :class:`cluster.jobs.request.RunOptions`. Options
that jobs of the service take too are declared in :mod:`cluster.jobs.options`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.cli.command import option
from cluster.jobs.options import DEFAULTS, meaning_of
from encoder.errors import BadInput
from ladder.choices import POLICIES

if TYPE_CHECKING:
    from cluster.execution.security import Certificates, SharedScheduler

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
    if text not in POLICIES:
        raise BadInput(f"no policy {text!r}; choose one of {', '.join(POLICIES)}")
    return text


def parse_names(text: str) -> tuple[str, ...]:
    """Return the parts of a list that is separated by commas."""
    return tuple(text.split(","))


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


@dataclass(frozen=True, slots=True)
class GridFlags:
    """Options of ``run``, ``submit`` and ``sweep``: what is encoded and scored."""

    codec: str | None = _common("codec", metavar="NAME,...")
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


@dataclass(frozen=True, slots=True)
class LadderFlags(GridFlags, SourceFlags):
    """Options of ``run`` and ``submit``: what decides the ladder."""

    search: str | None = option(None, metavar="NAME", help=meaning_of("search"))
    tone_map: bool = _common("tone_map", "--tone-map")
    recipe_check: str = _common("recipe_check", metavar="NAME")
    measure_every: int | None = _common("measure_every", metavar="N")
    policy: str = _common("policy", metavar="NAME", parser=parse_policy)


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
    workers: Workers = None
    scheduler: Scheduler = None
    priority: int = option(
        0,
        metavar="N",
        help="Priority among the runs on one scheduler: higher goes first, equal ones take turns.",
    )
    store: StorePath = None
