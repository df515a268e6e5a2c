"""How a finished ladder looks: its title, its rungs, what was measured, and what limited it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cluster.cli.drawing import duration
from cluster.cli.views.comparison import against_labels
from cluster.cli.views.tables import Column, clock, kbits, size, table
from cluster.package.comparison import SavedComparison, bits_against
from cluster.package.explain import SegmentFacts
from ladder.document import Ladder, RecipeCheck, Rung
from vmaf.models import is_judge, unit
from vmaf.sampled import scored_frames

_SHOWN_PERCENT = 0.05
"""Percent of the aspect ratio under which a change of shape is not worth a word."""


def ladder_view(
    ladder: Ladder, compared: SavedComparison | None = None, *, stale: bool = False
) -> list[RenderableType]:
    """Show a ladder, beside the fixed one where a comparison with it was kept.

    ``stale`` is True where what was kept is of another ladder or of an earlier release.
    """
    parts: list[RenderableType] = [
        *(ladder_facts(ladder), Text(), _rungs(ladder, compared)),
        *(Text(), _notes(ladder, compared, stale)),
    ]
    for model in sorted(ladder.quality_models[1:], key=is_judge):
        parts += [Text(), _other_model(ladder, model)]
    return parts


def ladder_facts(ladder: Ladder) -> Text:
    """Describe the title and how the ladder was made."""
    title, rate, search = ladder.title, ladder.frame_rate, ladder.search
    return Text(
        f"{title.source}: {title.width}x{title.height}, {float(rate):g} fps, "
        f"{clock(float(title.frames / rate))}, {len(ladder.rungs[0].segments)} shots, "
        f"{kbits(title.source_bitrate)} kbit/s\n"
        f"{ladder.recipe}, policy {ladder.policy}, profile {ladder.profile}; "
        f"{search.mode} search: {search.encodes} encodes (the full grid has "
        f"{search.grid_encodes}), {search.delivered_encodes} delivered"
    )


def _rungs(ladder: Ladder, compared: SavedComparison | None) -> Table:
    columns: list[Column[Rung]] = [
        Column("rung", lambda rung: rung.name, left=True),
        Column("size", lambda rung: f"{rung.width}x{rung.height}", left=True),
        Column("kbit/s", lambda rung: kbits(rung.bitrate)),
        Column("peak", lambda rung: kbits(rung.peak_bitrate)),
        *_pooled(ladder.quality_model),
        Column("pred.", lambda rung: rung.predicted_quality, ".2f", shown=_is_predicted(ladder)),
        Column("+100k", lambda rung: ladder.marginal_quality(rung), "#.3g"),
        Column(
            *("vs fixed", lambda rung: against_fixed(ladder, rung, compared), "+.0f", " %"),
            shown=compared is not None,
        ),
    ]
    drawn = table(columns, ladder.rungs)
    drawn.collapse_padding = True  # all columns have to fit into 80 characters
    return drawn


def _pooled(model: str) -> list[Column[Rung]]:
    return [
        Column("mean", lambda rung: rung.quality[model].mean, ".2f"),
        Column("p5", lambda rung: rung.quality[model].p5, ".2f"),
        Column("min", lambda rung: rung.quality[model].min, ".2f"),
    ]


def _other_model(ladder: Ladder, model: str) -> Table:
    columns: list[Column[Rung]] = [
        Column("rung", lambda rung: rung.name, left=True),
        Column("kbit/s", lambda rung: kbits(rung.bitrate)),
        *_pooled(model),
    ]
    drawn = table(columns, ladder.rungs)
    drawn.title = f"also measured by {model}{', in dB' if unit(model) else ''}"
    drawn.title_justify, drawn.title_style = "left", ""
    return drawn


def _is_predicted(ladder: Ladder) -> bool:
    return any(rung.predicted_quality is not None for rung in ladder.rungs)


def against_fixed(ladder: Ladder, rung: Rung, compared: SavedComparison | None) -> float | None:
    """Return the bits of a rung against the fixed ladder at equal quality, in percent.

    None where that was not measured.
    """
    if compared is None:
        return None
    model = ladder.quality_model
    return bits_against(compared.fixed, rung.bitrate, rung.quality[model].mean, model)


def _notes(ladder: Ladder, compared: SavedComparison | None, stale: bool) -> Text:
    model = ladder.quality_model
    lines = [
        f"Measured on the delivered files, over {scored_frames(model)}, by {model}. +100k: quality "
        "that 100 kbit/s more would add.",
        *_sizes(ladder),
    ]
    if _is_predicted(ladder):
        lines.append(f"pred.: by {predictors(ladder)}, before any measurement.")
    lines += map(check_sentence, ladder.recipe_checks or ())
    if compared is not None:
        lines += _saved(compared)
    elif stale:
        lines.append(
            "The comparison in the package is of another ladder or of an earlier release: run "
            "`shotladder ladder compare` again."
        )
    else:
        lines.append("Not compared with other ladders yet: run `shotladder ladder compare`.")
    cost = ladder.locked_cost
    if cost is not None and cost.bd_rate_percent is not None:
        lines.append(
            f"One size per rung costs {cost.bd_rate_percent:.1f} % of bits against a free size "
            f"per shot (BD-rate, {'predicted' if cost.basis == 'predicted' else 'measured'})."
        )
    return Text("\n".join([*lines, *ladder.constraints]), style="dim")


def check_sentence(check: RecipeCheck) -> str:
    """Say how one recipe fared against another on this title."""
    if check.by_evidence:
        return (
            f"{check.recipe} was not compared with {check.against} on this title: evidence that "
            "comes with the weights covers it."
        )
    if check.warning:
        return f"{check.warning}."
    found = ", ".join(
        f"{percent:+.1f} % by {model}" if percent is not None else f"nothing comparable by {model}"
        for model, percent in check.percent.items()
    )
    return (
        f"{check.recipe} against {check.against}, measured on {len(check.shots)} shots at "
        f"{check.width}x{check.height}: {found}."
    )


def _sizes(ladder: Ladder) -> Iterator[str]:
    """State what the sizes of the rungs waste, and how they change the picture's shape."""
    codecs = {rung.codec for rung in ladder.rungs}
    padded, shapes = [], []
    for rung in ladder.rungs:
        by = f" in {rung.codec}" if len(codecs) > 1 else ""
        size, error = f"{rung.width}x{rung.height}", 100 * ladder.aspect_error(rung)
        padded += [f"{size} {100 * rung.padding:.1f} %{by}"] if rung.padding else []
        shapes += [f"{size} {error:+.1f} %"] if abs(error) >= _SHOWN_PERCENT else []
    if padded:
        yield f"Padded to whole blocks, at about as many more bits: {_each_once(padded)}."
    if shapes:
        yield f"Wider (+) or narrower than the title: {_each_once(shapes)}."


def _each_once(texts: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(texts))


def predictors(ladder: Ladder) -> str:
    """Name the complexity model; of a ladder of several codecs, that of the first codec."""
    name = predictor(ladder.search.weights)
    return name if len({rung.codec for rung in ladder.rungs}) == 1 else f"{name} ({ladder.codec}'s)"


def predictor(weights: str | None) -> str:
    """Name a complexity model by the identity of its weights."""
    return f"complexity model {weights[:8]}" if weights else "no model"


def _saved(compared: SavedComparison) -> Iterator[str]:
    """Summarise a kept comparison in a line or two for each codec."""
    fixed = compared.baseline or "the fixed ladder"
    yield f"vs fixed: bits against {fixed} at this rung's quality, both measured."
    own = [
        claims for claims in compared.claims if claims["quality_model"] == compared.quality_model
    ]
    for claims in own:
        of = f" of {claims['codec']}" if len(own) > 1 else ""
        for name, (_, label) in against_labels(compared.baseline).items():
            bd_rate = claims[name]
            if bd_rate and "percent" in bd_rate:
                least = compared.least(claims["codec"], name)
                others = "" if least is None else f"; {least:+.1f} % by the least of the judges"
                yield (
                    f"BD-rate{of} {bd_rate['percent']:+.1f} % against {label} "
                    f"(measured by {compared.quality_model}, quality {bd_rate['low']:.1f} to "
                    f"{bd_rate['high']:.1f}{others})."
                )


def run_summary(ladder: Ladder, run: Mapping[str, Any], out: Path) -> str:
    """Summarise a finished run in one line: its highest rung, its size and where its report is."""
    top = max(ladder.rungs, key=lambda rung: rung.bitrate)
    model = ladder.quality_model
    taken = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    return (
        f"{len(ladder.rungs)} rungs up to {top.name}, {kbits(top.bitrate)} kbit/s at "
        f"{top.quality[model].mean:.1f} ({model}); {size(taken)} in "
        f"{duration(run['wall_seconds'])}; open {out / 'report.html'}"
    )


def ladder_lines(
    ladder: Ladder,
    compared: SavedComparison | None = None,
    segments: Sequence[SegmentFacts] | None = None,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a ladder as NDJSON: one ``ladder``, then each ``rung`` with its ``segment`` lines.

    The fields are those of ``ladder.json`` and what was derived from them.
    """
    document = ladder.model_dump(mode="json", by_alias=True)
    rungs = document.pop("rungs")
    yield "ladder", document
    for fields, rung in zip(rungs, ladder.rungs, strict=True):
        count = len(fields.pop("segments"))
        fixed = {"against_fixed_percent": against_fixed(ladder, rung, compared)} if compared else {}
        derived = {
            "padding_percent": round(100 * rung.padding, 3),
            "aspect_error_percent": round(100 * ladder.aspect_error(rung), 3),
        }
        yield "rung", {**fields, "segments": count, **derived, **fixed}
        for segment in segments or ():
            if segment.rung == rung.name:
                yield "segment", _segment_fields(segment)


def _segment_fields(facts: SegmentFacts) -> dict[str, Any]:
    return {
        "rung": facts.rung,
        **facts.segment.model_dump(mode="json"),
        "start_seconds": round(facts.start_seconds, 6),
        "seconds": round(facts.seconds, 6),
        "bitrate": round(facts.bitrate),
        "share": round(facts.share, 6),
        "predicted_bytes": facts.predicted_bytes,
        "predicted_quality": facts.predicted_quality,
        "reason": facts.reason,
        "why": facts.explanation,
        "reason_word": facts.word,
    }
