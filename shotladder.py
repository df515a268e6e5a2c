"""Per-shot encoding ladders from Python: whatever the command line can do, by the same names.

::

    import shotladder

    package = shotladder.make_ladder("film.mp4", "ladders/film", heights=(360, 720))
    for rung in package.ladder.rungs:
        print(rung.name, rung.bitrate, rung.quality[package.quality_model].mean)

Options have the names of the command line's options, with underscores. Progress goes to
``on_event``, a function that takes the values of :mod:`cluster.events`. Errors are those of
:mod:`encoder.errors`: :class:`~encoder.errors.BadInput` for a mistake of the caller, with one line
that names the object, the cause and the remedy. Everything else in the five packages is internal
and may move.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from importlib import import_module
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from cluster import events
    from cluster.execution.executor import DaskExecutor as Cluster
    from cluster.execution.security import Certificates, SharedScheduler
    from cluster.jobs.estimate import Estimate
    from cluster.jobs.shots import ListedShots
    from cluster.jobs.whatif import WhatIf
    from cluster.package.comparison import Comparison
    from cluster.package.diff import LadderDifference
    from cluster.package.package import Package
    from cluster.service.client import AsyncClient, Client
    from cluster.service.options import JobOptions
    from cluster.store import open_store
    from encoder import errors
    from ladder.profiles import Profile

    __version__: str

_Options = TypeVar("_Options")

__all__ = [
    "AsyncClient",
    "Certificates",
    "Client",
    "Cluster",
    "JobOptions",
    "Package",
    "Profile",
    "SharedScheduler",
    "__version__",
    "compare",
    "diff",
    "errors",
    "events",
    "make_ladder",
    "open_store",
    "plan",
    "shots",
    "what_if",
]

_LAZY = {
    "AsyncClient": ("cluster.service.client", "AsyncClient"),
    "Certificates": ("cluster.execution.security", "Certificates"),
    "Client": ("cluster.service.client", "Client"),
    "Cluster": ("cluster.execution.executor", "DaskExecutor"),
    "JobOptions": ("cluster.service.options", "JobOptions"),
    "Package": ("cluster.package.package", "Package"),
    "Profile": ("ladder.profiles", "Profile"),
    "SharedScheduler": ("cluster.execution.security", "SharedScheduler"),
    "errors": ("encoder.errors", None),
    "events": ("cluster.events", None),
    "open_store": ("cluster.store", "open_store"),
}
"""Where names are defined, and under which name. They are imported when they are first used, so
that ``import shotladder`` takes no time."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("shotladder")
    if name not in _LAZY:
        raise AttributeError(f"module 'shotladder' has no attribute {name!r}")
    module, attribute = _LAZY[name]
    imported = import_module(module)
    return getattr(imported, attribute) if attribute else imported


def __dir__() -> list[str]:
    return sorted(__all__)


def make_ladder(
    source: str | Path,
    out: str | Path,
    *,
    on_event: events.Listener | None = None,
    cluster: Cluster | None = None,
    **options: Any,
) -> Package:
    """Make a package at ``out`` from the title at ``source``, as ``shotladder run`` does.

    Args:
        source: Path of a video file.
        out: Folder for the package: new, empty, or a package that is replaced in one step.
        on_event: Called with every event of the run.
        cluster: A running :class:`Cluster`, to be used for several calls; by default each call
            starts one worker per core and ends them.
        **options: Further options of :class:`cluster.jobs.request.RunOptions`, for example
            ``codec="x264,svtav1"``, ``heights=(360, 720)``, ``profile=my_profile`` or
            ``store="s3://bucket/store"``.

    Raises:
        errors.BadInput: an option cannot be satisfied; nothing was written.
        errors.Infeasible: no ladder satisfies the profile's constraints.
        errors.ShotladderError: the run failed; what was finished is kept, and the same call
            resumes it.
    """
    from cluster.jobs.request import RunOptions
    from cluster.jobs.run import run_title
    from cluster.package.package import Package

    asked = _asked(RunOptions, source=source, out=out, **options)
    return Package.open(run_title(asked, on_event or _ignore, cluster).out)


def plan(
    source: str | Path, *, on_event: events.Listener | None = None, **options: Any
) -> Estimate:
    """Estimate what :func:`make_ladder` would cost, as ``shotladder run --plan`` does.

    Only the shots, their features and the predicted curves are made, and kept for the run.

    Raises:
        errors.BadInput: an option cannot be satisfied.
        errors.Infeasible: it is known before any encode that no ladder keeps the constraints.
    """
    from cluster.jobs.estimate import plan_run
    from cluster.jobs.request import RunOptions

    asked = _asked(RunOptions, source=source, out=".", **options)
    return plan_run(asked, on_event or _ignore)


def shots(
    title: Package | str | Path,
    *,
    store: str | Path | None = None,
    on_event: events.Listener | None = None,
    **choices: Any,
) -> ListedShots:
    """Return the shots of a video file or of a finished package, as ``shotladder shots`` does.

    ``choices`` are those of ``run`` about a source: ``tail``, ``program``, ``accept_truncated`` and
    ``audio_layout``.

    Raises:
        errors.BadInput: there is no such file, or the folder holds no package.
    """
    from cluster.jobs.shots import shots_of_package, shots_of_source
    from encoder.source.choices import SourceChoices

    path = _directory(title)
    if path.is_dir():
        return shots_of_package(path)
    asked = _asked(SourceChoices, **choices)
    return shots_of_source(path, store, on_event or _ignore, asked)


def compare(
    package: Package | str | Path,
    others: Sequence[Package | str | Path] | Package | str | Path = (),
    *,
    on_event: events.Listener | None = None,
    cluster: Cluster | None = None,
    **options: Any,
) -> Comparison:
    """Measure the baselines on a package's title and state the three claims, as ``shotladder
    ladder compare`` does.

    Args:
        package: A package, or its folder.
        others: Another package of the same title, or several, to be compared with this one.
        on_event: Called with every event.
        cluster: A running :class:`Cluster`.
        **options: Further options of :class:`cluster.jobs.compare.CompareOptions`: ``source``,
            ``store``, ``workers``, ``scheduler``, ``also``.

    Raises:
        errors.BadInput: a folder holds no package, or the source is missing or another one.
        errors.ShotladderError: a measurement failed; what was finished is kept.
    """
    from cluster.jobs.compare import CompareOptions, compare_ladder

    listed = [others] if isinstance(others, str) or not isinstance(others, Sequence) else others
    asked = _asked(
        CompareOptions,
        directory=_directory(package),
        others=tuple(_directory(other) for other in listed),
        **options,
    )
    return compare_ladder(asked, on_event or _ignore, cluster)


def what_if(package: Package | str | Path, **asked: Any) -> WhatIf:
    """Return the ladder that other rungs, limits, profiles or policies would give, without a new
    encode, as ``shotladder what-if`` does.

    Args:
        package: A package, or its folder.
        **asked: Fields of :class:`cluster.jobs.whatif.WhatIfOptions`, for example
            ``max_rate=4e6`` or ``heights=(360, 720)``.

    Raises:
        errors.BadInput: what is asked for does not exist.
        errors.Infeasible: no ladder keeps the constraints.
    """
    from cluster.jobs.whatif import WhatIfOptions
    from cluster.jobs.whatif import what_if as answer

    return answer(_asked(WhatIfOptions, directory=_directory(package), **asked))


def diff(old: Package | str | Path, new: Package | str | Path) -> LadderDifference:
    """Return what changed between two packages of one title, as ``shotladder ladder diff`` does.

    Raises:
        errors.BadInput: one is no package, they are of different titles, or no quality model
            measured both.
    """
    from cluster.package.diff import diff_ladders

    return diff_ladders(_directory(old), _directory(new))


def _directory(package: Package | str | Path) -> Path:
    from cluster.package.package import Package
    from encoder.errors import BadInput

    if isinstance(package, Package):
        return package.directory
    if isinstance(package, str | Path):
        return Path(package)
    raise BadInput(f"expected a package or a path, got {package!r:.80}")


def _asked(kind: type[_Options], **options: Any) -> _Options:
    """Return options with their types checked, as the command line checks them.

    Raises:
        errors.BadInput: there is no such option, or a value has a wrong type.
    """
    from pydantic import TypeAdapter, ValidationError

    from encoder.errors import BadInput

    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for name, value in options.items():
        if name not in known:
            raise BadInput(f"no option {name!r}; the options are {', '.join(sorted(known))}")
        if isinstance(value, float) and not isfinite(value):
            raise BadInput(f"{name} is {value}; give a finite number")
    try:
        return TypeAdapter(kind).validate_python(options)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        raise BadInput(f"{name} is {options[name]!r:.80}: {first['msg']}") from None


def _ignore(event: events.Event) -> None:
    """Take an event and do nothing with it."""


def _command_line() -> int:
    from cluster.cli import main

    return main()


if __name__ == "__main__":
    raise SystemExit(_command_line())
