"""Profiles as text: the TOML that ``--profile`` reads back, with a comment on every key."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

from ladder.profiles import Profile, built_in_text, profile_document

_TABLES = ("recipes", "crf_grid")
"""Keys whose values are tables, which stand at the end of a file."""


def profile_toml(profile: Profile, about: str = "") -> str:
    """Return a profile as a TOML file with all of its keys, each under what it means."""
    document = _whole(profile)
    lines = [f"about = {json.dumps(about, ensure_ascii=False)}", ""] if about else []
    said: str | None = None
    for key, value in document.items():
        if key not in _TABLES:
            comment = key_comments().get(key, "")
            if comment != said:
                lines += [f"# {line}" for line in comment.splitlines()]
            said = comment
            lines.append(f"{key} = {_value(value)}")
    for key in _TABLES:
        lines += ["", *(f"# {line}" for line in key_comments().get(key, "").splitlines())]
        lines += [f"[{key}]", *(f"{name} = {_value(of)}" for name, of in document[key].items())]
    return "\n".join(lines) + "\n"


@functools.cache
def key_comments() -> Mapping[str, str]:
    """Return what each key of a profile means, from the file of the built-in profiles.

    A comment belongs to the keys below it, up to the next comment.
    """
    comments: dict[str, str] = {}
    comment: list[str] = []
    after_key = in_table = False
    for line in built_in_text().splitlines():
        if line.startswith("#"):
            if after_key:
                comment, after_key = [], False
            comment.append(line.removeprefix("#").strip())
        elif line.startswith("["):
            name = line.strip("[]")
            table = name.removeprefix("default.")
            if table in _TABLES and name != table:
                comments[table] = "\n".join(comment)
                in_table = True
            elif name != "default":
                break
            comment = []
        elif not line.strip():
            comment = [] if after_key else comment
        elif "=" in line and not line.startswith(" ") and not in_table:
            comments.setdefault(line.split("=")[0].strip(), "\n".join(comment))
            after_key = True
    return comments


def _whole(profile: Profile) -> dict[str, Any]:
    """Return every key of a profile in the order of the built-in file, then the others."""
    document = profile_document(profile)
    known = [key for key in key_comments() if key not in ("about", "based_on")]
    keys = dict.fromkeys([*known, *document])
    keys.pop("name")
    found: dict[str, Any] = {}
    for key in keys:
        value = document.get(key, getattr(profile, key, None))
        found[key] = 0 if value is None else value
    return found


def _value(value: Any) -> str:
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value, ensure_ascii=False)
