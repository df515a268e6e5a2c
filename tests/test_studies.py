"""Rows of shots, differences of ladders, gates and what-ifs, on documents written by hand."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.cli import main
from cluster.cli.views.comparison import comparison_lines
from cluster.jobs import whatif
from cluster.package import diff, explain
from cluster.package.comparison import (
    ComparedLadder,
    bits_against,
    compared_parts,
    has_stale_comparison,
    read_comparison,
    save_comparison,
)
from cluster.package.package import Package
from encoder.errors import BadInput, Infeasible
from ladder.document import Ladder, Measurements
from ladder.profiles import load_profile
from tests.cli_material import (
    MODEL,
    NEG,
    hand_made,
    hand_made_comparison,
    hand_made_measurements,
    hand_made_package,
    quality,
)


def written(folder: Path, ladder: Ladder, measurements: Measurements | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ladder.json").write_text(ladder.to_json())
    (folder / "measurements.json").write_text((measurements or hand_made_measurements()).to_json())
    return folder


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return written(tmp_path / "package", hand_made())


def predicted() -> Measurements:
    """Return measurements in which shot 1 of the middle rung was predicted smaller and better."""
    made = hand_made_measurements()
    cell = made.cells[0].model_copy(
        update={
            "shot": 1,
            "width": 640,
            "height": 360,
            "crf": 27.5,
            "bytes": 150_000,
            "quality": 75.5,
            "predicted_bytes": 120_000,
            "predicted_quality": 77.0,
            "reason": "wanted by the rung at 353 kbit/s",
        }
    )
    return made.model_copy(update={"cells": [*made.cells, cell], "weights": "ab" * 8})


# -- rows --------------------------------------------------------------------------------------


def test_a_segment_has_its_prediction_and_an_explanation() -> None:
    ladder = hand_made()
    row = explain.segment_facts(Package.of(Path(), ladder, predicted()), ladder.rungs[1])[1]
    assert (row.predicted_bytes, row.predicted_quality) == (120_000, 77.0)
    assert row.bytes_error == pytest.approx(0.25)
    assert row.quality_error == pytest.approx(-1.5)
    assert row.reason == "wanted by the rung at 353 kbit/s"
    # 150 kB in 2.5 s is 480 kbit/s; the rung has 353 and a mean of 78.68.
    assert row.explanation.startswith(
        "hard: 1.4x the rung's rate, still 3.2 below its mean quality"
    )


def test_shares_are_of_the_rung_and_of_the_ladder() -> None:
    package = hand_made_package()
    shots = explain.shot_facts(package)
    assert sum(one.share for one in shots) == pytest.approx(1)
    assert sum(one.time_share for one in shots) == pytest.approx(1)
    assert shots[1].bytes == 45_500 + 150_000 + 401_000
    rows = explain.segment_facts(package, package.ladder.rungs[0])
    assert sum(row.share for row in rows) == pytest.approx(1)


def test_rows_are_selected_sorted_and_limited() -> None:
    package = hand_made_package()
    rows = explain.segment_facts(package, package.ladder.rungs[0])

    def chosen(**fields: object) -> list[int]:
        selection = explain.Selection(**fields)  # type: ignore[arg-type]
        return [row.shot for row in explain.select_segments(rows, selection)]

    assert chosen(sort="quality") == [1, 0, 2]
    assert chosen(sort="bytes", limit=2) == [1, 0]
    assert chosen(sort="shot", reverse=True) == [2, 1, 0]
    assert chosen(shots=explain.parse_shots(["1-2"])) == [1, 2]
    assert chosen(below=55.0) == [0, 1]


@pytest.mark.parametrize(
    ("text", "rate"),
    [("1M", 1e6), ("800k", 8e5), ("1.5Mbit/s", 1.5e6), ("90000", 9e4), ("x", None), ("0", None)],
)
def test_rates_as_people_write_them(text: str, rate: float | None) -> None:
    assert explain.parse_rate(text) == rate


def test_a_rung_is_found_by_name_or_by_the_nearest_rate() -> None:
    ladder = hand_made()  # 108, 353 and 959 kbit/s
    assert explain.find_rung(ladder, "v1-234p").name == "v1-234p"
    assert explain.find_rung(ladder, "1M").name == "v3-360p"
    assert explain.find_rung(ladder, "300k").name == "v2-360p"
    with pytest.raises(BadInput, match="v1-234p, v2-360p, v3-360p"):
        explain.find_rung(ladder, "best")


def test_a_shot_at_the_peak_limit_is_known() -> None:
    """The peak limit is 2 x 353 kbit/s; shot 1 alone (2.5 s) reaches it at 220 kB."""
    package = hand_made_package()
    rung = package.ladder.rungs[1]
    assert explain.capped_shots(package, rung) == frozenset()
    segments = [
        s.model_copy(update={"bytes": 220_000}) if s.shot == 1 else s for s in rung.segments
    ]
    assert 1 in explain.capped_shots(package, rung.model_copy(update={"segments": segments}))


# -- saved comparisons -------------------------------------------------------------------------


def test_a_comparison_is_kept_with_its_ladder_only(package: Path) -> None:
    assert read_comparison(package) is None
    assert save_comparison(package, hand_made_comparison(), [], "0123456789abcdef")
    saved = read_comparison(package)
    assert saved is not None
    assert saved.fixed[0].name == "360p 145k"
    other = hand_made().model_copy(update={"profile": "archive"})
    assert not has_stale_comparison(package)
    (package / "ladder.json").write_text(other.to_json())
    assert read_comparison(package) is None
    assert has_stale_comparison(package)


def test_a_comparison_of_the_release_before_is_stale(
    package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its fixed ladder followed the package's recipe."""
    assert not has_stale_comparison(package)
    (package / "comparison.json").write_text('{"schema": "shotladder/comparison/1"}')
    assert read_comparison(package) is None
    assert has_stale_comparison(package)
    assert main(["ladder", "show", str(package)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "of another ladder or of an earlier release: run `shotladder ladder compare`" in said


def test_every_codec_is_compared_alone_and_all_of_them_together() -> None:
    """Of all codecs together, the claims are those of a player that has all of them."""
    one = hand_made_comparison()
    (x264,) = one.parts
    assert x264.per_title is not None
    half = [replace(rung, name="av1", bitrate=rung.bitrate / 2) for rung in x264.ours.rungs[:3]]
    av1 = ComparedLadder("svtav1-fast", tuple(half))
    codecs = {"x264": (x264.ours, x264.per_title), "svtav1": (av1, av1)}
    models = [MODEL, "xpsnr"]
    parts = compared_parts(codecs, one.fixed, one.plain_per_title, models, ["xpsnr"])
    first, second, together = parts
    assert [part.name for part in parts] == ["x264", "svtav1", "all"]
    assert first.claims == {model: x264.claims[model] for model in models}
    for against in ("against_fixed", "against_plain_per_title"):
        alone, own, both = (getattr(part.claims[MODEL], against).percent for part in parts)
        assert max(own, both) < alone - 20
    assert second.claims[MODEL].against_per_title is not None
    assert together.claims[MODEL].against_per_title is together.per_title is None
    assert [r.bitrate for r in together.ours.rungs] == sorted(
        r.bitrate for r in together.ours.rungs
    )
    assert together.claims[MODEL].viewers != first.claims[MODEL].viewers
    compared = replace(one, parts=parts)
    lines = [fields for kind, fields in comparison_lines(compared) if kind == "claims"]
    assert [line["codec"] for line in lines] == ["x264"] * 2 + ["svtav1"] * 2 + ["all"] * 2
    names = [(name, codec) for name, codec, _ in compared.ladders]
    assert names.count(("ours", "svtav1")) == names.count(("per_title", "svtav1")) == 1
    assert len(names) == 6


def test_bits_at_equal_quality(package: Path) -> None:
    """Halfway from 365k at 68 to 1100k at 88, the fixed ladder needs sqrt(365 x 1100) kbit/s."""
    save_comparison(package, hand_made_comparison(), [], "0123456789abcdef")
    saved = read_comparison(package)
    assert saved is not None
    fixed = saved.fixed
    needed = (365e3 * 1100e3) ** 0.5
    assert bits_against(fixed, needed / 2, 78.0, MODEL) == pytest.approx(-50, abs=0.1)
    assert bits_against(fixed, 1e6, 99.9, MODEL) is None


# -- differences -------------------------------------------------------------------------------


def cheaper(ladder: Ladder, factor: float) -> Ladder:
    """Return a ladder of the same qualities with ``factor`` times the bits."""
    rungs = [
        rung.model_copy(
            update={
                "bitrate": round(rung.bitrate * factor),
                "segments": [
                    s.model_copy(update={"bytes": round(s.bytes * factor)}) for s in rung.segments
                ],
            }
        )
        for rung in ladder.rungs
    ]
    return ladder.model_copy(update={"rungs": rungs, "recipe": "x264-slow"})


def test_a_ladder_for_a_tenth_less_is_ten_percent_better(tmp_path: Path, package: Path) -> None:
    new = written(tmp_path / "new", cheaper(hand_made(), 0.9))
    found = diff.diff_ladders(package, new)
    assert found.percent == pytest.approx(-10, abs=0.01)
    assert found.facts == {"recipe": ("x264-medium", "x264-slow")}
    assert [c.bitrate_percent for c in found.rungs] == pytest.approx([-10] * 3, abs=0.01)
    assert [c.quality_change for c in found.rungs] == [0, 0, 0]
    assert all(shot.bd_rate == pytest.approx(-10, abs=0.01) for shot in found.shots)


def judged(ladder: Ladder, judge: str, factor: float) -> Ladder:
    """Return the ladder as also measured by a judge, which has ``factor`` times VMAF's points."""
    rungs = [
        rung.model_copy(
            update={
                "quality": {**rung.quality, judge: quality(factor * rung.quality[MODEL].mean)},
                "segments": [
                    s.model_copy(
                        update={"quality": {**s.quality, judge: factor * s.quality[MODEL]}}
                    )
                    for s in rung.segments
                ],
            }
        )
        for rung in ladder.rungs
    ]
    return ladder.model_copy(update={"rungs": rungs})


def test_judges_stand_beside_vmaf_where_both_ladders_have_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = written(tmp_path / "old" / "one", judged(judged(hand_made(), "ssim", 0.2), "xpsnr", 0.4))
    new = written(tmp_path / "new" / "one", judged(cheaper(hand_made(), 0.9), "ssim", 0.19))
    found = diff.diff_ladders(old, new)
    assert found.quality_model == MODEL
    assert list(found.also) == [NEG, "ssim"]
    assert found.percent_by(NEG) == pytest.approx(-10, abs=0.01)
    assert (found.percent_by("ssim") or 0) > found.percent
    assert found.percent_by("xpsnr") is None

    assert main(["ladder", "diff", str(old), str(new)]) == 0
    said = capsys.readouterr().out
    assert f"by {NEG} -10.00 % over quality" in said.replace("BD-rate ", "")
    main(["upgrade-report", str(old.parent), str(new.parent), "--max-title", "20", "--json"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (upgrade,) = (line for line in lines if line["type"] == "upgrade")
    assert upgrade["also"]["ssim"] == {"percent": found.percent_by("ssim"), "titles": 1}
    main(["upgrade-report", str(old.parent), str(new.parent)])
    said = capsys.readouterr().out
    assert "ssim" in said.splitlines()[0]
    assert f"by {NEG}, over all titles." in said


def test_ladders_that_only_a_judge_measured_are_not_compared(tmp_path: Path) -> None:
    made = judged(hand_made(), "xpsnr", 0.4)
    rungs = [r.model_copy(update={"quality": {"xpsnr": r.quality["xpsnr"]}}) for r in made.rungs]
    new = written(tmp_path / "new", made.model_copy(update={"rungs": rungs}))
    with pytest.raises(BadInput, match="run one again with --also MODEL"):
        diff.diff_ladders(written(tmp_path / "old", made), new)


def test_other_titles_are_not_compared(tmp_path: Path, package: Path) -> None:
    made = hand_made()
    other = made.model_copy(update={"title": made.title.model_copy(update={"sha256": "9" * 64})})
    with pytest.raises(BadInput, match="two ladders of one title"):
        diff.diff_ladders(package, written(tmp_path / "new", other))


def test_rungs_pair_with_the_nearest_and_the_rest_stand_alone() -> None:
    rungs = hand_made().rungs
    extra = rungs[2].model_copy(update={"name": "v4", "bitrate": 4 * rungs[2].bitrate})
    pairs = diff.paired_rungs(rungs, [*rungs, extra])
    assert [(a and a.name, b and b.name) for a, b in pairs] == [
        ("v1-234p", "v1-234p"), ("v2-360p", "v2-360p"), ("v3-360p", "v3-360p"), (None, "v4"),
    ]  # fmt: skip


@pytest.mark.parametrize(("factor", "status"), [(0.98, 0), (1.004, 0), (1.01, 1)])
def test_an_upgrade_is_gated(
    tmp_path: Path, package: Path, factor: float, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    new = written(tmp_path / "new" / "one", cheaper(hand_made(), factor)).parent
    assert main(["upgrade-report", str(package.parent), str(new), "--json"]) == status
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1]["type"] == ("error" if status else "done")
    (upgrade,) = (line for line in lines if line["type"] == "upgrade")
    assert upgrade["pass"] is (status == 0)
    assert upgrade["mean_bd_rate_percent"] == pytest.approx(100 * (factor - 1), abs=0.01)
    assert main(["upgrade-report", str(package.parent), str(new)]) == status
    said, complaint = capsys.readouterr()
    assert (said + complaint).count("is over" if status else "PASS") == 1


def test_a_missing_title_fails_the_gate(tmp_path: Path, package: Path) -> None:
    made = hand_made()
    other = made.model_copy(update={"title": made.title.model_copy(update={"sha256": "9" * 64})})
    written(package.parent / "other", other)
    new = written(tmp_path / "new" / "one", made).parent
    found = diff.upgrade_report(package.parent, new, diff.Limits(0.5, 2, None))
    assert found.failures == ("missing on the new side: clip.mp4",)


# -- what if -----------------------------------------------------------------------------------


def ask(package: Path, **asked: object) -> whatif.WhatIf:
    return whatif.what_if(whatif.WhatIfOptions(package, **asked))  # type: ignore[arg-type]


def test_a_cap_is_kept_and_called_a_cap(package: Path) -> None:
    free, capped = ask(package), ask(package, max_rate=400e3)
    assert max(rung.rate for rung in free.rungs) > 400e3
    assert max(rung.rate for rung in capped.rungs) <= 400e3
    assert capped.basis == "measured"
    assert "highest rung limited to the cap of 400 kbit/s" in capped.notes
    assert capped.viewers[2].received_percent < 0


def test_a_change_is_separated_from_the_effect_of_solving_again(package: Path) -> None:
    """A cap above every rung changes nothing, though the ladder solved again is not the delivered
    one."""
    assert ask(package).unchanged == ()
    idle, felt = ask(package, max_rate=1e9), ask(package, max_rate=400e3)
    assert not idle.changes
    assert [p.rate for p in idle.unchanged] == [rung.rate for rung in idle.rungs]
    assert all(claim.received_percent == 0 for claim in idle.viewers)
    assert felt.changes
    assert felt.unchanged == idle.unchanged


def test_a_cap_that_does_nothing_says_so(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["what-if", str(package), "--max-rate", "1000M"]) == 0
    said = capsys.readouterr().out
    assert "changes nothing" in said
    assert "new encodes" not in said


def test_only_rungs_of_existing_encodes_are_called_measured(package: Path) -> None:
    found = ask(package)
    cells = {(cell.shot, cell.width, cell.crf) for cell in Package(package).measurements.cells}
    assert found.new_encodes > 0
    for rung in found.rungs:
        assert (rung.basis == "measured") == (rung.existing == len(cells) // 6)


def test_rungs_are_added_and_removed_with_what_viewers_receive(package: Path) -> None:
    names = [rung.name for rung in Package(package).ladder.rungs]
    fewer = ask(package, remove=(names[1],))
    assert len(fewer.unchanged) == len(names)
    assert len(fewer.rungs) == len(names) - 1
    more = ask(package, add=(fewer.unchanged[0].rate * 1.3,))
    assert len(more.rungs) == len(names) + 1
    for answer in (fewer, more):
        assert len(answer.viewers) == len(answer.before) == len(answer.after) == 3
        for change, before, after in zip(answer.viewers, answer.before, answer.after, strict=True):
            assert change.fixed.rate == pytest.approx(before.received.rate)
            assert change.received.rate == pytest.approx(after.received.rate)
    with pytest.raises(BadInput, match=r"no rung is called 'v9'; choose one of v1"):
        ask(package, remove=("v9",))
    with pytest.raises(BadInput, match="leaves no ladder"):
        ask(package, remove=tuple(names))


def test_rungs_are_placed_for_the_viewers_asked_for(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    histogram = tmp_path / "throughput.csv"
    histogram.write_text("500000,1\n900000,2\n")
    own = ((200_000, 234), (420_000, 360))
    profile = dataclasses.replace(
        load_profile(), name="mine", recipes={"x264": "medium"}, reference=own
    )
    measured = ask(package, profile=profile, viewers=histogram)
    assert len(measured.viewers) == 1
    assert measured.viewers[0].median == pytest.approx(600_000)
    assert len(ask(package, profile=profile, viewers=(1e6, 2e6)).viewers) == 2
    assert len(ask(package, profile=profile, rung_count=(1, 1)).rungs) == 1
    line = ["what-if", str(package), "--viewers", "1M,3M", "--devices", "360=0.2", "--gap", "1.2"]
    assert main([*line, "--placement", "fewest-bits"]) == 0
    assert "viewers 1/3 Mbit/s" in capsys.readouterr().out
    for option, value, message in (
        ("--rungs", "few", "--rungs takes a number such as 6"),
        ("--devices", "720", "--devices takes lines and shares"),
        ("--viewers", "gone.csv", "the histogram gone.csv cannot be read"),
        ("--placement", "best", "choose one of spacing, fewest-bits, most-quality"),
    ):
        assert main(["what-if", str(package), option, value]) != 0
        assert message in " ".join(capsys.readouterr().err.split())


def test_free_sizes_are_never_worse_and_say_what_locked_costs(package: Path) -> None:
    found = ask(package, policy="mixed", peak_ratio=0.0)
    assert found.policy == "mixed"
    assert len(found.locked_cost) == 3
    assert all(cost.percent >= -1e-6 for cost in found.locked_cost)


def test_a_floor_out_of_reach_says_so(package: Path) -> None:
    with pytest.raises(Infeasible, match="worst shot"):
        ask(package, floor=99.0)


def test_heights_that_were_not_measured_are_named(tmp_path: Path) -> None:
    larger = hand_made().title.model_copy(update={"height": 720, "width": 1280})
    package = written(tmp_path / "p", hand_made().model_copy(update={"title": larger}))
    with pytest.raises(BadInput, match="416x234, 640x360"):
        ask(package, heights=(100,))


def test_without_its_source_a_predicted_ladder_answers_from_measurements(tmp_path: Path) -> None:
    package = written(tmp_path / "p", hand_made(), predicted())
    found = ask(package)
    assert found.basis == "measured"
    assert any("no prediction available" in note for note in found.notes)
