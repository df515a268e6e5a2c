"""Rungs of a title as files that decoders and browsers play: init and segment in one."""

from __future__ import annotations

import hashlib
from pathlib import Path

from encoder.encode import encode_shot
from encoder.media import OperatingPoint, Shot
from encoder.package.layout import Rendition, TitlePackage, VideoSegment
from encoder.package.write import write_package
from encoder.recipes import by_name
from encoder.source.reference import ReferenceSource

CRF = {"x264": 18, "x265": 18, "svtav1": 20, "vp9": 20}


def rung(source: ReferenceSource, codec: str, size: tuple[int, int], folder: Path) -> Path:
    """Encode a whole title as one shot, package it and return the rung as one file."""
    point = OperatingPoint(by_name(f"{codec}-ultrafast"), *size, CRF[codec])
    out = folder / f"{codec}-{size[1]}"
    out.mkdir(parents=True)
    (encode,), _ = encode_shot(source, Shot(0, source.frames), [point], out)
    media = encode.media_path.read_bytes()
    segment = VideoSegment(
        *(0, source.frames, media, len(media)),
        sha256=hashlib.sha256(media).hexdigest(),
        configuration=encode.codec_sha256,
    )
    rendition = Rendition("v", encode.init_path.read_bytes(), (segment,))
    package = TitlePackage(
        source.frame_rate, ((0, source.frames),), (rendition,), colour=source.colour
    )
    track = write_package(package, out / "package").video[0]
    parts = (track.init_uri, track.segments[0].uri)
    whole = out.with_suffix(".mp4")
    whole.write_bytes(b"".join((out / "package" / part).read_bytes() for part in parts))
    return whole
