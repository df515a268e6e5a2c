"""A contact sheet: a package's artwork candidates in one picture, to be looked at by people."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import cv2
import numpy as np

from cluster.package.documents import read_artwork
from encoder.analysis.frames import Plane
from encoder.errors import BadInput, OutputUnwritable
from recommender.artwork.document import Candidate
from recommender.artwork.select import select

COLUMNS: Final = 5
TILE_WIDTH: Final = 300
_LABEL_HEIGHT = 20
_GAP = 4


def write_sheet(directory: Path, out: Path, aspect: str) -> int:
    """Draw the candidates of a package, by rank, and return how many there are.

    Args:
        directory: of the package.
        out: ``.png`` or ``.jpg``; not inside ``directory``, which is replaced as a whole.
        aspect: ``16:9``, ``2:3``, ``1:1`` or ``21:9``.

    Raises:
        BadInput: there is no such package, aspect or file format.
        OutputUnwritable: the sheet cannot be written.
    """
    if out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise BadInput(f"--out {out} is neither .png nor .jpg; name one of these")
    if out.resolve().is_relative_to(directory.resolve()):
        raise BadInput(
            f"{out} lies in {directory}, which is replaced as a whole; name another file"
        )
    artwork = read_artwork(directory)
    chosen = sorted(
        select(artwork, aspect, len(artwork.candidates)), key=lambda s: s.candidate.rank
    )
    tiles = []
    for one in chosen:
        smallest = min(
            (r for r in one.crop.renditions if r.format == "jpeg" and r.width >= TILE_WIDTH),
            key=lambda r: r.width,
            default=one.crop.renditions[-1],
        )
        picture = cv2.imread(str(directory / smallest.uri), cv2.IMREAD_COLOR)
        if picture is None:
            raise BadInput(f"{directory / smallest.uri} cannot be read; make the package again")
        tiles.append(_tile(np.asarray(picture, np.uint8), one.candidate))
    coded, content = cv2.imencode(out.suffix.lower(), arrange(tiles))
    assert coded
    try:
        out.write_bytes(content.tobytes())
    except OSError as error:
        raise OutputUnwritable(
            f"{out} cannot be written ({error.strerror}); name a file that can"
        ) from error
    return len(tiles)


def arrange(tiles: list[Plane], columns: int = COLUMNS) -> Plane:
    """Pictures of one size in rows, with a gap between."""
    height, width = tiles[0].shape[:2]
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    sheet = np.zeros((rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3), np.uint8)
    for number, tile in enumerate(tiles):
        top, left = ((height + _GAP) * (number // columns), (width + _GAP) * (number % columns))
        sheet[top : top + height, left : left + width] = tile
    return sheet


def _tile(picture: Plane, one: Candidate) -> Plane:
    height = max(1, round(picture.shape[0] * TILE_WIDTH / picture.shape[1]))
    small = cv2.resize(picture, (TILE_WIDTH, height), interpolation=cv2.INTER_AREA)
    tile = np.zeros((height + _LABEL_HEIGHT, TILE_WIDTH, 3), np.uint8)
    tile[:height] = small
    flags = " !" + ",".join(one.flags) if one.flags else ""
    label = f"#{one.rank} {one.time_seconds:.1f}s s{one.shot} c{one.cluster} q{one.quality:.2f}"
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
