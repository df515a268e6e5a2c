from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures import awkward
from fixtures.clips import TINY, make

LONGEST_FIRST = (
    "test_compare.py", "test_evaluate.py", "test_sweep.py", "test_job_predict.py",
    "test_resume.py", "test_faults.py", "test_service_http.py", "test_golden_keys.py",
    "test_service_real.py", "test_cluster_chaos.py", "test_two_codecs.py", "test_codecs.py",
    "test_workers.py", "test_learning.py", "test_job.py", "test_cli_run.py", "test_hdr.py",
    "test_kinds_captions.py", "test_store_provenance.py", "test_service_kill.py",
    "test_service_fuzz.py", "test_remote_run.py", "test_artwork_stage.py", "test_matrix.py",
)  # fmt: skip
"""Files that take long, which `make test` begins with: one of them at the end would run alone."""

CORPUS = Path(__file__).resolve().parent.parent / ".." / "shared" / "corpus"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order files so that two workers end at about the same time."""
    order = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


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
