from __future__ import annotations

import fcntl
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fixtures import awkward
from fixtures.clips import TINY, make
from tests.postgres import Server, server

if TYPE_CHECKING:
    from tests.running import SmallRun

LONGEST_FIRST = (
    "test_compare.py", "test_evaluate.py", "test_sweep.py", "test_job_predict.py", "test_encode.py",
    "test_resume.py", "test_faults.py", "test_service_http.py", "test_golden_keys.py",
    "test_service_real.py", "test_recipe_check_run.py", "test_two_codecs.py", "test_codecs.py",
    "test_workers.py", "test_learning.py", "test_job.py", "test_cli_run.py", "test_hdr.py",
    "test_kinds_captions.py", "test_store_provenance.py", "test_service_kill.py",
    "test_service_fuzz.py", "test_remote_run.py", "test_pieces.py", "test_artwork_stage.py",
    "test_matrix.py",
)  # fmt: skip
"""Files that take long, which `make test` begins with: one of them at the end would run alone."""

CORPUS = Path(__file__).resolve().parent.parent / ".." / "shared" / "corpus"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out slow tests that nobody asked for, and order files so that two workers end at
    about the same time."""
    if "slow" not in config.option.markexpr:
        slow = [item for item in items if item.get_closest_marker("slow")]
        items[:] = [item for item in items if item not in slow]
        config.hook.pytest_deselected(items=slow)
    order = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


Once = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Gives the folder of a name, filled by a function that is called once for all workers.

    Tests only read what is in it.
    """
    place = tmp_path_factory.getbasetemp()
    place = (place.parent if "PYTEST_XDIST_WORKER" in os.environ else place) / "once"
    place.mkdir(exist_ok=True)

    def folder_of(name: str, fill: Callable[[Path], object]) -> Path:
        folder, done = place / name, place / f"{name}.done"
        with (place / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
                folder.mkdir()
                fill(folder)
                done.touch()
        return folder

    return folder_of


@pytest.fixture(scope="session", autouse=True)
def probed_here() -> Iterator[None]:
    """Sources are probed in this process, as a child takes half a second to start.

    Commands, services and workers that tests start probe in children nevertheless.
    """
    from encoder.source import sandbox

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox, "run_python", lambda module, request, **_: sandbox.answer(request))
        yield


@pytest.fixture
def probed_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources are probed in a child process, as they are outside tests."""
    from encoder import ffmpeg
    from encoder.source import sandbox

    monkeypatch.setattr(sandbox, "run_python", ffmpeg.run_python)


@pytest.fixture(scope="session")
def tiny_title(once: Once) -> Path:
    """`fixtures.clips.TINY`: 192x108, 3 s at 24 fps, cuts at 24 and 48, stereo AAC."""
    return once("tiny", lambda folder: make(TINY, folder / "tiny.mp4")) / "tiny.mp4"


@pytest.fixture(scope="session")
def awkward_clip(once: Once) -> Callable[[str], Path]:
    """Gives the path of one of `fixtures.awkward.CLIPS` by file name; each is made once."""
    recipes = {clip.file: clip for clip in awkward.CLIPS}

    def path_of(file: str) -> Path:
        return once(f"awkward-{file}", lambda folder: awkward.make(recipes[file], folder)) / file

    return path_of


@pytest.fixture(scope="module")
def small_run(once: Once, tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """The run of `tests.running.run_small`, with a package and a store that the module may change.

    The run itself is made once.
    """
    from tests.running import run_small  # imports all of the product

    def fill(folder: Path) -> None:
        (folder / "run").write_bytes(pickle.dumps(run_small(folder)))

    made: SmallRun = pickle.loads((once("small-run", fill) / "run").read_bytes())
    return made.copied(tmp_path_factory.mktemp("small-run"))


@pytest.fixture(scope="session")
def corpus() -> Path:
    """Folder of real clips; tests that need them are skipped where there is none."""
    if not (CORPUS / "catalog.csv").exists():
        pytest.skip("the corpus of real clips is not here")
    return CORPUS.resolve()


NewDatabase = Callable[[str], "Path | str"]


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """A PostgreSQL server, which is skipped loudly where none is installed."""
    with server() as one:
        yield one


@pytest.fixture(params=["sqlite", "postgresql"])
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> NewDatabase:
    """Gives the place of new tables by name, in a file or in a database: the same name, the same
    place."""
    if request.param == "sqlite":
        return lambda name: tmp_path / f"{name}.db"
    one, urls = request.getfixturevalue("postgres_server"), dict[str, str]()

    def place(name: str) -> str:
        if name not in urls:
            urls[name] = one.new_database()
        return urls[name]

    return place
