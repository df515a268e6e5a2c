"""Make the evidence on recipes that ships with the weights: ``python -m tests.recipe_evidence``.

It reads ``data/recipes.jsonl``, which ``python -m tests.recipe_rule`` writes, and the features of
its titles from ``data/*.parquet``, and writes ``ladder/complexity/recipes.json``: for each recipe
of a built-in profile against its plain preset, and for each further codec of a profile against the
first, what the titles gained and where their features lie. A title without features is left out,
and so is a pair of recipes that fewer than two titles were judged by. With ``--show`` nothing is
written.

The judges of the claims (the second corpus) are never part of it: their features are in no table.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from cluster.stages.prediction import packaged_weights
from cluster.training.table import Row as TableRow
from cluster.training.table import read_table
from encoder.recipes import by_name
from ladder.profiles import Profile, load_profile, profile_names
from ladder.recipe_check import codec_loss, options_loss
from ladder.recipe_evidence import (
    EVIDENCE_FILE,
    Evidence,
    RecipeEvidence,
    bound_for_another,
    spread,
    title_features,
)
from tests.recipe_material import Kept, Row, percent, shots_of_both
from vmaf.models import is_judge

DATA = Path("data")


def pairs_of(profiles: Iterable[Profile]) -> list[tuple[str, str]]:
    """Return which recipes a run of these profiles may compare: a recipe, and against what."""
    pairs: dict[tuple[str, str], None] = {}
    for profile in profiles:
        for codecs in (profile.codecs, profile.hdr_codecs):
            recipes = [profile.recipe(codec) for codec in codecs]
            for recipe in recipes:
                if recipe.tuning:
                    pairs[recipe.name, recipe.plain.name] = None
            for further in recipes[1:]:
                pairs[further.name, recipes[0].name] = None
    return list(pairs)


def features_of(tables: Iterable[Path]) -> dict[str, dict[str, float]]:
    """Return the features of every swept title, by its file's name."""
    shots: dict[str, dict[int, TableRow]] = {}
    for table in tables:
        for row in read_table(table):
            if not row.augmentation:
                shots.setdefault(row.source, {})[row.start_frame] = row
    return {
        title: title_features(
            (row.end_frame - row.start_frame, row.features) for row in of.values()
        )
        for title, of in shots.items()
    }


def evidence_on(
    recipe: str,
    against: str,
    rows: Sequence[Row],
    features: Mapping[str, Mapping[str, float]],
) -> RecipeEvidence | None:
    """Return what ``rows`` say of a recipe; None where fewer than two titles were judged."""
    percents: dict[str, dict[str, float]] = {}
    losses: list[float] = []
    for title, found in _judged(recipe, against, rows, features):
        model = next(judge for judge in found if not is_judge(judge))
        options = by_name(recipe).codec == by_name(against).codec
        loss = options_loss(found, model) if options else codec_loss(found)
        if loss is not None:
            losses.append(loss)
            percents[title] = found
    judges = sorted({judge for found in percents.values() for judge in found})
    by_judge = {
        judge: values
        for judge in judges
        if len(values := [found[judge] for found in percents.values() if judge in found]) > 1
    }
    if len(losses) < 2:
        return None
    known = [features[title] for title in percents]
    return RecipeEvidence(
        recipe=recipe,
        against=against,
        titles=sorted(percents),
        frames=sum(
            first.end - first.start
            for title in percents
            for first, _ in shots_of_both(rows, title, recipe, against)
        ),
        judges={judge: spread(values) for judge, values in by_judge.items()},
        loss=spread(losses),
        region={
            name: (min(one[name] for one in known), max(one[name] for one in known))
            for name in known[0]
        },
    )


def _judged(
    recipe: str,
    against: str,
    rows: Sequence[Row],
    features: Mapping[str, Mapping[str, float]],
) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield the titles that were encoded both ways, with their rates by judge."""
    for title in sorted({row.title for row in rows} & features.keys()):
        judges = sorted({judge for row in rows if row.title == title for judge in row.quality})
        found = {
            judge: value
            for judge in judges
            if (value := percent(rows, title, judge, against, recipe)) is not None
        }
        if any(not is_judge(judge) for judge in found):
            yield title, found


def main() -> int:
    """Write the file, and print what it says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--kept", type=Path, default=DATA / "recipes.jsonl")
    parser.add_argument("--show", action="store_true", help="print the evidence, write nothing")
    asked = parser.parse_args()
    rows = Kept(asked.kept).rows()
    features = features_of(sorted(DATA.glob("*.parquet")))
    pairs = pairs_of(load_profile(name) for name in profile_names())
    found = [evidence_on(*pair, rows, features) for pair in pairs]
    evidence = Evidence(recipes=[one for one in found if one is not None])
    for one in evidence.recipes:
        print(
            f"{one.recipe} against {one.against}: {one.loss.titles} titles, {one.frames} frames, "
            f"by the judge that decides "
            f"{one.loss.mean:+.1f} % (worst {one.loss.worst:+.1f}, 95 % bound for one more "
            f"{bound_for_another(one.loss):+.1f})"
        )
    if not asked.show:
        path = packaged_weights().with_name(EVIDENCE_FILE)
        path.write_text(evidence.to_json())
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
