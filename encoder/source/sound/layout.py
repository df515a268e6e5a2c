"""How a user says which tracks form a sound: the grammar of ``--audio-layout``.

``1+2,5.1=3+4+5+6+7+8,commentary=9`` lists sounds, the first of which plays by default. A sound is
one track, two (left, right) or six (left, right, centre, LFE, left surround, right surround), with
what it is in front of ``=``. ``3.5`` is the fifth channel of track 3. Tracks and channels count
from 1, tracks in the order of the file. Tracks that are not listed are left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from encoder.errors import BadInput

Layout = Literal["stereo", "5.1"]
LAYOUT_OF: dict[int, Layout] = {2: "stereo", 6: "5.1"}
"""Layout that so many tracks of one channel form."""
LayoutRole = Literal["description", "commentary", "clear speech", "effects", "dub", "original"]
ROLES: tuple[LayoutRole, ...] = get_args(LayoutRole)
EXAMPLE = "1+2,5.1=3+4+5+6+7+8"

_PART = re.compile(r"([1-9]\d{0,2})(?:\.([1-9]\d{0,1}))?\Z")
_NAMES: dict[str, int | None] = {"mono": 1, "stereo": 2, "5.1": 6}


@dataclass(frozen=True, slots=True)
class LayoutPart:
    """A track, or a channel of one."""

    track: int
    """Number of the track, counted from 1 in the order of the file."""
    channel: int | None = None
    """Number of the channel, counted from 1; None is the whole track."""


@dataclass(frozen=True, slots=True)
class LayoutSound:
    """A sound that a user asks for."""

    parts: tuple[LayoutPart, ...]
    role: LayoutRole | None = None
    """One of :data:`ROLES`; None is the title's own sound."""
    name: str | None = None
    """Name that says how many channels there are (``stereo``), None without one."""
    channels: int | None = None
    """Number of channels that :attr:`name` says."""


def parse_layout(text: str) -> tuple[LayoutSound, ...]:
    """Read a value of ``--audio-layout``.

    Raises:
        BadInput: the text is not such a value.
    """
    if not isinstance(text, str):
        raise BadInput(f"--audio-layout is {text!r} instead of text; give for example {EXAMPLE}")
    try:
        sounds = tuple(_sound(part.strip()) for part in text.split(","))
        if len({sound.parts for sound in sounds}) < len(sounds):
            raise ValueError("a sound is listed twice; list it once")
        return sounds
    except ValueError as error:
        shown = "".join(sign if sign.isprintable() else "?" for sign in text)
        raise BadInput(f"--audio-layout {shown}: {error}; give for example {EXAMPLE}") from None


def _sound(text: str) -> LayoutSound:
    name, found, listed = text.rpartition("=")
    name = name.strip().lower().replace("-", " ")
    parts = tuple(_part(part.strip()) for part in listed.split("+"))
    if found and name not in _NAMES and name not in ROLES:
        known = ", ".join((*_NAMES, *(role.replace(" ", "-") for role in ROLES)))
        raise ValueError(f"{name!r} is none of {known}")
    wanted = _NAMES.get(name)
    if len(parts) != 1 and (len(parts) not in LAYOUT_OF or wanted not in (None, len(parts))):
        asked = f"{wanted} tracks or one" if wanted else "one, two or six tracks"
        raise ValueError(f"{text!r} lists {len(parts)} tracks instead of {asked}")
    if len(set(parts)) < len(parts):
        raise ValueError(
            f"{text!r} lists a part twice; a single channel goes to both sides by itself"
        )
    role = next((one for one in ROLES if one == name), None)
    return LayoutSound(parts, role, name if wanted else None, wanted)


def _part(text: str) -> LayoutPart:
    match = _PART.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not the number of a track (2) or of its channel (2.1)")
    return LayoutPart(int(match[1]), int(match[2]) if match[2] else None)
