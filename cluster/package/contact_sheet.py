"""Draw a contact sheet: a package's artwork candidates in one picture, for people to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import cv2
import numpy as np

from cluster.package.documents import read_artwork
from encoder.arrays import UInt8
from encoder.errors import BadInput, OutputUnwritable
from recommender.artwork.document import Candidate
from recommender.artwork.select import select

COLUMNS: Final = 5
"""Tiles per row."""
TILE_WIDTH: Final = 300
"""Width of a tile in pixels."""
_LABEL_HEIGHT = 20
_GAP = 4


def write_sheet(directory: Path, out: Path, aspect: str) -> int:
    """Draw the candidates of a package that a shape can show, best first, and return how many.

    Args:
        directory: folder of the package.
        out: file to write, ``.png`` or ``.jpg``, outside ``directory``.
        aspect: ``16:9``, ``2:3``, ``1:1``, ``21:9`` or ``9:16``.

    Raises:
        BadInput: the package, the aspect or the file format does not exist, ``out`` lies inside
            the package, or no candidate can be shown in this shape.
        OutputUnwritable: the sheet cannot be written.
    """
    if out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise BadInput(f"--out {out} is neither .png nor .jpg; give it one of these suffixes")
    if out.resolve().is_relative_to(directory.resolve()):
        raise BadInput(
            f"--out {out} lies in the package {directory}, which the next run replaces; "
            "name a file outside of it"
        )
    artwork = read_artwork(directory)
    stills = select(artwork, aspect)
    if not stills:
        raise BadInput(
            f"no candidate of {directory} can be shown in {aspect} without cutting a face; "
            "name another shape with --aspect"
        )
    tiles = []
    for still in stills:
        smallest = min(
            (r for r in still.crop.renditions if r.format == "jpeg" and r.width >= TILE_WIDTH),
            key=lambda r: r.width,
            default=still.crop.renditions[-1],
        )
        path = directory / smallest.uri
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if picture is None:
            raise BadInput(f"{path} cannot be read as a picture; make the package again")
        tiles.append(_tile(np.asarray(picture, np.uint8), still.candidate))
    coded, content = cv2.imencode(out.suffix.lower(), arrange(tiles))
    assert coded
    try:
        out.write_bytes(content.tobytes())
    except OSError as error:
        raise OutputUnwritable(
            f"--out {out} cannot be written ({error.strerror}); name another file"
        ) from error
    return len(tiles)


def arrange(tiles: list[UInt8], columns: int = COLUMNS) -> UInt8:
    """Arrange tiles of one size in rows, with a gap between them."""
    height, width = tiles[0].shape[:2]
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    sheet = np.zeros((rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3), np.uint8)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        top, left = (height + _GAP) * row, (width + _GAP) * column
        sheet[top : top + height, left : left + width] = tile
    return sheet


def _tile(picture: UInt8, candidate: Candidate) -> UInt8:
    """Draw a picture at the sheet's width, with a line of text under it."""
    height = max(1, round(picture.shape[0] * TILE_WIDTH / picture.shape[1]))
    small = cv2.resize(picture, (TILE_WIDTH, height), interpolation=cv2.INTER_AREA)
    tile = np.zeros((height + _LABEL_HEIGHT, TILE_WIDTH, 3), np.uint8)
    tile[:height] = small
    flags = " !" + ",".join(candidate.flags) if candidate.flags else ""
    label = (
        f"#{candidate.rank} {candidate.time_seconds:.1f}s s{candidate.shot} "
        f"c{candidate.cluster} q{candidate.quality:.2f}"
    )
    cv2.putText(
        tile,
        label + flags,
        (3, height + _LABEL_HEIGHT - 6),
        cv2.FONT_HERSHEY_SIMPLEX,
        0.4,
        (255, 255, 255),
        1,
        cv2.LINE_AA,
    )
    return tile
