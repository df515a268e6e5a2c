"""``shotladder profiles``: which profiles there are, and all keys of one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cluster.cli.command import argument, command
from cluster.cli.output import Output


@command
def profiles(
    output: Output,
    name: str | None = argument(
        None,
        metavar="[NAME|FILE|DIR]",
        help="Profile to write out: its name, its TOML file, or a package that was made by it.",
    ),
) -> None:
    """List the built-in profiles, or write one as a TOML file with every key explained.

    `shotladder profiles auto > mine.toml` begins a profile of your own: change what you like, and
    leave out what shall follow the built-in profile that `based_on` names. `--profile mine.toml`
    takes it.
    """
    if name is None:
        _list(output)
    else:
        _write(output, name)


def _list(output: Output) -> None:
    from cluster.cli.views.profiles import profile_lines, profiles_view
    from ladder.profiles import load_profile, profiles_about

    found = [(load_profile(name), about) for name, about in profiles_about().items()]
    output.finish(
        lines=[profile_lines(profile, about) for profile, about in found],
        result={"profiles": len(found)},
        view=lambda: profiles_view(found),
    )


def _write(output: Output, name: str) -> None:
    from cluster.cli.options import parse_profile
    from cluster.package.package import Package
    from ladder.profile_text import profile_toml
    from ladder.profiles import as_profile, profile_document, profiles_about

    if Path(name).is_dir():
        profile = Package.open(Path(name)).plain_profile
    else:
        profile = as_profile(parse_profile(name))
    about = profiles_about().get(profile.name, "")
    content: dict[str, Any] = {"name": profile.name, "content": profile_document(profile)}
    output.finish(
        lines=[("profile", content)],
        result={"profile": profile.name},
        view=lambda: profile_toml(profile, about).rstrip("\n"),
    )
