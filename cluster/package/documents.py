"""Read the documents of a package from its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from encoder.errors import BadInput
from ladder.document import Document, Ladder, Measurements
from recommender.artwork.document import Artwork
from recommender.prefetch.document import Prefetch

_D = TypeVar("_D", bound=Document)


def read_ladder(directory: Path) -> Ladder:
    """Read ``ladder.json``.

    Raises:
        BadInput: the folder has no such document, or this version cannot read it.
    """
    return _read(directory, "ladder.json", Ladder)


def read_measurements(directory: Path) -> Measurements:
    """Read ``measurements.json``.

    Raises:
        BadInput: the folder has no such document, or this version cannot read it.
    """
    return _read(directory, "measurements.json", Measurements)


def read_artwork(directory: Path) -> Artwork:
    """Read ``artwork.json``.

    Raises:
        BadInput: the folder has no such document, or this version cannot read it.
    """
    return _read(directory, "artwork.json", Artwork)


def read_prefetch(directory: Path) -> Prefetch:
    """Read ``prefetch.json``.

    Raises:
        BadInput: the folder has no such document, or this version cannot read it.
    """
    return _read(directory, "prefetch.json", Prefetch)


def read_run(directory: Path) -> dict[str, Any] | None:
    """Read ``run.json``; None where it is missing or damaged, as a package is whole without it."""
    try:
        run = json.loads((directory / "run.json").read_bytes())
    except (OSError, ValueError):
        return None
    return run if isinstance(run, dict) else None


def _read(directory: Path, name: str, kind: type[_D]) -> _D:
    path = directory / name
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        cause = f"has no {name}" if directory.is_dir() else "is no directory"
        raise BadInput(
            f"{directory} {cause}; name the --out directory of a finished `shotladder run`"
        ) from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror})") from error
    except ValidationError as error:
        raise BadInput(
            f"{path} is not a document that this version reads: {_first_error(error, path)}"
        ) from error


def _first_error(error: ValidationError, path: Path) -> str:
    """Describe the first error in one line; an error of the schema's version comes first of all."""
    first = error.errors(include_url=False)[0]
    if first["type"] != "json_invalid":
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict) or "schema" not in content:
            return "it names no schema"
        errors = error.errors(include_url=False)
        first = next((each for each in errors if each["loc"][:1] == ("schema",)), first)
    location = ".".join(str(part) for part in first["loc"])
    return f"{location + ': ' if location else ''}{first['msg']}"
