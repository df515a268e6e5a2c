"""One rung of a package as one file, for downloads and for other packagers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cluster.package.assemble import expected_segments
from cluster.package.explain import find_rung
from cluster.package.package import Package
from cluster.package.publish import publishing_file
from encoder.errors import BadInput
from encoder.package.progressive import (
    MediaFiles,
    Progressive,
    TextFile,
    check_progressive,
    format_of,
    read_sounds,
    read_texts,
    write_progressive,
)
from ladder.document import Rung

_Track = TypeVar("_Track", MediaFiles, TextFile)


@dataclass(frozen=True, slots=True)
class Exported:
    """A rung that was written as one file."""

    rung: Rung
    file: Progressive
    sounds: list[MediaFiles]
    texts: list[TextFile]
    plain_text: bool
    """True where the format keeps the text of subtitles, but not where and how they are shown."""


def export_rung(
    package: Package,
    rung: str,
    out: Path,
    *,
    sounds: Sequence[str] | None = None,
    texts: Sequence[str] | None = None,
) -> Exported:
    """Write a rung with its sound and subtitles as one file, and read it back.

    The file appears under its name when it has proven to be what the package is.

    Args:
        package: the package.
        rung: what :func:`.explain.find_rung` takes.
        out: the file, ``.mp4``, ``.m4v`` or ``.mkv``; it must not exist.
        sounds: languages of the sound to take; None takes all, and an empty sequence none.
        texts: the same for subtitles.

    Raises:
        BadInput: there is no such rung or language, the rung has several sizes, or ``out`` exists
            or is of another format.
        StoreUnusable: ``out`` cannot be written.
        VerificationFailed: the package or the file is not what was scored.
        ToolFailed: ffmpeg failed.
    """
    package.check_clear()
    chosen = find_rung(package.ladder, rung)
    format_of(out)
    if len({segment.size for segment in chosen.segments}) > 1:
        raise BadInput(
            f"rung {chosen.name} has shots of several sizes, which one file cannot hold; make the "
            "package with --policy locked"
        )
    with_sounds = _of_languages(read_sounds(package.directory), sounds, "sound")
    with_texts = _of_languages(read_texts(package.directory), texts, "subtitles")
    expected = expected_segments(package.directory, chosen)
    video = MediaFiles(
        init=package.directory / chosen.init_uri,
        segments=tuple(package.directory / segment.uri for segment in chosen.segments),
    )
    with publishing_file(out) as made:
        write_progressive(made, video, with_sounds, with_texts)
        file = check_progressive(
            made,
            package.frame_rate,
            [one for segment in expected for one in segment.frame_hashes],
            with_sounds,
            len(with_texts),
            pixel_format=package.recipe_of(chosen).pixel_format,
        )
    plain = format_of(out) == "mp4" and bool(with_texts)
    return Exported(chosen, file, with_sounds, with_texts, plain)


def _of_languages(tracks: list[_Track], languages: Sequence[str] | None, what: str) -> list[_Track]:
    """Return the tracks in some languages, in the order of the languages."""
    if languages is None:
        return tracks
    there = {track.language or "und" for track in tracks}
    for language in languages:
        if language not in there:
            has = f"its languages are {', '.join(sorted(there))}" if there else "it has none"
            raise BadInput(f"the package has no {what} in {language!r}; {has}")
    return [
        track
        for language in dict.fromkeys(languages)
        for track in tracks
        if (track.language or "und") == language
    ]
