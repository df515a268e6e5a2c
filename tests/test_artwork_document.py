"""Pools as documents: what a service selects, and what becomes of a pool's successor."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from docs import generate
from encoder.errors import BadInput
from recommender.artwork.build import rank_crops
from recommender.artwork.crops import ASPECTS
from recommender.artwork.descriptors import hash_distance
from recommender.artwork.document import (
    Area,
    Artwork,
    ArtworkTitle,
    Candidate,
    Crop,
    DominantColour,
    Filter,
    FoundFace,
    Measure,
    Place,
    Rendition,
    ScrubFacts,
    Selection,
    pool_id,
)
from recommender.artwork.lineage import follow
from recommender.artwork.select import answer, select
from recommender.artwork.stills import MEASURES
from tests.test_docs import check

ROOT = Path(__file__).parent.parent
RNG = np.random.default_rng(7)
HASHES = [int(value) for value in RNG.integers(0, 2**63, 40, dtype=np.uint64)]
VECTORS = RNG.normal(size=(40, 8)) / 3


def candidate(
    number: int, *, rank: int | None = None, hash_: int | None = None, **more: object
) -> Candidate:
    identity = f"{number:016x}"
    fields: dict[str, object] = {
        "id": identity,
        "action_id": identity,
        "rank": number if rank is None else rank,
        "frame": 24 * number,
        "time_seconds": float(number),
        "shot": number,
        "cluster": number % 3,
        "quality": 0.9 - 0.02 * number,
        "flags": [],
        "focal_point": Place(x=0.5, y=0.4),
        "title_side": "left",
        "crops": [
            Crop(
                aspect=aspect,
                area=Area(x=0, y=0, width=64, height=36),
                focal_point=Place(x=0.5, y=0.5),
                renditions=[
                    Rendition(format="webp", width=64, height=36, bytes=9, sha256="0" * 64, uri="a")
                ],
            )
            for aspect in ASPECTS
        ],
        "metrics": {name: Measure(raw=1.0, percentile=0.5) for name in MEASURES},
        "colours": [DominantColour(hex="#102030", share=1.0)],
        "perceptual_hash": f"{HASHES[number] if hash_ is None else hash_:016x}",
        "embedding": VECTORS[number].tolist(),
        "faces": None,
        "spoiler_zone": False,
        "maturity": None,
        "rights": None,
    }
    return Candidate.model_validate({**fields, **more})


def artwork(candidates: list[Candidate], title: str = "a") -> Artwork:
    return Artwork(
        pool=pool_id(candidates),
        title=ArtworkTitle(
            id=title * 16,
            source="film.mp4",
            sha256=title * 64,
            width=64,
            height=36,
            frame_rate="24/1",
            frames=960,
        ),
        embedding_model="test/1",
        face_model=None,
        picture=Area(x=0, y=0, width=64, height=36),
        selection=Selection(
            stills=99,
            quota=0.15,
            filters=[Filter(name="black", found=1, dropped=1)],
            clusters=3,
            uncovered_clusters=[],
        ),
        candidates=candidates,
        actions_uri="artwork/actions.parquet",
        scrub=ScrubFacts(uri="v", sheets=["s"], step_seconds=1.0, width=160, height=90),
        replaces=None,
    )


# -- selection ---------------------------------------------------------------------------------


def with_crops(one: Candidate, **facts: object) -> Candidate:
    changed = [
        crop.model_copy(update=facts) if crop.aspect == "2:3" else crop for crop in one.crops
    ]
    return one.model_copy(update={"crops": changed})


def test_selection_is_by_rank_where_crops_have_none() -> None:
    """As in packages of earlier releases."""
    pool = artwork([candidate(number) for number in range(9)])
    plain = select(pool, "2:3", 4)
    assert [one.candidate.rank for one in plain] == [0, 1, 2, 3]
    assert {one.crop.aspect for one in plain} == {"2:3"}
    assert len(select(pool, "1:1")) == 9


def test_crops_move_back_as_far_as_they_lose() -> None:
    """Full crops keep the candidates' order; a crop that loses everything moves by half a list."""
    kept = [1.0, 0.5, 1.0, 0.0, 1.0, 1.0]
    made = [
        with_crops(
            candidate(number, quality=0.8),
            quality=0.8 * share,
            usable=number != 2,
            keeps_faces=number != 2,
        )
        for number, share in enumerate(kept)
    ]
    ranked = rank_crops(
        [
            one.model_copy(
                update={
                    "crops": [
                        crop
                        if crop.quality is not None
                        else crop.model_copy(update={"quality": 0.8})
                        for crop in one.crops
                    ]
                }
            )
            for one in made
        ]
    )
    pool = artwork(ranked)
    assert [one.candidate.rank for one in select(pool, "16:9")] == list(range(6))
    assert [one.candidate.rank for one in select(pool, "2:3")] == [0, 1, 4, 5, 3]
    found = answer(pool, "2:3", 2)
    assert (found.of, found.unusable, found.order) == (6, 1, "rank")
    assert [one.rank for one in found.candidates] == [0, 1]


def test_a_longer_selection_begins_with_a_shorter_one() -> None:
    pool = artwork(rank_crops([candidate(n, quality=0.9 - 0.07 * (n * 5 % 9)) for n in range(9)]))
    whole = answer(pool, "21:9").candidates
    assert sorted(one.rank for one in whole) == list(range(9))
    for k in range(1, 9):
        assert answer(pool, "21:9", k).candidates == whole[:k]


def test_an_answer_has_what_is_shown_and_logged_and_no_more() -> None:
    faces = [FoundFace(x=0.1, y=0.1, width=0.2, height=0.2, score=0.9)]
    pool = artwork([candidate(0, faces=faces), candidate(1, faces=[]), candidate(2)])
    found = answer(pool, "2:3", 5)
    text = found.model_dump_json(by_alias=True)
    schema = json.loads(generate.schema(type(found)))
    check(json.loads(text), schema, schema["$defs"])
    assert (found.pool, found.title_id, found.of) == (pool.pool, pool.title.id, 3)
    assert [one.faces for one in found.candidates] == [1, 0, None]
    for still, one in zip(found.candidates, pool.candidates, strict=True):
        crop = next(crop for crop in one.crops if crop.aspect == "2:3")
        assert still.renditions == crop.renditions
        assert still.focal_point == crop.focal_point
        assert still.action_id == one.action_id
    assert "embedding" not in text
    assert "metrics" not in text


@pytest.mark.parametrize(("aspect", "k"), [("4:3", 1), ("16:9", 0), ("16:9", -2)])
def test_a_bad_aspect_or_count_is_an_error(aspect: str, k: int) -> None:
    with pytest.raises(BadInput, match=r"choose one of|give 1 or more"):
        select(artwork([candidate(0)]), aspect, k)


# -- lineage -----------------------------------------------------------------------------------


def flipped(hash_: int, bits: int) -> int:
    for bit in range(bits):
        hash_ ^= 1 << (7 * bit)
    return hash_


def test_actions_keep_their_names_when_a_title_is_delivered_again() -> None:
    old = artwork([candidate(number) for number in range(4)])
    new = artwork(
        [
            candidate(0),  # the same pixels
            candidate(11, hash_=flipped(HASHES[1], 6), time_seconds=1.5),  # coded anew
            candidate(12, hash_=flipped(HASHES[2], 3), time_seconds=300.0),  # moved by a new cut
            candidate(13, hash_=flipped(HASHES[3], 8), time_seconds=300.0),  # another one
        ],
        "b",
    )
    followed = follow(new, old)
    assert [one.action_id for one in followed.candidates] == [
        *(one.id for one in old.candidates[:3]),
        new.candidates[3].id,
    ]
    lineage = followed.replaces
    assert lineage is not None
    assert (lineage.pool, lineage.title_id) == (old.pool, old.title.id)
    assert [(kept.old_id, kept.hash_distance) for kept in lineage.kept] == [
        (old.candidates[0].id, -1),
        (old.candidates[1].id, 6),
        (old.candidates[2].id, 3),
    ]
    assert lineage.retired == [old.candidates[3].id]
    assert followed.pool == new.pool
    # Again over itself: nothing changes, and the lineage stays.
    assert follow(new, followed).to_json() == followed.to_json()
    # A third delivery still has the first names.
    third = follow(artwork([candidate(21, hash_=HASHES[1], time_seconds=1.0)], "c"), followed)
    assert third.candidates[0].action_id == old.candidates[1].id


def test_one_old_action_goes_on_as_one_new_action() -> None:
    old = artwork([candidate(5)])
    twins = artwork(
        [candidate(6, hash_=flipped(HASHES[5], 4), time_seconds=5.0), candidate(7, hash_=HASHES[5])]
    )
    followed = follow(twins, old)
    names = [one.action_id for one in followed.candidates]
    assert names == [twins.candidates[0].id, old.candidates[0].id]
    assert len(set(names)) == 2


def test_no_name_is_given_twice() -> None:
    """The old picture is back, but another picture continues its action id."""
    old = artwork([candidate(1).model_copy(update={"action_id": candidate(2).id})])
    new = artwork([candidate(1), candidate(2)])
    names = [one.action_id for one in follow(new, old).candidates]
    assert names[0] == candidate(2).id
    assert len(set(names)) == 2


def test_hash_distance_counts_bits() -> None:
    assert hash_distance(HASHES[0], flipped(HASHES[0], 5)) == 5
    assert hash_distance(0, 2**64 - 1) == 64


# -- the document ------------------------------------------------------------------------------


def test_a_pool_is_named_for_its_content() -> None:
    pool = [candidate(number) for number in range(3)]
    renamed = [one.model_copy(update={"action_id": "other"}) for one in pool]
    assert pool_id(renamed) == pool_id(pool)
    assert pool_id(pool[::-1]) != pool_id(pool)
    assert pool_id([pool[0].model_copy(update={"quality": 0.1}), *pool[1:]]) != pool_id(pool)


def test_the_schema_describes_what_is_written() -> None:
    face = FoundFace(x=0.1, y=0.1, width=0.2, height=0.3, score=0.9)
    pool = follow(artwork([candidate(1, faces=[face])]), artwork([candidate(0), candidate(1)]))
    schema = json.loads((ROOT / "docs" / "schemas" / "artwork.json").read_text("utf-8"))
    written = json.loads(pool.to_json())
    check(written, schema, schema["$defs"])
    assert Artwork.model_validate_json(pool.to_json()) == pool
    assert "artwork" in generate.SCHEMAS


def test_every_measure_filter_and_aspect_is_documented() -> None:
    from recommender.artwork.filters import FILTERS

    page = (ROOT / "docs" / "artwork.md").read_text("utf-8")
    for name in (*MEASURES, *FILTERS, *ASPECTS):
        assert f"`{name}`" in page, name
