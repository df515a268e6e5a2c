"""What the people in a title's stills are worth: who is shown, how large, with open eyes or not.

Faces come from the detector (:mod:`~recommender.artwork.faces`), which looked at every scene, and
portraits from the full-size pictures of some of them (:mod:`~recommender.artwork.portraits`). A
*sitter* is the face that is in one place of one shot; no face is compared with those of other
shots, and nobody is identified. Whether eyes are open is judged against the widest that the same
sitter's eyes are, because some eyes are narrow.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from encoder.arrays import Float32, Int64, Mask
from recommender.artwork.faces import Face
from recommender.artwork.portraits import LEGIBLE_HEIGHT, MIN_CONFIDENCE, Portrait
from recommender.artwork.stills import Stills

PEOPLE_VERSION: Final = 3
"""Part of the store keys. Raise it when any judgement of people changes."""

ShotScale = Literal["close-up", "medium", "wide"]
CLOSE_UP, MEDIUM = 0.28, 0.12
"""Smallest heights of the main face, brow to chin, in a close-up and in a medium shot, as shares of
the picture's height."""

SHUT, OPEN = 0.6, 0.85
"""Openness of eyes, as a share of the sitter's widest, below which they are shut and above which
they are open."""
NARROWEST: Final = 0.2
OF_OTHERS: Final = 0.8
"""A sitter's widest is taken to be at least :data:`NARROWEST`, and at least this share of what it
is for most sitters: eyes that look down in all of a shot are not open."""

FACE_WEIGHT: Final = 0.6
"""Share of the distance to the best quality that the best portrait makes good."""
_BEST_SIZE = 0.32
_TURNED, _PROFILE = 0.3, 0.95
# The eyes of faces that are turned farther are not measured well enough to judge others by.
_MOST_TURNED = 0.65
_BOWED, _DOWN = 0.14, 0.3
_SOFT, _BLURRED = 0.05, 0.2
_AS_LARGE = 0.6
_SAME_PLACE = 0.3
_LEAST_LEAD, _OF_BEST = 0.15, 0.6
_EDGE_ROOM = -0.05, 0.15

# Differences of two portraits of one sitter that make two pictures of them.
_YAW, _PITCH, _MOUTH, _SMILE, _GAZE, _MOVED, _GROWN = 0.15, 0.08, 0.25, 0.15, 0.15, 0.4, 0.25


@dataclass(frozen=True, slots=True)
class Person:
    """A face that was read at full size and is one."""

    face: Face
    portrait: Portrait
    eyes_open: float | None
    """Openness of the eyes as a share of the sitter's widest, 0 to 1; None if the face is too small
    to tell."""
    sitter: int
    """Number of the sitter within the title."""

    @property
    def shut(self) -> bool:
        """True if the eyes are shut or nearly so."""
        return self.eyes_open is not None and self.eyes_open < SHUT


@dataclass(frozen=True, slots=True, eq=False)
class People:
    """Who is in the stills of a title."""

    persons: tuple[tuple[Person, ...], ...]
    """People of each still that was read at full size, the largest face first, (n,)."""
    appeal: Float32
    """What the people of each still are worth, 0 to 1, (n,). 0 without people."""
    shut: Mask
    """True where somebody who matters has shut eyes, (n,)."""
    unread: Mask
    """True for stills with faces that nobody looked at in full size, (n,)."""
    lead: Mask
    """True for the portraits with which a title may begin, (n,)."""

    def sitter(self, row: int) -> int:
        """Return the sitter of the main face, -1 if there is none."""
        persons = self.persons[row]
        return persons[0].sitter if persons else -1


def likely_faces(stills: Stills, shots: Int64) -> list[tuple[Face, ...]]:
    """Return the faces of each still; of those that the detector did not look at, the faces of the
    nearest still of the same shot that it did look at. ``shots`` is (n,)."""
    looked = [row for row, faces in enumerate(stills.faces) if faces is not None]
    likely: list[tuple[Face, ...]] = []
    for row, faces in enumerate(stills.faces):
        if faces is None:
            at = bisect.bisect(looked, row)
            near = [one for one in looked[max(0, at - 1) : at + 1] if shots[one] == shots[row]]
            faces = (
                stills.faces[
                    min(near, key=lambda one: abs(stills.frames[one] - stills.frames[row]))
                ]
                if near
                else ()
            )
        likely.append(faces or ())
    return likely


def shot_scale(persons: Sequence[Person]) -> ShotScale | None:
    """Return the scale of a still by its main face; None if nobody is there."""
    if not persons:
        return None
    height = persons[0].face.height
    return "close-up" if height >= CLOSE_UP else "medium" if height >= MEDIUM else "wide"


def judge_people(
    stills: Stills,
    portraits: Mapping[int, Sequence[Portrait]],
    shots: Int64,
    shapes: Sequence[tuple[float, float]],
) -> People:
    """Judge the people of a title's stills.

    Args:
        stills: the title's stills, with the faces that the detector found.
        portraits: portraits of all faces of some of the stills, by the stills' rows.
        shots: shot of each still, (n,).
        shapes: width and height, as shares of the picture, of the windows in which pictures are
            shown; a face that fits none of them is worth less.
    """
    seen = _seen(stills, portraits)
    sitters = _sitters(seen, shots)
    widest = _widest(seen, sitters)
    persons: list[tuple[Person, ...]] = [() for _ in range(len(stills))]
    for row, read in seen.items():
        persons[row] = tuple(
            Person(face, portrait, _share_of(portrait.openness, widest[sitter]), sitter)
            for (face, portrait), sitter in zip(read, sitters[row], strict=True)
        )
    blurs = [each[0].portrait.blur for each in persons if each]
    usual_blur = float(np.median(blurs)) if blurs else 1.0
    appeal = np.array([_appeal(each, usual_blur, shapes) for each in persons], np.float32)
    shut = np.array([any(one.shut for one in _who_matter(each)) for each in persons], bool)
    likely = likely_faces(stills, shots)
    unread = np.array(
        [bool(faces) and row not in portraits for row, faces in enumerate(likely)], bool
    )
    enough = max(_LEAST_LEAD, _OF_BEST * float(appeal.max(initial=0)))
    return People(tuple(persons), appeal, shut, unread, (appeal >= enough) & ~shut)


def alone(faces: Sequence[Face], portraits: Sequence[Portrait]) -> tuple[Person, ...]:
    """Return the people of one still, of which no others are known."""
    seen = _seen_faces(faces, portraits)
    known = _widest({0: seen}, {0: range(len(seen))})
    return tuple(
        Person(face, portrait, _share_of(portrait.openness, known[number]), number)
        for number, (face, portrait) in enumerate(seen)
    )


def _seen_faces(
    faces: Sequence[Face], portraits: Sequence[Portrait]
) -> list[tuple[Face, Portrait]]:
    """Return the faces that are faces, with their portraits, the largest first.

    They lie where the portraits say.
    """
    seen = []
    for face, portrait in zip(faces, portraits, strict=True):
        if portrait.confidence >= MIN_CONFIDENCE:
            x, y, width, height = portrait.place
            seen.append((replace(face, x=x, y=y, width=width, height=height), portrait))
    return sorted(seen, key=lambda one: (-one[0].area, one[0].x, one[0].y))


def _seen(
    stills: Stills, portraits: Mapping[int, Sequence[Portrait]]
) -> dict[int, list[tuple[Face, Portrait]]]:
    """Return the faces that are faces, with their portraits, by row in order of time."""
    return {row: _seen_faces(stills.faces[row] or (), portraits[row]) for row in sorted(portraits)}


def _sitters(
    seen: Mapping[int, Sequence[tuple[Face, Portrait]]], shots: Int64
) -> dict[int, list[int]]:
    """Number the faces so that a face has the number of the nearest one before it in its shot."""
    numbers: dict[int, list[int]] = {}
    last: list[tuple[Face, int]] = []
    shot, count = -1, 0
    for row, read in seen.items():
        if int(shots[row]) != shot:
            shot, last = int(shots[row]), []
        numbers[row], free = [], list(last)
        for face, _ in read:
            overlaps = [_overlap(face, other) for other, _ in free]
            at = int(np.argmax(overlaps)) if overlaps else -1
            if at >= 0 and overlaps[at] >= _SAME_PLACE:
                number = free.pop(at)[1]
            else:
                number, count = count, count + 1
            numbers[row].append(number)
        now = [(face, number) for (face, _), number in zip(read, numbers[row], strict=True)]
        last = now + [known for known in last if known[1] not in numbers[row]]
    return numbers


def _overlap(one: Face, other: Face) -> float:
    """Return the common part of two faces as a share of what they cover together."""
    across = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    down = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    common = max(0.0, across) * max(0.0, down)
    return common / max(1e-9, one.area + other.area - common)


def _widest(
    seen: Mapping[int, Sequence[tuple[Face, Portrait]]], sitters: Mapping[int, Sequence[int]]
) -> dict[int, float]:
    """Return what counts as wide open for each sitter."""
    own: dict[int, float] = {}
    for row, read in seen.items():
        for (_, portrait), sitter in zip(read, sitters[row], strict=True):
            own.setdefault(sitter, 0.0)
            if portrait.openness is not None and abs(portrait.yaw) <= _MOST_TURNED:
                own[sitter] = max(own[sitter], portrait.openness)
    known = [widest for widest in own.values() if widest > 0]
    least = max(NARROWEST, OF_OTHERS * float(np.median(known)) if known else 0.0)
    return {sitter: max(least, widest) for sitter, widest in own.items()}


def _share_of(openness: float | None, widest: float) -> float | None:
    if openness is None:
        return None
    return round(min(1.0, openness / widest), 2)


def _who_matter(persons: Sequence[Person]) -> list[Person]:
    """Return the people whose faces are nearly as large as the largest."""
    return [one for one in persons if one.face.height >= _AS_LARGE * persons[0].face.height]


def _appeal(
    persons: Sequence[Person], usual_blur: float, shapes: Sequence[tuple[float, float]]
) -> float:
    """Return what a still's people are worth: size, open eyes, frontal, sharp, uncut."""
    if not persons:
        return 0.0
    main = persons[0]
    eyes = min(_openness_worth(one) for one in _who_matter(persons))
    size = min(1.0, main.face.height / _BEST_SIZE)
    frontal = 1 - _between(abs(main.portrait.yaw), _TURNED, _PROFILE)
    frontal *= 1 - _between(main.portrait.pitch, _BOWED, _DOWN)
    sharp = 1 - _between(main.portrait.blur, usual_blur + _SOFT, usual_blur + _BLURRED)
    fit = sum(fits(main.face, *shape) for shape in shapes) / max(1, len(shapes))
    whole = 0.4 + 0.6 * _between(_room(main.face), *_EDGE_ROOM)
    worth = (0.25 + 0.75 * size) * eyes * (0.3 + 0.7 * frontal) * (0.4 + 0.6 * sharp)
    return worth * (0.4 + 0.6 * fit) * whole


def _openness_worth(person: Person) -> float:
    """Return the worth of how far eyes are open, 0 to 1; half of it if they are too small."""
    if person.eyes_open is None:
        return 0.6
    return _between(person.eyes_open, SHUT, OPEN)


def fits(face: Face, width: float, height: float) -> bool:
    """Tell whether a window of this size, in shares of the picture, can hold a whole face."""
    return face.width <= width and face.height <= height


def _room(face: Face) -> float:
    """Return the least room beside and above a face as a share of its size, below 0 if cut."""
    aside = min(face.x, 1 - face.x - face.width) / max(1e-3, face.width)
    return min(aside, face.y / max(1e-3, face.height))


def _between(value: float, low: float, high: float) -> float:
    return min(1.0, max(0.0, (value - low) / (high - low)))


def unlike(one: Sequence[Person], other: Sequence[Person]) -> float:
    """Return how unlike the main faces of two stills are in expression, gaze, pose and place.

    Of a face that is turned far away, expression and gaze cannot be read, and do not count.

    From 1 on they are two pictures, even if the rest is the same; infinite if only one of the
    stills has a face that can be read, 0 if neither has.
    """
    if not one or not other:
        return np.inf if bool(one) != bool(other) else 0.0
    first, second = one[0], other[0]
    a, b = first.portrait, second.portrait
    size = max(first.face.height, second.face.height)
    if size < LEGIBLE_HEIGHT:
        return 0.0
    moved = np.hypot(
        first.face.x + first.face.width / 2 - second.face.x - second.face.width / 2,
        first.face.y + first.face.height / 2 - second.face.y - second.face.height / 2,
    )
    parts = [
        (a.yaw - b.yaw) / _YAW,
        (a.pitch - b.pitch) / _PITCH,
        float(moved) / size / _MOVED,
        (first.face.height / max(1e-3, second.face.height) - 1) / _GROWN,
    ]
    if max(abs(a.yaw), abs(b.yaw)) <= _MOST_TURNED:  # else the expression is a guess
        parts += [
            (a.mouth - b.mouth) / _MOUTH,
            (a.smile - b.smile) / _SMILE,
            (a.gaze[0] - b.gaze[0]) / _GAZE,
            (a.gaze[1] - b.gaze[1]) / _GAZE,
        ]
    return float(np.sqrt(np.square(parts).sum()))
