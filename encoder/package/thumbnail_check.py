"""Thumbnails as HLS and DASH declare them, read back and compared with the pictures themselves.

It shares no code with the modules that write them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import PurePosixPath
from xml.etree import ElementTree as ET

_MPD = "{urn:mpeg:dash:schema:mpd:2011}"
_TILES = "http://dashif.org/guidelines/thumbnail_tile"
_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^",]*)(?:,|\Z)')
_NUMBER = re.compile(r"\$Number%0(\d+)d\$")
_MICROSECOND = Fraction(1, 1_000_000)
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers of JPEG frame headers

Read = Callable[[str], bytes]
"""Returns a file of the package."""


def check_thumbnails(master: str, manifest: str, read: Read, seconds: Fraction) -> bool:
    """Check the thumbnails of a package; return whether it has any.

    Args:
        master: The multivariant playlist of HLS.
        manifest: The manifest of DASH.
        read: Returns a file of the package by its path.
        seconds: Duration of the title.

    Raises:
        ValueError: what is declared is not what there is, or differs between HLS and DASH.
    """
    streams = [line for line in master.splitlines() if line.startswith("#EXT-X-IMAGE-STREAM-INF:")]
    sets = [
        one
        for one in ET.fromstring(manifest).iterfind(f"{_MPD}Period/{_MPD}AdaptationSet")
        if one.get("contentType") == "image"
    ]
    if len(streams) != len(sets) or len(sets) > 1:
        raise ValueError(f"HLS has {len(streams)} tracks of thumbnails, DASH {len(sets)}")
    if not sets:
        return False
    attributes = _attributes(streams[0])
    in_hls = dict(_sheets(attributes, read, seconds))
    in_dash = list(_numbered(sets[0], read, seconds))
    if list(in_hls) != in_dash:
        raise ValueError(f"HLS has the thumbnails {list(in_hls)}, DASH {in_dash}")
    peak = max(8 * len(read(uri)) / lasts for uri, lasts in in_hls.items())
    for name, said in (
        ("HLS", attributes.get("BANDWIDTH", "")),
        ("DASH", _representation(sets[0]).get("bandwidth", "")),
    ):
        if not said.isdecimal() or not peak <= int(said) < peak + 2:
            raise ValueError(f"{name} says {said} bit/s of thumbnails, they have {float(peak):.0f}")
    return True


def _attributes(line: str) -> dict[str, str]:
    value = line.partition(":")[2]
    return {one[1]: one[2].strip('"') for one in _ATTRIBUTE.finditer(value)}


def _sheets(
    stream: dict[str, str], read: Read, seconds: Fraction
) -> Iterator[tuple[str, Fraction]]:
    """Yield each sheet of the image playlist with its duration, as far as it is right."""
    uri = stream.get("URI", "")
    lines = read(uri).decode().splitlines()
    if "#EXT-X-IMAGES-ONLY" not in lines or lines[-1:] != ["#EXT-X-ENDLIST"]:
        raise ValueError(f"{uri} is no playlist of images with an end")
    duration, total, tiles = Fraction(), Fraction(), dict[str, str]()
    for line in lines:
        if line.startswith("#EXTINF:"):
            duration = Fraction(line.removeprefix("#EXTINF:").split(",")[0])
        elif line.startswith("#EXT-X-TILES:"):
            tiles = _attributes(line)
        elif not line.startswith("#"):
            sheet = str(PurePosixPath(uri).parent / line)
            _check_tiles(sheet, tiles, stream, duration, _jpeg_size(read(sheet)))
            total += duration
            yield sheet, duration
    if abs(total - seconds) > _MICROSECOND:
        raise ValueError(f"{uri} lasts {float(total):.6f} s, the title {float(seconds):.6f} s")


def _check_tiles(
    sheet: str,
    tiles: dict[str, str],
    stream: dict[str, str],
    duration: Fraction,
    size: tuple[int, int],
) -> None:
    width, height = map(int, tiles["RESOLUTION"].split("x"))
    columns, rows = map(int, tiles["LAYOUT"].split("x"))
    step = Fraction(tiles["DURATION"])
    if tiles["RESOLUTION"] != stream.get("RESOLUTION"):
        raise ValueError(f"{sheet} has tiles of {tiles['RESOLUTION']}, master.m3u8 says "
                         f"{stream.get('RESOLUTION')}")  # fmt: skip
    if (columns * width, rows * height) != size:
        raise ValueError(f"{sheet} has {size[0]}x{size[1]} pixels, its tiles "
                         f"{columns * width}x{rows * height}")  # fmt: skip
    if not (rows - 1) * columns * step < duration <= rows * columns * step + _MICROSECOND * 100:
        raise ValueError(f"{sheet} lasts {float(duration):.3f} s with {columns}x{rows} tiles of "
                         f"{float(step):.3f} s")  # fmt: skip


def _representation(adaptation: ET.Element) -> ET.Element:
    found = adaptation.find(f"{_MPD}Representation")
    if found is None:
        raise ValueError("the thumbnails of DASH have no representation")
    return found


def _numbered(adaptation: ET.Element, read: Read, seconds: Fraction) -> Iterator[str]:
    """Yield the sheets of an adaptation set of tiles."""
    representation = _representation(adaptation)
    template = adaptation.find(f"{_MPD}SegmentTemplate")
    layout = representation.find(f"{_MPD}EssentialProperty[@schemeIdUri='{_TILES}']")
    if template is None or layout is None:
        raise ValueError("the thumbnails of DASH lack their template or their tiles")
    columns, rows = map(int, layout.attrib["value"].split("x"))
    size = int(representation.attrib["width"]), int(representation.attrib["height"])
    if size[0] % columns or size[1] % rows:
        raise ValueError(f"DASH divides {size[0]}x{size[1]} pixels in {columns}x{rows} tiles")
    lasts = Fraction(int(template.attrib["duration"]), int(template.attrib["timescale"]))
    first = int(template.attrib["startNumber"])
    for number in range(math.ceil(seconds / lasts)):
        uri = _NUMBER.sub(
            lambda found, n=number: str(first + n).zfill(int(found[1])),  # type: ignore[misc]
            template.attrib["media"],
        )
        found = _jpeg_size(read(uri))
        if found[0] != size[0] or (found[1] != size[1] and (number + 1) * lasts < seconds):
            raise ValueError(f"{uri} has {found[0]}x{found[1]} pixels, DASH says {size}")
        yield uri


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Return width and height of a JPEG file."""
    place = 2
    while data[:2] == b"\xff\xd8" and place + 9 <= len(data) and data[place] == 0xFF:
        if data[place + 1] in _FRAMES:
            height, width = (int.from_bytes(data[at : at + 2]) for at in (place + 5, place + 7))
            return width, height
        place += 2 + int.from_bytes(data[place + 2 : place + 4])
    raise ValueError("a sheet of thumbnails is no JPEG")
