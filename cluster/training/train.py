"""``train``: weights of the complexity model, from tables and from what runs left in a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.store import open_store
from cluster.training.dataset import current, examples
from cluster.training.feedback import rows_in
from cluster.training.judges import without_judges
from cluster.training.table import Row, merge, read_tables
from encoder.analysis.features import FEATURES_VERSION
from encoder.errors import BadInput

if TYPE_CHECKING:
    from ladder.complexity.model import ComplexityModel


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """Options of ``train``."""

    out: Path
    """File for the weights. The model card goes beside it, with the ending ``.md``."""
    tables: tuple[Path, ...] = ()
    store: Path | str | None = None
    """Store whose runs' measurements are trained on too."""
    seed: int = 0
    """Random seed for initial weights."""
    leave_out: tuple[str, ...] = ()
    """Groups that are not trained on, so that their titles can be run as unseen ones."""


@dataclass(frozen=True, slots=True)
class Trained:
    """Trained weights."""

    weights: Path
    card: Path
    """File of the model card."""
    model: str
    """Identity of the weights."""
    facts: dict[str, Any]
    """What the weights were trained on, and their error on groups that were held out."""


def train(options: TrainOptions, on_line: Callable[[str], None] = lambda _: None) -> Trained:
    """Train weights and write them with their model card.

    The same rows and seed give the same bytes.

    Args:
        options: What to train on, and where the weights go.
        on_line: Receives lines about the progress of training.

    Raises:
        BadInput: there is too little to train on, or a file cannot be read or written.
    """
    rows = training_rows(options.tables, options.store)
    unknown = sorted(set(options.leave_out) - {row.group for row in rows})
    if unknown:
        groups = ", ".join(sorted({row.group for row in rows}))
        raise BadInput(f"no group {unknown[0]!r} to leave out; there are {groups}")
    rows, left_out = without_judges(row for row in rows if row.group not in options.leave_out)
    if left_out:
        on_line(left_out)
    # Imported here: torch takes a second and 200 MB.
    from ladder.complexity.training import train as train_model

    try:
        model = train_model(examples(rows), seed=options.seed, report=on_line)
    except ValueError as error:
        raise BadInput(f"too little to train on ({error}); sweep more titles") from error
    model.save(options.out)
    card = options.out.with_suffix(".md")
    try:
        card.write_text(model_card(model), encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{card} cannot be written ({error.strerror}); change --out") from error
    return Trained(options.out, card, model.identity, dict(model.facts))


def training_rows(tables: Sequence[Path], store: Path | str | None) -> list[Row]:
    """Return the rows of all tables, and of all runs of a store, each cell once.

    Raises:
        BadInput: no row has features of this version.
    """
    rows = read_tables(tables)
    if store is not None:
        # The group that a table states comes from a catalogue, which a run does not know.
        keys = {row.key for row in rows}
        rows = merge(rows, [row for row in rows_in(open_store(store)) if row.key not in keys])
        groups = {row.source_sha256: row.group for row in rows if not _is_own_group(row)}
        rows = [_in_group(row, groups) for row in rows]
    if not rows:
        raise BadInput("nothing to train on: name a table, or a store in which jobs have run")
    return list(current(rows))


def _is_own_group(row: Row) -> bool:
    """Return whether a row's group is nothing but its file."""
    return row.group == row.title_id


def _in_group(row: Row, groups: Mapping[str, str]) -> Row:
    return replace(row, group=groups.get(row.source_sha256, row.group))


def model_card(model: ComplexityModel) -> str:
    """Return what the weights are, in Markdown (Mitchell et al., "Model Cards for Model
    Reporting", FAT* 2019)."""
    facts = model.facts
    lines = [
        f"# Complexity model {model.identity}",
        "",
        "Predicts a shot's bits and quality at every size and CRF from features of the source. "
        "`shotladder run` starts from the predictions and corrects them by what it measures. It "
        "delivers only what it has measured.",
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
        "## Prediction error",
        "",
        "Mean over the cells of held-out groups, before anything of the title is measured. There "
        "are 5 folds of whole groups; titles that share footage are one group, and augmentations "
        "belong to the group of their source.",
        "",
        "| recipe | cells | shots | groups | bits off | points off |",
        "|---|---|---|---|---|---|",
        *(
            f"| {recipe} | {error['cells']} | {error['shots']} | {error['groups']} | "
            f"{error['rate_error_percent']:.1f} % | {_points_off(error)} |"
            for recipe, error in facts["held_out"].items()
        ),
        "",
        "`shotladder evaluate` shows what that means for ladders.",
        "",
        "## Limits",
        "",
        "The codecs above are the only ones. A recipe that is not named above is predicted from "
        "the nearest one that is, a quality model from a similar one. Few groups are screen "
        "recordings, very dark or very clean; on such titles the first measurements correct the "
        "most.",
        "",
        "## Groups",
        "",
        ", ".join(facts["groups"]),
        "",
    ]
    return "\n".join(lines)


def _points_off(error: Mapping[str, Any]) -> str:
    by_model = error["quality_error"].items()
    return ", ".join(f"{points:.2f} ({quality_model})" for quality_model, points in by_model)
