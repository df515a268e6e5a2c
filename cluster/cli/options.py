"""Options that several commands share, and what is typed in them as values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from encoder.errors import BadInput

Json = Annotated[
    bool, typer.Option("--json", help="NDJSON on stdout; the last line is `done` or `error`.")
]
StorePath = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="PATH|URL",
        envvar="SHOTLADDER_STORE",
        help="Where finished work is kept, to be used again: a folder, or `s3://bucket/folder`. "
        "[default: ~/.cache/shotladder/store]",
        show_default=False,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="Processes on this machine. [default: its cores]", show_default=False
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Run on the Dask cluster at this address, `tcp://...`. Its workers see the same "
        "store, and the same files unless that is a URL.",
        show_default=False,
    ),
]
FaceModel = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="YuNet model (ONNX) that finds faces in artwork; without one artwork.json says "
        "`faces: null`.",
        show_default=False,
    ),
]
Heights = Annotated[
    str | None,
    typer.Option(
        metavar="N,N,...",
        help="Candidate heights instead of the profile's, for example `234,360,720`. The "
        "source's own is always one.",
        show_default=False,
    ),
]


ToneMap = Annotated[
    bool,
    typer.Option(
        "--tone-map",
        help="Make a ladder of standard range of a source of high dynamic range (PQ, HLG).",
    ),
]


Priority = Annotated[
    int,
    typer.Option(
        metavar="N", help="Among runs on one scheduler: the higher goes first, equals take turns."
    ),
]


def heights_in(text: str | None) -> tuple[int, ...] | None:
    """The numbers in ``--heights``.

    Raises:
        BadInput: they are not positive numbers with commas between.
    """
    if text is None:
        return None
    try:
        heights = tuple(int(part) for part in text.split(","))
    except ValueError:
        heights = ()
    if not heights or min(heights) < 2:
        raise BadInput(
            f"--heights takes numbers of pixels with commas between, as 234,360,720; got {text!r}"
        )
    return heights
