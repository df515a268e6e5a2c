"""Rungs placed by what viewers receive, checked against every ladder that there could be."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder.errors import BadInput
from encoder.media import Size
from encoder.recipes import by_name, x264
from ladder.bdrate import RatePoint
from ladder.claims import audience_claim, viewers_claim
from ladder.curves import Candidate
from ladder.placement import Rules, place
from ladder.profiles import Profile, load_profile, profile_document, profile_from_document
from ladder.reference_ladder import needs, predicted, reference_rungs
from ladder.rungs import LadderPlan, solve, worth_delivering
from ladder.search.steps import full_grid, measured_title
from ladder.title_curves import TitleCurves
from ladder.tracks import TitleTracks, Track, tracks_of
from ladder.viewers import (
    Audience,
    Histogram,
    LogNormal,
    Mix,
    Offer,
    histogram_from_csv,
    population,
)
from tests.ladder_synthetic import SHOTS, known, shape

PLAIN = dataclasses.replace(
    load_profile(), name="plain", recipes={"x264": "medium"}, heights=(234, 360, 540, 720)
)
GRID = full_grid(shape(), PLAIN)
TITLE = measured_title(known(GRID), GRID)


def plan_of(profile: Profile = PLAIN, title: TitleCurves = TITLE) -> LadderPlan:
    plan = solve(title, profile)
    assert isinstance(plan, LadderPlan)
    return plan


def tracks(title: TitleCurves = TITLE) -> TitleTracks:
    found = tracks_of(title, [[size] for size in title.sizes], None)
    assert isinstance(found, TitleTracks)
    return found


def reference_of(title: TitleCurves = TITLE) -> tuple[Offer, ...]:
    rungs = reference_rungs(title.sizes[-1], PLAIN)
    return predicted(rungs, title.sizes, tracks(title).tracks, title.recipe)


# -- exact -------------------------------------------------------------------------------------

curves = st.lists(
    st.tuples(st.integers(30, 9000), st.integers(20, 99), st.sampled_from([240, 480, 720])),
    min_size=1,
    max_size=7,
    unique_by=(lambda row: row[0], lambda row: row[1]),
).map(
    lambda rows: [
        Offer(rate * 1e3, float(quality), lines)
        for rate, quality, lines in zip(*map(sorted, zip(*rows, strict=True)), strict=True)
    ]
)
mixed_sizes = st.tuples(curves, st.lists(st.sampled_from([240, 480, 720]), min_size=7)).map(
    lambda both: [rung._replace(lines=lines) for rung, lines in zip(both[0], both[1], strict=False)]
)
"""Candidates whose sizes rise and fall, as those of measured rungs may."""
audiences = st.builds(
    Audience,
    st.one_of(
        st.builds(LogNormal, st.sampled_from([3e5, 1e6, 5e6])),
        st.just(Mix((LogNormal(1e6), LogNormal(1e7)))),
        st.just(Histogram(((4e5, 1.0), (2e6, 5.0), (9e6, 2.0)))),
    ),
    st.sampled_from([(), ((480, 0.3),), ((240, 0.2), (480, 0.5))]),
)


def scored(
    ladder: list[Offer], reference: list[Offer], audience: Audience, rules: Rules
) -> tuple[float, float]:
    """What viewers lose beyond the tolerance and what they receive, viewer by viewer."""
    edges = [0.0, *sorted({rung.rate for rung in (*ladder, *reference)}), math.inf]
    lost = bits = 0.0
    for (low, high), (lines, of_devices) in itertools.product(
        itertools.pairwise(edges), audience.devices
    ):
        share = of_devices * (
            (1.0 if high == math.inf else audience.below(high)) - audience.below(low)
        )

        def played(rungs: list[Offer], low: float = low, lines: float = lines) -> Offer:
            plays = [r for r in rungs if r.lines <= lines] or rungs[:1]
            return ([r for r in plays if r.rate <= low] or plays[:1])[-1]

        lost += share * max(
            0.0, played(reference).quality - rules.tolerance - played(ladder).quality
        )
        bits += share * played(ladder).rate
    return lost, bits


@settings(deadline=None, max_examples=60)
@given(
    st.one_of(curves, mixed_sizes),
    curves,
    audiences,
    st.sampled_from([0.0, 0.5, 5.0]),
    st.sampled_from([(1, 9), (2, 3)]),
)
def test_no_other_ladder_of_these_candidates_serves_viewers_better(
    candidates: list[Offer],
    reference: list[Offer],
    audience: Audience,
    tolerance: float,
    counts: tuple[int, int],
) -> None:
    rules = Rules(tolerance=tolerance, counts=counts, least_ratio=1.15)
    placement = place(candidates, reference, audience, rules)
    chosen = [candidates[number] for number in placement.chosen]
    possible = []
    for count in range(1, min(len(candidates), counts[1]) + 1):
        for ladder in itertools.combinations(candidates, count):
            apart = all(b.rate >= a.rate * 1.15 for a, b in itertools.pairwise(ladder))
            apart &= all(b.lines >= a.lines for a, b in itertools.pairwise(ladder))
            begins = ladder[0].rate <= max(reference[0].rate, candidates[0].rate)
            if apart and begins:
                possible.append(list(ladder))
    assert chosen in possible
    enough = [ladder for ladder in possible if len(ladder) >= counts[0]] or [
        ladder for ladder in possible if len(ladder) == max(map(len, possible))
    ]
    best = min(scored(ladder, reference, audience, rules) for ladder in enough)
    lost, bits = scored(chosen, reference, audience, rules)
    assert lost == pytest.approx(best[0], abs=1e-6)
    assert placement.lost == pytest.approx(lost, abs=1e-9)
    assert placement.received == pytest.approx(bits)
    least = min(
        received
        for losing, received in (scored(ladder, reference, audience, rules) for ladder in enough)
        if losing <= lost + 1e-9
    )
    assert bits <= least * (1 + 1e-6)


@settings(deadline=None, max_examples=60)
@given(curves, curves, audiences)
def test_for_quality_viewers_receive_no_more_bits_than_from_the_reference(
    candidates: list[Offer], reference: list[Offer], audience: Audience
) -> None:
    fewest = place(candidates, reference, audience, Rules())
    most = place(candidates, reference, audience, Rules(objective="most-quality"))
    claims = [
        audience_claim([candidates[n] for n in placement.chosen], reference, audience)
        for placement in (fewest, most)
    ]
    assert most.lost == pytest.approx(fewest.lost, abs=1e-6)
    assert claims[1].received.quality >= claims[0].received.quality - 1e-9
    assert claims[1].received.rate <= max(claims[0].received.rate, claims[1].fixed.rate) + 1


def test_largest_steps_hold_as_far_as_the_candidates_allow() -> None:
    candidates = [Offer(1e5 * 1.1**n, 40 + 1.5 * n) for n in range(30)]
    reference = [Offer(1.2e5, 41.0), Offer(1.5e6, 82.0)]
    audience = population(2e6)
    free = place(candidates, reference, audience, Rules()).chosen
    assert len(free) == 2
    kept = place(candidates, reference, audience, Rules(most_ratio=2.0, most_step=6.0)).chosen
    for low, high in itertools.pairwise(kept):
        assert candidates[high].rate <= candidates[low].rate * 2
        assert candidates[high].quality <= candidates[low].quality + 6


# -- on a title --------------------------------------------------------------------------------


def test_nobody_is_worse_off_and_fewer_bits_are_received() -> None:
    plan, reference = plan_of(), reference_of()
    spaced = plan_of(load_profile("default-0.1"))
    for median in (1e6, 3e6, 10e6):
        fixed = [RatePoint(rung.rate, rung.quality) for rung in reference]
        placed_claim = viewers_claim(plan.rate_points, fixed, median)
        assert placed_claim.worst_loss <= 0.5
        assert placed_claim.received_percent < 0
        assert (
            placed_claim.received.rate
            < viewers_claim(spaced.rate_points, fixed, median).received.rate
        )
    assert not plan.notes


def test_the_fixed_ladder_is_predicted_to_be_worse_than_our_curves() -> None:
    for rung, offer in zip(reference_rungs(TITLE.sizes[-1], PLAIN), reference_of(), strict=True):
        track = tracks().tracks[TITLE.sizes.index(rung.size)] if rung.size in TITLE.sizes else None
        if track is not None:
            assert offer.quality <= track.quality_at(rung.rate * 1.02)
            assert offer.quality >= track.quality_at(rung.rate * 0.9)
        assert (offer.rate, offer.lines) == (rung.rate, rung.size.height)


def quality_at_one_crf(track: Track, rate: float) -> float:
    """The quality of whole-title encodes at a rate, looked up CRF by CRF."""
    shots = track.problem.shots
    frames = sum(shot.frames for shot in shots)
    points = []
    for crf in sorted({choice.point.crf for choice in shots[0].candidates}):
        same = [next(c for c in shot.candidates if c.point.crf == crf) for shot in shots]
        quality = sum(s.frames * c.quality for s, c in zip(shots, same, strict=True)) / frames
        points.append((math.log(sum(c.bits for c in same) / track.seconds), quality))
    points.sort()
    return float(np.interp(math.log(rate), *zip(*points, strict=True)))


def test_the_fixed_ladder_does_not_allocate_by_shots() -> None:
    """Its shots share a CRF, so a title of many kinds of shots looks worse than on our curve."""
    found = tracks().tracks
    offers, sizes = reference_of(), list(TITLE.sizes)
    compared = 0
    for rung, offer in zip(reference_rungs(sizes[-1], PLAIN), offers, strict=True):
        if rung.size not in sizes:
            continue
        track, rate = found[sizes.index(rung.size)], (rung.rate + 5_000) * 0.97
        assert offer.quality == pytest.approx(quality_at_one_crf(track, rate), abs=0.05)
        assert offer.quality < track.quality_at(rate) - 0.05
        compared += 1
    assert compared


def test_a_title_of_one_shot_has_one_crf_in_any_case() -> None:
    grid = full_grid(shape(SHOTS[:1]), PLAIN)
    title = measured_title(known(grid, shape(SHOTS[:1])), grid)
    for track in tracks(title).tracks:
        rates, qualities = track.at_one_crf()
        assert qualities == pytest.approx([track.quality_at(rate) for rate in rates], abs=0.3)


class Saturated:
    """A curve whose quality still rises where its bits differ by rounding alone."""

    frames = 48

    def points(self, step: float = 0.5) -> tuple[Candidate, ...]:
        return (
            Candidate(20.0, math.nextafter(2e6, math.inf), 90.1, False),
            Candidate(21.0, 2e6, 90.0, False),
            Candidate(22.0, 1e6, 80.0, False),
        )


def test_rates_that_differ_by_rounding_alone_are_one() -> None:
    one = shape(((48, 1.0),), [Size(1280, 720)]).with_curves({Size(1280, 720): (Saturated(),)})
    rungs = reference_rungs(Size(1280, 720), PLAIN)[-1:]
    (offer,) = predicted(rungs, one.sizes, tracks(one).tracks, one.recipe)
    assert offer.quality == pytest.approx(90.0, abs=0.11)


def test_shots_without_a_common_crf_are_predicted_by_the_title_curve() -> None:
    odd = [(shot, point) for shot, point in GRID if (point.crf == 22) == (shot == 0)]
    for interpolate in (False, True):  # with no CRF in common, or 22
        track = tracks(measured_title(known(odd), odd, interpolate=interpolate)).tracks[0]
        rates, qualities = track.at_one_crf()
        assert list(rates) == list(track.rates)
        assert list(qualities) == list(track.qualities)


def test_a_better_recipe_makes_the_fixed_ladder_worse_on_its_curves() -> None:
    tuned = by_name("x264-slow+psy-rd=0.4,0:ref=3")
    assert needs(tuned) < needs(tuned.plain) < needs(x264()) == 1
    assert needs(by_name("svtav1-fast+tune=2")) < 0.8
    slow = dataclasses.replace(TITLE, recipe=tuned)
    for worse, offer in zip(reference_of(slow), reference_of(), strict=True):
        assert worse.quality < offer.quality


def little_source() -> TitleCurves:
    """The title from a source of 0.3 of the bits of the reference ladder's highest rung."""
    seconds = float(sum(TITLE.durations))
    bits = round(0.3 * reference_of()[-1].rate * seconds)
    return dataclasses.replace(TITLE, source_bits=bits)


def test_viewers_of_a_source_of_few_bits_lose_nothing_either() -> None:
    plan, top = plan_of(title=little_source()), reference_of()[-1]
    assert plan.rungs == plan_of().rungs
    assert 0.3 * top.rate < plan.rungs[-1].rate < top.rate
    (said,) = plan.notes
    assert re.fullmatch(
        r"rungs from \d+ kbit/s on take more than the source's \d+ kbit/s: with less, viewers of "
        "the reference ladder would lose quality",
        said,
    )


def test_the_cap_of_the_source_is_said_with_what_viewers_lose() -> None:
    most_quality = dataclasses.replace(PLAIN, placement="most-quality")
    top = reference_of()[-1]
    plan = plan_of(most_quality, little_source())
    assert plan.rungs[-1].rate <= 0.3 * top.rate * 1.001
    limit, lost = plan.notes
    assert limit.startswith("highest rung limited to the source's")
    assert lost.startswith("viewers lose up to ")
    assert lost.endswith(" kbit/s")
    assert f"{top.rate / 1e3:.0f}" in lost


def test_what_constraints_cost_is_made_up_for_with_bits() -> None:
    tight = dataclasses.replace(PLAIN, peak_ratio=1.1)
    plan, reference = plan_of(tight), reference_of()
    for rung in reference:
        served = [r for r in plan.rungs if r.rate <= rung.rate]
        assert served[-1].quality >= rung.quality - 0.5


def test_a_company_s_own_ladder_viewers_and_devices_move_rungs() -> None:
    own = dataclasses.replace(PLAIN, reference=((400_000, 360), (2_500_000, 720)))
    assert len(plan_of(own).rungs) == 2
    small = dataclasses.replace(PLAIN, device_lines=((360, 1.0),))
    assert max(rung.size.height for rung in plan_of(small).rungs[:-1]) <= 360
    few = dataclasses.replace(PLAIN, rung_count=(1, 3))
    assert len(plan_of(few).rungs) == 3
    many = dataclasses.replace(PLAIN, rung_count=(10, 12), least_ratio=1.1)
    assert len(plan_of(many).rungs) >= 9
    slow = dataclasses.replace(PLAIN, throughputs=((600_000, 1.0), (900_000, 1.0)))
    assert plan_of(slow).rate_points != plan_of().rate_points


def test_rungs_move_little_when_curves_do() -> None:
    for sign in (1, -1):
        moved = {
            request: dataclasses.replace(m, quality=m.quality + sign * 0.02)
            for request, m in known(GRID).measurements.items()
        }
        title = measured_title(dataclasses.replace(known(GRID), measurements=moved), GRID)
        for before, after in zip(plan_of().rungs, plan_of(title=title).rungs, strict=True):
            assert after.rate == pytest.approx(before.rate, rel=0.03)


def test_measured_rungs_stay_and_the_others_are_put_around_them() -> None:
    plan = plan_of()
    for rung in plan.rungs:
        around = solve(TITLE, PLAIN, committed=(rung,))
        assert isinstance(around, LadderPlan)
        assert rung in around.rungs
        assert [r.rate for r in around.rungs] == pytest.approx(
            [r.rate for r in plan.rungs], rel=0.02
        )


def received(plan: LadderPlan) -> float:
    """The mean rate in bit/s that the profile's audience receives."""
    ours = [Offer(rung.rate, rung.quality) for rung in plan.rungs]
    return audience_claim(ours, reference_of(), PLAIN.audience).received.rate


def test_measured_rungs_that_serve_nobody_are_not_part_of_the_ladder() -> None:
    early = plan_of(dataclasses.replace(PLAIN, reference=((777_000, 540),)))
    around = solve(TITLE, PLAIN, committed=early.rungs)
    assert isinstance(around, LadderPlan)
    assert 0 < len(set(early.rungs) & set(around.rungs)) < len(early.rungs)
    assert len(set(around.rungs) - set(early.rungs)) <= len(plan_of().rungs)
    # Rungs that cost nothing more save bits, or they would not be there.
    assert received(around) <= received(plan_of()) * 1.03
    for rung in reference_of():
        served = [r for r in around.rungs if r.rate <= rung.rate]
        assert served[-1].quality >= rung.quality - 0.5


def test_a_measured_rung_is_replaced_only_where_that_is_worth_its_encodes() -> None:
    plan = plan_of()
    middle = len(plan.rungs) // 2

    def replaced(by: float) -> bool:
        """Whether the middle rung is planned anew once it is measured so many points worse."""
        rung = plan.rungs[middle]
        worse = dataclasses.replace(rung, quality=rung.quality - by)
        measured = (*plan.rungs[:middle], worse, *plan.rungs[middle + 1 :])
        around = solve(TITLE, PLAIN, committed=measured)
        assert isinstance(around, LadderPlan)
        return any(rung not in measured for rung in around.rungs)

    assert not replaced(0.0)
    assert not replaced(0.08)
    assert replaced(1.5)


def test_the_fewest_rungs_and_the_largest_steps_hold_beside_measured_rungs_too() -> None:
    """A rung that is there for their sake saves no bits."""
    many = dataclasses.replace(PLAIN, rung_count=(9, 12))
    small = dataclasses.replace(PLAIN, largest_steps=True, jnd=3.0)
    for profile in (many, small):
        plan = plan_of(profile)
        around = solve(TITLE, profile, committed=plan.rungs[:2])
        assert isinstance(around, LadderPlan)
        assert len(around.rungs) >= len(plan.rungs) - 1 > len(plan_of().rungs)
        kept = worth_delivering(TITLE, profile, around.rungs)
        assert len(kept) >= len(plan.rungs) - 1


def test_nobody_is_left_without_a_rung_that_they_afford() -> None:
    """Viewers below the lowest measured rung are few, and still get one."""
    plan = plan_of()
    around = solve(TITLE, PLAIN, committed=plan.rungs[1:])
    assert isinstance(around, LadderPlan)
    assert around.rungs[0].rate <= reference_of()[0].rate


def test_a_rung_is_affordable_where_the_reference_s_is() -> None:
    rates = [rung.rate for rung in reference_of()]
    assert plan_of(load_profile("replace-fixed")).rungs[0].rate <= rates[0]


# -- profiles and histograms -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"placement": "nowhere"}, "placement is 'nowhere'; choose one of spacing"),
        ({"reference": ((2e6, 720), (1e6, 720))}, "rising rates with heights that never fall"),
        ({"viewers": ()}, "viewers are positive median throughputs"),
        ({"rung_count": (4, 2)}, "the fewest and the most rungs"),
        ({"least_ratio": 1.01}, "least_ratio is at least 1.1"),
        ({"throughputs": ((2e6, 1), (1e6, 1))}, "upper ends in bit/s are positive and rise"),
        ({"device_lines": ((720, 0.7), (480, 0.7))}, "add up to 1 at most"),
        ({"device_lines": ((720.5, 0.7),)}, "device_lines is .* a list of pairs"),
    ],
)
def test_wrong_keys_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        dataclasses.replace(PLAIN, **change)  # type: ignore[arg-type]


def test_a_profile_of_release_0_1_is_spaced_and_its_document_has_no_new_keys() -> None:
    for name in ("default-0.1", "replace-fixed-0.1", "archive-0.1"):
        profile = load_profile(name)
        assert profile.placement == "spacing"
        assert "placement" not in profile_document(profile)
    assert load_profile().placement == "fewest-bits"
    assert load_profile("replace-fixed").tolerance == 0
    changed = dataclasses.replace(
        PLAIN, reference=((1e6, 360),), device_lines=((480, 0.5),), throughputs=((1e6, 1.0),)
    )
    assert profile_from_document(profile_document(changed)) == changed


def test_a_histogram_is_read_from_csv(tmp_path: Path) -> None:
    path = tmp_path / "throughput.csv"
    path.write_text("upper,viewers\n1000000,30\n\n4e6, 60\n8000000,10\n")
    histogram = histogram_from_csv(path)
    assert histogram == Histogram(((1e6, 30.0), (4e6, 60.0), (8e6, 10.0)))
    assert histogram.below(0) == 0
    assert histogram.below(1e6) == pytest.approx(0.3)
    assert histogram.below(2.5e6) == pytest.approx(0.6)
    assert histogram.median == pytest.approx(2e6)
    assert histogram.below(9e6) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1000,1\nfast,2\n", "line 2: 'fast,2' has to be two numbers"),
        ("1000,1,7\n2000,1\n3,4,5\n", "line 3"),
        ("2000,1\n1000,1\n", "upper ends in bit/s are positive and rise"),
        ("", "not all 0"),
    ],
)
def test_a_wrong_histogram_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "h.csv"
    path.write_text(text)
    with pytest.raises(BadInput, match=message):
        histogram_from_csv(path)
    with pytest.raises(BadInput, match="cannot be read"):
        histogram_from_csv(tmp_path / "none.csv")


def test_the_median_of_a_mix_halves_it() -> None:
    mix = Mix((LogNormal(1e6), LogNormal(1e7)))
    assert mix.below(mix.median) == pytest.approx(0.5, abs=1e-6)


def test_devices_that_play_less_receive_less() -> None:
    ours = [Offer(4e5, 80, 360), Offer(2e6, 95, 720)]
    all_play = audience_claim(ours, ours, population(1e7))
    few = audience_claim(ours, ours, Audience(LogNormal(1e7), ((480, 0.5),)))
    assert few.received.rate < all_play.received.rate
    assert few.received == few.fixed
    tiny = audience_claim(ours, ours, Audience(LogNormal(1e7), ((100, 1.0),)))
    assert tiny.received.rate == pytest.approx(4e5)


def test_a_size_between_ours_is_predicted_by_its_neighbours() -> None:
    rungs = [r for r in reference_rungs(Size(1280, 720), PLAIN) if r.size.height == 432]
    offer = predicted(rungs[:1], TITLE.sizes, tracks().tracks, TITLE.recipe)[0]
    rate = (rungs[0].rate + 5_000) * 0.97
    near = [quality_at_one_crf(tracks().tracks[n], rate) for n in (1, 2)]
    assert offer.quality == pytest.approx(max(near), abs=0.01)
