"""The catalogue: which files share footage, and therefore one group."""

from __future__ import annotations

import csv
from pathlib import Path

from encoder.errors import BadInput


def read_groups(catalog: Path | None) -> dict[str, str]:
    """Return the groups of a catalogue by file name; empty without a catalogue.

    Args:
        catalog: CSV file with the columns ``file`` (file name) and ``group``.

    Raises:
        BadInput: the catalogue cannot be read or lacks a column.
    """
    if catalog is None:
        return {}
    try:
        with catalog.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"the catalogue {catalog} cannot be read ({error})") from error
    if not {"file", "group"} <= set(reader.fieldnames or ()):
        raise BadInput(f"the catalogue {catalog} needs the columns file and group")
    return {row["file"]: row["group"] for row in rows if row["file"] and row["group"]}


def group_of(path: Path, groups: dict[str, str]) -> str:
    """Return the group of a file. A file that is not in the catalogue is a group of its own."""
    return groups.get(path.name, path.stem)
