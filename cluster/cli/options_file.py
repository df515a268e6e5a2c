"""Options of a command from a TOML file: what it says stands in place of the defaults."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from encoder.errors import BadInput

NOT_IN_FILES = frozenset({"options", "json", "help", "from", "token", "plan", "wait", "yes"})
"""Options that say what is done now, not how."""


def read_options(context: typer.Context, path: Path | None) -> Path | None:
    """Take the defaults of a command's options from a file; the callback of ``--options``.

    Keys are the options' names, with hyphens or underscores. Lists stand for values with commas.

    Raises:
        BadInput: the file cannot be read, or has a key that is no option of the command.
    """
    if path is None:
        return None
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise BadInput(f"the options file {path} cannot be read ({error.strerror})") from error
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise BadInput(f"the options file {path} is not valid TOML ({reason})") from error
    known = _options(context)
    defaults: dict[str, Any] = {}
    for key, value in table.items():
        option = known.get(key.replace("_", "-"))
        if option is None:
            names = sorted({max(each.opts, key=len).lstrip("-") for each in known.values()})
            raise BadInput(
                f"the options file {path} has {key!r:.60}, which is no option that a file of "
                f"`{context.command_path}` may have; these are {', '.join(names)}"
            )
        defaults[option.name] = _value(option, value)
    context.default_map = defaults
    return path


def _options(context: typer.Context) -> dict[str, Any]:
    """Return the options of a command by all of their names, without the leading hyphens."""
    known: dict[str, Any] = {}
    for option in context.command.params:
        names = {name.lstrip("-") for name in option.opts if name.startswith("--")}
        if names and not names & NOT_IN_FILES:
            known |= dict.fromkeys({*names, str(option.name).replace("_", "-")}, option)
    return known


def _value(option: Any, value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if getattr(option, "multiple", False):
        return [_text(each) for each in value] if isinstance(value, list) else [_text(value)]
    if option.name == "rung_count" and isinstance(value, list):
        return "-".join(map(_text, value))
    return _text(value)


def _text(value: Any) -> str:
    """Return a value as the command line has it."""
    if isinstance(value, Mapping):
        return ",".join(f"{name}={_text(each)}" for name, each in value.items())
    if isinstance(value, list):
        pairs = value and all(isinstance(each, list) for each in value)
        parts = ("=".join(map(_text, each)) for each in value) if pairs else map(_text, value)
        return ",".join(parts)
    return str(value)
