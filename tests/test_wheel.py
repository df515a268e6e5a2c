"""The wheel holds all that the packages load, its licence, and works without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from fixtures.clips import make
from tests.running import SHORT

ROOT = Path(__file__).parents[1]
PACKAGES = ("encoder", "vmaf", "ladder", "recommender", "cluster")
NOT_LOADED = {"cluster/service/migrations/script.py.mako"}
"""Files for who changes the code."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "checkout"
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in files.stdout.decode().split("\0"):
        if name.split("/")[0] in (*PACKAGES, "pyproject.toml", "shotladder.py", "README.md",
                                  "LICENSE", "NOTICE"):  # fmt: skip
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(copy)]
    subprocess.run([*pip, *build], check=True, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    files = subprocess.run(["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True,
                           check=True, text=True)  # fmt: skip
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert set(files.stdout.split("\n")) - {""} - NOT_LOADED - names == set()
    licences = {name.rpartition("/")[2] for name in names if "/licenses/" in name}
    assert {"LICENSE", "NOTICE"} <= licences


def test_the_wheel_works_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    there = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(there)
    environment = {**os.environ, "PYTHONPATH": str(there)}

    def python(*line: object) -> str:
        done = subprocess.run([sys.executable, *map(str, line)], cwd=tmp_path, env=environment,
                              capture_output=True, text=True)  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = python("-c", "import cluster, ladder; print(cluster.__file__, ladder.__file__)")
    assert all(Path(name).is_relative_to(there) for name in where.split())
    assert python("-m", "shotladder", "--version") == "shotladder 0.1.0\n"
    source = make(SHORT, tmp_path / "short.mp4")
    plan = python("-m", "shotladder", "run", source, "--out", tmp_path / "out", "--store",
                  tmp_path / "store", "--plan")  # fmt: skip
    assert "encodes" in plan  # it needs the weights and the profiles
