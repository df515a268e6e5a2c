"""``evaluate`` on a tiny table: who is trained on, what is kept, what is said of it.

Titles are formulas, networks few and short; the searches are the real ones.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import pickle
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from cluster import events
from cluster.cli import main
from cluster.cli.output import show
from cluster.cli.views.evaluation import evaluation_view
from cluster.execution.executor import InlineExecutor, Outcome, Task
from cluster.store import Store
from cluster.training import evaluate as library
from cluster.training import rivals
from cluster.training.dataset import table_titles
from cluster.training.evaluate import EvaluateOptions, Evaluation, evaluate
from cluster.training.table import Row, write_table
from encoder.analysis.features import FEATURE_NAMES, FEATURES_VERSION
from encoder.errors import BadInput
from encoder.media import Size
from encoder.recipes import by_name
from ladder.complexity import training
from ladder.complexity.residual_fit import fit
from ladder.complexity.training import Example
from ladder.evaluation import rival_models
from ladder.profiles import load_profile
from ladder.search.steps import full_grid
from tests.ladder_synthetic import measure, shape
from vmaf import models
from vmaf.models import V1, V1_HIGH_FRAME_RATE

SIZES = (Size(416, 234), Size(640, 360))


def title(
    group: str,
    name: str,
    shots: tuple[tuple[int, float], ...],
    *,
    augmentation: str = "",
    full: bool = True,
    fps: int = 25,
    codec: str = "x264",
) -> list[Row]:
    """Its rows: the full grid, or three CRFs a size."""
    number = int(hashlib.sha256(f"{name}/{augmentation}".encode()).hexdigest()[:12], 16)
    numbers = np.random.default_rng(number)
    made = dataclasses.replace(shape(shots, SIZES), recipe=by_name(f"{codec}-medium"))
    kept = set(load_profile().crf_grid[codec][1::3])
    vectors = [tuple(numbers.normal(c, 0.3, len(FEATURE_NAMES)).tolist()) for _, c in shots]
    return [
        Row(
            group=group,
            source=name,
            augmentation=augmentation,
            title_id=f"{number:016x}",
            source_sha256=f"{number:064x}",
            reference="fedcba9876543210",
            title_width=640,
            title_height=360,
            title_frames=sum(frames for frames, _ in shots),
            frame_rate=Fraction(fps),
            source_bits=10**10,
            shot=shot,
            start_frame=made.shots[shot].start,
            end_frame=made.shots[shot].end,
            cuts=(),
            context_before=4,
            context_after=4,
            recipe=point.recipe.name,
            width=point.width,
            height=point.height,
            crf=point.crf,
            bits=found.bits,
            quality={V1 if fps < 48 else V1_HIGH_FRAME_RATE: found.quality},
            encode_cpu_seconds=0.5,
            tool="n9+abc",
            features_version=FEATURES_VERSION,
            features=vectors[shot],
        )
        for shot, point in full_grid(made, load_profile())
        if full or point.crf in kept
        for found in [measure((shot, point), shots)]
    ]


LONG_NAME = "a title whose name is much longer than its column.mp4"


def rows() -> list[Row]:
    """Five groups: two shots and an augmentation, a single shot, a long name, and no full grid."""
    two, one = ((48, 0.8), (72, 1.6)), ((60, 1.1),)
    return [
        *title("arch", "arch.mp4", two),
        *title("arch", "arch.mp4", two, augmentation="grain", full=False),
        *title("bell", "bell.mp4", one),
        *title("calm", LONG_NAME, ((96, 1.3), (50, 0.7))),
        *title("dusk", "dusk.mp4", two, full=False),
        *title("echo", "echo.mp4", one, full=False, fps=50),
    ]


class Carries(InlineExecutor):
    """Runs here what has gone through a pickle, as on the way to a worker."""

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        return super().run(pickle.loads(pickle.dumps(list(tasks))))


@pytest.fixture(scope="module")
def quick() -> Iterator[list[tuple[str, ...]]]:
    """Short training; gives the examples that each was called with, as groups."""
    trained: list[tuple[str, ...]] = []
    real, real_rival = training.train, rival_models.train_rival

    def spied(examples: list[Example], *, seed: int = 0) -> object:
        trained.append(("networks", *sorted({e.group for e in examples})))
        trained.append(tuple(sorted({e.source for e in examples})))
        return real(examples, seed=seed)

    def spied_rival(kind: rival_models.Kind, examples: list[Example], *, seed: int = 0) -> object:
        trained.append((kind, *sorted({e.group for e in examples})))
        trained.append(tuple(sorted({e.source for e in examples})))
        return real_rival(kind, examples, seed=seed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "STEPS", 40)
        patch.setattr(training, "MEMBERS", 1)
        patch.setattr(rival_models, "TREES", 8)
        for module in (training, rival_models, rivals):
            patch.setattr(module, "fit", functools.partial(fit, rounds=1))
        patch.setattr(training, "train", spied)
        patch.setattr(rival_models, "train_rival", spied_rival)
        yield trained


@dataclasses.dataclass(frozen=True)
class Made:
    """An evaluation with everything, and where it is kept."""

    options: EvaluateOptions
    found: Evaluation
    trained: list[tuple[str, ...]]
    said: list[events.Event]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory, quick: list[tuple[str, ...]]) -> Made:
    folder = tmp_path_factory.mktemp("evaluate")
    write_table(folder / "cells.parquet", rows())
    options = EvaluateOptions(folder / "cells.parquet", rivals=True, cache=folder / "cache")
    said: list[events.Event] = []
    quick.clear()
    found = evaluate(options, said.append, Carries())
    return Made(options, found, list(quick), said)


def test_a_group_is_never_in_what_its_judge_was_trained_on(evaluated: Made) -> None:
    """Nor are its augmentations, whose footage is the same."""
    groups = {row.group for row in rows()}
    sources = {group: {r.source_sha256 for r in rows() if r.group == group} for group in groups}
    assert len(sources["arch"]) == 2
    seen = zip(evaluated.trained[::2], evaluated.trained[1::2], strict=True)
    left_out: dict[str, list[str]] = {}
    for (kind, *trained), files in seen:
        (missing,) = groups - set(trained)
        left_out.setdefault(kind, []).append(missing)
        assert not sources[missing] & set(files)
        others = set().union(*(sources[group] for group in groups - {missing}))
        assert set(files) == others
    assert {kind: sorted(of) for kind, of in left_out.items()} == {
        kind: sorted(groups) for kind in ("networks", "mean", "trees")
    }


def test_every_search_comes_to_a_verdict_on_every_title_with_its_grid(evaluated: Made) -> None:
    found = evaluated.found
    assert (found.groups, found.rows) == (5, len(rows()))
    assert found.searches == (
        *("predict", "sparse grid", "sparse grid, no more", "no correction", "no model"),
        *("trees", "constant CRF", "with a free proxy", "exhaustive"),
    )
    judged = {t.title: t for t in found.titles if t.verdicts}
    assert set(judged) == {"arch.mp4", "bell.mp4", LONG_NAME}
    for one in judged.values():
        verdicts = {v.search: v for v in one.verdicts}
        assert tuple(verdicts) == found.searches
        for verdict in verdicts.values():
            assert not verdict.failure
            assert verdict.rungs
            assert verdict.encodes >= verdict.delivered > 0
            assert verdict.exhaustive >= verdict.grid == one.shots * 18
            assert verdict.seconds is not None
        assert verdicts["no correction"].extra == 0
        assert abs(verdicts["exhaustive"].loss) < 5e-3
        assert verdicts["exhaustive"].cpu_saved == 0
        assert verdicts["exhaustive"].bd_percent == pytest.approx(0, abs=1e-9)
        sparse = -(-verdicts["predict"].encodes // one.shots)
        assert verdicts["sparse grid, no more"].encodes == max(sparse, 2) * one.shots
        assert {s for s, v in verdicts.items() if v.off is not None} == {
            *("predict", "no correction", "no model", "trees", "with a free proxy")
        }
        assert one.before[0].cells == one.shots * 18
        assert 0 < one.after[0].cells <= one.before[0].cells


def test_titles_that_are_not_judged_say_why(evaluated: Made) -> None:
    why = {title.title: title.left_out for title in evaluated.found.titles}
    assert why["arch.mp4"] == ""
    unjudged = {name for name, reason in why.items() if reason == "its full grid is not measured"}
    assert unjudged == {"arch.mp4/grain", "dusk.mp4", "echo.mp4"}
    before = {title.title: title.before[0].cells for title in evaluated.found.titles}
    assert before["dusk.mp4"] == 12  # intervals are checked all the same,
    assert before["echo.mp4"] == 6  # also where scores were predicted as those of a model akin


def test_a_quality_model_that_nothing_learned_is_akin_to_is_not_judged(
    evaluated: Made, quick: list[tuple[str, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "similar_models", lambda name: ())
    found, _, _ = again(evaluated, quick, groups=("bell", "echo"), cache=tmp_path, rivals=False)
    why = {title.title: title.left_out for title in found.titles}
    assert why["bell.mp4"] == ""
    assert why["echo.mp4"].startswith(f"{V1_HIGH_FRAME_RATE} was measured on too few")


def test_judges_are_judged_on_request_only_and_never_trained_on(
    evaluated: Made, quick: list[tuple[str, ...]], tmp_path: Path
) -> None:
    judge = title("seaside", "seaside.mp4", ((60, 1.1),))
    write_table(tmp_path / "both.parquet", [*rows(), *judge])
    changes = {"table": tmp_path / "both.parquet", "cache": tmp_path, "rivals": False}
    found, trained, said = again(evaluated, quick, groups=("bell",), **changes)
    assert [t.title for t in found.titles] == ["bell.mp4"]
    assert trained == [("networks", "arch", "calm", "dusk", "echo")]
    assert "18 cells of seaside are not trained on: these titles are judges" in {
        event.message for event in said if isinstance(event, events.Warned)
    }
    found, trained, _ = again(evaluated, quick, judges=True, **changes)
    assert [t.title for t in found.titles if t.verdicts] == ["seaside.mp4"]
    assert trained == [("networks", "arch", "bell", "calm", "dusk", "echo")]
    with pytest.raises(BadInput, match=r"all titles of .* are judges; --judges judges them"):
        again(evaluated, quick, groups=("seaside",), **changes)
    with pytest.raises(BadInput, match=r"no title of .* is among the judges; leave --judges out"):
        again(evaluated, quick, groups=("bell",), judges=True, **changes)


def test_budgets_trade_loss_against_encodes(
    evaluated: Made, quick: list[tuple[str, ...]], tmp_path: Path
) -> None:
    changes = {"groups": ("arch", "bell"), "rivals": False, "cache": tmp_path}
    found, _, _ = again(evaluated, quick, budgets=(0.0, 1.5), **changes)
    assert found.searches == ("predict", "budget 0 %", "budget 150 %", "exhaustive")
    none, much = (found.verdicts(search) for search in found.searches[1:3])
    assert sum(v.encodes for v in much) > sum(v.encodes for v in none)
    with pytest.raises(BadInput, match="a budget is a share from 0 to 10"):
        again(evaluated, quick, budgets=(-0.1,), **changes)


def test_single_shots_are_apart(evaluated: Made) -> None:
    found = evaluated.found
    assert [v.title for v in found.verdicts("predict")] == ["arch.mp4", LONG_NAME]
    assert [v.title for v in found.verdicts("predict", single=True)] == ["bell.mp4"]


def again(
    made: Made, quick: list[tuple[str, ...]], **changes: object
) -> tuple[Evaluation, list[tuple[str, ...]], list[events.Event]]:
    """What another run finds, what it trains (without the files), and what it says."""
    quick.clear()
    said: list[events.Event] = []
    options = dataclasses.replace(made.options, **changes)  # type: ignore[arg-type]
    found = evaluate(options, said.append, Carries())
    return found, quick[::2], said


def test_the_same_again_trains_and_judges_nothing(
    evaluated: Made, quick: list[tuple[str, ...]]
) -> None:
    found, trained, said = again(evaluated, quick)
    assert found == evaluated.found
    assert trained == []
    planned = [e for e in said if isinstance(e, events.StagePlanned)]
    assert [(e.stage, e.total - e.cached) for e in planned] == [
        *(("train", 0), ("proxies", 0), ("judge", 0))
    ]


def test_what_is_lost_is_made_again_to_the_same(
    evaluated: Made, quick: list[tuple[str, ...]]
) -> None:
    cache = evaluated.options.cache
    verdicts = list(Store(cache).records(library.STAGE))
    assert len(verdicts) == len(evaluated.found.titles)
    for verdict in verdicts:
        (cache / "records" / verdict.key[:2] / f"{verdict.key}.json").unlink()
    found, trained, _ = again(evaluated, quick)
    assert found == evaluated.found
    assert trained == []


def test_groups_that_are_asked_for_are_judged_by_models_of_all_others(
    evaluated: Made, quick: list[tuple[str, ...]], tmp_path: Path
) -> None:
    found, trained, said = again(evaluated, quick, groups=("bell",), cache=tmp_path)
    assert {title.group for title in found.titles} == {"bell"}
    assert [one[1:] for one in trained] == [("arch", "calm", "dusk", "echo")] * 3
    assert "with a free proxy" not in found.searches
    (warning,) = [e.message for e in said if isinstance(e, events.Warned)]
    assert "no row for a free proxy" in warning


def test_groups_can_be_left_out_several_at_a_time_and_by_other_seeds(
    evaluated: Made, quick: list[tuple[str, ...]], tmp_path: Path
) -> None:
    change = {"folds": 2, "rivals": False, "cache": tmp_path, "groups": ("bell", "calm", "echo")}
    found, trained, _ = again(evaluated, quick, **change)
    assert [one[1:] for one in trained] == [
        ("arch", "calm", "dusk"),
        ("arch", "bell", "dusk", "echo"),
    ]
    assert {title.group for title in found.titles} == {"bell", "calm", "echo"}
    assert again(evaluated, quick, **change)[1] == []
    other, trained, _ = again(evaluated, quick, **change, seed=1)
    assert len(trained) == 2
    assert other.titles != found.titles
    with pytest.raises(BadInput, match="asked for 1 folds"):
        again(evaluated, quick, folds=1)


def test_several_seeds_are_one_evaluation(
    evaluated: Made,
    quick: list[tuple[str, ...]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change = {"folds": 2, "rivals": False, "cache": tmp_path, "groups": ("bell", "calm")}
    both, trained, _ = again(evaluated, quick, **change, seeds=2)
    assert len(trained) == 4
    alone = [again(evaluated, quick, **change, seed=seed) for seed in (0, 1)]
    assert [trained for _, trained, _ in alone] == [[], []]  # what one seed found serves both
    for title, *seeds in zip(both.titles, *(found.titles for found, _, _ in alone), strict=True):
        assert [(v.seed, v.search) for v in title.verdicts] == [
            (seed, search) for seed in (0, 1) for search in both.searches
        ]
        first, second = seeds
        losses = [v.loss for v in (*first.verdicts, *second.verdicts)]
        assert [v.loss for v in title.verdicts] == losses
        assert title.before[0].cells == first.before[0].cells + second.before[0].cells
    show(evaluation_view(both))
    assert "loss by seed: " in capsys.readouterr().out
    with pytest.raises(BadInput, match="asked for 0 seeds"):
        again(evaluated, quick, **change, seeds=0)


def test_another_table_is_trained_on_again(
    evaluated: Made, quick: list[tuple[str, ...]], tmp_path: Path
) -> None:
    more = tmp_path / "more.parquet"
    write_table(more, rows()[:-1])
    change = {"table": more, "groups": ("bell",), "rivals": False}
    found, trained, _ = again(evaluated, quick, **change)
    assert trained == [("networks", "arch", "calm", "dusk", "echo")]
    assert found.searches == ("predict", "exhaustive")
    assert again(evaluated, quick, **change)[1] == []


def test_titles_of_another_table_are_judged_and_not_trained_on(
    evaluated: Made,
    quick: list[tuple[str, ...]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What a sparse sweep of a codec is worth: its grids are in a table of their own."""
    shots = ((48, 0.8), (72, 1.6))
    swept = [
        *title("arch", "arch.mp4", shots, full=False, codec="svtav1"),
        *title("dusk", "dusk.mp4", shots, full=False, codec="svtav1"),
    ]
    write_table(tmp_path / "cells.parquet", rows())
    write_table(tmp_path / "swept.parquet", swept)
    full = [
        *title("arch", "arch.mp4", shots, codec="svtav1"),
        *title("new", "new.mp4", shots, codec="svtav1"),
    ]
    write_table(tmp_path / "grids.parquet", full)
    change = {
        "table": tmp_path / "cells.parquet",
        "also": (tmp_path / "swept.parquet",),
        "judged": tmp_path / "grids.parquet",
        "cache": tmp_path,
        "rivals": False,
    }
    found, trained, _ = again(evaluated, quick, **change)
    assert trained == [
        ("networks", "bell", "calm", "dusk", "echo"),
        ("networks", "arch", "bell", "calm", "dusk", "echo"),
    ]
    assert found.rows == len(rows() + swept)
    assert [t.title for t in found.titles] == ["arch.mp4", "new.mp4"]
    assert all(v.grid == 36 for v in found.verdicts("predict"))
    assert found.recipes == ("svtav1-medium",)
    both = dataclasses.replace(found, titles=(*evaluated.found.titles, *found.titles))
    assert both.recipes == ("svtav1-medium", "x264-medium")
    assert both.only("svtav1-medium") == found
    show(evaluation_view(both))
    text = capsys.readouterr().out
    parts = text.split(", titles with several shots: predict")
    assert [part.split()[-1] for part in parts[:-1]] == ["svtav1-medium", "x264-medium"]
    assert "new.mp4" in parts[1]
    assert "new.mp4" not in parts[2]
    assert again(evaluated, quick, **change)[1] == []
    write_table(tmp_path / "grids.parquet", full[: len(full) // 2])
    assert again(evaluated, quick, **change)[1] == [("networks", "bell", "calm", "dusk", "echo")]


def test_a_file_that_is_judged_as_another_group_is_refused(evaluated: Made, tmp_path: Path) -> None:
    grids = tmp_path / "grids.parquet"
    write_table(grids, [dataclasses.replace(r, group="bells") for r in rows() if r.group == "bell"])
    options = dataclasses.replace(evaluated.options, judged=grids)
    with pytest.raises(BadInput, match=r"bell.mp4 is of group 'bells' .* with the same --catalog"):
        evaluate(options, lambda event: None, Carries())


def test_too_few_groups_to_train_on(quick: list[tuple[str, ...]], tmp_path: Path) -> None:
    table = tmp_path / "few.parquet"
    write_table(table, [row for row in rows() if row.group in ("arch", "bell")])
    with pytest.raises(BadInput, match="too little to train on without arch"):
        evaluate(EvaluateOptions(table, cache=tmp_path), lambda event: None, Carries())


def test_a_table_as_titles() -> None:
    profile = load_profile()
    titles = {one.name: one for one in table_titles(rows())}
    arch, grain = titles["arch.mp4"], titles["arch.mp4/grain"]
    assert (arch.group, grain.group) == ("arch", "arch")
    assert arch.missing(profile) == ""
    assert arch.with_grid(profile).encode_seconds
    gap = [r for r in rows() if r.title_id == arch.shot_rows[0].title_id and r.shot == 1]
    (late,) = table_titles(gap)
    assert late.missing(profile) == "its shots do not follow one another"

    free = grain.proxies()
    assert {(shot, point.width, point.crf) for shot, point in free} == {(0, 416, 30), (1, 416, 30)}
    unknown = [dataclasses.replace(row, encode_cpu_seconds=None) for row in rows()[:1]]
    known = [r for r in rows()[1:] if r.title_id == unknown[0].title_id]
    (one,) = table_titles([*unknown, *known])
    assert one.with_grid(profile).encode_seconds == {}
    other = [dataclasses.replace(r, recipe="x264-slow") for r in gap]
    assert [t.name for t in table_titles([*gap, *other])] == [
        "arch.mp4, x264-medium",
        "arch.mp4, x264-slow",
    ]
    other = [dataclasses.replace(r, reference="0123456789abcdef") for r in gap]
    assert [t.name for t in table_titles([*gap, *other])] == ["arch.mp4", "arch.mp4 (2)"]


def test_a_title_under_two_recipes_is_two() -> None:
    both = [*rows(), *title("bell", "bell.mp4", ((60, 1.1),), codec="svtav1")]
    names = {one.name: one.shape.recipe.codec for one in table_titles(both) if one.group == "bell"}
    assert names == {"bell.mp4, x264-medium": "x264", "bell.mp4, svtav1-medium": "svtav1"}


# -- the command -------------------------------------------------------------------------------


def asked(made: Made, *more: str) -> list[str]:
    options = made.options
    return [
        *("evaluate", "--rivals", "--table", str(options.table)),
        *("--cache", str(options.cache), *more),
    ]


def test_lines_are_json_with_a_verdict_per_title_and_search(
    evaluated: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(asked(evaluated, "--json")) == 0
    text = capsys.readouterr().out
    assert "NaN" not in text
    lines = [json.loads(line) for line in text.splitlines()]
    assert [lines[0]["type"], lines[-1]["type"]] == ["started", "done"]
    verdicts = [line for line in lines if line["type"] == "verdict"]
    assert len(verdicts) == 3 * 9
    (one,) = [v for v in verdicts if (v["title"], v["search"]) == ("arch.mp4", "predict")]
    (same,) = [v for v in evaluated.found.verdicts("predict") if v.title == "arch.mp4"]
    assert one["loss"] == pytest.approx(same.loss)
    assert one["encodes"] == same.encodes
    assert len(one["rungs"]) == len(same.rungs)
    assert len([line for line in lines if line["type"] == "calibration"]) == 6
    result = lines[-1]["result"]
    assert [s["titles"] for s in result["summaries"]] == [2] * 9
    assert {s["recipe"] for s in result["summaries"]} == {"x264-medium"}
    assert [s["titles"] for s in result["single_shot_summaries"]] == [1] * 9
    mean = sum(v.loss for v in evaluated.found.verdicts("predict")) / 2
    assert result["summaries"][0]["loss"] == pytest.approx(mean)


def test_tables_fit_a_terminal_and_single_shots_have_their_own(
    evaluated: Made, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(asked(evaluated, "--rungs")) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    several = text.index("titles with several shots: predict against the exhaustive search")
    single = text.index("titles of a single shot: predict against the exhaustive search")
    assert "arch.mp4" in text[several:single]
    assert "bell.mp4" not in text[several:single]
    assert "bell.mp4" in text[single:]
    words = " ".join(text.split())
    assert words.endswith("not judged, its full grid is not measured: arch.mp4, dusk.mp4, echo.mp4")
    # A name may be cut, a number may not.
    for line in text.splitlines():
        cut, *rest = line.split("…")
        assert not rest or (cut.strip() in LONG_NAME and len(rest) == 1), line


def test_a_very_narrow_terminal_loses_columns_and_not_the_command(
    evaluated: Made, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    show(evaluation_view(evaluated.found))
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 40


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ((), "evaluate needs --table FILE"),
        (("--table", "nothing.parquet"), "nothing.parquet is no file"),
        (("--table", "text"), "is not a whole Parquet file"),
        (("--table", "good", "--groups", "arch,nobody"), "no group 'nobody'"),
        (("--table", "good", "--groups", "dusk"), "none has its full grid"),
        (("--table", "sparse"), "none has its full grid"),
        (("--table", "old"), "no rows with features of version"),
        (("--table", "good", "--profile", "other"), "no profile is called 'other'"),
        (("--table", "good", "--cache", "text"), "cannot be made"),
        (("--table", "good", "--workers", "0"), "asked for 0 workers"),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistake_is_one_line(
    wrong: tuple[str, ...],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text").write_text("a,b\n1,2\n")
    table = rows()
    write_table(Path("good"), table)
    write_table(Path("sparse"), [row for row in table if row.group == "dusk"])
    write_table(Path("old"), [dataclasses.replace(row, features_version=0) for row in table[:4]])
    assert main(["evaluate", *wrong]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.strip().splitlines()
    assert says in line
    assert main(["evaluate", *wrong, "--json"]) == 2
    (error,) = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert (error["type"], says in error["message"]) == ("error", True)
