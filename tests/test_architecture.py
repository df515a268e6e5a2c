"""The shape of the code: who may import whom, and what must stay in one place."""

from __future__ import annotations

import ast
import functools
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
PACKAGES = ("encoder", "vmaf", "ladder", "recommender", "cluster")
MODULES = sorted(path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py"))
# The foreign package `vmaf` has submodules of these names: with ours of the same, an import that
# found the wrong package would go unnoticed.
FORBIDDEN_NAMES = {"core", "tools", "script", "config", "routine", "model"}
NAMELESS = {"utils", "util", "helper", "helpers", "manager", "misc", "common"}


def name(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def imported(path: Path) -> tuple[str, ...]:
    """Modules that a file imports, wherever in it."""
    found: list[str] = []
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.append(node.module)
    return tuple(found)


def importers(*modules: str) -> list[str]:
    return [
        name(path)
        for path in MODULES
        if any(found.split(".")[0] in modules for found in imported(path))
    ]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    # As a user's shell has it: pytest's own path must not help.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_contracts_of_pyproject_hold() -> None:
    code = "from importlinter import cli; raise SystemExit(cli.lint_imports(no_cache=True))"
    ended = run("-c", code)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "0 broken" in ended.stdout


@pytest.mark.parametrize("package", PACKAGES)
def test_our_packages_are_ours(package: str) -> None:
    found = importlib.import_module(package).__file__
    assert found is not None
    assert Path(found).resolve() == REPOSITORY.resolve() / package / "__init__.py"


def test_only_the_seam_starts_processes() -> None:
    assert importers("subprocess", "pty") == ["encoder/ffmpeg.py"]
    starters = {"system", "popen", "fork", "forkpty", "posix_spawn", "posix_spawnp", "startfile"}
    for path in MODULES:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                called = node.attr
                starts = called in starters or called.startswith(("exec", "spawn"))
                assert not (node.value.id == "os" and starts), f"{name(path)}:{node.lineno}"
                assert called != "create_subprocess_exec", f"{name(path)}:{node.lineno}"


def test_only_the_complexity_model_knows_torch() -> None:
    users = [
        name(path)
        for path in MODULES
        for found in imported(path)
        # What safetensors has for numpy loads no torch: the store keeps predictions with it.
        if found.split(".")[0] in ("torch", "torchvision") or found == "safetensors.torch"
    ]
    assert users
    assert [user for user in users if not user.startswith("ladder/complexity")] == []


def test_only_cluster_knows_dask() -> None:
    users = importers("dask", "distributed")
    assert [user for user in users if not user.startswith("cluster/")] == []


def test_product_code_does_not_know_its_tests() -> None:
    assert importers("tests", "pytest", "hypothesis", "conftest") == []


@pytest.mark.parametrize(
    ("package", "heavy"),
    [
        ("encoder", {"torch", "dask", "distributed", "scenedetect", "cv2", "av"}),
        ("vmaf", {"torch", "dask", "distributed", "scenedetect"}),
        ("ladder", {"torch", "dask", "distributed", "scenedetect", "cv2", "av"}),
        ("recommender", {"torch", "dask", "distributed", "scenedetect"}),
        ("cluster", {"torch", "distributed"}),
        ("cluster.execution.executor", {"torch", "dask", "distributed"}),
        ("cluster.cli.progress", {"torch", "dask", "distributed"}),
        ("cluster.service.client", {"torch", "dask", "distributed", "sqlalchemy", "fastapi", "av"}),
        (
            "cluster.service.queue.work",
            {"torch", "dask", "distributed", "sqlalchemy", "fastapi", "av"},
        ),
    ],
)
def test_importing_a_package_loads_nothing_heavy(package: str, heavy: set[str]) -> None:
    code = f"import sys, {package}; print(*{{name.split('.')[0] for name in sys.modules}})"
    ended = run("-W", "error", "-c", code)
    assert ended.returncode == 0, ended.stderr
    assert set(ended.stdout.split()) & heavy == set()


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_is_named_for_what_it_does_and_says_it(path: Path) -> None:
    assert path.stem not in NAMELESS
    assert path.parent.parent != REPOSITORY or path.stem not in FORBIDDEN_NAMES
    assert ast.get_docstring(parsed(path))


def test_tests_are_imported_in_one_way() -> None:
    """As ``tests.x``: under two names, a module would be loaded twice."""
    helpers = {path.stem for path in (REPOSITORY / "tests").glob("*.py")}
    for path in (REPOSITORY / "tests").rglob("*.py"):
        assert helpers.isdisjoint(imported(path)), name(path)
