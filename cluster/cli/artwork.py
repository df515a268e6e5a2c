"""``shotladder artwork``: look at the artwork of a finished package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli.command import command, option
from cluster.cli.options import Directory
from cluster.cli.output import Output
from cluster.cli.service import Connection, Title

if TYPE_CHECKING:
    from cluster.service.documents import EditKind
    from recommender.artwork.document import Candidate

artwork_app = typer.Typer(
    name="artwork", help="Look at the stills that can represent a title, and edit what is shown."
)

Aspect = Annotated[
    str | None,
    typer.Option(
        metavar="W:H",
        help="Order by the crops of this aspect ratio: `16:9`, `2:3`, `1:1`, `21:9` or `9:16`.",
    ),
]


@artwork_app.command("list")
@command
def list_artwork(
    output: Output,
    directory: Directory,
    aspect: Aspect = None,
    most: int | None = option(None, "--k", metavar="N", help="List at most N candidates."),
) -> None:
    """List the candidates of a package, best first, with what was measured of each.

    The order is the one of the contact sheet and of a service: the rank of the candidates or, with
    `--aspect`, of their crops. Candidates whose crop would cut the main face are left out.
    """
    from cluster.cli.views.artwork import artwork_lines, artwork_view
    from cluster.package.documents import read_artwork
    from recommender.artwork.select import select

    artwork = read_artwork(directory)
    chosen: list[Candidate] = artwork.candidates[:most]
    if aspect is not None:
        chosen = [
            pick.candidate.model_copy(update={"crops": [pick.crop]})
            for pick in select(artwork, aspect, most)
        ]
    output.finish(
        lines=artwork_lines(artwork, chosen),
        result={"candidates": len(chosen), "pool": artwork.pool, "aspect": aspect},
        view=lambda: artwork_view(artwork, chosen, aspect),
    )


@artwork_app.command("sheet")
@command
def sheet(
    output: Output,
    directory: Directory,
    out: Annotated[
        Path,
        typer.Option(metavar="FILE", help="File for the sheet, outside DIR: `.png` or `.jpg`."),
    ],
    aspect: Aspect = None,
) -> None:
    """Draw a contact sheet: the candidates in order, with rank, time and quality.

    The order is that of `artwork list` and of a service, in the shape of `--aspect` (`16:9` if it
    is left out).
    """
    from cluster.package.contact_sheet import write_sheet

    count = write_sheet(directory, out, aspect or "16:9")
    output.finish(result={"out": str(out), "candidates": count}, view=lambda: str(out))


Action = Annotated[
    str, typer.Argument(metavar="ACTION", help="Action id of a picture, of `artwork list`.")
]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why, for the audit log.")]


@artwork_app.command("ban")
@command
def ban(
    output: Output,
    *,
    title: Title,
    action_id: Action,
    reason: Reason = "",
    connection: Connection,
) -> None:
    """Show a picture of a service's title no more, also after the title is coded again."""
    _edit(output, title, action_id, "ban", reason, connection)


@artwork_app.command("pin")
@command
def pin(
    output: Output,
    *,
    title: Title,
    action_id: Action,
    reason: Reason = "",
    connection: Connection,
) -> None:
    """Show a picture of a service's title before all others, and decide among pinned ones alone."""
    _edit(output, title, action_id, "pin", reason, connection)


def _edit(
    output: Output,
    title: str,
    action_id: str,
    edit: EditKind,
    reason: str,
    connection: Connection,
) -> None:
    with connection.client() as client:
        made = client.edit_artwork(title, action_id, edit, reason)
    done = "banned" if made.edit == "ban" else "pinned"
    output.finish(
        result=made.model_dump(mode="json"),
        view=lambda: f"{made.action_id} of {made.title} is {done}",
    )


@artwork_app.command("unedit")
@command
def unedit(output: Output, *, title: Title, action_id: Action, connection: Connection) -> None:
    """Take back that a picture of a service's title is banned or pinned."""
    with connection.client() as client:
        line = client.lift_artwork_edit(title, action_id)
    output.finish(
        result=line.model_dump(mode="json"),
        view=lambda: f"{action_id} of {line.title} is neither banned nor pinned",
    )


@artwork_app.command("edits")
@command
def edits(output: Output, *, title: Title, connection: Connection) -> None:
    """List the pictures of a service's title that editors have banned or pinned."""
    from cluster.cli.views.artwork import edits_view

    with connection.client() as client:
        listed = client.artwork_edits(title)
    output.finish(
        lines=[("edit", one.model_dump(mode="json")) for one in listed],
        result={"edits": len(listed)},
        view=lambda: edits_view(listed),
    )
