"""``train`` and ``promote``: weights from tables and from what jobs left; which are better."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.store import open_store
from cluster.training.dataset import TableTitle, current, examples, shot_inputs, table_titles
from cluster.training.feedback import rows_in
from cluster.training.table import Row, merge, read_tables
from encoder.analysis.features import FEATURES_VERSION
from encoder.errors import BadInput
from ladder.complexity.drift import Comparison, Miss, compare, miss, miss_document
from ladder.profiles import load_profile
from vmaf import models

if TYPE_CHECKING:
    from ladder.complexity.model import ComplexityModel


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """What ``train`` was asked."""

    out: Path
    """Of the weights; the model card goes beside it, with the ending ``.md``."""
    tables: tuple[Path, ...] = ()
    store: Path | str | None = None
    """Whose jobs' measurements are trained on too."""
    seed: int = 0
    leave_out: tuple[str, ...] = ()
    """Groups that are not trained on, to run their titles as new ones."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What ``train`` made."""

    weights: Path
    card: Path
    model: str
    """Identity of the weights."""
    facts: dict[str, Any]


def train(options: TrainOptions, report: Callable[[str], None] = lambda _: None) -> Trained:
    """Weights and their model card. The same rows and seed give the same bytes.

    Raises:
        BadInput: there is too little to train on, or a place cannot be read or written.
    """
    rows = training_rows(options.tables, options.store)
    unknown = sorted(set(options.leave_out) - {row.group for row in rows})
    if unknown:
        raise BadInput(f"no group {unknown[0]!r} to leave out")
    rows = [row for row in rows if row.group not in options.leave_out]
    from ladder.complexity.training import train as train_model

    try:
        model = train_model(examples(rows), seed=options.seed, report=report)
    except ValueError as error:
        raise BadInput(f"too little to train on ({error}); sweep more titles") from error
    model.save(options.out)
    card = options.out.with_suffix(".md")
    try:
        card.write_text(model_card(model), encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{card} cannot be written ({error.strerror})") from error
    return Trained(options.out, card, model.identity, dict(model.facts))


def training_rows(tables: Sequence[Path], store: Path | str | None) -> list[Row]:
    """Of all tables, and of all jobs of a store; each cell once.

    Raises:
        BadInput: there are none of this version of the features.
    """
    rows = read_tables(tables)
    if store is not None:
        known = {row.key for row in rows}  # a table knows the group that a job cannot know
        rows = merge(rows, [row for row in rows_in(open_store(store)) if row.key not in known])
        groups = {row.source_sha256: row.group for row in rows if not _is_own(row)}
        rows = [_in_group(row, groups) for row in rows]
    if not rows:
        raise BadInput("nothing to train on: name a table, or a store in which jobs have run")
    return list(current(rows))


def _is_own(row: Row) -> bool:
    """Whether a row's group is only its file."""
    return row.group == row.title_id


def _in_group(row: Row, groups: dict[str, str]) -> Row:
    return replace(row, group=groups.get(row.source_sha256, row.group))


def model_card(model: ComplexityModel) -> str:
    """What the weights are, in Markdown (Mitchell et al., "Model Cards for Model Reporting",
    FAT* 2019)."""
    facts = model.facts
    lines = [
        f"# Complexity model {model.identity}",
        "",
        "Predicts a shot's bits and quality at every size and CRF from features of the source. "
        "`shotladder run` starts from it and corrects it by what it measures; nothing that is "
        "predicted is delivered.",
        "",
        "| | |",
        "|---|---|",
        f"| inputs | {facts['inputs']}, features version {FEATURES_VERSION} |",
        f"| networks | {model.networks.members}, averaged |",
        f"| recipes | {', '.join(facts['recipes'])} |",
        f"| quality models | {', '.join(model.qualities)} |",
        f"| trained on | {facts['cells']} cells of {facts['shots']} shots of {facts['titles']} "
        f"titles (augmented ones included) in {len(facts['groups'])} groups |",
        f"| seed | {facts['seed']} |",
        "",
        "## How far off",
        "",
        "On groups that the networks did not see (5 folds of whole groups; titles that share "
        "footage are one group, augmentations go with their source), mean over cells, before "
        "anything of the title is measured:",
        "",
        "| recipe | cells | shots | groups | bits off | points off |",
        "|---|---|---|---|---|---|",
        *(
            f"| {recipe} | {of['cells']} | {of['shots']} | {of['groups']} | "
            f"{of['rate_error_percent']:.1f} % | {_points_off(of)} |"
            for recipe, of in facts["held_out"].items()
        ),
        "",
        "`shotladder evaluate` tells what that means for ladders.",
        "",
        "## Limits",
        "",
        "Codecs that are not named above are refused, presets are taken for the nearest, quality "
        "models for one akin. Screen recordings, very dark and very clean material are few among "
        "the groups; for these the first measurements correct most.",
        "",
        "## Groups",
        "",
        ", ".join(facts["groups"]),
        "",
    ]
    return "\n".join(lines)


def _points_off(of: Mapping[str, Any]) -> str:
    return ", ".join(f"{error:.2f} ({quality})" for quality, error in of["quality_error"].items())


# -- the shadow --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Judged:
    """Two models on one title that neither has seen."""

    title: str
    current: Miss
    new: Miss


@dataclass(frozen=True, slots=True)
class Shadow:
    """What two models would have predicted for what jobs have measured."""

    titles: tuple[Judged, ...]
    seen: int
    """Titles left out, as one of them was trained on these."""
    comparison: Comparison


def shadow(current_weights: Path, new_weights: Path, rows: Sequence[Row]) -> Shadow:
    """Predict every title of ``rows`` with both and hold that against its measurements.

    A prediction follows from features and weights alone, so the new model's is what it would
    have said before the job; it decides nothing.

    Raises:
        BadInput: a file is not usable.
    """
    from ladder.complexity.model import load_model

    models = load_model(current_weights), load_model(new_weights)
    judged: list[Judged] = []
    seen = 0
    for title in table_titles(rows):
        if any(_has_seen(model, title) for model in models):
            seen += 1
            continue
        misses = [_miss(model, title) for model in models]
        if misses[0] is not None and misses[1] is not None:
            judged.append(Judged(title.name, misses[0], misses[1]))
    pairs = [one.current for one in judged], [one.new for one in judged]
    return Shadow(tuple(judged), seen, compare(*pairs))


def _has_seen(model: ComplexityModel, title: TableTitle) -> bool:
    sources = {row.source_sha256 for row in title.cells.values()}
    return title.group in model.facts["groups"] or bool(
        sources & set(model.facts.get("sources", ()))
    )


def _miss(model: ComplexityModel, title: TableTitle) -> Miss | None:
    shape, known = title.shape, title.measurements
    crfs = [point.crf for _, point in known]
    grid = load_profile("default").crf_grid.get(shape.recipe.codec, ())
    try:
        prediction = model.predict(
            [shot_inputs(row) for row in title.shot_rows],
            shape.sizes,
            shape.recipe,
            title.quality_model,
            (min([*crfs, *grid], default=math.nan), max([*crfs, *grid], default=math.nan)),
            models.similar_models(title.quality_model),
        )
    except BadInput:  # another codec or quality model
        return None
    return miss(prediction, shape.shots, known)


def promote(
    current_weights: Path, new_weights: Path, rows: Sequence[Row], to: Path | None
) -> Shadow:
    """Judge, and write the new weights to ``to`` if they are better; else leave it alone.

    Raises:
        BadInput: a file is not usable or writable.
    """
    from ladder.complexity.model import load_model

    found = shadow(current_weights, new_weights, rows)
    if to is not None and found.comparison.better:
        load_model(new_weights).save(to)
    return found


def judged_facts(judged: Judged) -> dict[str, Any]:
    """Return a title's figures for documents."""
    return {
        "title": judged.title,
        "current": miss_document(judged.current),
        "new": miss_document(judged.new),
    }


def shadow_facts(found: Shadow) -> dict[str, Any]:
    """For documents."""
    return {"seen": found.seen, "better": found.comparison.better, **asdict(found.comparison)}
