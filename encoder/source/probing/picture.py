"""What the first decoded frame of a source states: its sampling, orientation, metadata and 3D."""

from __future__ import annotations

import struct
from typing import Any

import av
from av.sidedata.sidedata import SideData

from encoder.source.colour.hdr_metadata import MasteringDisplay, StaticMetadata
from encoder.source.probing.geometry import orientation_filters

_PACKINGS = {
    1: "side by side",
    2: "one above the other",
    3: "in alternate frames",
    4: "as a checkerboard",
    5: "side by side, as a quincunx",
    6: "in alternate lines",
    7: "in alternate columns",
    8: "in one of several views",
}


def chroma_sampling(frame: av.VideoFrame) -> str:
    """Return ``420``, ``422``, ``444``, ``411``, ``gray`` or ``rgb``."""
    layout = frame.format
    if layout.is_rgb or layout.has_palette:
        return "rgb"
    if len(layout.components) < 3:
        return "gray"
    across = layout.width // max(1, layout.chroma_width())
    down = layout.height // max(1, layout.chroma_height())
    return {(1, 1): "444", (2, 1): "422", (2, 2): "420", (4, 1): "411"}.get((across, down), "420")


def orientation(frame: av.VideoFrame) -> tuple[str, ...] | None:
    """Return the filters that turn a decoded picture upright, None where it states nothing."""
    matrix = _side_data(frame, "DISPLAYMATRIX")
    return orientation_filters(struct.unpack("=9i", matrix[:36])) if matrix else None


def stereo_packing(frame: av.VideoFrame) -> str | None:
    """Return how a picture holds the views of both eyes, in words; None for a flat picture."""
    packing = _side_data(frame, "STEREO3D")
    return _PACKINGS.get(struct.unpack("=i", packing[:4])[0]) if packing else None


def stated_twice(frame: av.VideoFrame) -> bool:
    """Return True where container and bitstream both state an orientation or a 3D packing."""
    names = [data.type.name for data in _all(frame)]
    return any(names.count(name) > 1 for name in ("DISPLAYMATRIX", "STEREO3D"))


def static_metadata(frame: av.VideoFrame) -> StaticMetadata:
    """Return the HDR metadata for displays that a frame states."""
    display, light = None, None
    data = frame.side_data.get("MASTERING_DISPLAY_METADATA")
    if isinstance(data, SideData):
        display = MasteringDisplay.of(bytes(data))
    data = frame.side_data.get("CONTENT_LIGHT_LEVEL")
    if isinstance(data, SideData):
        brightest, average = struct.unpack("=2I", bytes(data)[:8])
        light = (brightest, average) if brightest or average else None
    return StaticMetadata(display, light)


def _side_data(frame: av.VideoFrame, name: str) -> bytes | None:
    """Return the first side data of a name: the container's, where the bitstream has some too."""
    return next((bytes(data) for data in _all(frame) if data.type.name == name), None)


def _all(frame: av.VideoFrame) -> list[SideData]:
    found: Any = frame.side_data  # of another type than PyAV declares
    return [found[number] for number in range(len(found))]
