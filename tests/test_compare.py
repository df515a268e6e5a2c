"""The baselines, measured on the same title, and the claims that follow from them."""

from __future__ import annotations

import io
import json
import re
import shutil
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import pytest
from rich.console import Console

from cluster import events
from cluster.cli.views.comparison import comparison_lines, comparison_view
from cluster.execution.executor import InlineExecutor
from cluster.jobs.compare import CompareOptions, Comparison, compare_ladder
from cluster.jobs.run import RunResult
from cluster.package.package import Package
from cluster.store import Store
from encoder import ffmpeg, mp4
from encoder.errors import BadInput, FrameMismatch
from fixtures.clips import make
from ladder.bdrate import BdRate, NoOverlap, RatePoint
from ladder.claims import state_claims
from tests.running import SMALL, quick_profile, records, run_inline
from vmaf.models import PUBLISHED, V1

MODELS = (V1, *PUBLISHED)
TITLE = replace(SMALL, scenes=SMALL.scenes[:2], width=640, height=360)
"""Two shots of 1 s, at a size for which the fixed ladder has two rungs."""
SECONDS = 2


@dataclass(frozen=True)
class Compared:
    source: Path
    out: Path
    store: Path
    result: RunResult
    comparison: Comparison
    events: list[events.Event]


def compare(out: Path, store: Path, source: Path | None = None) -> tuple[Comparison, list]:  # type: ignore[type-arg]
    seen: list[events.Event] = []
    asked = CompareOptions(out, source=source, store=store)
    return compare_ladder(asked, seen.append, InlineExecutor()), seen


@pytest.fixture(scope="session")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    folder = tmp_path_factory.mktemp("compare")
    source = make(TITLE, folder / "title.mp4")
    out, store = folder / "out", folder / "store"
    profile = quick_profile(jnd=10.0, max_rate_ratio=4.0)
    result = run_inline(source, out, store, profile=profile, heights=(180,), search="exhaustive")
    comparison, seen = compare(out, store)
    return Compared(source, out, store, result, comparison, seen)


def baselines(compared: Compared) -> list[tuple[dict[str, object], Path]]:
    """Return the value of each baseline's record, and its file in the store."""
    store = Store(compared.store)
    found = []
    for key in records(compared.store, "baseline"):
        record = store.get(key)
        assert record is not None
        found.append((record.value, store.path(record.blobs["rung"])))
    return found


def test_the_three_ladders(compared: Compared) -> None:
    comparison = compared.comparison
    assert (comparison.title, comparison.quality_model) == ("title.mp4", V1)
    assert comparison.exhaustive
    assert comparison.bounds == ()
    assert [(r.width, r.height) for r in comparison.fixed] == [(416, 234), (640, 360)]
    assert len(comparison.per_title) >= 2
    rungs = compared.result.ladder.rungs
    assert [rung.bitrate for rung in comparison.ours] == [rung.bitrate for rung in rungs]
    assert [rung.name for rung in comparison.ours] == [rung.name for rung in rungs]
    for mine, delivered in zip(comparison.ours, rungs, strict=True):
        assert mine.quality[V1] == delivered.quality[V1]
    for rung in (*comparison.ours, *comparison.fixed, *comparison.per_title):
        assert set(rung.quality) == set(MODELS)


def test_bits_are_counted_as_a_packages_are(compared: Compared) -> None:
    """Bits are those of the fragments on disk, without init segments."""
    counted = set()
    for value, path in baselines(compared):
        _, media = mp4.split_fragmented(path.read_bytes())
        assert value["media_bytes"] == len(media) == sum(value["segment_bytes"])  # type: ignore[call-overload]
        counted.add(8 * len(media) / SECONDS)
    rungs = (*compared.comparison.fixed, *compared.comparison.per_title)
    assert {rung.bitrate for rung in rungs} == counted
    # Even in two seconds, two passes hit their targets roughly.
    for rung, target in zip(compared.comparison.fixed, (145e3, 365e3), strict=True):
        assert rung.bitrate == pytest.approx(target, rel=0.5)


def test_per_title_rungs_have_our_keyframes_and_fixed_ones_their_own(compared: Compared) -> None:
    cuts = [value["segment_frames"] for value, _ in baselines(compared)]
    assert cuts.count([12, 12]) == len(compared.comparison.per_title)
    assert cuts.count([24]) == len(compared.comparison.fixed)


def test_qualities_agree_with_a_plain_measurement(compared: Compared, tmp_path: Path) -> None:
    found = set()
    for _, path in baselines(compared):
        log = tmp_path / "log.json"
        graph = (
            "[0:v]scale=640:360:flags=bicubic,format=yuv420p10le,settb=1/12,setpts=N[d];"
            "[1:v]format=yuv420p10le,settb=1/12,setpts=N[r];"
            f"[d][r]libvmaf=model=version=vmaf_v0.6.1:log_fmt=json:log_path={log}"
        )
        inputs = ("-i", path, "-i", compared.source)
        asked = ["-v", "error", *inputs, "-lavfi", graph, "-f", "null", "-"]
        ffmpeg.run(ffmpeg.Command.of(asked))
        frames = json.loads(log.read_text())["frames"]
        assert len(frames) == 24
        found.add(round(sum(f["metrics"]["vmaf"] for f in frames) / 24, 2))
    rungs = (*compared.comparison.fixed, *compared.comparison.per_title)
    said = sorted(rung.quality["vmaf_v0.6.1"].mean for rung in rungs)
    assert said == pytest.approx(sorted(found), abs=0.01)


def test_claims_of_every_model_are_of_its_own_scores(compared: Compared) -> None:
    comparison = compared.comparison
    assert set(comparison.claims) == set(MODELS)
    for model, claims in comparison.claims.items():
        ladders = [
            [RatePoint(rung.bitrate, rung.quality[model].mean) for rung in rungs]
            for rungs in (comparison.ours, comparison.fixed, comparison.per_title)
        ]
        assert claims == state_claims(*ladders)
        assert isinstance(claims.against_fixed, BdRate | NoOverlap)
        assert isinstance(claims.against_per_title, BdRate | NoOverlap)
        assert [viewers.median for viewers in claims.viewers] == [1e6, 3e6, 10e6]


def test_baselines_are_measured_once(compared: Compared) -> None:
    first = [e for e in compared.events if isinstance(e, events.StagePlanned)]
    assert {e.stage: e.cached for e in first}["baselines"] == 0
    before = records(compared.store)
    again, seen = compare(compared.out, compared.store)
    assert again == compared.comparison
    assert records(compared.store) == before
    planned = {e.stage: (e.total, e.cached) for e in seen if isinstance(e, events.StagePlanned)}
    assert all(total == cached for total, cached in planned.values())
    assert "baselines" in planned
    assert [e for e in seen if isinstance(e, events.StageProgress)] == []


def test_only_the_package_and_the_source_are_needed(compared: Compared, tmp_path: Path) -> None:
    """The store may be empty, and the source may be a copy that only --source names."""
    source, out = tmp_path / "copy.mp4", tmp_path / "out"
    shutil.copy(compared.source, source)
    shutil.copytree(compared.out, out)
    (out / "run.json").unlink()
    with pytest.raises(BadInput, match=r"name it with --source"):
        compare(out, tmp_path / "store")
    again, _ = compare(out, tmp_path / "store", source)
    assert again == compared.comparison
    delivered = compared.result.ladder.search.delivered_encodes
    assert len(records(tmp_path / "store", "encode")) == delivered


def refused(kind: type[Exception], match: str, out: Path, source: Path | None = None) -> None:
    store = out.parent / "unused"
    with pytest.raises(kind, match=match) as caught:
        compare(out, store, source)
    assert "\n" not in str(caught.value)
    if store.exists():
        assert records(store) == {}


def test_packages_and_sources_that_cannot_be_compared(compared: Compared, tmp_path: Path) -> None:
    other = make(replace(TITLE, scenes=TITLE.scenes[1:]), tmp_path / "other.mp4")
    refused(BadInput, "is not the source that", compared.out, other)
    refused(BadInput, r"gone\.mp4", compared.out, tmp_path / "gone.mp4")
    refused(BadInput, r"has no ladder\.json", tmp_path)
    assert Package(compared.out).source_path == compared.source.resolve()


def test_a_package_of_another_encoder(compared: Compared, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(compared.out, out)
    document = json.loads((out / "ladder.json").read_text())
    document["rungs"][0]["segments"][0]["bytes"] += 1
    (out / "ladder.json").write_text(json.dumps(document))
    with pytest.raises(FrameMismatch, match="is not what this ffmpeg encodes"):
        compare(out, compared.store)


def test_bitrates_are_of_the_titles_duration(compared: Compared) -> None:
    title = compared.result.ladder.title
    assert title.frames / Fraction(title.frame_rate) == SECONDS


@pytest.mark.parametrize("search", ["predict", "sparse"])
def test_a_baseline_that_is_bounded_by_what_was_measured_says_so(
    search: str, compared: Compared, tmp_path: Path
) -> None:
    """The exhaustive search measures the whole grid; these leave the per-title ladder less to
    choose from, which would flatter ours."""
    out = tmp_path / "out"
    profile = quick_profile(jnd=10.0, max_rate_ratio=4.0)
    made = run_inline(
        compared.source, out, compared.store, profile=profile, heights=(180,), search=search
    )
    comparison, _ = compare(out, compared.store)
    assert (comparison.search, comparison.exhaustive) == (search, False)
    assert comparison.fixed == compared.comparison.fixed
    (bound,) = comparison.bounds
    facts = made.ladder.search
    assert f"{search} search measured of all shots ({facts.encodes} encodes" in bound
    assert f"full grid has {facts.grid_encodes})" in bound
    for rung in comparison.per_title:
        low, high = re.search(rf"{rung.height}p at CRF ([\d.]+) to ([\d.]+)", bound).groups()  # type: ignore[union-attr]
        assert float(low) <= float(rung.name.rpartition(" ")[2]) <= float(high)
    console = Console(width=80, file=io.StringIO())
    for part in comparison_view(comparison):
        console.print(part)
    said = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    assert f"Ours is from a {search} search." in said
    assert "limit" not in said
    assert "against per-title CRF (bounded)" in said
    assert bound in said
    lines = [fields for kind, fields in comparison_lines(comparison) if kind == "claims"]
    assert all(fields["bounds"] == [bound] for fields in lines)
