"""What viewers have by the codecs of their devices, as ``ladder compare`` shows and keeps it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from cluster.cli.views.comparison import comparison_lines, comparison_view
from cluster.package.comparison import Comparison, read_comparison, save_comparison
from cluster.package.receipts import Receipts, receipts_fields, receipts_of
from ladder.audience import parse_shares
from ladder.bdrate import RatePoint
from ladder.payback import Prices
from tests.cli_material import MODEL, NEG, hand_made_comparison, hand_made_package

HOUR = 3600.0


def receipts(
    *, av1: float | None = 0.65, cpu_seconds: float | None = HOUR, shares: str = "25/25/50"
) -> Receipts:
    """Of the hand-made comparison; AV1 needs that share of H.264's bits, and more by XPSNR."""
    compared = hand_made_comparison()
    ladder, fixed = compared.parts[0].ours, compared.fixed
    ours: dict[str, dict[str, list[RatePoint]]] = {}
    for model in compared.parts[0].claims:
        ours[model] = {"x264": ladder.points(model)}
        if av1 is not None:
            factor = av1 * (1.2 if model == "xpsnr" else 1)
            ours[model]["svtav1"] = [
                RatePoint(factor * rate, score) for rate, score in ladder.points(model)
            ]
    return receipts_of(
        ours,
        {model: fixed.points(model) for model in ours},
        seconds=600.0,
        cpu_seconds=cpu_seconds,
        shares=parse_shares(shares),
        prices=Prices(0.02, 0.04),
    )


def compared(**options: object) -> Comparison:
    return replace(hand_made_comparison(), receipts=receipts(**options))  # type: ignore[arg-type]


def shown(comparison: Comparison) -> str:
    console = Console(width=80, record=True)
    with console.capture() as text:
        console.print(*comparison_view(comparison), sep="\n")
    return text.get()


def test_the_sum_over_all_viewers_and_the_judge_that_sees_least() -> None:
    found = receipts()
    by_model = found.audience[MODEL]
    h264, hevc, av1 = (getattr(one.against_fixed, "percent", 0.0) for one in by_model.classes)
    assert h264 == hevc
    assert (1 + av1 / 100) == pytest.approx(0.65 * (1 + h264 / 100))
    assert by_model.percent == pytest.approx(0.5 * h264 + 0.5 * av1)
    assert found.least is not None
    name, percent = found.least
    assert name == "xpsnr"
    assert by_model.percent is not None
    assert percent > by_model.percent
    assert not found.audience["xpsnr"].viewers
    assert found.audience[NEG].viewers


def test_views_that_pay_for_the_job() -> None:
    found = receipts()
    assert [one.median for one in found.paybacks] == [1e6, 3e6, 10e6]
    for one in found.paybacks:
        assert one.by_model.cost == pytest.approx(0.04)
        assert one.by_model.views == pytest.approx(0.04 / one.by_model.saved)
        assert one.by_least is not None
        assert (one.by_least.views or 0) > (one.by_model.views or 0)
    assert found.paybacks[0].by_model.saved_bytes < found.paybacks[2].by_model.saved_bytes
    assert receipts(cpu_seconds=None).paybacks == ()


def test_a_comparison_shows_the_classes_where_they_differ() -> None:
    text = shown(compared())
    assert "viewers by the codecs that their devices play" in text
    assert "AV1 as well 50 % 4" in " ".join(text.split())
    assert "what all of them receive" in text
    assert "views after which the package has paid" in text
    alone = shown(compared(av1=None))
    assert "their devices play" not in alone
    assert "views after which the package has paid" in alone
    assert "has paid" not in shown(compared(av1=None, cpu_seconds=None))
    assert "has paid" not in shown(hand_made_comparison())
    assert max(map(len, text.splitlines())) <= 80


def test_receipts_are_kept_with_the_comparison(tmp_path: Path) -> None:
    (tmp_path / "ladder.json").write_text("{}")
    comparison = compared()
    ((_, fields),) = (line for line in comparison_lines(comparison) if line[0] == "receipts")
    assert fields == json.loads(json.dumps(receipts_fields(receipts())))
    assert save_comparison(tmp_path, comparison, [], "0123456789abcdef")
    saved = read_comparison(tmp_path)
    assert saved is not None
    assert saved.receipts == fields
    before = json.loads((tmp_path / "comparison.json").read_text())
    del before["receipts"]  # as written before there were receipts
    (tmp_path / "comparison.json").write_text(json.dumps(before))
    saved = read_comparison(tmp_path)
    assert saved is not None
    assert saved.receipts is None


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ({"encoded_now": 54, "scored_now": 90, "cpu_seconds": {"encode": 1.5, "vmaf": 2.0}}, 3.5),
        ({"encoded_now": 53, "scored_now": 54, "cpu_seconds": {"encode": 1.5}}, None),
        ({}, None),
    ],
)
def test_cpu_is_known_where_a_run_made_all_of_its_encodes(
    run: dict[str, object], expected: float | None
) -> None:
    """Judges of the check of recipes and ``--also`` score encodes more than once."""
    package = hand_made_package()
    package.__dict__["run"] = run  # as the cached property keeps it
    assert package.cpu_seconds == expected
