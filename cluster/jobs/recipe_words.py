"""What the check of a title's recipes says to people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from encoder.recipes import Recipe
from ladder.recipe_check import POINTS, confirmed_useless, saves_nothing


def in_words(percents: Mapping[str, float | None]) -> str:
    """Return what a recipe costs by each judge, in words."""
    return ", ".join(
        f"{model} {'cannot tell' if percent is None else f'{percent:+.1f} %'}"
        for model, percent in percents.items()
    )


def codec_warning(
    recipe: Recipe,
    first: Recipe,
    percents: Mapping[str, float | None],
    certain: Mapping[str, float | None],
    *,
    named: bool,
) -> str | None:
    """Return what to say of a further codec by which two CRFs of each shot saved nothing.

    Args:
        recipe: The codec's recipe.
        first: Recipe of the first codec.
        percents: Rates over the first codec's at more CRFs, the title's quality model first.
        certain: What these rates exceed for certain.
        named: True where ``--codec`` names the codec.
    """
    model = next(iter(percents))
    silent = [judge for judge, percent in percents.items() if percent is None]
    compared = f"{in_words(percents)} against {first}, at {POINTS} CRFs of each shot"
    if silent:
        compared += f"; the scores by {_listed(silent)} have too little of their range in common"
    if confirmed_useless(percents, certain, model):
        consequence = (
            f"its rungs stay because --codec names {recipe.codec}"
            if named
            else f"its rungs are left out; `--codec {first.codec},{recipe.codec}` keeps them"
        )
        judges = judges_over(0, certain) or judges_over(0, percents)
        return f"{recipe} saves nothing on this title by {judges} ({compared}); {consequence}"
    if saves_nothing(percents, model):
        return (
            f"{recipe} may save nothing on this title by {judges_over(0, percents)} ({compared}); "
            "its rungs stay because so few encodes can be wrong by as much"
        )
    if silent:
        return (
            f"whether {recipe} saves anything on this title by {_listed(silent)} could not be "
            f"measured ({compared}); its rungs stay"
        )
    return None


def judges_over(percent: float, percents: Mapping[str, float | None]) -> str:
    """Return the judges by which a recipe takes ``percent`` or more above another one's rate."""
    return _listed(
        [one for one, found in percents.items() if found is not None and found >= percent]
    )


def _listed(names: Sequence[str]) -> str:
    return " and ".join(names)
