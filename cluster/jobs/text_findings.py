"""Describe what becomes of the subtitles and captions of a source, once they were read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cluster.jobs.findings import Finding
from cluster.stages.texts import Text
from encoder.package.subtitles import recoding


def describe_texts(texts: Sequence[Text]) -> Iterator[Finding]:
    """Describe texts that are not UTF-8, and the cues that a title does not show."""
    for text in texts:
        if text.encoding and text.stream is not None:
            yield _recoded(text, text.stream)
        if text.unshown.total:
            yield _unshown(text)


def _recoded(text: Text, stream: int) -> Finding:
    other = recoding(stream, "ENCODING")
    return Finding(
        "subtitles",
        f"{text.name} are not UTF-8",
        f"are read as {text.encoding}, which is usual for their language ({text.language}); if "
        f"they are in another encoding, name it with {other}",
        "warn",
    )


def _unshown(text: Text) -> Finding:
    unshown = text.unshown
    counted = (
        (unshown.before, "before its first picture"),
        (unshown.after, "after its last picture"),
        (unshown.timeless, "for no time"),
        (unshown.cut, "in no part that is played"),
    )
    listed = [f"{number} {where}" for number, where in counted if number]
    every = unshown.total + len(text.cues)
    return Finding(
        "captions" if text.captions else "subtitles",
        f"{text.name}: {unshown.total} of {every} cues are not shown within the title "
        f"({', '.join(listed)})",
        "left out",
        "warn",
    )
