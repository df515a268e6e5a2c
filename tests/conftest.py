from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures import awkward
from fixtures.clips import TINY, make

CORPUS = Path(__file__).resolve().parent.parent / ".." / "shared" / "corpus"


@pytest.fixture(scope="session")
def tiny_title(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`fixtures.clips.TINY`: 192x108, 3 s at 24 fps, cuts at 24 and 48, stereo AAC."""
    return make(TINY, tmp_path_factory.mktemp("clips") / "tiny.mp4")


@pytest.fixture(scope="session")
def awkward_clip(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the path of one of `fixtures.awkward.CLIPS` by file name; each is made once."""
    folder = tmp_path_factory.mktemp("awkward")
    recipes = {clip.file: clip for clip in awkward.CLIPS}

    def path_of(file: str) -> Path:
        made = folder / file
        return made if made.exists() else awkward.make(recipes[file], folder)

    return path_of


@pytest.fixture(scope="session")
def corpus() -> Path:
    """Folder of real clips; tests that need them are skipped where there is none."""
    if not (CORPUS / "catalog.csv").exists():
        pytest.skip("the corpus of real clips is not here")
    return CORPUS.resolve()
