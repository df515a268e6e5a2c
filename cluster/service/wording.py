"""What is wrong with a request, in words for people: what was asked, what is wrong, what to give.

Validation by pydantic speaks the language of schemas. Whoever typed a request reads the sentences
of this module instead, in the service's answers and in the client's errors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from cluster.service.redaction import without_secrets

NAME_WORDS: Final = "up to 128 letters, digits, `.`, `_` and `-`, of which the first is no sign"
IN_WORDS: Final = "in_words"
"""Type of validation errors whose message is a sentence for people already."""
_PLACES = ("body", "query", "path", "header", "cookie")
_SHOWN_CHARACTERS = 60
_PATTERNS: Final[Mapping[str, str]] = {
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$": f"give {NAME_WORDS}",
    r"^[A-Za-z0-9._-]{1,64}$": "give up to 64 letters, digits, `.`, `_` and `-`",
    r"^[A-Za-z0-9._-]{1,64}(,[A-Za-z0-9._-]{1,64}){0,7}$": (
        "give names of up to 64 letters, digits, `.`, `_` and `-`, with commas between them"
    ),
    r"^[^\x00-\x1f\x7f]+$": "give one line of text",
    r"^https?://[^\x00-\x20\x7f]+$": "give a URL that begins with https:// or http://",
    r"^[\x21-\x7e]{1,128}$": "give up to 128 ASCII characters without spaces",
    r"^[0-9]{1,18}$": "give `next` of the page before",
    r"^job-[0-9a-f]{20}$": "give the id of a job, such as job-0123456789abcdef0123",
    r"^[0-9a-f]{16}$": "give the `epoch` of the answer before",
    r"^[0-9a-f]{32}$": "give the 32 hexadecimal digits of a package",
    r"^[0-9a-f]{16}(-[0-9a-f]{8})?(,[0-9a-f]{16}(-[0-9a-f]{8})?)*$": (
        "give action ids, with commas between them"
    ),
    r"^[a-z0-9]{4}(,[a-z0-9]{4}){0,7}$": (
        "give codecs by their four letters, such as avc1,hvc1, with commas between them"
    ),
    r"^[0-9a-f]{16}(-[0-9a-f]{8})?$": "give an action id, such as 0123456789abcdef",
    r"^(shots|[0-9.]{1,13}(s|ms|f))$": "give `shots`, or a length such as 2s, 1920ms or 48f",
    r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$": "give a language by its tag, such as en or pt-BR",
    r"^[A-Za-z0-9._-]{0,64}$": "give up to 64 letters, digits, `.`, `_` and `-`",
    (
        r"^(metrics|embedding|perceptual_hash|faces|people|appeal|crops)"
        r"(,(metrics|embedding|perceptual_hash|faces|people|appeal|crops))*$"
    ): (
        "give some of metrics, embedding, perceptual_hash, faces, people, appeal and crops, with "
        "commas between them"
    ),
    r"^[0-9a-f]{64}$": "give the 64 hexadecimal digits of a SHA-256",
}
_KINDS: Final[Mapping[str, str]] = {
    "string": "text",
    "int": "a whole number",
    "float": "a number",
    "finite_number": "a number",
    "bool": "true or false",
    "list": "a list",
    "dict": "a JSON object",
    "model": "a JSON object",
    "model_attributes": "a JSON object",
    "datetime": "a time, such as 2027-01-31T20:00:00Z",
    "date": "a date, such as 2027-01-31",
}
_MISSING = object()


def pattern_words(pattern: str) -> str:
    """Return what to give for a value that has to match a regular expression."""
    return _PATTERNS.get(pattern, "give it as /openapi.json describes")


def field_of(error: Mapping[str, Any]) -> str:
    """Return the field that a validation error is about, as in ``options.heights.0``."""
    return ".".join(_location(error)) or "body"


def complaint(error: Mapping[str, Any]) -> str:
    """Return one error of ``pydantic.ValidationError.errors()`` as a sentence without a period."""
    kind, context = str(error["type"]), error.get("ctx") or {}
    field, given = _subject(error), _given(error.get("input", _MISSING))
    if kind == IN_WORDS:
        return str(error["msg"])
    if kind == "missing":
        if not _location(error):
            return "the request has no body; send a JSON object"
        return f"{field} is missing; give it"
    if kind == "extra_forbidden":
        return f"{field} is not known here; check its spelling, or leave it out"
    if kind == "json_invalid":
        return (
            f"the body is not JSON ({context.get('error', 'it is malformed')}); send a JSON object"
        )
    if kind == "string_pattern_mismatch":
        return f"{field} cannot be {given}; {pattern_words(context.get('pattern', ''))}"
    if kind in ("literal_error", "enum"):
        return f"{field} cannot be {given}; choose {context.get('expected', 'another')}"
    if kind == "timezone_aware":
        return f"{field} has no time zone; give it as 2027-01-31T20:00:00Z"
    if kind in _LIMITS:
        name, words = _LIMITS[kind]
        return f"{field} cannot be {given}; give {words(context.get(name))}"
    if kind == "value_error":
        return f"{field} cannot be {given}: {context.get('error', 'it is not valid')}"
    for ending in ("_from_date_parsing", "_parsing", "_type", "_from_float", "_object_invalid"):
        if kind.endswith(ending) and kind.removesuffix(ending) in _KINDS:
            return f"{field} cannot be {given}; give {_KINDS[kind.removesuffix(ending)]}"
    if kind in _KINDS:
        return f"{field} cannot be {given}; give {_KINDS[kind]}"
    return f"{field} cannot be {given}; give it as /openapi.json describes"


def first_complaint(errors: Sequence[Mapping[str, Any]]) -> str:
    """Return the first error in words, and how many more there are."""
    more = len({field_of(error) for error in errors}) - 1
    others = f" ({more} more fields are wrong too)" if more > 1 else ""
    others = " (one more field is wrong too)" if more == 1 else others
    return complaint(errors[0]) + others


def _count(number: Any, least: bool, thing: str) -> str:
    things = thing if number == 1 else {"entry": "entries", "character": "characters"}[thing]
    return f"{number} {things} or {'more' if least else 'fewer'}"


_LIMITS: Final[Mapping[str, tuple[str, Callable[[Any], str]]]] = {
    "greater_than_equal": ("ge", lambda number: f"{_plain(number)} or more"),
    "greater_than": ("gt", lambda number: f"more than {_plain(number)}"),
    "less_than_equal": ("le", lambda number: f"{_plain(number)} or less"),
    "less_than": ("lt", lambda number: f"less than {_plain(number)}"),
    "string_too_short": ("min_length", lambda number: _count(number, True, "character")),
    "string_too_long": ("max_length", lambda number: _count(number, False, "character")),
    "too_short": ("min_length", lambda number: _count(number, True, "entry")),
    "too_long": ("max_length", lambda number: _count(number, False, "entry")),
}


def _plain(number: Any) -> str:
    return f"{number:,.10g}" if isinstance(number, int | float) else str(number)


def _location(error: Mapping[str, Any]) -> list[str]:
    """Return the path to a field, without where it was sent and which alternative was tried."""
    parts = list(error.get("loc", ()))
    if parts and parts[0] in _PLACES:
        sent_in = parts.pop(0)
        if sent_in == "header":
            return [str(part) for part in parts]
        if error["type"] == "json_invalid":
            return []
    return [str(part) for part in parts if isinstance(part, int) or str(part).isidentifier()]


def _subject(error: Mapping[str, Any]) -> str:
    names = _location(error)
    if not names:
        return "the request"
    if names[-1].isdigit() and len(names) > 1:
        return f"entry {int(names[-1]) + 1} of `{'.'.join(names[:-1])}`"
    return f"`{'.'.join(names)}`"


def _given(value: Any) -> str:
    """Return a value as its sender would recognise it, short and without secrets."""
    if value is _MISSING:
        return "what it is"
    if value == "" or value is None:
        return "empty"
    if isinstance(value, Mapping):
        return "this object"
    if isinstance(value, list | tuple):
        return "empty" if not value else f"a list of {len(value)}"
    text = str(without_secrets(str(value)))
    text = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)
    shown = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
    return f"`{shown}`"
