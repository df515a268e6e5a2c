"""Held-out predictions: titles as predicted by a model that was trained without their groups.

Training takes long, so predictions are kept in a store, with a key of everything that they follow
from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from cluster import events
from cluster.execution.executor import Executor, Task
from cluster.stages.prediction import pack_prediction, unpack_prediction
from cluster.stages.stage import Made, find_or_make, require
from cluster.store import Record, Store, open_store
from cluster.store.keys import key
from cluster.training.dataset import current, examples, shot_inputs, table_titles
from cluster.training.judges import without_judges
from cluster.training.table import Row, read_table, read_tables
from encoder.analysis.features import FEATURES_VERSION
from encoder.errors import BadInput
from encoder.media import Size
from ladder.complexity.prediction import TitlePrediction
from ladder.complexity.residuals import residuals_for
from ladder.profiles import Profile
from vmaf import models

NETWORKS: Final = "networks"
"""Kind of the predictions by the product's model. Other kinds are rivals of it."""

COSTS: Final = {NETWORKS: 10.0, "trees": 3.0, "mean": 1.0}
"""Duration of training by kind, relative to one another."""

STAGE = "evaluate-fold"
VERSION = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedWork:
    """Work of one task whose result is a record of a store."""

    cache: str
    """Folder of the store."""
    key: str
    """Key of the record."""
    cost: float
    """Duration compared with other work of the same step."""
    label: str
    """Description of the work for progress and errors."""


def run_missing(
    step: str,
    unit: str,
    work: Sequence[CachedWork],
    function: Any,
    cache: Store,
    executor: Executor,
    on_event: events.Listener,
) -> None:
    """Call ``function`` with each piece of work whose record ``cache`` does not have.

    Raises:
        ShotladderError: some work failed.
    """
    missing = [each for each in work if cache.get(each.key) is None]
    cached = len(work) - len(missing)
    on_event(events.StagePlanned(step, len(work), cached, unit))
    tasks = [
        Task(f"{step}-{number}", function, (each,), cost=each.cost, label=each.label)
        for number, each in enumerate(missing)
    ]
    for number, outcome in enumerate(executor.run(tasks), 1):
        if outcome.error is not None:
            raise outcome.error
        on_event(events.StageProgress(step, cached + number, len(work), cached))


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldWork(CachedWork):
    """Everything that a worker needs to predict some groups by a model trained without them."""

    tables: tuple[Path, ...]
    """Tables to train on."""
    judged: Path
    """Table that has the titles to predict."""
    groups: tuple[str, ...]
    kind: str
    """:data:`NETWORKS` or a kind of :mod:`ladder.evaluation.rival_models`."""
    seed: int
    """Random seed for initial weights."""
    profile: Profile


def fold_key(kind: str, groups: Sequence[str], follows_from: Mapping[str, Any]) -> str:
    """Return the key of some groups' predictions; ``follows_from`` holds the digests of the tables
    and the seed."""
    code = _training_code(kind)
    return key(STAGE, VERSION, code=code, kind=kind, groups=list(groups), **follows_from)


def _training_code(kind: str) -> str:
    """Return a digest of the code that the predictions of a kind follow from."""
    modules = sorted(Path(str(resources.files("ladder.complexity"))).glob("*.py"))
    rivals = Path(str(resources.files("ladder.evaluation"))) / "rival_models.py"
    return code_digest(modules if kind == NETWORKS else [*modules, rivals])


def code_digest(modules: Iterable[Path]) -> str:
    """Return a digest of source files and of the version of the features."""
    digest = hashlib.sha256(str(FEATURES_VERSION).encode())
    for module in modules:
        digest.update(module.read_bytes())
    return digest.hexdigest()


def make_fold(work: FoldWork) -> None:
    """Train without some groups, predict their titles and publish the predictions. Runs on any
    worker.

    Raises:
        BadInput: there is too little to train on.
    """
    store = open_store(work.cache)
    find_or_make(
        store,
        work.key,
        lambda scratch: made_predictions(_predict_groups(work)),
        stage=STAGE,
        version=VERSION,
    )


def _predict_groups(work: FoldWork) -> dict[str, TitlePrediction]:
    model = _train(work)
    profile = work.profile
    predictions = {}
    for title in table_titles(current(read_table(work.judged))):
        similar = models.similar_models(title.quality_model)
        if title.group not in work.groups:
            continue
        if residuals_for(model.residuals, title.quality_model, similar) is None:
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
    return predictions


def _train(work: FoldWork) -> Any:
    # Imported here: torch takes a second and 200 MB.
    from ladder.complexity.training import train
    from ladder.evaluation.rival_models import train_rival

    known = examples(rows_without(current(read_tables(work.tables)), work.groups))
    try:
        match work.kind:
            case "mean" | "trees":
                return train_rival(work.kind, known, seed=work.seed)
            case _:
                return train(known, seed=work.seed)
    except ValueError as error:
        raise BadInput(
            f"too little to train on without {', '.join(work.groups)} ({error}); sweep other "
            "titles too"
        ) from error


def rows_without(rows: Iterable[Row], groups: Collection[str]) -> list[Row]:
    """Return the rows that a model may be trained on if it is judged on ``groups``; never those of
    the judges."""
    return [row for row in without_judges(rows)[0] if row.group not in groups]


def made_predictions(predictions: Mapping[str, TitlePrediction]) -> Made:
    """Return predictions, by name of their title, as a stage's result."""
    ordered = sorted(predictions.items())
    facts = [
        {
            "title": name,
            "sizes": [list(size) for size in prediction.sizes],
            "crfs": [prediction.scale.low, prediction.scale.high],
            "crf_step": prediction.scale.step,
            "model": prediction.model,
            "quality_model": prediction.quality_model,
            "recipe": prediction.recipe,
        }
        for name, prediction in ordered
    ]
    packed = {str(n): pack_prediction(prediction) for n, (_, prediction) in enumerate(ordered)}
    return Made(facts, packed)


def read_predictions(cache: Store, identity: str) -> dict[str, TitlePrediction]:
    """Return the predictions of a record, by name of their title.

    Raises:
        StoreUnusable: the store has lost the record.
    """
    record = require(cache, identity, "predictions")
    return {
        facts["title"]: _prediction(cache, record, number, facts)
        for number, facts in enumerate(record.value)
    }


def _prediction(
    cache: Store, record: Record, number: int, facts: Mapping[str, Any]
) -> TitlePrediction:
    low, high = facts["crfs"]
    return unpack_prediction(
        cache.path(record.blobs[str(number)]).read_bytes(),
        sizes=[Size(*size) for size in facts["sizes"]],
        crfs=(low, high),
        crf_step=facts["crf_step"],
        model=facts["model"],
        quality_model=facts["quality_model"],
        recipe=facts["recipe"],
    )
