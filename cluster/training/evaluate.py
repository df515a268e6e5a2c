"""``evaluate``: how good the search is on titles that the model has never seen.

For every group of titles that share footage, a model is trained on all other groups, or with fewer
trainings on all groups but several. The titles of the group whose full grid is in the table (or in
another table that is only judged on) are then searched in simulation
(:mod:`ladder.evaluation.simulate`). Predictions and verdicts are kept in a
store of their own, so that the same command resumes, and a change of the search is judged without
training again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

from cluster import events
from cluster.execution.executor import Executor, connect
from cluster.execution.security import SharedScheduler
from cluster.stages.stage import Made, find_or_make, require
from cluster.store import Store, open_store
from cluster.store.files import file_sha256
from cluster.store.keys import key
from cluster.training.dataset import TableTitle, current, table_titles
from cluster.training.folds import (
    COSTS,
    NETWORKS,
    CachedWork,
    FoldWork,
    code_digest,
    fold_key,
    make_fold,
    read_predictions,
    run_missing,
)
from cluster.training.judges import JUDGE_GROUPS, without_judges
from cluster.training.rivals import (
    MIN_PROXY_GROUPS,
    PROXY,
    RIVAL_KINDS,
    ProxyWork,
    make_proxies,
    proxy_key,
    rival_searches,
)
from cluster.training.table import Row, read_table, read_tables
from encoder.errors import BadInput
from ladder.complexity.prediction import TitlePrediction
from ladder.evaluation.predictions import Coverage, coverage, first_rung
from ladder.evaluation.simulate import Simulated, Truth, simulate
from ladder.evaluation.verdicts import Verdict, judge
from ladder.profiles import Profile, as_profile, profile_sha256
from ladder.search.predict import PredictSearch
from ladder.search.state import Tuning
from ladder.search.steps import ExhaustiveSearch

CACHE: Final = Path("out/evaluate")
MOST_BUDGET: Final = 10.0
"""Budget at most that can be judged."""
PREDICT, EXHAUSTIVE = "predict", "exhaustive"
"""Names of searches."""

STAGE = "evaluate-verdict"
VERSION = 1


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """Options of ``evaluate``."""

    table: Path
    also: tuple[Path, ...] = ()
    """Further tables to train on."""
    judged: Path | None = None
    """Table whose titles are judged instead of those of ``table``. None of it is trained on."""
    judges: bool = False
    """Whether to judge the judges (:mod:`cluster.training.judges`) instead of all others."""
    groups: tuple[str, ...] = ()
    """Groups to judge; empty for all. Training always uses all groups but the judged ones."""
    folds: int | None = None
    """Number of trainings: each leaves out an equal share of the judged groups. One for every group
    if None."""
    seed: int = 0
    """First random seed for the initial weights of the networks."""
    seeds: int = 1
    """Number of seeds, counted on from :attr:`seed`: each trains and judges everything once."""
    rivals: bool = False
    """Whether to judge what could replace the search as well."""
    budgets: tuple[float, ...] = ()
    """Budgets to judge the search with beside its own: encodes beyond the delivered ones, as a
    share of those."""
    cache: Path = CACHE
    """Folder of the store that keeps predictions and verdicts."""
    profile: str | Path | Profile = "default"
    workers: int | None = None
    scheduler: str | SharedScheduler | None = None


@dataclass(frozen=True, slots=True)
class TitleResult:
    """A title of the judged table, and the verdicts on it."""

    title: str
    group: str
    recipe: str
    shots: int
    """Number of shots."""
    quality_model: str
    left_out: str
    """Why no search was judged on the title; empty if some were."""
    verdicts: tuple[Verdict, ...] = ()
    """One per search and seed."""
    before: tuple[Coverage, Coverage] = (Coverage(), Coverage())
    """Coverage of the intervals of rate and of quality before anything is measured."""
    after: tuple[Coverage, Coverage] = (Coverage(), Coverage())
    """Coverage of the cells that are not measured once the middle rung is."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Results of ``evaluate``."""

    titles: tuple[TitleResult, ...]
    groups: int
    """Number of groups in the training tables."""
    rows: int
    """Number of rows in the training tables."""

    @property
    def searches(self) -> tuple[str, ...]:
        """Names of the searches, in the order in which they were judged."""
        return tuple(dict.fromkeys(v.search for t in self.titles for v in t.verdicts))

    @property
    def recipes(self) -> tuple[str, ...]:
        """Recipes of the judged titles. Losses of different recipes have no common mean."""
        return tuple(sorted({title.recipe for title in self.titles if title.verdicts}))

    def only(self, recipe: str) -> Evaluation:
        """Return the results of the titles of one recipe."""
        return replace(self, titles=tuple(t for t in self.titles if t.recipe == recipe))

    def verdicts(self, search: str, *, single: bool = False) -> tuple[Verdict, ...]:
        """Return the verdicts on a search for titles with several shots or with a single one."""
        return tuple(
            verdict
            for title in self.titles
            for verdict in title.verdicts
            if verdict.search == search and (verdict.shots == 1) == single
        )


def evaluate(
    options: EvaluateOptions, on_event: events.Listener, executor: Executor | None = None
) -> Evaluation:
    """Train without each group, and judge the search on the titles of that group.

    Raises:
        BadInput: there is no table, no such group, or too little to train on or to judge.
    """
    rows, left_out = without_judges(current(read_tables((options.table, *options.also))))
    if left_out:
        on_event(events.Warned(left_out))
    titles = _titles_to_judge(options, rows)
    cache = _open_cache(options.cache)
    with connect(executor, workers=options.workers, scheduler=options.scheduler) as running:
        by_seed = {
            seed: _Evaluator(
                replace(options, seed=seed), titles, cache, running, on_event
            ).results()
            for seed in range(options.seed, options.seed + options.seeds)
        }
    results = [
        _over_seeds(dict(zip(by_seed, of_title, strict=True)))
        for of_title in zip(*by_seed.values(), strict=True)
    ]
    return Evaluation(
        tuple(sorted(results, key=lambda title: (title.group, title.title))),
        groups=len({row.group for row in rows}),
        rows=len(rows),
    )


def _over_seeds(results: Mapping[int, TitleResult]) -> TitleResult:
    """Return the results of one title, by seed, as one."""

    def total(when: str) -> tuple[Coverage, Coverage]:
        rate, quality = zip(*(getattr(result, when) for result in results.values()), strict=True)
        return sum(rate, Coverage()), sum(quality, Coverage())

    verdicts = [
        replace(verdict, seed=seed)
        for seed, result in results.items()
        for verdict in result.verdicts
    ]
    any_seed = next(iter(results.values()))
    return replace(any_seed, verdicts=tuple(verdicts), before=total("before"), after=total("after"))


def _titles_to_judge(options: EvaluateOptions, rows: Sequence[Row]) -> list[TableTitle]:
    if options.folds is not None and options.folds < 2:
        raise BadInput(f"asked for {options.folds} folds; ask for 2 or more")
    if not all(0 <= budget <= MOST_BUDGET for budget in options.budgets):
        raise BadInput(f"a budget is a share from 0 to {MOST_BUDGET:g} of the delivered encodes")
    if options.seeds < 1:
        raise BadInput(f"asked for {options.seeds} seeds; ask for 1 or more")
    judged = options.judged or options.table
    judged_rows = current(read_table(judged))
    _check_groups(rows, judged_rows, judged)
    profile = as_profile(options.profile)
    groups = sorted({row.group for row in judged_rows})
    unknown = sorted(set(options.groups) - set(groups))
    if unknown:
        raise BadInput(f"no group {unknown[0]!r} in {judged}; there are {', '.join(groups)}")
    titles = [
        title
        for title in table_titles(judged_rows)
        if (not options.groups or title.group in options.groups)
        and (title.group in JUDGE_GROUPS) == options.judges
    ]
    if not titles:
        raise BadInput(
            f"no title of {judged} is among the judges; leave --judges out"
            if options.judges
            else f"all titles of {judged} are judges; --judges judges them, once for a release"
        )
    if all(title.missing(profile) for title in titles):
        raise BadInput(
            f"no title to judge in {judged}: none has its full grid; measure one with "
            "`shotladder sweep --table` without --cells"
        )
    return titles


def _check_groups(rows: Iterable[Row], judged_rows: Iterable[Row], judged: Path) -> None:
    """Check that no title is judged by a model that was trained on it under another group."""
    groups = {row.source_sha256: row.group for row in rows}
    for row in judged_rows:
        group = groups.get(row.source_sha256, row.group)
        if group != row.group:
            raise BadInput(
                f"{row.source} is of group {row.group!r} in {judged} and of {group!r} in the "
                "training tables; sweep both with the same --catalog"
            )


def _open_cache(folder: Path) -> Store:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(
            f"--cache {folder} cannot be made ({error.strerror}); name another folder"
        ) from error
    return open_store(folder)


@dataclass(frozen=True, slots=True)
class _Evaluator:
    """The steps of one evaluation. Each makes the records that the cache does not have."""

    options: EvaluateOptions
    titles: Sequence[TableTitle]
    """Titles to judge."""
    cache: Store
    executor: Executor
    on_event: events.Listener

    @property
    def judged(self) -> Path:
        """Table that has the titles to judge."""
        return self.options.judged or self.options.table

    @property
    def profile(self) -> Profile:
        """Profile whose full grid the titles are searched in."""
        return as_profile(self.options.profile)

    @property
    def groups(self) -> list[str]:
        """Groups of the titles to judge."""
        return sorted({title.group for title in self.titles})

    def results(self) -> list[TitleResult]:
        """Train, predict and judge; return the results by title."""
        folds = self._train()
        if self.options.rivals and len(self.groups) >= MIN_PROXY_GROUPS:
            folds |= self._correct_by_proxies(folds)
        elif self.options.rivals:
            self.on_event(
                events.Warned(
                    f"no row for a free proxy: {len(self.groups)} groups are judged, but it takes "
                    f"{MIN_PROXY_GROUPS} to tell what a proxy leaves unknown"
                )
            )
        return self._judge(folds)

    def _train(self) -> dict[tuple[str, str], str]:
        """Return the keys of the predictions, by group and kind of model."""
        options = self.options
        count = min(options.folds or len(self.groups), len(self.groups))
        parts = [tuple(self.groups[number::count]) for number in range(count)]
        tables = (options.table, *options.also)
        follows_from = {
            "tables": [file_sha256(table) for table in tables],
            "judged": file_sha256(self.judged),
            "profile": profile_sha256(self.profile),
            "seed": options.seed,
        }
        work = [
            FoldWork(
                tables=tables,
                judged=self.judged,
                groups=part,
                kind=kind,
                seed=options.seed,
                profile=self.profile,
                cache=self.cache.place,
                key=fold_key(kind, part, follows_from),
                cost=COSTS[kind],
                label=f"{kind} without {', '.join(part)}",
            )
            for kind in (NETWORKS, *(RIVAL_KINDS if options.rivals else ()))
            for part in parts
        ]
        self._run("train", "folds", work, make_fold)
        return {(group, fold.kind): fold.key for fold in work for group in fold.groups}

    def _correct_by_proxies(
        self, folds: Mapping[tuple[str, str], str]
    ) -> dict[tuple[str, str], str]:
        networks = tuple(dict.fromkeys(folds[group, NETWORKS] for group in self.groups))
        code = _judging_code()
        work = [
            ProxyWork(
                judged=self.judged,
                group=group,
                folds=networks,
                cache=self.cache.place,
                key=proxy_key(group, networks, code),
                cost=1.0,
                label=f"proxies of {group}",
            )
            for group in self.groups
        ]
        self._run("proxies", "groups", work, make_proxies)
        return {(proxies.group, PROXY): proxies.key for proxies in work}

    def _judge(self, folds: Mapping[tuple[str, str], str]) -> list[TitleResult]:
        code = _judging_code()
        work = []
        for title in self.titles:
            own = {kind: fold for (group, kind), fold in folds.items() if group == title.group}
            asked = {"budgets": self.options.budgets} if self.options.budgets else {}
            identity = key(
                STAGE, VERSION, code=code, title=title.name, folds=sorted(own.values()), **asked
            )
            work.append(
                JudgeWork(
                    judged=self.judged,
                    title=title.name,
                    profile=self.profile,
                    folds=own,
                    budgets=self.options.budgets,
                    cache=self.cache.place,
                    key=identity,
                    cost=title.cost,
                    label=title.name,
                )
            )
        self._run("judge", "titles", work, judge_title)
        records = (require(self.cache, each.key, "a verdict") for each in work)
        return [_RESULT.validate_python(record.value) for record in records]

    def _run(self, step: str, unit: str, work: Sequence[CachedWork], function: Any) -> None:
        run_missing(step, unit, work, function, self.cache, self.executor, self.on_event)


def _judging_code() -> str:
    """Return a digest of the code that verdicts follow from."""
    ladder, training = Path(str(resources.files("ladder"))), Path(__file__).parent
    return code_digest(
        [
            *sorted(ladder.rglob("*.py")),
            *sorted(ladder.glob("*.toml")),
            *(training / name for name in ("dataset.py", "evaluate.py", "rivals.py")),
        ]
    )


# -- judging -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeWork(CachedWork):
    """Everything that a worker needs to judge the searches on one title."""

    judged: Path
    """Table that has the title."""
    title: str
    profile: Profile
    folds: Mapping[str, str]
    """Keys of the predictions for the title's group, by kind."""
    budgets: tuple[float, ...]
    """Budgets to judge the search with beside its own."""


_RESULT: Final = TypeAdapter(TitleResult)


def judge_title(work: JudgeWork) -> None:
    """Run every search on one title and publish the verdicts. Runs on any worker."""
    store = open_store(work.cache)
    find_or_make(
        store,
        work.key,
        lambda scratch: Made(_RESULT.dump_python(_judged(work, store), mode="json")),
        stage=STAGE,
        version=VERSION,
    )


def _judged(work: JudgeWork, store: Store) -> TitleResult:
    profile = work.profile
    titles = table_titles(current(read_table(work.judged)))
    title = next(title for title in titles if title.name == work.title)
    shape = title.shape
    result = TitleResult(
        title.name, title.group, shape.recipe.name, len(shape.shots), title.quality_model, ""
    )
    folds = {kind: read_predictions(store, fold) for kind, fold in work.folds.items()}
    predictions = {kind: fold[title.name] for kind, fold in folds.items() if title.name in fold}
    if NETWORKS not in predictions:
        why = f"{title.quality_model} was measured on too few other groups to be learned"
        return replace(result, left_out=why)
    networks = predictions[NETWORKS]
    result = replace(result, before=coverage(networks, shape, title.measurements, {}))
    why = title.missing(profile)
    if why:
        return replace(result, left_out=why)
    truth = Truth.of(title.with_grid(profile))
    rung = first_rung(networks, truth, profile)
    after = coverage(networks, shape, title.measurements, rung) if rung else result.after
    return replace(result, verdicts=_verdicts(truth, work, predictions), after=after)


def _verdicts(
    truth: Truth, work: JudgeWork, predictions: Mapping[str, TitlePrediction]
) -> tuple[Verdict, ...]:
    """Judge the product's search, its rivals if there are predictions for them, and the
    exhaustive search."""
    profile, networks = work.profile, predictions[NETWORKS]
    best = simulate(ExhaustiveSearch(), truth, profile)
    ended = simulate(PredictSearch(networks), truth, profile)
    verdicts = [judge(PREDICT, ended, best, truth, profile, prediction=networks)]
    for budget in work.budgets:
        other = simulate(PredictSearch(networks, Tuning(budget=budget)), truth, profile)
        name = f"budget {100 * budget:g} %"
        verdicts.append(judge(name, other, best, truth, profile, prediction=networks))
    if len(predictions) > 1:
        shots = len(truth.title.shape.shots)
        encodes = len(ended.measured) if isinstance(ended, Simulated) else len(truth.title.grid)
        for name, search, prediction in rival_searches(predictions, cells=-(-encodes // shots)):
            ended = simulate(search, truth, profile)
            verdicts.append(judge(name, ended, best, truth, profile, prediction=prediction))
    return (*verdicts, judge(EXHAUSTIVE, best, best, truth, profile))
