"""MP4 and MOV files whose edit list plays several parts.

Where pictures are reordered, libavformat loses or doubles a picture at the borders of parts. Such a
list is therefore applied here: what it plays is decoded, and kept without loss in a copy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av.container
import numpy as np

from encoder.errors import SourceUnusable
from encoder.source.captions import caption_data
from encoder.source.captions.collecting import Beside
from encoder.source.choices import SourceChoices
from encoder.source.containers import edits as edit_lists
from encoder.source.containers.edits import Edit
from encoder.source.copy_facts import CopyFacts, EditFacts
from encoder.source.index import demuxed, is_torn
from encoder.source.opening.container import MOV, opened
from encoder.source.opening.streams import is_decodable, video_stream
from encoder.source.timestamps.edit_plan import plan_parts
from encoder.source.timestamps.lossless import EditedMedia, write_edited

MOST_EDITS = 1000
"""Largest number of edits of a track."""
MOST_SECONDS = 24 * 3600
"""Longest presentation of a track."""
MOST_PIXELS = 7_500_000_000
"""Pixels of all pictures that are decoded and kept for a file of no bytes: a source may take a
limited time to be examined (:mod:`encoder.source.sandbox`), which is longer for a larger file."""
PIXELS_PER_BYTE = 12.5
"""Pixels more for each byte of the file."""
_WRITTEN_PARTS = 12  # in a command that a message names
_MOST_TICKS = 10_000_000  # per second, of the copy's clock


@dataclass(frozen=True, slots=True)
class Edited:
    """A copy of what the edit list plays, without the list."""

    media: EditedMedia
    about: EditFacts
    suffix: str = "nut"

    @property
    def text_start(self) -> Fraction:
        """Time of the first picture on the source's clock, seconds."""
        return next(iter(self.media.parts[0].times.values())) * self.media.tick

    def facts(self, before: CopyFacts) -> CopyFacts:
        """Return what the copy has other than its source."""
        return replace(before, edits=self.about)

    def write(self, source: Path, made: Path) -> None:
        """Write the copy of ``source`` to ``made``."""
        write_edited(source, made, self.media)


def examine(path: Path, choices: SourceChoices) -> Edited | None:
    """Return the copy that a source of several edits needs, None for other sources.

    Raises:
        SourceUnusable: the source cannot be read, or its edits are too many or too long.
    """
    with opened(path) as container:
        if container.format.name != MOV:
            return None
        movie = edit_lists.movie_header(path)
        stream = video_stream(container, path)
        sounds = [each.index for each in container.streams.audio if is_decodable(each)]
        own = stream.index
        lists = {n: edit_lists.edit_list(movie, n) for n in (own, *sounds)}
        if all(_parts(each) < 2 for each in lists.values()):
            return None
        edit_lists.read_edits(path, own)
        context = stream.codec_context
        pixels, codec = context.width * context.height, context.codec.canonical_name
    if max(map(len, lists.values())) > MOST_EDITS:
        raise SourceUnusable(
            f"cannot use {path}: an edit list of over {MOST_EDITS} parts is not supported; "
            "export the title again with its edits applied"
        )
    if max(sum(edit.seconds for edit in each) for each in lists.values()) > MOST_SECONDS:
        raise SourceUnusable(
            f"cannot use {path}: its edit list lasts more than {MOST_SECONDS // 3600} h; cut it"
        )
    media, packet_bytes, captions = _media(path, lists, edit_lists.movie_timescale(movie))
    frames = sum(len(part.times) for part in media.parts)
    most = int(MOST_PIXELS + PIXELS_PER_BYTE * path.stat().st_size) // pixels
    if frames > most:
        raise SourceUnusable(
            f"cannot use {path}: its edit list plays {_parts(lists[own])} parts with {frames} "
            "frames, which have to be decoded to apply it, and for a file of this size that is "
            f"done up to {most} frames; {_way_out(media, own, sounds)}"
        )
    about = EditFacts(
        parts=_parts(lists[own]),
        codec=codec,
        packet_bytes=packet_bytes,
        keyframes=_keyframes(media),
        last_seconds=_last_ticks(media) * media.tick,
        captions=captions,
    )
    return Edited(media, about)


def _parts(edits: tuple[Edit, ...]) -> int:
    return sum(edit.media_seconds is not None and edit.seconds > 0 for edit in edits)


def _keyframes(media: EditedMedia) -> int:
    keys = {time for time, _ in media.keyframes}
    return len(media.parts) + sum(len(keys & set(list(part.times)[1:])) for part in media.parts)


def _last_ticks(media: EditedMedia) -> int:
    *_, last = media.parts[-1].times.values()
    return max(1, media.end - last)


def _way_out(media: EditedMedia, video: int, sounds: Sequence[int]) -> str:
    """Return what the user can do: a command that applies the list, where it is short enough."""
    edits = media.sounds[sounds[0]] if sounds else ()
    if len(media.parts) > _WRITTEN_PARTS or len(edits) > _WRITTEN_PARTS:
        return "export the title again with its edits applied"
    graphs: list[str] = []
    ends = ""
    pictures = [list(part.times) for part in media.parts]
    heard = [edit for edit in edits if edit.media_seconds is not None and edit.seconds > 0]
    if sounds and len(heard) != len(edits):
        return "export the title again with its edits applied"
    for times in pictures:
        trim = f"trim=start_pts={times[0]}:end_pts={times[-1] + 1},setpts=PTS-STARTPTS"
        graphs.append(f"[0:{video}]{trim}[v{len(graphs)}]")
        ends += f"[v{len(graphs) - 1}]"
    graphs.append(f"{ends}concat=n={len(pictures)}[v]")
    maps = "-map [v]"
    if heard:
        ends = ""
        for number, edit in enumerate(heard):
            start = edit.media_seconds or Fraction(0)
            trim = f"start={float(start):.6f}:end={float(start + edit.seconds):.6f}"
            graphs.append(f"[0:{sounds[0]}]atrim={trim},asetpts=PTS-STARTPTS[a{number}]")
            ends += f"[a{number}]"
        graphs.append(f"{ends}concat=n={len(heard)}:v=0:a=1[a]")
        maps += " -map [a] -c:a pcm_s24le"
    return (
        "apply it first with ffmpeg -ignore_editlist 1 -i IN -filter_complex "
        f"'{';'.join(graphs)}' {maps} -c:v ffv1 OUT.mkv"
    )


def _media(
    path: Path, lists: dict[int, tuple[Edit, ...]], movie_ticks: int
) -> tuple[EditedMedia, int, bool]:
    """Return what of the media is played, the coded bytes of its pictures, and whether they carry
    captions.
    """
    with opened(path, unedited=True) as container:
        stream = video_stream(container, path)
        number, tick = stream.index, Fraction(stream.time_base or 1)
        times, sizes, keys, captions = _pictures(container, stream)
    if not keys or not times:
        raise SourceUnusable(
            f"cannot use {path}: it has no keyframe; the file is damaged, copy it again"
        )
    first = keys[0][0]
    shown = sorted(time for time in times if time >= first)
    durations = [max(1, after - time) for time, after in pairwise(shown)]
    durations.append(max(1, times[shown[-1]] or (int(np.median(durations)) if durations else 1)))
    ticks = math.lcm(tick.denominator, movie_ticks) if tick.numerator == 1 else tick.denominator
    title_tick = Fraction(1, ticks if ticks <= _MOST_TICKS else tick.denominator)
    whole = (shown[-1] + durations[-1]) * tick
    edits = lists[number] or (Edit(whole, Fraction(1), Fraction(0)),)
    parts, end = plan_parts(
        edits,
        list(zip(shown, durations, strict=True)),
        [time for time, _ in keys],
        tick,
        title_tick,
    )
    if not parts:
        raise SourceUnusable(
            f"cannot use {path}: its edit list plays none of its {len(shown)} pictures; export "
            "the title again with its edits applied"
        )
    sounds = {other: each for other, each in lists.items() if other != number}
    media = EditedMedia(number, title_tick, tuple(keys), tuple(parts), end, sounds)
    return media, sum(sizes[time] for part in parts for time in part.times), captions


def _pictures(
    container: av.container.InputContainer, stream: Any
) -> tuple[dict[int, int], dict[int, int], list[tuple[int, int]], bool]:
    """Return duration and coded bytes of each picture by its time in the media, the presentation
    and decoding time of each keyframe, and whether pictures carry captions; times in ticks.
    """
    codec = stream.codec_context.codec.canonical_name
    beside = Beside(container, stream)
    times: dict[int, int] = {}
    sizes: dict[int, int] = {}
    keys: list[tuple[int, int]] = []
    last: int | None = None
    for each in demuxed(container, stream, beside):
        packet = each.packet
        if codec in caption_data.CODECS:
            beside.in_pictures.add_picture(
                codec, last if each.completes else packet.pts, bytes(packet)
            )
        if each.completes:
            if last is not None:
                sizes[last] += packet.size
                times[last] *= 2
            continue
        last = None
        if packet.pts is None or not each.coded or is_torn(packet):
            continue
        last = packet.pts
        times[last], sizes[last] = packet.duration or 0, packet.size
        if each.key:
            keys.append((last, last if packet.dts is None else packet.dts))
    return times, sizes, sorted(keys), _carry(beside)


def _carry(beside: Beside) -> bool:
    return any(data.origin == "pictures" for data in beside.captions())
