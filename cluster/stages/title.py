"""A title: the source as it was opened, its shots, and the facts that documents state about it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from cluster.store.files import file_sha256
from encoder import ffmpeg
from encoder.analysis.features import ShotFeatures
from encoder.errors import BadInput, SourceUnusable
from encoder.media import Shot
from encoder.segmentation import AT_SHOTS, Cue, Segmentation
from encoder.source.choices import DEFAULT_CHOICES, SourceChoices
from encoder.source.colour import tonemap
from encoder.source.excerpt import Excerpt, as_excerpt, cut_excerpt
from encoder.source.part import WHOLE, ExcerptChoices
from encoder.source.reference import ReferenceSource
from encoder.source.sandbox import plan_guarded
from encoder.source.stamp import Stamp, check_same, settled, source_changed
from ladder.document import ExcerptFacts, TitleFacts


@dataclass(frozen=True, slots=True)
class TitleSource:
    """A source as stages use it: how its frames are read, and the digest that keys contain."""

    reference: ReferenceSource
    """How the canonical frames are read. Keys are made of it, on every machine."""
    sha256: str
    """Digest of the source's bytes. Keys contain it instead of the path."""
    piece: ReferenceSource | None = None
    """How frames are read instead, on a worker that has only a piece of the source."""
    stamp: Stamp | None = None
    """Stamp of the file before, while and after the digest was taken; None where nobody asked."""
    watched: str = ""
    """Path of the file that must not change while it is read; empty where this machine does not
    see it, and for an excerpt, which is a copy."""
    segmentation: Segmentation = AT_SHOTS
    """Where the title's segments begin; :attr:`Title.shots` are the segments."""
    excerpt: Excerpt | None = None
    """Which part of a source the title is; None where it is the whole."""

    @property
    def id(self) -> str:
        """First 16 hexadecimal digits of the source's digest."""
        return self.sha256[:16]

    @property
    def readable(self) -> ReferenceSource:
        """What frames are read from on this machine: the piece, or else the reference."""
        return self.piece or self.reference


@dataclass(frozen=True, slots=True)
class Title:
    """A source and its shots."""

    name: str
    """File name of the source."""
    source: TitleSource
    shots: tuple[Shot, ...]
    shot_features: tuple[ShotFeatures, ...] | None = None
    """Features of the shots, where these are a sample of the title's, of which the store has none;
    else None."""

    @property
    def covered(self) -> Fraction:
        """Share of the title's frames that are in its shots: less than 1 for a sample."""
        return Fraction(sum(shot.frames for shot in self.shots), self.reference.frames)

    @property
    def reference(self) -> ReferenceSource:
        """How the title's canonical frames are read."""
        return self.source.reference

    @property
    def id(self) -> str:
        """First 16 hexadecimal digits of the source's digest."""
        return self.source.id

    @property
    def cues(self) -> tuple[Cue, ...]:
        """Cues for ad insertion at the title's frames; each begins a segment."""
        reference = self.reference
        return self.source.segmentation.cues_in(reference.frames, reference.frame_rate)

    def facts(self, audio: bool) -> TitleFacts:
        """Return the facts that ``ladder.json`` states about the title."""
        reference = self.reference
        rate = reference.frame_rate
        return TitleFacts(
            id=self.id,
            source=self.shown_name,
            sha256=self.source.sha256,
            width=reference.width,
            height=reference.height,
            frame_rate=f"{rate.numerator}/{rate.denominator}",
            frames=reference.frames,
            source_bitrate=reference.index.bitrate,
            audio=audio,
            hdr=reference.hdr,
            tone_mapped=reference.mapped_from,
            excerpt=excerpt_facts(self.source.excerpt) if self.source.excerpt else None,
        )

    @property
    def shown_name(self) -> str:
        """Name to show to people, which tells an excerpt from the whole."""
        excerpt = self.source.excerpt
        return excerpt_name(self.name, excerpt) if excerpt else self.name


def excerpt_name(name: str, excerpt: Excerpt) -> str:
    """Return the name of an excerpt of a source: its own, and which part it is."""
    times = (
        excerpt.start_seconds,
        excerpt.start_seconds + excerpt.seconds,
        excerpt.of_seconds,
    )
    start, end, whole = (
        f"{int(seconds // 3600)}:{int(seconds % 3600 // 60):02d}:{float(seconds % 60):04.1f}"
        for seconds in times
    )
    part = f" [{start} to {end} of {whole}]"
    return name.removesuffix(part) + part  # once, where a package is opened again


def excerpt_facts(excerpt: Excerpt) -> ExcerptFacts:
    """Return what ``ladder.json`` says of an excerpt."""
    return ExcerptFacts(
        start_seconds=round(float(excerpt.start_seconds), 6),
        seconds=round(float(excerpt.seconds), 6),
        of_seconds=round(float(excerpt.of_seconds), 6),
        bitrate=excerpt.bitrate,
        of_bitrate=excerpt.of_bitrate,
        source_sha256=excerpt.source_sha256,
    )


def open_title(
    path: Path,
    workdir: Path,
    *,
    tone_map: bool = False,
    choices: SourceChoices = DEFAULT_CHOICES,
    digest: Callable[[Path], tuple[str, Stamp]] | None = None,
    segmentation: Segmentation = AT_SHOTS,
    part: ExcerptChoices = WHOLE,
) -> TitleSource:
    """Probe, index and digest a source.

    Args:
        path: File of the source.
        workdir: Folder for a copy of the source with timestamps, where the source has none.
        tone_map: Whether a high dynamic range source becomes a title of standard range.
        choices: What the user decided about the source.
        digest: Takes the digest instead of :func:`take_digest`.
        segmentation: Where the title's segments begin.
        part: Which part of the source becomes the title.

    Raises:
        SourceUnusable: the source cannot be read or is not supported.
        SourceChanged: the file is still being written, or changed meanwhile.
        BadInput: this ffmpeg lacks a filter for high dynamic range, or a boundary that was asked
            for lies outside the title.
    """
    # A link that is pointed elsewhere must not give the plan of one file and the digest of another.
    file = path.resolve()
    before = settled(file) if file.is_file() and os.access(file, os.R_OK) else None
    try:
        reference = plan_guarded(path if before is None else file, workdir, choices)
    except SourceUnusable:
        if before is not None:
            check_same(file, before, Stamp.of(file))
        raise
    check_hdr(path, reference)
    segmentation.check(reference.frames, reference.frame_rate)
    excerpt = None
    if not part.whole:
        reference, excerpt = _excerpt(reference, part, workdir, choices)
    if tone_map and reference.hdr is not None:
        reference = replace(reference, tone_mapped=True)
    sha256, stamp = (digest or take_digest)(file)
    if before is not None:
        check_same(file, before, stamp)
    if excerpt is not None:
        excerpt = replace(excerpt, source_sha256=sha256)
        return TitleSource(reference, excerpt.sha256, segmentation=segmentation, excerpt=excerpt)
    return TitleSource(
        reference=reference,
        sha256=sha256,
        stamp=stamp,
        watched=str(file),
        segmentation=segmentation,
    )


def _excerpt(
    whole: ReferenceSource, part: ExcerptChoices, workdir: Path, choices: SourceChoices
) -> tuple[ReferenceSource, Excerpt]:
    folder = workdir / "excerpt"
    folder.mkdir()
    copy = folder / f"{Path(whole.named).stem}.mkv"
    excerpt, begin = cut_excerpt(whole, part, copy)
    planned = plan_guarded(copy, folder, replace(choices, program=None))
    return as_excerpt(planned, whole, begin), excerpt


def take_digest(path: Path) -> tuple[str, Stamp]:
    """Return the SHA-256 of a file's bytes and the stamp that it had before and after.

    Raises:
        SourceChanged: the file changed while it was read, or cannot be read to its end.
    """
    before = Stamp.of(path)
    try:
        sha256 = file_sha256(path)
    except OSError as error:
        raise source_changed(
            f"{path} cannot be read to its end ({error.strerror})",
            "make it readable and run the same command again",
        ) from error
    check_same(path, before, Stamp.of(path))
    return sha256, before


def check_hdr(path: Path | str, reference: ReferenceSource) -> None:
    """Check that a high dynamic range title can be shown and measured.

    Raises:
        SourceUnusable: the source's colours are not BT.2020, the only ones supported with PQ and
            HLG.
        BadInput: this ffmpeg lacks a filter for high dynamic range.
    """
    info, hdr = reference.info, reference.hdr
    if hdr is None:
        return
    colours = (info.color_primaries or "bt2020", "rgb" if info.rgb else info.color_matrix)
    if colours[0] != "bt2020" or colours[1] not in (None, "bt2020nc"):
        raise SourceUnusable(
            f"cannot use {path}: it is high dynamic range ({hdr}) with {colours[0]} primaries and "
            f"{colours[1] or 'no'} matrix; convert it to BT.2020 primaries and the bt2020nc matrix"
        )
    if missing := ffmpeg.lacking(tonemap.FILTERS):
        raise BadInput(
            f"{path} is high dynamic range ({hdr}), for which ffmpeg needs {', '.join(missing)}; "
            f"unset {ffmpeg.ENVIRONMENT_VARIABLE} or name one built with it"
        )
