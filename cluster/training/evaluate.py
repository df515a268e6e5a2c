"""``evaluate``: how good the search is on titles that the model has never seen.

For every group of titles that share footage a model is trained on all others. The titles of the
group whose full grid is in the table, or in another one that is only judged on, are then searched
in simulation (:mod:`ladder.evaluation.simulate`). Training is what takes long: predictions are kept
in a folder, by what they follow from, so that the same command continues, and a change of the
search is judged without training again.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import TypeAdapter

from cluster import events
from cluster.execution.executor import Executor, Task, connect
from cluster.store.files import file_sha256
from cluster.store.keys import key
from cluster.training.dataset import current, examples, shot_inputs, table_titles
from cluster.training.table import Row, read_table, read_tables
from encoder.analysis.features import FEATURES_VERSION
from encoder.errors import BadInput
from encoder.media import Size
from ladder.complexity.prediction import CrfScale, TitlePrediction
from ladder.complexity.residuals import ResidualModel, fit, residuals_for
from ladder.evaluation.rival_searches import ConstantCrfSearch, PredictionOnlySearch, SampleSearch
from ladder.evaluation.simulate import (
    Coverage,
    Simulated,
    Truth,
    Verdict,
    corrected_by_proxies,
    coverage,
    first_rung,
    judge,
    shot_residuals,
    simulate,
)
from ladder.profiles import Profile, load_profile
from ladder.search.predict import PredictSearch
from ladder.search.steps import ExhaustiveSearch
from vmaf import models

KINDS: Final = ("networks", "mean", "trees")
PROXY: Final = "proxy"
"""Predictions by the networks that have seen one cell of every shot."""
LEAST_OTHERS = 3
"""Other groups whose errors tell what a proxy leaves unknown."""
CACHE: Final = Path("out/evaluate")
PREDICT, EXHAUSTIVE = "predict", "exhaustive"
"""Names of searches."""


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """What ``evaluate`` was asked."""

    table: Path
    also: tuple[Path, ...] = ()
    """More tables that are trained on."""
    judged: Path | None = None
    """A table whose titles are judged instead; nothing of it is trained on."""
    groups: tuple[str, ...] = ()
    """That are judged; () is all. Training uses the others in any case."""
    rivals: bool = False
    cache: Path = CACHE
    profile: str = "default"
    workers: int | None = None
    scheduler: str | None = None


@dataclass(frozen=True, slots=True)
class TitleResult:
    """A title of the table."""

    title: str
    group: str
    recipe: str
    shots: int
    quality_model: str
    left_out: str
    """Why no search was judged on it; empty if some were."""
    verdicts: tuple[Verdict, ...] = ()
    before: tuple[Coverage, Coverage] = (Coverage(), Coverage())
    """Rate and quality in their intervals, before anything is measured."""
    after: tuple[Coverage, Coverage] = (Coverage(), Coverage())
    """The same for what was not measured, when the middle rung was."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What ``evaluate`` found."""

    titles: tuple[TitleResult, ...]
    groups: int
    """In the tables that are trained on."""
    rows: int
    """In the same."""

    @property
    def searches(self) -> tuple[str, ...]:
        """In the order that they were judged in."""
        return tuple(dict.fromkeys(v.search for t in self.titles for v in t.verdicts))

    @property
    def recipes(self) -> tuple[str, ...]:
        """That titles were judged under; their losses have no mean in common."""
        return tuple(sorted({title.recipe for title in self.titles if title.verdicts}))

    def only(self, recipe: str) -> Evaluation:
        """The titles under one recipe."""
        return replace(self, titles=tuple(t for t in self.titles if t.recipe == recipe))

    def verdicts(self, search: str, *, single: bool = False) -> tuple[Verdict, ...]:
        """Of one search, on titles with several shots or on those with a single one."""
        return tuple(
            verdict
            for title in self.titles
            for verdict in title.verdicts
            if verdict.search == search and (verdict.shots == 1) == single
        )


def evaluate(
    options: EvaluateOptions, on_event: events.Listener, executor: Executor | None = None
) -> Evaluation:
    """Train without each group, and judge the search on its titles.

    Raises:
        BadInput: there is no table, no such group, or too little to train on or to judge.
    """
    tables = (options.table, *options.also)
    rows = current(read_tables(tables))
    judged = options.judged or options.table
    to_judge = current(read_table(judged))
    _check_groups(rows, to_judge, judged)
    profile = load_profile(options.profile)
    groups = sorted({row.group for row in to_judge})
    unknown = sorted(set(options.groups) - set(groups))
    if unknown:
        raise BadInput(f"no group {unknown[0]!r} in {judged}; there are {', '.join(groups)}")
    titles = [t for t in table_titles(to_judge) if not options.groups or t.group in options.groups]
    if not any(not title.missing(profile) for title in titles):
        raise BadInput(
            f"no title to judge in {judged}: none has its full grid; measure one with "
            "`shotladder sweep --table` without --cells"
        )
    wanted = sorted({title.group for title in titles})
    kinds = KINDS if options.rivals else KINDS[:1]
    try:
        options.cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--cache {options.cache} cannot be made ({error.strerror})") from error
    known = {
        "tables": [file_sha256(table) for table in tables],
        "judged": file_sha256(judged),
        "profile": options.profile,
    }
    work = [
        FoldWork(
            tables,
            judged,
            group,
            kind,
            options.profile,
            _place(options, f"{kind}.npz", code=_training_code(kind), group=group, **known),
        )
        for kind in kinds
        for group in wanted
    ]
    with connect(executor, workers=options.workers, scheduler=options.scheduler) as running:
        _run("train", "folds", work, make_fold, running, on_event)
        folds = {(one.group, one.kind): one.place for one in work}
        if options.rivals and len(wanted) > LEAST_OTHERS:
            proxies = [
                ProxyWork(
                    judged,
                    group,
                    options.profile,
                    tuple(folds[other, "networks"] for other in wanted),
                    _place(
                        options,
                        f"{PROXY}.npz",
                        folds=sorted(folds[other, "networks"].name for other in wanted),
                        group=group,
                    ),
                )
                for group in wanted
            ]
            _run("proxies", "groups", proxies, make_proxy_fold, running, on_event)
            folds |= {(one.group, PROXY): one.place for one in proxies}
        elif options.rivals:
            on_event(
                events.Warned(
                    f"no row for a free proxy: {len(wanted)} groups are judged, it takes "
                    f"{LEAST_OTHERS + 1} to tell what a proxy leaves unknown"
                )
            )
        judging = []
        for title in titles:
            own = {kind: place for (group, kind), place in folds.items() if group == title.group}
            place = _place(
                options,
                "verdict.json",
                code=_judging_code(),
                title=title.name,
                folds=sorted(one.name for one in own.values()),
            )
            judging.append(JudgeWork(judged, title.name, options.profile, own, place, title.cost))
        _run("judge", "titles", judging, judge_title, running, on_event)
    found = (_RESULT.validate_json(one.place.read_bytes()) for one in judging)
    return Evaluation(
        tuple(sorted(found, key=lambda title: (title.group, title.title))),
        groups=len({row.group for row in rows}),
        rows=len(rows),
    )


def _check_groups(rows: Iterable[Row], to_judge: Iterable[Row], judged: Path) -> None:
    """No file may be judged by a model that was trained on it as another group's."""
    groups = {row.source_sha256: row.group for row in rows}
    for row in to_judge:
        group = groups.get(row.source_sha256, row.group)
        if group != row.group:
            raise BadInput(
                f"{row.source} is of group {row.group!r} in {judged} and of {group!r} in what is "
                "trained on; sweep both with the same --catalog"
            )


def _place(options: EvaluateOptions, name: str, **follows_from: Any) -> Path:
    """Where what follows from these is kept."""
    return options.cache / f"{key('evaluate', 1, of=name, **follows_from)[:24]}-{name}"


def _training_code(kind: str) -> str:
    """Digest of the code that predictions follow from."""
    modules = sorted(Path(str(resources.files("ladder.complexity"))).glob("*.py"))
    rivals = Path(str(resources.files("ladder.evaluation"))) / "rival_models.py"
    return _digest(modules if kind == "networks" else [*modules, rivals])


def _judging_code() -> str:
    """Digest of the code that verdicts follow from."""
    folder = Path(str(resources.files("ladder")))
    return _digest([*sorted(folder.rglob("*.py")), *sorted(folder.glob("*.toml")), Path(__file__)])


def _digest(modules: Iterable[Path]) -> str:
    digest = hashlib.sha256(str(FEATURES_VERSION).encode())
    for module in modules:
        digest.update(module.read_bytes())
    return digest.hexdigest()


def _run(
    stage: str,
    unit: str,
    work: Sequence[FoldWork] | Sequence[ProxyWork] | Sequence[JudgeWork],
    function: Any,
    executor: Executor,
    on_event: events.Listener,
) -> None:
    """Carry out what is not at its place yet."""
    to_do = [one for one in work if not one.place.exists()]
    cached = len(work) - len(to_do)
    on_event(events.StagePlanned(stage, len(work), cached, unit))
    tasks = [
        Task(f"{stage}-{n}", function, (one,), cost=one.cost, label=str(one))
        for n, one in enumerate(to_do)
    ]
    for number, outcome in enumerate(executor.run(tasks), 1):
        if outcome.error is not None:
            raise outcome.error
        on_event(events.StageProgress(stage, cached + number, len(work), cached))


# -- predictions -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FoldWork:
    """Predictions for a group by a model that was trained without it."""

    tables: tuple[Path, ...]
    """That are trained on."""
    judged: Path
    """That has the titles to predict."""
    group: str
    kind: str
    profile: str
    place: Path

    @property
    def cost(self) -> float:
        """Beside those of other kinds."""
        return {"networks": 10.0, "trees": 3.0}.get(self.kind, 1.0)

    def __str__(self) -> str:
        """For people."""
        return f"{self.kind} without {self.group}"


def make_fold(work: FoldWork) -> None:
    """Train and write the predictions. Runs on any worker."""
    from ladder.complexity.training import train
    from ladder.evaluation.rival_models import train_rival

    rows = current(read_tables(work.tables))
    known = examples(training_rows(rows, work.group))
    model: Any
    try:
        match work.kind:
            case "mean" | "trees":
                model = train_rival(work.kind, known)
            case _:
                model = train(known)
    except ValueError as error:
        raise BadInput(
            f"too little to train on without {work.group} ({error}); sweep other titles too"
        ) from error
    profile = load_profile(work.profile)
    predictions = {}
    for title in table_titles(current(read_table(work.judged))):
        similar = models.similar_models(title.quality_model)
        known_to = residuals_for(model.residuals, title.quality_model, similar)
        if title.group != work.group or known_to is None:
            continue
        grid = profile.crf_grid[title.shape.recipe.codec]
        predictions[title.name] = model.predict(
            [shot_inputs(row) for row in title.shot_rows],
            title.shape.sizes,
            title.shape.recipe,
            title.quality_model,
            (grid[0], grid[-1]),
            similar,
        )
    write_predictions(work.place, predictions)


def training_rows(rows: Iterable[Row], group: str) -> list[Row]:
    """What a model that is judged on ``group`` may see."""
    return [row for row in rows if row.group != group]


@dataclass(frozen=True, slots=True)
class ProxyWork:
    """Predictions for a group when one cell of every shot is known."""

    table: Path
    group: str
    profile: str
    folds: tuple[Path, ...]
    """Predictions for the titles of all groups, each made without its own."""
    place: Path
    cost: float = 1.0

    def __str__(self) -> str:
        """For people."""
        return f"proxies of {self.group}"


def make_proxy_fold(work: ProxyWork) -> None:
    """Move the predictions by what the proxies say, and fit what they leave to the errors of
    other groups' titles. Runs on any worker."""
    from ladder.complexity.training import MOST_CELLS

    titles = {title.name: title for title in table_titles(current(read_table(work.table)))}
    moved: dict[str, TitlePrediction] = {}
    for fold in work.folds:
        for name, prediction in read_predictions(fold).items():
            title = titles[name]
            moved[name] = corrected_by_proxies(prediction, title.shape, title.proxies())
    left: dict[str, list[Any]] = defaultdict(list)
    for name, prediction in moved.items():
        title = titles[name]
        if title.group != work.group:
            free = title.proxies()
            cells = {r: m for r, m in title.measurements.items() if r not in free}
            left[title.quality_model].append(
                shot_residuals(prediction, title.shape, cells, MOST_CELLS)
            )
    models = {quality: fit(of) for quality, of in left.items()}
    write_predictions(
        work.place,
        {
            name: replace(prediction, residuals=models[titles[name].quality_model])
            for name, prediction in moved.items()
            if titles[name].group == work.group and titles[name].quality_model in models
        },
    )


_RESIDUALS = tuple(field.name for field in fields(ResidualModel))


def write_predictions(place: Path, predictions: Mapping[str, TitlePrediction]) -> None:
    """Keep predictions by title name."""
    arrays: dict[str, Any] = {}
    facts = []
    for number, (name, one) in enumerate(sorted(predictions.items())):
        scale = one.scale
        span = (scale.low, scale.high, scale.ends, scale.step)
        facts.append((name, one.sizes, span, one.model, one.quality_model))
        arrays |= {f"{number}.rate": one.log_bpp, f"{number}.quality": one.warped_quality}
        arrays |= {f"{number}.{part}": getattr(one.residuals, part) for part in _RESIDUALS}
    temporary = place.with_name(f".{place.name}.part")
    with temporary.open("wb") as file:
        np.savez(file, facts=np.array(json.dumps(facts)), **arrays)
    temporary.replace(place)


def read_predictions(place: Path) -> dict[str, TitlePrediction]:
    """What :func:`write_predictions` kept."""
    found = {}
    with np.load(place, allow_pickle=False) as arrays:
        facts = json.loads(str(arrays["facts"]))
        for number, (name, sizes, scale, model, quality_model) in enumerate(facts):
            low, high, ends, step = scale
            found[name] = TitlePrediction(
                sizes=tuple(Size(*size) for size in sizes),
                scale=CrfScale(low, high, tuple(ends), step),
                log_bpp=arrays[f"{number}.rate"],
                warped_quality=arrays[f"{number}.quality"],
                residuals=ResidualModel(
                    **{part: arrays[f"{number}.{part}"] for part in _RESIDUALS}
                ),
                model=model,
                quality_model=quality_model,
            )
    return found


# -- judging -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JudgeWork:
    """A title, and predictions for its group by kind."""

    table: Path
    title: str
    profile: str
    folds: Mapping[str, Path]
    place: Path
    cost: float
    """In encodes of its grid."""

    def __str__(self) -> str:
        """For people."""
        return self.title


_RESULT: Final = TypeAdapter(TitleResult)


def judge_title(work: JudgeWork) -> None:
    """Run every search on one title and write what came of it. Runs on any worker."""
    temporary = work.place.with_name(f".{work.place.name}.part")
    temporary.write_bytes(_RESULT.dump_json(_judged(work)))
    temporary.replace(work.place)


def _judged(work: JudgeWork) -> TitleResult:
    profile = load_profile(work.profile)
    (title,) = (t for t in table_titles(current(read_table(work.table))) if t.name == work.title)
    shape = title.shape
    result = TitleResult(
        title.name, title.group, shape.recipe.name, len(shape.shots), title.quality_model, ""
    )
    predictions = {
        kind: of[title.name]
        for kind, of in ((kind, read_predictions(p)) for kind, p in work.folds.items())
        if title.name in of
    }
    if "networks" not in predictions:
        why = f"{title.quality_model} was measured on too few other groups to be learned"
        return replace(result, left_out=why)
    own = predictions["networks"]
    result = replace(result, before=coverage(own, shape, title.measurements, {}))
    why = title.missing(profile)
    if why:
        return replace(result, left_out=why)
    truth = Truth.of(title.with_grid(profile))
    given = first_rung(own, truth, profile)
    after = coverage(own, shape, title.measurements, given) if given else result.after
    return replace(result, verdicts=_verdicts(truth, profile, predictions), after=after)


def _verdicts(
    truth: Truth, profile: Profile, predictions: Mapping[str, TitlePrediction]
) -> tuple[Verdict, ...]:
    best = simulate(ExhaustiveSearch(), truth, profile)
    own = predictions["networks"]
    found = simulate(PredictSearch(own), truth, profile)
    verdicts = [judge(PREDICT, found, best, truth, profile, prediction=own)]
    if len(predictions) == 1:
        return (*verdicts, judge(EXHAUSTIVE, best, best, truth, profile))
    shots = len(truth.title.shape.shots)
    encodes = len(found.measured) if isinstance(found, Simulated) else len(truth.title.grid)
    cells = -(-encodes // shots)
    searches: list[tuple[str, Any, TitlePrediction | None]] = [
        ("sparse grid", SampleSearch(cells), None),
        ("sparse grid, no more", SampleSearch(cells, choose_between=False), None),
        ("no correction", PredictionOnlySearch(own), own),
        ("no model", PredictSearch(predictions["mean"]), predictions["mean"]),
        ("trees", PredictSearch(predictions["trees"]), predictions["trees"]),
        ("constant CRF", ConstantCrfSearch(), None),
    ]
    if PROXY in predictions:
        free = predictions[PROXY]
        searches.append(("with a free proxy", PredictSearch(free), free))
    for name, search, prediction in searches:
        ended = simulate(search, truth, profile)
        verdicts.append(judge(name, ended, best, truth, profile, prediction=prediction))
    return (*verdicts, judge(EXHAUSTIVE, best, best, truth, profile))
