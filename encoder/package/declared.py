"""What the playlists of a package declare of sound and text: both must say the same. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import PurePosixPath

from encoder.package import readback

_PURPOSES = {"1": "describes-video", "2": "enhances-speech-intelligibility"}
"""Values of the scheme of purposes, and the characteristics of sound that say the same."""
_TRANSCRIBES = "public.accessibility.transcribes-spoken-dialog"


@dataclass(frozen=True, slots=True)
class Declared:
    """What a manifest declares of a track."""

    kind: str
    """``audio`` or ``subtitles``."""
    language: str
    """Language tag, empty without one."""
    main: bool = False
    """True for the sound that plays by default."""
    describes: bool | None = False
    """True for sound that describes the pictures; None where the manifest leaves it open."""
    clear_speech: bool = False
    channels: str = ""
    """Number of channels of sound."""
    forced: bool = False
    captions: bool = False
    """True for text for the hard of hearing."""


def check_declarations(master: readback.MasterPlaylist, sets: tuple[readback.DashSet, ...]) -> None:
    """Check that HLS and DASH declare the same sound and text, and that names are unique.

    Raises:
        ValueError: they differ, or a player's menu could not tell two tracks of a group apart.
    """
    names: set[tuple[str, str]] = set()
    for medium in master.media:
        name = (medium.attributes.get("GROUP-ID", ""), medium.attributes.get("NAME", ""))
        if not all(name) or name in names:
            raise ValueError(
                f"master.m3u8 has the track {name[1]!r} twice in the group {name[0]!r}"
            )
        names.add(name)
    in_hls = {PurePosixPath(m.uri).parent.name: _in_hls(m.attributes) for m in master.media}
    in_dash = {s.name: _in_dash(s) for s in sets if s.content_type in ("audio", "text")}
    # Roles tell sounds apart, so a package of one sound states none.
    alone = sum(s.content_type == "audio" for s in sets) == 1
    if list(in_hls) != list(in_dash):
        raise ValueError(
            f"master.m3u8 has the tracks {list(in_hls)}, manifest.mpd has {list(in_dash)}"
        )
    for track, hls in in_hls.items():
        dash = in_dash[track]
        for fact in fields(Declared):
            said, other = getattr(hls, fact.name), getattr(dash, fact.name)
            if other is not None and said != other and not (fact.name == "main" and alone):
                what = fact.name.replace("_", " ")
                raise ValueError(
                    f"{track!r}: master.m3u8 declares {what} {said!r}, manifest.mpd {other!r}"
                )


def _in_hls(attributes: Mapping[str, str]) -> Declared:
    traits = attributes.get("CHARACTERISTICS", "").split(",")
    language = attributes.get("LANGUAGE", "")
    if attributes.get("TYPE") == "AUDIO":
        return Declared(
            "audio",
            language,
            main=attributes.get("DEFAULT") == "YES",
            describes=f"public.accessibility.{_PURPOSES['1']}" in traits,
            clear_speech=f"public.accessibility.{_PURPOSES['2']}" in traits,
            channels=attributes.get("CHANNELS", ""),
        )
    captions = _TRANSCRIBES in traits
    # The role of captions takes the place of that of forced subtitles.
    forced = attributes.get("FORCED") == "YES" and not captions
    return Declared("subtitles", language, forced=forced, captions=captions)


def _in_dash(found: readback.DashSet) -> Declared:
    if found.content_type == "audio":
        # DASH says the same of a description alone, without the sound of the pictures; HLS has no
        # word for that.
        described = "1" in found.purposes
        alone = "supplementary" in found.roles or not found.roles
        return Declared(
            "audio",
            found.language,
            main="main" in found.roles,
            describes=None if described and alone else described,
            clear_speech="2" in found.purposes,
            channels=found.channels,
        )
    return Declared(
        "subtitles",
        found.language,
        forced="forced-subtitle" in found.roles,
        captions="caption" in found.roles,
    )
