"""Text that is not UTF-8: the encoding that its language usually has, where the bytes agree. Pure.

Detectors guess short texts wrong (Japanese as Korean), so nothing is detected: a language has one
usual encoding of old files, and the text is refused where it cannot be in that one.
"""

from __future__ import annotations

from collections.abc import Callable

_LATIN = {
    "CP1252": "en de fr es pt it nl sv da nb nn no fi is ca eu gl af id ms",
    "CP1250": "pl cs sk hu sl hr bs ro sq",
    "CP1254": "tr az",
    "CP1257": "lt lv et",
}
_OTHER = {
    "CP1251": "ru uk be bg mk sr kk mn",
    "CP1253": "el",
    "CP1255": "he",
    "CP1256": "ar fa ur",
}
_MOST_LATIN = 0.6
"""Share of letters beyond ASCII that a text of Latin letters with accents does not reach."""
_LEAST_OTHER = 0.3
"""Share of such letters that a text of another alphabet has."""
_LEAST_COMMON = 0.9
"""Share of common characters in a text of Chinese, Japanese or Korean that is decoded right."""
_COMMON_CHINESE = (("GB18030", "gb2312", 0xD7), ("BIG5", "big5", 0xC6))
"""Encodings, those of their common characters, and the last leading byte of these."""


def usual_encoding(language: str | None, content: bytes) -> str | None:
    """Return the name of the encoding for iconv and Python; None where it is not known.

    Args:
        language: tag of BCP 47, None where it is not known.
        content: the text.
    """
    primary = (language or "").split("-")[0].lower()
    if primary == "ja":
        return _checked(content, "CP932", lambda c: not "\uff61" <= c <= "\uff9f")
    if primary == "ko":
        return _checked(content, "CP949", lambda c: not c.isalpha() or "\uac00" <= c <= "\ud7a3")
    if primary == "zh":
        # Bytes of one decode in the other, too, but to characters that are rare.
        for name, common, last in _COMMON_CHINESE:
            if _checked(content, name, lambda c: _is_common(c, common, last)):  # noqa: B023
                return name
        return None
    for names, least, most in ((_LATIN, 0, _MOST_LATIN), (_OTHER, _LEAST_OTHER, 1)):
        for name, languages in names.items():
            text = _decoded(content, name) if primary in languages.split() else ""
            letters = [character for character in text if character.isalpha()]
            if letters and least <= sum(not c.isascii() for c in letters) / len(letters) <= most:
                return name
    return None


def _decoded(content: bytes, name: str) -> str:
    """Return the text, empty where it cannot be in that encoding."""
    try:
        return content.decode(name)
    except UnicodeDecodeError:
        return ""


def _checked(content: bytes, name: str, is_common: Callable[[str], bool]) -> str | None:
    """Return the name of the encoding where common characters are what the text has."""
    characters = [character for character in _decoded(content, name) if not character.isascii()]
    common = sum(map(is_common, characters))
    return name if characters and common >= _LEAST_COMMON * len(characters) else None


def _is_common(character: str, encoding: str, last: int) -> bool:
    lead = character.encode(encoding, "ignore")[:1]
    return b"\xa1" <= lead <= bytes((last,))
