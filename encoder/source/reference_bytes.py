"""A planned source as bytes: arrays as safetensors, all other facts as JSON in their header.

Paths are left out, because they differ from machine to machine; the reader of the bytes adds its
own. Reading runs no code and checks all values, so the bytes may come from a process that a hostile
file has taken over (:mod:`encoder.source.sandbox`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any, Self, TypeVar

import numpy as np
from pydantic import BaseModel, TypeAdapter
from safetensors import numpy as tensors

from encoder.arrays import AnyArray, Int64
from encoder.source.index import FrameIndex
from encoder.source.probe import SourceInfo
from encoder.source.reference import ReferenceSource
from encoder.source.timeline import Timeline

_LENGTH_BYTES = 8  # of the header, at the beginning of a safetensors file
_HEADER = TypeAdapter(dict[str, dict[str, object]])


class ReferenceFacts(BaseModel):
    """Facts of a planned source that are no arrays; the names and the order are a file format."""

    info: SourceInfo
    """The probed source, without its path."""
    time_base: Fraction
    """Seconds per tick of the index."""
    last_duration: int
    """Ticks for which the last frame is shown."""
    packet_bytes: int
    """Coded bytes of the video stream."""
    frame_rate: Fraction
    """Frames per second of the canonical timeline."""
    frames: int
    """Number of canonical frames."""
    tone_mapped: bool
    """True where the reference is tone-mapped to standard range."""

    @classmethod
    def of(cls, reference: ReferenceSource, **more: object) -> Self:
        """Collect the facts of ``reference``; ``more`` are fields that a subclass adds."""
        index, timeline = reference.index, reference.timeline
        return cls(
            info=replace(reference.info, path=""),
            time_base=index.time_base,
            last_duration=index.last_duration,
            packet_bytes=index.packet_bytes,
            frame_rate=timeline.frame_rate,
            frames=timeline.frames,
            tone_mapped=reference.tone_mapped,
            **more,
        )


Facts = TypeVar("Facts", bound=ReferenceFacts)
"""Facts of a source, perhaps with further fields."""


def to_bytes(reference: ReferenceSource, facts: ReferenceFacts) -> bytes:
    """Serialise a planned source without its paths.

    Args:
        reference: The source.
        facts: :meth:`ReferenceFacts.of` the source.
    """
    index, timeline = reference.index, reference.timeline
    arrays: dict[str, AnyArray] = {
        "pts": index.pts,
        "keyframe_pts": index.keyframe_pts,
        "keyframe_dts": index.keyframe_dts,
    }
    if timeline.source_of is not None:
        arrays["source_of"] = timeline.source_of
    return tensors.save(
        {name: np.ascontiguousarray(array) for name, array in arrays.items()},
        {"facts": facts.model_dump_json()},
    )


def from_bytes(content: bytes, kind: type[Facts]) -> tuple[ReferenceSource, Facts]:
    """Read what :func:`to_bytes` wrote; :func:`located` adds the paths.

    Args:
        content: The bytes.
        kind: Model of the facts that were written.

    Raises:
        ValueError: the bytes are damaged, or no such source can exist.
    """
    try:
        arrays: Mapping[str, AnyArray] = tensors.load(content)
        end = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
        header = _HEADER.validate_json(content[_LENGTH_BYTES:end])
        facts = kind.model_validate_json(str(header["__metadata__"]["facts"]))
        times = {name: _ticks(arrays, name) for name in ("pts", "keyframe_pts", "keyframe_dts")}
        source_of = _ticks(arrays, "source_of") if "source_of" in arrays else None
    except Exception as error:  # safetensors, pydantic and Fraction each raise their own
        raise ValueError(f"not a planned source ({type(error).__name__})") from error
    reference = ReferenceSource(
        path="",
        info=facts.info,
        index=FrameIndex(
            time_base=facts.time_base,
            **times,
            last_duration=facts.last_duration,
            packet_bytes=facts.packet_bytes,
        ),
        timeline=Timeline(facts.frame_rate, facts.frames, source_of),
        tone_mapped=facts.tone_mapped,
    )
    _check(reference)
    return reference, facts


def located(reference: ReferenceSource, path: str, given: str = "") -> ReferenceSource:
    """Return the source with its paths on this machine.

    Args:
        reference: The source, as :func:`from_bytes` returns it.
        path: The file to read.
        given: The file that was given, where ``path`` is a copy of it with timestamps.
    """
    info = replace(reference.info, path=path)
    return replace(reference, path=path, info=info, given=given)


def _ticks(arrays: Mapping[str, Any], name: str) -> Int64:
    array = arrays[name]
    if array.dtype != np.int64 or array.ndim != 1 or not len(array):
        raise ValueError(f"{name} is not a row of 64 bit integers")
    return np.asarray(array)


def _check(reference: ReferenceSource) -> None:
    index, timeline = reference.index, reference.timeline
    if index.time_base <= 0 or timeline.frame_rate <= 0:
        raise ValueError("the time of a planned source does not advance")
    if (np.diff(index.pts) < 0).any() or (np.diff(index.keyframe_pts) < 0).any():
        raise ValueError("the timestamps of a planned source are out of order")
    if len(index.keyframe_pts) != len(index.keyframe_dts):
        raise ValueError("the keyframes of a planned source lack a time")
    shown = timeline.source_of
    if timeline.frames != (index.frames if shown is None else len(shown)):
        raise ValueError("the timeline of a planned source has another length than stated")
    if shown is not None and not 0 <= shown.min() <= shown.max() < index.frames:
        raise ValueError("the timeline of a planned source shows frames that do not exist")
