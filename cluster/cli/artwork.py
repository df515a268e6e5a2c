"""``shotladder artwork``: look at the stills of a finished package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.cli.options import Json
from cluster.cli.output import finish, show

if TYPE_CHECKING:
    from rich.console import RenderableType

    from recommender.artwork.document import Artwork, Candidate

artwork_app = typer.Typer(name="artwork", help="Look at the stills that may be shown of a title.")

Directory = Annotated[
    Path, typer.Argument(metavar="DIR", help="What `shotladder run` wrote with `--out`.")
]
Aspect = Annotated[
    str | None,
    typer.Option(
        metavar="W:H",
        help="Only crops of this shape: `16:9`, `2:3`, `1:1` or `21:9`.",
        show_default=False,
    ),
]


@artwork_app.command("list")
def list_artwork(
    context: typer.Context,
    directory: Directory,
    aspect: Aspect = None,
    most: Annotated[
        int | None,
        typer.Option("--k", metavar="N", help="At most so many.", show_default=False),
    ] = None,
    diverse: Annotated[
        bool,
        typer.Option(
            "--diverse", help="Choose those that differ, as they would be shown together."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """List the candidates of a package, best first, with what was measured of them.

    With `--aspect`, `--k` or `--diverse` it answers as a service does that chooses from the pool.
    """
    from cluster.package.documents import read_artwork
    from recommender.artwork.select import select

    artwork = read_artwork(directory)
    chosen: list[Candidate] = artwork.candidates
    if aspect is not None or most is not None or diverse:
        picked = select(artwork, aspect or "16:9", most or len(chosen), diverse)
        chosen = [
            one.candidate.model_copy(update={"crops": [one.crop]}) if aspect else one.candidate
            for one in picked
        ]
    finish(
        context.obj,
        as_json=json,
        lines=_lines(artwork, chosen),
        result={"candidates": len(chosen), "pool": artwork.pool},
        view=lambda: show(_view(artwork, chosen)),
    )


@artwork_app.command("sheet")
def sheet(
    context: typer.Context,
    directory: Directory,
    out: Annotated[
        Path,
        typer.Option(metavar="FILE", help="Where the sheet goes, outside DIR: `.png` or `.jpg`."),
    ],
    aspect: Aspect = None,
    json: Json = False,
) -> None:
    """Draw a contact sheet: the candidates in their order, with rank, time and quality."""
    from cluster.package.contact_sheet import write_sheet

    count = write_sheet(directory, out, aspect or "16:9")
    finish(
        context.obj,
        as_json=json,
        result={"out": str(out), "candidates": count},
        view=lambda: print(out),
    )


def _lines(artwork: Artwork, chosen: list[Candidate]) -> Iterator[tuple[str, dict[str, Any]]]:
    document = artwork.model_dump(mode="json", by_alias=True, exclude={"candidates"})
    yield "artwork", document
    for one in chosen:
        yield "candidate", one.model_dump(mode="json")


def _view(artwork: Artwork, chosen: list[Candidate]) -> list[RenderableType]:
    from fractions import Fraction

    from rich.text import Text

    from cluster.cli.views.ladder import clock, plain_table

    rate = Fraction(artwork.title.frame_rate)
    looked = artwork.face_model is not None
    table = plain_table(
        *(("rank", "r"), ("at", "r"), ("shot", "r"), ("cluster", "r"), ("quality", "r")),
        *(("sharp", "r"), ("still", "r"), *((("faces", "r"),) if looked else ()), ("action", "l")),
    )
    for one in chosen:
        sharp, change = one.metrics["sharpness"], one.metrics["change"]
        table.add_row(
            *(str(one.rank), clock(one.frame, rate), str(one.shot), str(one.cluster)),
            *(f"{one.quality:.2f}", f"{100 * sharp.percentile:.0f}"),
            f"{100 * (1 - change.percentile):.0f}",
            *((str(len(one.faces or ())),) if looked else ()),
            one.action_id,
        )
    selection = artwork.selection
    dropped = ", ".join(f"{one.dropped} {one.name}" for one in selection.filters if one.dropped)
    heading = (
        f"{artwork.title.source}: pool {artwork.pool}, {len(artwork.candidates)} candidates of "
        f"{selection.stills} stills in {selection.clusters} clusters"
    )
    notes = f"Dropped: {dropped or 'none'}. sharp, still: percentile within the title."
    if not looked:
        notes += " Nobody looked for faces (no --face-model)."
    return [Text(heading), Text(), table, Text(), Text(notes, style="dim")]
