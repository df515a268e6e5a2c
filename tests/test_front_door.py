"""``import shotladder``: what the command line can do, Python can do by the same name."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import shotladder
from fixtures.clips import make
from ladder.profiles import load_profile
from tests.running import SMALL, few_rates, quick_profile

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def title(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(replace(SMALL, scenes=SMALL.scenes[:2]), tmp_path_factory.mktemp("t") / "t.mp4")


@pytest.fixture(scope="module")
def package(title: Path) -> shotladder.Package:
    with shotladder.Cluster(workers=1) as cluster:
        return shotladder.make_ladder(
            title,
            title.parent / "package",
            cluster=cluster,
            search="exhaustive",
            preset="ultrafast",
            heights=(180,),
            profile=quick_profile(),
            store=title.parent / "store",
        )


def test_every_public_name_is_there_and_documented() -> None:
    assert dir(shotladder) == sorted(shotladder.__all__)
    for name in shotladder.__all__:
        assert inspect.getdoc(getattr(shotladder, name)), name
    with pytest.raises(AttributeError, match="no attribute 'encode'"):
        _ = shotladder.encode  # type: ignore[attr-defined]


def test_importing_it_takes_nothing_along() -> None:
    code = "import sys, shotladder; print(*{name.split('.')[0] for name in sys.modules})"
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    loaded = set(ended.stdout.split())
    assert not loaded & {"cluster", "encoder", "ladder", "torch", "dask", "numpy", "av"}


def test_it_runs_as_a_module() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "shotladder", "--version"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shotladder.__version__ in ended.stdout


def test_a_package_made_from_python_can_be_asked(package: shotladder.Package, title: Path) -> None:
    assert [shot.frames for shot in package.shots] == [12, 12]
    assert shotladder.shots(package.directory).shots == package.shots
    assert shotladder.shots(title, store=title.parent / "store").shots == package.shots
    assert len(package.points(package.recipe)) == len(package.measurements.cells)
    assert package.curves().sizes == (package.ladder.rungs[0].segments[0].size,)
    assert package.verify().frames == 24
    opened = shotladder.Package.open(package.directory)
    answer = shotladder.what_if(opened, max_rate=package.ladder.rungs[-1].bitrate + 1e6)
    assert not answer.changes
    assert shotladder.diff(package, package.directory).percent == pytest.approx(0, abs=1e-6)


def test_a_package_is_compared(package: shotladder.Package) -> None:
    store = package.directory.parent / "store"
    with few_rates():
        comparison = shotladder.compare(package, package, store=store, workers=1)
    (part,) = comparison.parts
    assert [rung.bitrate for rung in part.ours.rungs] == [r.bitrate for r in package.ladder.rungs]
    assert comparison.fixed.rungs
    assert [codec.test for codec in comparison.codecs] == ["x264-ultrafast"]
    with pytest.raises(shotladder.errors.BadInput, match="nowhere is no directory"):
        shotladder.compare(package, "nowhere", store=store)


def test_a_profile_is_passed_as_a_value_and_kept(package: shotladder.Package) -> None:
    """The run's documents hold its content, from which the package's profile is read again."""
    assert package.ladder.profile == "two-crfs"
    assert package.profile == quick_profile()
    assert package.options["profile_sha256"]
    with pytest.raises(shotladder.errors.BadInput, match="no profile is called 'two-crfs'"):
        load_profile("two-crfs")


def test_a_changed_profile_needs_a_name_of_its_own(title: Path) -> None:
    changed = replace(load_profile(), jnd=3.0)
    with pytest.raises(shotladder.errors.BadInput, match="give it another name"):
        shotladder.plan(title, profile=changed, store=title.parent / "store")


def test_a_plan_has_events(title: Path) -> None:
    seen: list[shotladder.events.Event] = []
    estimate = shotladder.plan(
        title,
        on_event=seen.append,
        search="exhaustive",
        profile=quick_profile(),
        heights=(180,),
        store=title.parent / "other",
    )
    assert estimate.grid_encodes == 4
    assert any(isinstance(event, shotladder.events.StagePlanned) for event in seen)


def test_the_documented_example_runs(title: Path, tmp_path: Path) -> None:
    text = (REPOSITORY / "docs" / "python.md").read_text("utf-8")
    example, *_ = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    code = example.replace('"film.mp4"', repr(str(title)))
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert ended.returncode == 0, ended.stderr
    assert "kbit/s" in ended.stdout


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"heigths": (180,)}, "no option 'heigths'; the options are accept_truncated, also"),
        ({"heights": "54,108"}, "heights is '54,108'"),
        ({"heights": [54, 108.5]}, "heights is .*whole|heights is .*fractional"),
        ({"codec": ["x264"]}, "codec is"),
        ({"workers": 0}, "the number of workers is 0; give 1 or more"),
        ({"profile": "mine.toml"}, "or give the path of a TOML file"),
    ],
)
def test_a_wrong_option_is_one_line(title: Path, options: dict[str, object], says: str) -> None:
    with pytest.raises(shotladder.errors.BadInput, match=says) as error:
        shotladder.plan(title, store=title.parent / "store", **options)
    assert "\n" not in error.value.message


def test_what_a_package_does_not_hold_is_one_line(package: shotladder.Package) -> None:
    with pytest.raises(shotladder.errors.BadInput, match="its recipes are x264-ultrafast"):
        package.points("x264-slow")
    with pytest.raises(shotladder.errors.BadInput, match="max_rate is nan"):
        shotladder.what_if(package, max_rate=float("nan"))
    assert package.points("x264-ultrafast") == package.points()
