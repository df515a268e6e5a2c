"""Faces and eyes: the real models on drawn faces, and what people do to the order."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from encoder.media import Shot
from recommender.artwork import faces
from recommender.artwork.faces import MODELS, Face, FaceDetector
from recommender.artwork.looking import choose_pool
from recommender.artwork.people import (
    SHUT,
    alone,
    judge_people,
    likely_faces,
    shot_scale,
    unlike,
)
from recommender.artwork.pool import EYES_SHUT, Pool, make_pool, shortlist
from recommender.artwork.portraits import LEGIBLE_HEIGHT, Portrait, PortraitReader
from recommender.artwork.stills import Stills
from tests.artwork_material import natural, scene, stills
from tests.artwork_measures import Picture, analyse, encode
from tests.faces_drawn import draw_face

RATE = Fraction(12)
ROOT = Path(__file__).parent.parent
SHUT_EYES = ROOT / "fixtures" / "shut_eyes.csv"


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector()


@pytest.fixture(scope="module")
def reader() -> PortraitReader:
    return PortraitReader()


def pictured(size: tuple[int, int] = (480, 270), **look: float) -> Picture:
    width, height = size
    return draw_face(natural(3, size), (0.55 * width, 0.48 * height), 0.37 * height, **look)


# -- the models --------------------------------------------------------------------------------


def test_the_models_are_the_released_ones_and_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(faces.__file__).parent / "models"
    notice = (folder / "NOTICE.md").read_text()
    for name, digest in MODELS.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
        assert name in notice
        assert digest in notice
    assert {path.name for path in folder.glob("LICENSE-*")} == {"LICENSE-APACHE", "LICENSE-MIT"}
    monkeypatch.setitem(MODELS, "iris_landmark.tflite", "0" * 64)
    monkeypatch.setattr(faces, "checked_path", faces.checked_path.__wrapped__)
    with pytest.raises(faces.BadInput, match="install shotladder again"):
        faces.load_net("iris_landmark.tflite")


@pytest.mark.parametrize("size", [(480, 270), (320, 180), (1280, 720), (270, 480)])
def test_a_face_is_found_where_it_is(
    size: tuple[int, int], detector: FaceDetector, reader: PortraitReader
) -> None:
    (found,) = detector.find(pictured(size))
    portrait = reader.read(pictured(size), found)
    assert portrait.confidence >= 0.9
    for x, y, width, height in ((found.x, found.y, found.width, found.height), portrait.place):
        assert x < 0.55 < x + width
        assert y + height / 2 == pytest.approx(0.48, abs=0.08)
        assert height == pytest.approx(0.37, rel=0.25)


def test_where_nobody_is_nobody_is_read(detector: FaceDetector, reader: PortraitReader) -> None:
    for seed in range(6):
        picture = natural(seed, (480, 270))
        found = detector.find(picture)
        assert alone(found, [reader.read(picture, face) for face in found]) == ()


def test_eyes_are_read_from_wide_open_to_shut(
    detector: FaceDetector, reader: PortraitReader
) -> None:
    widths = []
    for eyes in (1.0, 0.6, 0.3, 0.0):
        picture = pictured(eyes=eyes)
        (face,) = detector.find(picture)
        widths.append(reader.read(picture, face).openness or 0.0)
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < SHUT * widths[0]
    small = draw_face(natural(3, (480, 270)), (240, 130), 0.11 * 270)
    (face,) = detector.find(small)
    assert face.height < LEGIBLE_HEIGHT
    assert reader.read(small, face).openness is None


def test_a_turned_face_and_an_open_mouth_show(
    detector: FaceDetector, reader: PortraitReader
) -> None:
    plain, turned, wide = (
        reader.read(picture, detector.find(picture)[0])
        for picture in (pictured(), pictured(turned=0.6), pictured(mouth=1.0))
    )
    assert abs(turned.yaw) > abs(plain.yaw) + 0.2
    assert wide.mouth > plain.mouth + 0.2


def test_threads_change_nothing(detector: FaceDetector, reader: PortraitReader) -> None:
    picture = pictured()
    before = cv2.getNumThreads()
    found = []
    try:
        for threads in (1, 2, 4):
            cv2.setNumThreads(threads)
            seen = FaceDetector().find(picture)
            found.append((seen, [PortraitReader().read(picture, face) for face in seen]))
    finally:
        cv2.setNumThreads(before)
    assert found[0] == found[1] == found[2]
    assert detector.find(picture) == found[0][0]


# -- the order ---------------------------------------------------------------------------------

FACE = Face(0.4, 0.2, 0.2, 0.36, 0.9)
PORTRAIT = Portrait(
    confidence=1.0,
    place=(FACE.x, FACE.y, FACE.width, FACE.height),
    openness=0.3,
    yaw=0.0,
    pitch=0.05,
    mouth=0.1,
    smile=0.8,
    gaze=(0.0, 0.0),
    blur=0.4,
)
Looks = dict[int, Portrait]


def peopled(count: int, looks: Looks) -> Stills:
    plain = stills([{} for _ in range(count)], step=4)
    found = tuple((FACE,) if row in looks else () for row in range(count))
    return replace(plain, faces=found)


def pool_of(made: Stills, looks: Looks, shots: Sequence[Shot] | None = None) -> Pool:
    frames = 4 * len(made)
    portraits = {row: (look,) for row, look in looks.items()}
    return make_pool(made, shots or [Shot(0, frames)], frames, RATE, portraits)


def test_portraits_come_first_and_blinks_do_not() -> None:
    """Of 60 stills without a difference, eight show somebody: three of them with shut eyes."""
    looks = {
        row: replace(PORTRAIT, openness=0.08 if row in (9, 30, 44) else 0.3, mouth=row / 50)
        for row in (3, 9, 17, 25, 30, 38, 44, 52)
    }
    made = peopled(60, looks)
    pool = pool_of(made, looks)
    rows = [still.row for still in pool.chosen]
    assert set(rows[:3]) <= set(looks) - {9, 30, 44}
    assert not set(rows[:5]) & {9, 30, 44}
    shut = [still for still in pool.chosen if still.row in (9, 30, 44)]
    assert all(EYES_SHUT in still.flags for still in shut)
    assert (
        pool_of(made, {row: replace(look, confidence=0.1) for row, look in looks.items()}) != pool
    )


def test_titles_without_people_keep_their_order() -> None:
    made = stills([{"sharpness": 10.0 + row % 7} for row in range(40)], step=4)
    wrong = {row: replace(PORTRAIT, confidence=0.2) for row in range(0, 40, 3)}
    fooled = replace(made, faces=tuple((FACE,) if row in wrong else () for row in range(40)))
    plain, seen = pool_of(made, {}), pool_of(fooled, wrong)
    assert [still.row for still in plain.chosen] == [still.row for still in seen.chosen]
    assert [still.quality for still in plain.chosen] == [still.quality for still in seen.chosen]


def test_narrow_eyes_are_open_and_eyes_that_look_down_are_not() -> None:
    wide = {row: replace(PORTRAIT, openness=0.36) for row in range(10)}
    narrow = {row: replace(PORTRAIT, openness=0.29) for row in range(10, 20)}
    down = {row: replace(PORTRAIT, openness=0.17) for row in range(20, 30)}
    looks = {**wide, **narrow, **down}
    made = peopled(30, looks)
    shots = np.repeat([0, 1, 2], 10)
    people = judge_people(made, {row: (look,) for row, look in looks.items()}, shots, [(1, 1)])
    assert not people.shut[:20].any()
    assert people.appeal[10:20].min() == people.appeal[:10].max()
    assert people.appeal[20:].max() < 0.6 * people.appeal[:20].min()
    assert {people.sitter(row) for row in (0, 9)} == {0}
    assert len({people.sitter(row) for row in (0, 10, 20)}) == 3


def test_each_fault_of_a_portrait_costs() -> None:
    def appeal(portrait: Portrait, shapes: Sequence[tuple[float, float]] = ((1, 1),)) -> float:
        looks = {0: PORTRAIT, 1: portrait, 2: PORTRAIT}
        made = peopled(3, looks)
        portraits = {row: (look,) for row, look in looks.items()}
        return float(judge_people(made, portraits, np.zeros(3, np.int64), shapes).appeal[1])

    best = appeal(PORTRAIT)
    assert best > 0.9
    for fault in (
        {"openness": 0.21},
        {"yaw": 0.8},
        {"pitch": 0.25},
        {"blur": 0.6},
        {"place": (0.4, 0.2, 0.08, 0.14)},
        {"place": (-0.05, 0.2, 0.2, 0.36)},
    ):
        assert appeal(replace(PORTRAIT, **fault)) < 0.9 * best, fault
    assert appeal(PORTRAIT, [(1, 1), (0.15, 1)]) < 0.9 * best


def test_expression_gaze_and_pose_tell_pictures_apart() -> None:
    (one,) = alone([FACE], [PORTRAIT])
    assert unlike([one], [one]) == pytest.approx(0, abs=1e-9)
    for change in ({"yaw": 0.2}, {"mouth": 0.5}, {"gaze": (0.2, 0.0)}, {"smile": 1.0}):
        (other,) = alone([FACE], [replace(PORTRAIT, **change)])
        assert unlike([one], [other]) >= 1
    turned, talking = (
        alone([FACE], [replace(PORTRAIT, yaw=0.8, mouth=mouth)])[0] for mouth in (0.1, 0.9)
    )
    assert unlike([turned], [talking]) == pytest.approx(0, abs=1e-9)
    assert unlike([one], []) == np.inf
    assert unlike([], []) == 0
    assert shot_scale([one]) == "close-up"
    assert shot_scale([]) is None


def test_a_title_of_one_picture_has_four_candidates() -> None:
    made = stills([{} for _ in range(20)], step=4)
    same = replace(
        made,
        hashes=np.repeat(made.hashes[:1], 20),
        embeddings=np.repeat(made.embeddings[:1], 20, axis=0),
    )
    pool = pool_of(same, {})
    assert len({still.row for still in pool.chosen}) == 4
    rows = sorted(still.row for still in pool.chosen)
    assert rows[-1] - rows[0] >= 15
    assert len(make_pool(same, [Shot(0, 30)], 30, RATE).chosen) == 1


def test_the_shortlist_has_every_shot_and_an_end() -> None:
    looks = dict.fromkeys(range(0, 600, 2), PORTRAIT)
    made = peopled(600, looks)
    shots = [Shot(at, at + 60) for at in range(0, 2400, 60)]
    rows = shortlist(made, shots, 2400, RATE)
    assert len(rows) == 3 * 48
    assert set(rows) <= set(looks)
    assert {row * 4 // 60 for row in rows} == set(range(40))
    assert shortlist(stills([{}] * 9), shots, 36, RATE) == ()


def test_a_face_stands_for_the_stills_around_it_in_its_shot() -> None:
    made = stills([{} for _ in range(7)], step=4)
    made = replace(made, faces=((FACE,), None, None, (), None, None, (FACE,)))
    shots = np.array([0, 0, 0, 0, 1, 1, 2])
    found = likely_faces(made, shots)
    assert found == [(FACE,), (FACE,), (), (), (), (), (FACE,)]
    restored = Stills.of_arrays(made.arrays())
    assert restored.faces == made.faces


def test_what_is_chosen_has_been_looked_at() -> None:
    """The detector saw two stills of 20 before; of the others, some show somebody who blinks."""
    made = stills([{"sharpness": 10.0 + row % 7} for row in range(20)], step=4)
    made = replace(made, faces=((), *(None,) * 9, (FACE,), *(None,) * 9))
    fetched: list[int] = []

    def fetch(frames: Iterable[int]) -> Iterator[tuple[int, Picture]]:
        for frame in sorted(frames):
            fetched.append(frame)
            yield frame, pictured(eyes=0.0 if frame // 4 % 3 == 0 else 1.0)

    shots = [Shot(0, 40), Shot(40, 80)]
    looked = choose_pool(made, shots, 80, RATE, Fraction(16, 9), fetch)
    rows = [still.row for still in looked.pool.chosen]
    assert len(rows) >= 4
    assert all(looked.stills.faces[row] for row in rows)
    assert not [row for row in rows[:3] if row % 3 == 0]
    assert len(set(fetched)) == len(fetched) < 40
    assert set(looked.pictures) == set(fetched)


# -- whole titles ------------------------------------------------------------------------------


def test_no_drawn_blink_is_among_the_first_five(tmp_path: Path) -> None:
    """Somebody looks about for 8 s before two scenes without people, and blinks for long."""
    frames: list[Picture] = []
    shut = range(24, 36), range(60, 72)
    ground = natural(3, (320, 180))
    for number in range(96):
        eyes = 0.0 if any(number in each for each in shut) else 1.0
        mouth = 0.5 + 0.5 * float(np.sin(number / 9))
        middle = (160 + 20 * float(np.sin(number / 20)), 88)
        frames.append(draw_face(ground, middle, 70, eyes=eyes, mouth=mouth))
    frames += [picture for seed in (5, 6) for picture in scene(seed, 24)]
    encode(frames, RATE, tmp_path / "blinks.mp4", crf=12)
    found = analyse(tmp_path / "blinks.mp4", tmp_path)
    first = found.frames[:5]
    assert all(frame < 96 for frame in first[:3])
    assert not [frame for frame in first if any(frame in each for each in shut)]
    assert len(found.frames) >= 4


def marked() -> dict[str, list[float]]:
    """Times of shut eyes by clip, as somebody marked them who looked at every frame."""
    times: dict[str, list[float]] = {}
    with SHUT_EYES.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            times.setdefault(row["clip"], []).append(float(row["time_seconds"]))
    return times


def test_there_are_enough_marks() -> None:
    assert sum(map(len, marked().values())) >= 25


@pytest.mark.parametrize("clip", sorted(marked()))
def test_no_marked_blink_is_among_the_first_five(clip: str, corpus: Path, tmp_path: Path) -> None:
    places = [folder / clip for folder in (corpus, corpus.parent / "corpus2")]
    path = next((place for place in places if place.exists()), None)
    if path is None:
        pytest.skip(f"{clip} is not here")
    found = analyse(path, tmp_path)
    rate = float(found.source.frame_rate)
    for frame in found.frames[:5]:
        assert all(abs(frame / rate - time) > 0.6 / rate for time in marked()[clip])
