"""Which sounds of a source a title has, by the languages that a user asks for. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from encoder.errors import BadInput
from encoder.package.audio import known_language
from encoder.source.probing.audio_streams import ASIDE
from encoder.source.reference import ReferenceSource
from encoder.source.sound.plan import SourceSound, plan_sounds

UNKNOWN = "und"
"""Name of the language of sound that states none."""


def chosen_sounds(
    reference: ReferenceSource, languages: Sequence[str] = ()
) -> tuple[SourceSound, ...]:
    """Return the sounds of a source in the languages that are asked for, in their order.

    The first plays by default; commentary and other sound aside comes last, whatever its language.

    Args:
        reference: The source.
        languages: Tags as in RFC 5646; ``en`` also stands for ``en-GB``. Empty for all sounds.

    Raises:
        BadInput: the source has sound, but none in any of the languages.
    """
    layout = reference.choices.audio_layout
    planned = plan_sounds(reference.info, layout)
    if not languages or not planned:
        return planned
    ranks = [_rank(sound, languages) for sound in planned]
    kept = sorted(
        (bool(ASIDE & set(sound.roles)), rank, number)
        for number, (sound, rank) in enumerate(zip(planned, ranks, strict=True))
        if rank is not None
    )
    if not kept:
        here = ", ".join(dict.fromkeys(map(language_of, planned)))
        raise BadInput(
            f"--audio-languages names {', '.join(languages)}, and the source has sound in {here}; "
            "name one of these, or leave the option out"
        )
    return plan_sounds(reference.info, layout, [number for _, _, number in kept])


def missing_languages(
    reference: ReferenceSource, languages: Sequence[str]
) -> tuple[tuple[str, ...], tuple[SourceSound, ...]]:
    """Return the languages that no sound has, and the sounds of other languages."""
    planned = plan_sounds(reference.info, reference.choices.audio_layout)
    lacking = tuple(
        asked for asked in languages if all(_rank(sound, [asked]) is None for sound in planned)
    )
    left = tuple(sound for sound in planned if _rank(sound, languages) is None)
    return lacking, left


def language_of(sound: SourceSound) -> str:
    """Return the language of a sound as a tag."""
    return known_language(sound.language) or UNKNOWN


def _rank(sound: SourceSound, languages: Sequence[str]) -> int | None:
    """Return the place of a sound's language among those asked for, None where it has none."""
    own = language_of(sound).lower()
    for rank, asked in enumerate(languages):
        # A tag that is none stands for nothing, least of all for sound that states no language.
        wanted = (known_language(asked) or asked).lower()
        if own == wanted or own.startswith(f"{wanted}-"):
            return rank
    return None
