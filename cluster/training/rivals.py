"""What could replace the search or its model: other searches, other models, a free proxy encode.

Only ``evaluate --rivals`` uses this module.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from cluster.stages.stage import find_or_make
from cluster.store import Store, open_store
from cluster.store.keys import key
from cluster.training.dataset import TableTitle, current, table_titles
from cluster.training.folds import NETWORKS, CachedWork, made_predictions, read_predictions
from cluster.training.table import read_table
from ladder.complexity.prediction import TitlePrediction
from ladder.complexity.residual_fit import fit
from ladder.evaluation.predictions import corrected_by_proxies, shot_residuals
from ladder.evaluation.rival_searches import ConstantCrfSearch, PredictionOnlySearch, SampleSearch
from ladder.search.predict import PredictSearch

RIVAL_KINDS: Final = ("mean", "trees")
"""Kinds of models that are trained beside the networks."""
PROXY: Final = "proxy"
"""Kind of the networks' predictions corrected by one measured cell of every shot."""
MIN_PROXY_GROUPS: Final = 4
"""Number of judged groups that proxies need: the errors of at least three other groups tell what a
proxy leaves unknown."""

STAGE = "evaluate-proxies"
VERSION = 1

RivalSearch = tuple[str, Any, TitlePrediction | None]
"""Name of a search, the search, and the prediction that it starts from, if any."""


def rival_searches(predictions: Mapping[str, TitlePrediction], cells: int) -> list[RivalSearch]:
    """Return the searches that the product's search is compared with.

    Args:
        predictions: Predictions of the title by kind.
        cells: Number of cells per shot that sparse grids measure.
    """
    networks, mean, trees = (predictions[kind] for kind in (NETWORKS, *RIVAL_KINDS))
    searches: list[RivalSearch] = [
        ("sparse grid", SampleSearch(cells), None),
        ("sparse grid, no more", SampleSearch(cells, choose_between=False), None),
        ("no correction", PredictionOnlySearch(networks), networks),
        ("no model", PredictSearch(mean), mean),
        ("trees", PredictSearch(trees), trees),
        ("constant CRF", ConstantCrfSearch(), None),
    ]
    if PROXY in predictions:
        proxy = predictions[PROXY]
        searches.append(("with a free proxy", PredictSearch(proxy), proxy))
    return searches


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyWork(CachedWork):
    """Everything that a worker needs to correct a group's predictions by proxies."""

    judged: Path
    """Table that has the titles."""
    group: str
    folds: tuple[str, ...]
    """Keys of the networks' predictions for all groups."""


def proxy_key(group: str, folds: Sequence[str], code: str) -> str:
    """Return the key of a group's predictions as corrected by proxies."""
    return key(STAGE, VERSION, code=code, folds=sorted(folds), group=group)


def make_proxies(work: ProxyWork) -> None:
    """Correct a group's predictions by proxies and publish them. Runs on any worker."""
    store = open_store(work.cache)
    find_or_make(
        store,
        work.key,
        lambda scratch: made_predictions(_predict_by_proxies(work, store)),
        stage=STAGE,
        version=VERSION,
    )


def _predict_by_proxies(work: ProxyWork, store: Store) -> dict[str, TitlePrediction]:
    """Return the group's corrected predictions, with residuals fitted on other groups."""
    titles = {title.name: title for title in table_titles(current(read_table(work.judged)))}
    corrected = {
        name: corrected_by_proxies(prediction, titles[name].shape, titles[name].proxies())
        for fold in work.folds
        for name, prediction in read_predictions(store, fold).items()
    }
    residuals = defaultdict(list)
    for name, prediction in corrected.items():
        title = titles[name]
        if title.group != work.group:
            residuals[title.quality_model].append(_residuals(title, prediction))
    fitted = {quality_model: fit(shots) for quality_model, shots in residuals.items()}
    return {
        name: replace(prediction, residuals=fitted[titles[name].quality_model])
        for name, prediction in corrected.items()
        if titles[name].group == work.group and titles[name].quality_model in fitted
    }


def _residuals(title: TableTitle, prediction: TitlePrediction) -> Any:
    """Return what the proxies of a title leave unknown of its other cells."""
    from ladder.complexity.training import MOST_CELLS

    proxies = title.proxies()
    others = {r: m for r, m in title.measurements.items() if r not in proxies}
    return shot_residuals(prediction, title.shape, others, MOST_CELLS)
