"""Keeps each site's last fill plan in a folder, one file per site."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import ValidationError

from cluster.store.files import atomic_write
from encoder.errors import BadInput
from recommender.sites.document import FillPlanDocument

SITE_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
"""What a site may be called: its name is the name of a file."""


def read_plan(folder: Path, site: str) -> FillPlanDocument | None:
    """Return the last plan of a site; None if it had none.

    Raises:
        BadInput: the name is none, or the file is not what this version writes.
    """
    path = _path(folder, site)
    try:
        return FillPlanDocument.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror})") from error
    except ValidationError as error:
        raise BadInput(
            f"{path} is not a fill plan that this version reads; remove it to plan the site as if "
            "it were empty"
        ) from error


def write_plan(folder: Path, plan: FillPlanDocument) -> None:
    """Keep a site's plan instead of its last one.

    Raises:
        BadInput: the name is none, or the folder cannot be written.
    """
    path = _path(folder, plan.site)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(path, plan.model_dump_json(by_alias=True).encode())
    except OSError as error:
        raise BadInput(f"{path} cannot be written ({error.strerror})") from error


def _path(folder: Path, site: str) -> Path:
    if not re.fullmatch(SITE_NAME, site):
        raise BadInput(
            f"{site!r:.80} cannot be the name of a site; use up to 64 letters, digits and ._-"
        )
    return folder / f"{site}.json"
