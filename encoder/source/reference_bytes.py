"""A planned source as bytes: arrays as safetensors, all other facts as JSON in their header.

Paths are left out, because they differ from machine to machine; the reader of the bytes adds its
own. Reading runs no code and checks all values, so the bytes may come from a process that a hostile
file has taken over (:mod:`encoder.source.sandbox`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any, NotRequired

import numpy as np
from safetensors import numpy as tensors
from typing_extensions import TypedDict

from encoder.arrays import AnyArray, Int64, UInt8
from encoder.source.captions.collecting import CaptionData, Origin
from encoder.source.choices import DEFAULT_CHOICES, SourceChoices
from encoder.source.completeness import Shortfall
from encoder.source.copy_facts import NO_CHANGES, CopyFacts
from encoder.source.index import FrameIndex
from encoder.source.later import document
from encoder.source.probing.source_info import SourceInfo
from encoder.source.reference import ReferenceSource
from encoder.source.timeline.constant_rate import Timeline
from encoder.source.timeline.ends import NO_ENDS, Ends

_LENGTH_BYTES = 8  # of the header, at the beginning of a safetensors file


class _Captions(TypedDict):
    """Facts of caption data that are no arrays."""

    origin: Origin
    stream_index: int
    language: str | None
    time_base: Fraction


class _Facts(TypedDict):
    """Facts of a planned source that are no arrays; the names and the order are a file format.

    A fact that was added after a release is left out where it has its default
    (:mod:`encoder.source.later`).
    """

    info: SourceInfo
    time_base: Fraction
    last_duration: int
    packet_bytes: int
    frame_rate: Fraction
    frames: int
    tone_mapped: bool
    choices: NotRequired[SourceChoices]
    shortfall: NotRequired[Shortfall]
    captions: NotRequired[list[_Captions]]
    copied: NotRequired[CopyFacts]
    ends: NotRequired[Ends]
    head: NotRequired[int]
    phase_seconds: NotRequired[Fraction]
    moved: NotRequired[int]
    text_start: NotRequired[Fraction]


def to_bytes(reference: ReferenceSource, **more: str) -> bytes:
    """Serialise a planned source without its paths; ``more`` are facts that precede its own."""
    index, timeline = reference.index, reference.timeline
    arrays: dict[str, AnyArray] = {
        "pts": index.pts,
        "keyframe_pts": index.keyframe_pts,
        "keyframe_dts": index.keyframe_dts,
    }
    if timeline.source_of is not None:
        arrays["source_of"] = timeline.source_of
    facts: _Facts = {
        "info": replace(reference.info, path=""),
        "time_base": index.time_base,
        "last_duration": index.last_duration,
        "packet_bytes": index.packet_bytes,
        "frame_rate": timeline.frame_rate,
        "frames": timeline.frames,
        "tone_mapped": reference.tone_mapped,
    }
    if reference.choices != DEFAULT_CHOICES:
        facts["choices"] = reference.choices
    if reference.shortfall is not None:
        facts["shortfall"] = reference.shortfall
    for number, data in enumerate(reference.captions):
        arrays |= {f"captions{number}_pts": data.pts, f"captions{number}_pairs": data.pairs}
    if reference.captions:
        facts["captions"] = [
            _Captions(
                origin=data.origin,
                stream_index=data.stream_index,
                language=data.language,
                time_base=data.time_base,
            )
            for data in reference.captions
        ]
    if reference.copied != NO_CHANGES:
        facts["copied"] = reference.copied
    if reference.ends != NO_ENDS:
        facts["ends"] = reference.ends
    if timeline.head:
        facts["head"] = timeline.head
    if timeline.phase_seconds:
        facts["phase_seconds"] = timeline.phase_seconds
    if timeline.moved:
        facts["moved"] = timeline.moved
    if reference.text_start is not None:
        facts["text_start"] = reference.text_start
    plain = {**more, **{name: document(fact) for name, fact in facts.items()}}
    text = json.dumps(plain, default=str, ensure_ascii=False, separators=(",", ":"))
    return tensors.save(
        {name: np.ascontiguousarray(array) for name, array in arrays.items()}, {"facts": text}
    )


def from_bytes(content: bytes, *more: str) -> tuple[ReferenceSource, list[str]]:
    """Read what :func:`to_bytes` wrote, and the further facts called ``more``.

    :func:`located` adds the paths.

    Raises:
        ValueError: the bytes are damaged, or no such source can exist.
    """
    # Writing needs no pydantic: the process that plans a source starts 0.3 s sooner without it.
    from pydantic import TypeAdapter

    try:
        arrays: Mapping[str, AnyArray] = tensors.load(content)
        end = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
        text = json.loads(content[_LENGTH_BYTES:end])["__metadata__"]["facts"]
        facts = TypeAdapter(_Facts).validate_json(text)
        further = [str(json.loads(text)[name]) for name in more]
        times = {name: _ticks(arrays, name) for name in ("pts", "keyframe_pts", "keyframe_dts")}
        source_of = _ticks(arrays, "source_of") if "source_of" in arrays else None
        captions = tuple(
            CaptionData(
                **each,
                pts=_ticks(arrays, f"captions{number}_pts"),
                pairs=_pairs(arrays, f"captions{number}_pairs"),
            )
            for number, each in enumerate(facts.get("captions", []))
        )
    except Exception as error:  # safetensors, pydantic and Fraction each raise their own
        raise ValueError(f"not a planned source ({type(error).__name__})") from error
    reference = ReferenceSource(
        path="",
        info=facts["info"],
        index=FrameIndex(
            time_base=facts["time_base"],
            pts=times["pts"],
            keyframe_pts=times["keyframe_pts"],
            keyframe_dts=times["keyframe_dts"],
            last_duration=facts["last_duration"],
            packet_bytes=facts["packet_bytes"],
        ),
        timeline=Timeline(
            facts["frame_rate"],
            facts["frames"],
            source_of,
            facts.get("head", 0),
            facts.get("phase_seconds", Fraction(0)),
            facts.get("moved", 0),
        ),
        tone_mapped=facts["tone_mapped"],
        choices=facts.get("choices", DEFAULT_CHOICES),
        shortfall=facts.get("shortfall"),
        captions=captions,
        copied=facts.get("copied", NO_CHANGES),
        ends=facts.get("ends", NO_ENDS),
        text_start=facts.get("text_start"),
    )
    _check(reference)
    return reference, further


def located(reference: ReferenceSource, path: str, given: str = "") -> ReferenceSource:
    """Return what :func:`from_bytes` returned with its paths on this machine.

    ``given`` is the file that was given, where ``path`` is a copy of it with timestamps.
    """
    info = replace(reference.info, path=path)
    return replace(reference, path=path, info=info, given=given)


def _ticks(arrays: Mapping[str, Any], name: str) -> Int64:
    array = arrays[name]
    if array.dtype != np.int64 or array.ndim != 1 or not len(array):
        raise ValueError(f"{name} is not a row of 64 bit integers")
    return np.asarray(array)


def _pairs(arrays: Mapping[str, Any], name: str) -> UInt8:
    array = arrays[name]
    if array.dtype != np.uint8 or array.ndim != 2 or array.shape[1] != 3 or array[:, 0].max() > 3:
        raise ValueError(f"{name} is not rows of a type and two bytes")
    return np.asarray(array)


def _check(reference: ReferenceSource) -> None:
    index, timeline = reference.index, reference.timeline
    if index.time_base <= 0 or timeline.frame_rate <= 0:
        raise ValueError("the time of a planned source does not advance")
    if (np.diff(index.pts) < 0).any() or (np.diff(index.keyframe_pts) < 0).any():
        raise ValueError("the timestamps of a planned source are out of order")
    for data in reference.captions:
        if data.time_base <= 0 or len(data.pts) != len(data.pairs) or (np.diff(data.pts) < 0).any():
            raise ValueError("the captions of a planned source are out of order")
    if len(index.keyframe_pts) != len(index.keyframe_dts):
        raise ValueError("the keyframes of a planned source lack a time")
    edges = [edge for run in reference.info.interlaced_runs for edge in (run.start, run.end)]
    if edges != sorted(set(edges)) or (edges and not 0 <= edges[0] < edges[-1] <= index.frames):
        raise ValueError("the interlaced runs of a planned source are out of order")
    shown = timeline.source_of
    if timeline.frames != (index.frames if shown is None else len(shown)):
        raise ValueError("the timeline of a planned source has another length than stated")
    if not 0 <= timeline.head < timeline.frames or (timeline.head and shown is None):
        raise ValueError("the timeline of a planned source never shows its first picture")
    if shown is not None and not 0 <= shown.min() <= shown.max() < index.frames:
        raise ValueError("the timeline of a planned source shows frames that do not exist")
