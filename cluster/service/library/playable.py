"""Absolute URLs of a version: what a player, a page or a person opens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from cluster.service.database import moment
from cluster.service.documents import ASPECTS, Job, TitleUrls
from cluster.service.library.bundle import Bundle
from cluster.service.library.library import Library
from cluster.service.library.links import expiry_in
from cluster.service.library.wanted import Edited, Wanted

_MAX_KEPT = 10_000
"""Limit of packages whose files are remembered."""


@dataclass(frozen=True, slots=True)
class _Shown:
    """Files of a package that not every package has."""

    report: bool
    poster: str | None
    """URI of the best still that all browsers show."""


class Playable:
    """Makes the URLs of the versions of a library."""

    def __init__(self, library: Library, public_url: str = "") -> None:
        """Take ``public_url``, under which clients ask the service; empty for where they ask."""
        self._library = library
        self._public_url = public_url.rstrip("/")
        self._shown: dict[tuple[str, Edited], _Shown] = {}

    def of_version(self, title: str, version: int, package: str, asked: str | None) -> TitleUrls:
        """Return the URLs of a version that can be read.

        Args:
            title: name of the title.
            version: number of the version.
            package: digest that names its package.
            asked: URL under which a client asks the service; None where none does.
        """
        root = self._public_url or (asked or "").rstrip("/")
        base = self._library.links.base(title, version, package)
        expires = expiry_in(base)
        base = root + base if base.startswith("/") else base
        shown = self._files(title, package)
        return TitleUrls(
            hls=f"{base}master.m3u8",
            dash=f"{base}manifest.mpd",
            player=f"{root}/v1/titles/{title}/player",
            report=f"{base}report.html" if shown.report else None,
            poster=None if shown.poster is None else f"{base}{shown.poster}",
            expires_at=None if expires is None else moment(expires),
        )

    def of_job(self, job: Job, asked: str | None) -> TitleUrls | None:
        """Return the URLs of the version that a job made; None while it cannot be read, or where
        nobody has said under which URL."""
        result = job.result
        if result is None or result.version is None or not (self._public_url or asked):
            return None
        kept = self._library.version(job.title, result.version)
        if kept is None or not kept.readable:
            return None
        return self.of_version(job.title, result.version, kept.package, asked)

    def _files(self, title: str, package: str) -> _Shown:
        try:
            bundle = self._library.files.bundles.get(package)
        except FileNotFoundError:
            return _Shown((self._library.files.folder(package) / "report.html").exists(), None)
        edited = self._library.edits.resolved(title, package, bundle)
        shown = self._shown.get((package, edited))
        if shown is None:
            if len(self._shown) >= _MAX_KEPT:
                self._shown.clear()
            report = self._library.files.folder(package) / "report.html"
            shown = _Shown(report.exists(), _poster(bundle, edited))
            self._shown[package, edited] = shown
        return shown


def _poster(bundle: Bundle, edited: Edited) -> str | None:
    lists = (bundle.stills(aspect, 1, Wanted(edited=edited)) for aspect in ASPECTS)
    first = (json.loads(bundle.body(best))["candidates"] for best in lists if best is not None)
    # A shape of which no crop keeps the face has no stills.
    stills: list[dict[str, Any]] = next((each for each in first if each), [])
    pictures = [one for still in stills for one in still["renditions"]]
    # A JPEG is shown by everything; its size is told by the renditions, the largest first.
    jpegs = [one for one in pictures if one["format"] == "jpeg"]
    return next((str(one["uri"]) for one in jpegs or pictures), None)
