"""How the list of profiles looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ladder.profiles import Profile

Row = tuple[Profile, str]
"""A profile, and what it is for."""


def profiles_view(profiles: Sequence[Row]) -> list[RenderableType]:
    """Show what each profile is for, and how it encodes."""
    drawn = Table.grid(padding=(0, 2), expand=False)
    for profile, about in profiles:
        drawn.add_row(Text(profile.name), Text(f"{about} ({_codecs(profile)})"))
    return [
        drawn,
        Text(),
        Text(
            "`shotladder profiles NAME` writes all keys of a profile with what they mean; "
            "`--profile FILE` of run, submit and what-if takes such a file.",
            style="dim",
        ),
    ]


def _codecs(profile: Profile) -> str:
    return ", ".join(
        f"{codec} {profile.recipes[codec].partition('+')[0]}" for codec in profile.codecs
    )


def profile_lines(profile: Profile, about: str) -> tuple[str, dict[str, Any]]:
    """Return a profile as an object of NDJSON."""
    recipes = {codec: str(profile.recipe(codec)) for codec in profile.codecs}
    return "profile", {
        "name": profile.name,
        "about": about,
        "codecs": list(profile.codecs),
        "hdr_codecs": list(profile.hdr_codecs),
        "recipes": recipes,
        "placement": profile.placement,
    }
