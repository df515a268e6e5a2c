"""Plan a source: find every fact that reading its canonical frames needs."""

from __future__ import annotations

import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from encoder.errors import SourceUnusable
from encoder.source.captions.texts import TextsBeside, captions_of_copy, read_texts, with_styles
from encoder.source.choices import DEFAULT_CHOICES, SourceChoices
from encoder.source.completeness import check_complete, check_duration
from encoder.source.copy_facts import EditFacts
from encoder.source.index import FrameIndex, index_frames
from encoder.source.probing import single_picture
from encoder.source.reference import ReferenceSource
from encoder.source.scan.correction import correct_scan
from encoder.source.sound.plan import plan_sounds
from encoder.source.timeline.constant_rate import plan_timeline
from encoder.source.timeline.ends import plan_ends, sound_spans
from encoder.source.timeline.gaps import check_gaps
from encoder.source.timestamps import naming_source, prepare

MAX_SECONDS = 24 * 3600
"""Longest accepted title: a gap of years between two frames would be filled with frames."""


def plan_source(
    path: str | os.PathLike[str],
    workdir: str | os.PathLike[str],
    choices: SourceChoices = DEFAULT_CHOICES,
) -> ReferenceSource:
    """Probe and index a source; a stream without timestamps is remuxed into ``workdir`` first.

    Raises:
        SourceUnusable: the source cannot be read or is not supported.
        BadInput: the user's choices do not fit the source.
    """
    try:
        return _plan(path, workdir, choices)
    except SourceUnusable as error:
        raise naming_source(error, path, workdir) from error


def _plan(
    path: str | os.PathLike[str], workdir: str | os.PathLike[str], choices: SourceChoices
) -> ReferenceSource:
    shortfall = check_complete(path, accept=choices.accept_truncated)
    prepared = prepare(path, workdir, choices)
    timed, given, info = prepared.path, prepared.given, prepared.info
    plan_sounds(info, choices.audio_layout)  # what the user names must be there
    index = index_frames(timed)
    if prepared.facts.edits is not None:
        index = _of_edits(index, prepared.facts.edits)
    check_gaps(path, timed, index)
    single_picture.check_frames(path, given.container, index.frames, bool(given.audio))
    sound = sound_spans(timed, [stream.index for stream in info.audio])
    index, hold, ends = plan_ends(
        path, index, sound, info.duration_seconds_from_header, choices.tail
    )
    if index.duration_seconds > MAX_SECONDS:
        raise SourceUnusable(
            f"cannot use {path}: it claims to last {float(index.duration_seconds) / 3600:.0f} h, "
            f"more than {MAX_SECONDS // 3600} h; cut it"
        )
    texts = TextsBeside(index.styled, index.captions)
    if prepared.text_start is not None:
        texts = read_texts(path)
        shift = index.start_seconds - prepared.text_start
        texts = replace(texts, captions=captions_of_copy(index.captions, texts.captions, shift))
    info = with_styles(info, texts.styled)
    shortfall = shortfall or check_duration(
        path,
        max(index.start_seconds, Fraction(0)) + index.duration_seconds,
        index.frames,
        accept=choices.accept_truncated,
    )
    claims = (given.rate_from_bitstream, info.base_rate_from_header)
    timeline = plan_timeline(index, claims, hold)
    return ReferenceSource(
        path=str(Path(timed).resolve()),
        info=correct_scan(info, index, timeline.frame_rate),
        index=index,
        timeline=timeline,
        given=given.path,
        choices=choices,
        shortfall=shortfall,
        captions=texts.captions,
        copied=prepared.facts,
        ends=ends,
        text_start=prepared.text_start if any(s.text for s in info.subtitles) else None,
    )


def _of_edits(index: FrameIndex, edits: EditFacts) -> FrameIndex:
    """Return the index of a copy of decoded pictures with what its container does not hold."""
    return replace(
        index,
        packet_bytes=edits.packet_bytes,
        last_duration=max(1, round(edits.last_seconds / index.time_base)),
    )
