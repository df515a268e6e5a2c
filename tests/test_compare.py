"""The baselines, measured on the same title, and the claims that follow from them."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Iterator
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
from cluster.package.comparison import (
    ComparedPart,
    ComparedRung,
    read_comparison,
    save_comparison,
)
from cluster.package.own_ladder import read_own_ladder
from cluster.package.package import Package
from cluster.package.verdict import egress, reasons, sentence
from cluster.store import Store
from encoder import ffmpeg, mp4
from encoder.errors import BadInput, FrameMismatch
from fixtures.clips import make
from ladder.bdrate import BdRate, RatePoint
from ladder.claims import state_claims
from tests.running import SMALL, few_rates, quick_profile, records, run_inline
from vmaf.models import JUDGES, V0, V1

MODELS = (V1, *JUDGES, V0)
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
    encodes: int
    """Number of encodes of the whole title that the comparison made."""


def compare(
    out: Path,
    store: Path,
    source: Path | None = None,
    also: tuple[str, ...] = (V0,),
    baseline: Path | None = None,
) -> tuple[Comparison, list]:  # type: ignore[type-arg]
    seen: list[events.Event] = []
    asked = CompareOptions(out, source=source, store=store, also=also, baseline=baseline)
    return compare_ladder(asked, seen.append, InlineExecutor()), seen


@pytest.fixture(scope="module", autouse=True)
def short_ladders() -> Iterator[None]:
    with few_rates():
        yield


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    folder = tmp_path_factory.mktemp("compare")
    source = make(TITLE, folder / "title.mp4")
    out, store = folder / "out", folder / "store"
    profile = quick_profile(jnd=10.0, max_rate_ratio=4.0)
    result = run_inline(source, out, store, profile=profile, heights=(180,), search="exhaustive")
    comparison, seen = compare(out, store)
    made = len(records(store, "baseline"))
    return Compared(source, out, store, result, comparison, seen, made)


def baselines(compared: Compared) -> list[tuple[dict[str, object], Path]]:
    """Return the value of each baseline's record, and its file in the store."""
    store = Store(compared.store)
    found = []
    for key in records(compared.store, "baseline"):
        record = store.get(key)
        assert record is not None
        found.append((record.value, store.path(record.blobs["rung"])))
    return found


def own(comparison: Comparison) -> ComparedPart:
    (part,) = comparison.parts
    return part


def baseline_rungs(comparison: Comparison) -> list[ComparedRung]:
    """Rungs of all baselines, none twice."""
    ladders = [ladder for name, _, ladder in comparison.ladders if name != "ours"]
    return [rung for ladder in ladders for rung in ladder.rungs]


def test_the_measured_ladders(compared: Compared) -> None:
    comparison, part = compared.comparison, own(compared.comparison)
    assert (comparison.title, comparison.quality_model) == ("title.mp4", V1)
    assert comparison.judges == JUDGES
    assert comparison.exhaustive
    assert comparison.fixed.recipe == comparison.plain_per_title.recipe == "x264-medium"
    assert [(r.width, r.height) for r in comparison.fixed.rungs] == [(416, 234), (640, 360)]
    rungs = compared.result.ladder.rungs
    assert (part.name, part.ours.recipe) == ("x264", "x264-ultrafast")
    assert [rung.bitrate for rung in part.ours.rungs] == [rung.bitrate for rung in rungs]
    assert [rung.name for rung in part.ours.rungs] == [rung.name for rung in rungs]
    for mine, delivered in zip(part.ours.rungs, rungs, strict=True):
        assert mine.quality[V1] == delivered.quality[V1]
    assert part.per_title is not None
    assert part.per_title.recipe == "x264-ultrafast"
    for ladder in (part.per_title, comparison.plain_per_title):
        assert len(ladder.rungs) >= 3, "few rungs of ours do not make few of theirs"
    for rung in (*part.ours.rungs, *baseline_rungs(comparison)):
        assert set(rung.quality) == set(MODELS)


def test_receipts_of_one_codec_are_its_claims(compared: Compared) -> None:
    """Everyone plays H.264, so the classes of viewers change nothing."""
    receipts, part = compared.comparison.receipts, own(compared.comparison)
    assert receipts is not None
    assert tuple(receipts.audience) == MODELS
    for model, audience in receipts.audience.items():
        claim = part.claims[model].against_fixed
        assert audience.percent == pytest.approx(getattr(claim, "percent", None))
        assert audience.unserved == 0
    hours = sum(compared.result.run["cpu_seconds"].values()) / 3600
    assert [one.by_model.cpu_hours for one in receipts.paybacks] == [pytest.approx(hours)] * 3


def test_bits_are_counted_as_a_packages_are(compared: Compared) -> None:
    """Bits are those of the fragments on disk, without init segments."""
    counted = set()
    for value, path in baselines(compared):
        _, media = mp4.split_fragmented(path.read_bytes())
        assert value["media_bytes"] == len(media) == sum(value["segment_bytes"])  # type: ignore[call-overload]
        counted.add(8 * len(media) / SECONDS)
    assert {rung.bitrate for rung in baseline_rungs(compared.comparison)} <= counted
    # Even in two seconds, two passes hit their targets roughly.
    for rung, target in zip(compared.comparison.fixed.rungs, (145e3, 365e3), strict=True):
        assert rung.bitrate == pytest.approx(target, rel=0.5)


MEDIUM = {"ref": "3", "subme": "7", "psy_rd": "1.00:0.00", "bframes": "3", "trellis": "1"}
ULTRAFAST = {"ref": "1", "subme": "0", "bframes": "0", "trellis": "0", "8x8dct": "0"}


def settings(path: Path) -> dict[str, str]:
    """What x264 wrote about itself into a stream."""
    found = re.search(rb"options: ([ -~]+)", path.read_bytes())
    assert found is not None
    return dict(word.partition("=")[::2] for word in found[1].decode().split(" "))


def test_every_baseline_was_encoded_as_it_is_named(compared: Compared) -> None:
    """Whatever the package's recipe; its own (ultrafast) is in one of the ladders only."""
    found = [(value["segment_frames"], settings(path)) for value, path in baselines(compared)]
    fixed = [used for _, used in found if used["rc"] == "2pass"]
    assert sorted(used["bitrate"] for used in fixed) == ["145", "365"]
    expected = {**MEDIUM, "keyint": "24", "scenecut": "0", "open_gop": "0", "mbtree": "1"}
    for used in fixed:
        assert used.items() >= expected.items()
        assert used["vbv_maxrate"] == str(2 * int(used["bitrate"]))
        assert "stitchable" not in used
    at_crf = [(frames, used) for frames, used in found if used["rc"] == "crf"]
    assert len(at_crf) + len(fixed) == len(found)
    # Keyframes of per-title rungs are ours, and they are encoded as the two recipes say.
    assert all(frames == [12, 12] for frames, _ in at_crf)
    plain = [used for _, used in at_crf if used.items() >= MEDIUM.items()]
    same = [used for _, used in at_crf if used.items() >= ULTRAFAST.items()]
    assert len(plain) + len(same) == len(at_crf)
    part = own(compared.comparison)
    assert part.per_title is not None
    for ladder, made in ((part.per_title, same), (compared.comparison.plain_per_title, plain)):
        crfs = {float(used["crf"]) for used in made}
        assert {float(rung.name.rpartition(" ")[2]) for rung in ladder.rungs} <= crfs


def test_qualities_agree_with_a_plain_measurement(compared: Compared, tmp_path: Path) -> None:
    found = set()
    bitrates = {rung.bitrate for rung in baseline_rungs(compared.comparison)}
    for value, path in baselines(compared):
        if 8 * value["media_bytes"] / SECONDS not in bitrates:  # type: ignore[operator]
            continue  # tried, and not chosen
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
    rungs = baseline_rungs(compared.comparison)
    said = sorted(rung.quality[V0].mean for rung in rungs)
    assert said == pytest.approx(sorted(found), abs=0.01)


def test_claims_of_every_model_are_of_its_own_scores(compared: Compared) -> None:
    comparison, part = compared.comparison, own(compared.comparison)
    assert list(part.claims) == list(MODELS)
    for model, claims in part.claims.items():
        assert part.per_title is not None
        ladders = (part.ours, comparison.fixed, part.per_title, comparison.plain_per_title)
        points = [
            [RatePoint(rung.bitrate, rung.quality[model].mean) for rung in ladder.rungs]
            for ladder in ladders
        ]
        viewers = model not in JUDGES
        assert claims == state_claims(*points, viewers=viewers)
        medians = [viewers.median for viewers in claims.viewers]
        assert medians == ([1e6, 3e6, 10e6] if viewers else [])


def test_the_per_title_claims_are_there_and_about_most_of_the_ladder(compared: Compared) -> None:
    claims = own(compared.comparison).claims[V1]
    for claim in (claims.against_per_title, claims.against_plain_per_title):
        assert isinstance(claim, BdRate)
        assert claim.share_of_anchor > 0.5
    # ultrafast takes far more bits than medium, and choosing by shots hides none of it.
    assert claims.against_plain_per_title.percent > claims.against_per_title.percent + 10  # type: ignore[union-attr]
    assert isinstance(claims.against_fixed, BdRate)
    assert claims.against_fixed.percent > 0


def test_the_least_is_of_the_judges(compared: Compared) -> None:
    part = own(compared.comparison)
    stated = {judge: part.claims[judge].against_plain_per_title for judge in JUDGES}
    assert all(isinstance(claim, BdRate) for claim in stated.values())
    judge, least = part.least("against_plain_per_title", JUDGES)  # type: ignore[misc]
    assert least.percent == max(claim.percent for claim in stated.values())  # type: ignore[union-attr]
    assert stated[judge] == least
    lines = list(comparison_lines(compared.comparison))
    (line,) = [fields for kind, fields in lines if kind == "least"]
    expected = {"quality_model": judge, "percent": least.percent}
    assert line["against_plain_per_title"] == expected
    assert part.least("against_fixed", ()) is None


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


def forget(store: Path) -> int:
    """Remove what the run made from a store, and every sixth baseline; return how many of those."""
    baselines, scores = (sorted(records(store, f"baseline{kind}")) for kind in ("", "-score"))
    gone = baselines[::6]
    kept = {*baselines, *scores} - {*gone, *scores[::6]}
    for key in records(store).keys() - kept:
        (store / "records" / key[:2] / f"{key}.json").unlink()
    return len(gone)


def test_only_the_package_and_the_source_are_needed(compared: Compared, tmp_path: Path) -> None:
    """The store may know nothing of the run, and the source may be a copy that only --source names.

    Most baselines stay in the store: they are the slow part, and a few are enough to see that they
    come out the same again.
    """
    source, out, store = tmp_path / "copy.mp4", tmp_path / "out", tmp_path / "store"
    shutil.copy(compared.source, source)
    shutil.copytree(compared.out, out)
    (out / "run.json").unlink()
    with pytest.raises(BadInput, match=r"name it with --source"):
        compare(out, tmp_path / "empty")
    shutil.copytree(compared.store, store)
    assert forget(store) >= 2
    again, _ = compare(out, store, source)
    # What the job cost stood in run.json, so when it has paid is not known.
    assert again.receipts is not None
    assert again.receipts.paybacks == ()
    known = compared.comparison.receipts
    assert known is not None
    receipts = replace(again.receipts, paybacks=known.paybacks)
    assert replace(again, receipts=receipts) == compared.comparison
    delivered = compared.result.ladder.search.delivered_encodes
    assert len(records(store, "encode")) == delivered


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
def test_the_baselines_do_not_depend_on_the_search(
    search: str, compared: Compared, tmp_path: Path
) -> None:
    """A search that measured little leaves no less to choose the per-title ladders from."""
    out = tmp_path / "out"
    profile = quick_profile(jnd=10.0, max_rate_ratio=4.0)
    run_inline(compared.source, out, compared.store, profile=profile, heights=(180,), search=search)
    comparison, _seen = compare(out, compared.store)
    assert (comparison.search, comparison.exhaustive) == (search, False)
    assert comparison.fixed == compared.comparison.fixed
    claims = own(comparison).claims[V1]
    for claim in (claims.against_per_title, claims.against_plain_per_title):
        assert isinstance(claim, BdRate)
        assert claim.share_of_anchor > 0.5
    console = Console(width=80, file=io.StringIO())
    for part in comparison_view(comparison):
        console.print(part)
    said = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    assert f"Ours is from a {search} search." in said
    assert "limit" not in said


def test_another_recipe_leaves_the_anchors_where_they_are(
    compared: Compared, tmp_path: Path
) -> None:
    """A recipe must not cancel itself: only the ladder by the same recipe follows it."""
    out = tmp_path / "out"
    tuned = quick_profile(recipes={"x264": "ultrafast+ref=2:subme=4"}, jnd=10.0, max_rate_ratio=4.0)
    run_inline(
        compared.source, out, compared.store, profile=tuned, heights=(180,), search="exhaustive"
    )
    comparison, _ = compare(out, compared.store)
    part, name = own(comparison), "x264-ultrafast+ref=2:subme=4"
    assert part.per_title is not None
    assert (part.ours.recipe, part.per_title.recipe) == (name, name)
    assert comparison.plain_per_title.recipe == "x264-medium"
    assert comparison.fixed == compared.comparison.fixed


def test_the_cost_is_said_before_anything_is_encoded(compared: Compared) -> None:
    kinds = [type(event) for event in compared.events]
    (note,) = [event for event in compared.events if isinstance(event, events.Noted)]
    assert kinds.index(events.Noted) < kinds.index(events.StagePlanned)
    found = re.fullmatch(
        r"the baselines take about (\d+) encodes of the whole title, and everything about "
        r"([\d.]+) minutes of CPU time",
        note.message,
    )
    assert found is not None
    assert int(found[1]) == pytest.approx(compared.encodes, rel=0.4)
    _, seen = compare(compared.out, compared.store)
    assert not [event for event in seen if isinstance(event, events.Noted)]


def test_a_model_is_only_used_where_it_is_asked_for(compared: Compared) -> None:
    comparison, _ = compare(compared.out, compared.store, also=())
    assert list(own(comparison).claims) == [V1, *JUDGES]
    with pytest.raises(BadInput, match="unknown quality model"):
        compare(compared.out, compared.store, also=("vmaf_v9",))


def test_ones_own_ladder_stands_in_place_of_the_fixed_one(
    compared: Compared, tmp_path: Path
) -> None:
    """These rates and sizes are those of the fixed ladder, so everything must come out the same."""
    path = tmp_path / "ours.csv"
    path.write_text("rate,size\n365k,640x360\n2M,1280x720\n\n145000,234p\n")
    comparison, seen = compare(compared.out, compared.store, baseline=path)
    assert comparison == replace(compared.comparison, baseline="ours.csv")
    said = [event.message for event in seen if isinstance(event, events.Warned)]
    assert said == ["ours.csv: 2M,1280x720: larger than the title, which has 640x360, so left out"]
    assert sentence(comparison).startswith("At equal quality this ladder takes ")
    assert "than ours.csv" in sentence(comparison)
    assert save_comparison(compared.out, comparison, [], "title")
    saved = read_comparison(compared.out)
    assert saved is not None
    assert saved.baseline == "ours.csv"
    (compared.out / "comparison.json").unlink()


def test_a_package_is_a_baseline(compared: Compared, tmp_path: Path) -> None:
    """Against itself, nothing is saved and nothing is lost."""
    comparison, seen = compare(compared.out, compared.store, baseline=compared.out)
    assert comparison.baseline == compared.out.name
    assert comparison.fixed.rungs == own(comparison).ours.rungs
    claims = own(comparison).claims[V1]
    assert isinstance(claims.against_fixed, BdRate)
    assert claims.against_fixed.percent == pytest.approx(0, abs=1e-9)
    assert all(claim.received_percent == pytest.approx(0) for claim in claims.viewers)
    assert f"takes as many bits as {compared.out.name}" in sentence(comparison)
    assert not [event for event in seen if isinstance(event, events.StageProgress)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("800k\n", "has to be a rate and a size"),
        ("800k,00x00\n", "has to be a rate and a size"),
        ("nan,360\n800k,360\n", "has to be a rate and a size"),
        ("1M,640x360\nfast,360\n", "line 2: 'fast,360' has to be a rate and a size"),
        ("3M,1280x720\n", "has no rung that is no larger than 640x360"),
        ("", "has no rung"),
    ],
)
def test_a_ladder_that_cannot_be_read_is_refused(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "ours.csv"
    path.write_text(text)
    with pytest.raises(BadInput, match=reason):
        read_own_ladder(path, 640, 360)
    with pytest.raises(BadInput, match="cannot be read"):
        read_own_ladder(tmp_path / "gone.csv", 640, 360)


def test_why_the_figures_differ(compared: Compared) -> None:
    comparison = compared.comparison
    claims = own(comparison).claims[V1]
    said = list(reasons(comparison))
    percents = [
        getattr(claims, name).percent
        for name in ("against_fixed", "against_plain_per_title", "against_per_title")
    ]
    fixed, plain, same = (1 + percent / 100 for percent in percents)
    steps = [100 * (step - 1) for step in (fixed / plain, plain / same, same)]
    assert all(f"{step:+.1f} %" in said[-1] for step in steps)
    assert len([line for line in said if line.startswith("At a median of ")]) == 3
    for one, claim in zip(egress(comparison), claims.viewers, strict=True):
        seconds = 1000 * 3600
        assert one.before_gb == pytest.approx(claim.fixed.rate * seconds / 8 / 1e9)
        assert one.saved == pytest.approx((one.before_gb - one.ours_gb) * 0.02)
