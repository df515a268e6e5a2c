"""What a title is, kept in the store: tasks carry its key, not its index.

The index of a 2-hour title is 3 MB. A worker reads it once, and a title's hundreds of tasks stay
small on their way through the scheduler.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import replace
from fractions import Fraction

import numpy as np
from pydantic import BaseModel, TypeAdapter
from safetensors import numpy as tensors

from cluster.stages.encodes import TitleSource
from cluster.store import Store, open_store
from cluster.store.keys import key
from encoder.errors import StoreUnusable
from encoder.source.index import FrameIndex
from encoder.source.probe import SourceInfo
from encoder.source.reference import ReferenceSource
from encoder.source.timeline import Timeline

VERSION = 1


class _Facts(BaseModel):
    sha256: str
    info: SourceInfo
    time_base: Fraction
    last_duration: int
    packet_bytes: int
    frame_rate: Fraction
    frames: int
    tone_mapped: bool


def describe(title: TitleSource, store: Store) -> str:
    """Keep what a title is; the key of it."""
    content = to_bytes(title)
    identity = key("title", VERSION, content=hashlib.sha256(content).hexdigest())
    if store.get(identity) is None:
        store.publish(
            identity,
            value={},
            blobs={"title": store.put_blob(content)},
            stage="title",
            version=VERSION,
            title=title.id,
        )
    return identity


def described(place: str, identity: str, path: str) -> TitleSource:
    """The title that :func:`describe` kept in the store at ``place``; read once in a process.

    ``path`` is where its source is: what is kept does not depend on that.

    Raises:
        StoreUnusable: it is not there.
    """
    return _read(place, identity, path)


@functools.lru_cache(maxsize=8)
def _read(place: str, identity: str, path: str) -> TitleSource:
    store = open_store(place)
    record = store.get(identity)
    if record is None:
        raise StoreUnusable(f"the store at {place} lost what a title is while it was in use")
    return from_bytes(store.path(record.blobs["title"]).read_bytes(), path)


def to_bytes(title: TitleSource) -> bytes:
    """A title source, but its paths, as bytes: safetensors, with its facts as JSON."""
    reference = title.reference
    index, timeline = reference.index, reference.timeline
    facts = _Facts(
        sha256=title.sha256,
        info=replace(reference.info, path=""),
        time_base=index.time_base,
        last_duration=index.last_duration,
        packet_bytes=index.packet_bytes,
        frame_rate=timeline.frame_rate,
        frames=timeline.frames,
        tone_mapped=reference.tone_mapped,
    )
    arrays = {
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


def from_bytes(content: bytes, path: str) -> TitleSource:
    """What :func:`to_bytes` made bytes of, with its source at ``path``."""
    arrays = tensors.load(content)
    length = int.from_bytes(content[:8], "little")
    header = TypeAdapter(dict[str, dict[str, object]]).validate_json(content[8 : 8 + length])
    facts = _Facts.model_validate_json(str(header["__metadata__"]["facts"]))
    return TitleSource(
        reference=ReferenceSource(
            path=path,
            info=replace(facts.info, path=path),
            index=FrameIndex(
                time_base=facts.time_base,
                pts=arrays["pts"],
                keyframe_pts=arrays["keyframe_pts"],
                keyframe_dts=arrays["keyframe_dts"],
                last_duration=facts.last_duration,
                packet_bytes=facts.packet_bytes,
            ),
            timeline=Timeline(facts.frame_rate, facts.frames, arrays.get("source_of")),
            tone_mapped=facts.tone_mapped,
        ),
        sha256=facts.sha256,
    )
