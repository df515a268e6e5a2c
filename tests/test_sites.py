"""What sites hold: pull caches by small cases, forecasts by draws, plans by brute force."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder.errors import BadInput
from recommender.caching import Goal, Objective
from recommender.prefetch.build import build_prefetch
from recommender.prefetch.demand import file_demand
from recommender.sites.catalogue import catalogue
from recommender.sites.files import SiteFiles
from recommender.sites.filling import STAY_DAYS, FillRules, make_plan
from recommender.sites.forecast import PlaysForecast, coverage, forecast_plays
from recommender.sites.history import history_of
from recommender.sites.pulling import LRU, S3FIFO, PullCache
from recommender.sites.replay import replay
from recommender.sites.sessions import Plays, Requests, requests_of
from recommender.sites.share import ShareFollower
from recommender.sites.site import Site
from tests.service_material import written_package

SIM = Path(__file__).resolve().parents[2] / "shared" / "sim"
PLAIN = FillRules(Goal(Objective.OFFLOAD), held_bonus=0.0)


def simulator(name: str) -> ModuleType:
    """A module of the cache simulator, which is not part of the product."""
    if not (SIM / "cache_sim.py").exists():
        pytest.skip("needs the cache simulator in ../shared/sim")
    if str(SIM) not in sys.path:
        sys.path.append(str(SIM))
    return importlib.import_module(name)


def files_of(sizes: list[int], requests: list[float], start: float = 100.0) -> SiteFiles:
    """Files of one title each."""
    count = len(sizes)
    return SiteFiles(
        np.array(sizes, np.int64), np.arange(count), np.full(count, start), np.array(requests)
    )


def certain(plays: list[float]) -> PlaysForecast:
    """A forecast without any doubt."""
    return PlaysForecast(1e6 * np.array(plays), np.full(len(plays), 1e6))


# -- pull caches -------------------------------------------------------------------------------


def hits(cache: PullCache, files: list[int]) -> str:
    return "".join("h" if cache.request(file, 1) else "m" for file in files)


def test_lru_and_s3fifo_do_what_their_papers_say() -> None:
    assert hits(LRU(2), [0, 1, 0, 2, 1]) == "mmhmm"  # 2 pushes out 1
    cache = S3FIFO(10)
    assert hits(cache, list(range(11))) == "m" * 11  # 0 is pushed out, and remembered
    assert hits(cache, [0, 0]) == "mh"
    assert hits(cache, list(range(20, 40))) == "m" * 20  # a scan
    assert hits(cache, [0]) == "h"
    assert hits(cache, [39, 39, *range(50, 70), 39]) == "hh" + "m" * 20 + "h"  # hit twice when new


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 30), max_size=300), st.integers(1, 60))
def test_pull_caches_are_those_of_the_simulator(files: list[int], capacity: int) -> None:
    theirs = simulator("cache_policies")
    for mine, other in ((LRU(capacity), theirs.LRU(capacity)), (S3FIFO(capacity), None)):
        other = other or theirs.S3FIFO(capacity)
        sizes = [1 + file % 4 for file in files]
        if isinstance(mine, S3FIFO) and max(sizes, default=0) > capacity:
            continue  # the simulator's holds such a file for no time at all
        pairs = list(zip(files, sizes, strict=True))
        assert [mine.request(*one) for one in pairs] == [other.request(*one) for one in pairs]


# -- forecasts ---------------------------------------------------------------------------------


def test_bands_hold_as_many_plays_as_they_say() -> None:
    rng = np.random.default_rng(1)
    shape, rate = rng.uniform(0.3, 20, 20_000), rng.uniform(0.05, 2, 20_000)
    plays = rng.poisson(rng.gamma(shape, 1 / rate)).astype(float)
    right = PlaysForecast(shape, rate)
    share, count = coverage(right, plays, least=0.0)
    assert (count, share) == (20_000, pytest.approx(0.8, abs=0.01))
    low, high = right.band()
    assert ((plays >= low) & (plays <= high)).mean() >= share - 0.01
    too_sure = PlaysForecast(20 * shape, 20 * rate)
    assert coverage(too_sure, plays, least=0.0)[0] < 0.65


def test_plays_correct_the_forecast_and_doubt_shrinks() -> None:
    plays = np.array([[40.0, 2.0], [40.0, 2.0]])
    today = np.array([10.0, 10.0])
    alone, informed = forecast_plays(plays[:0], today), forecast_plays(plays, today)
    assert alone.mean == pytest.approx(today)
    assert 15 < informed.mean[0] < 40
    assert 2 < informed.mean[1] < 6
    width = [np.subtract(*one.band()[::-1]) / one.mean for one in (alone, informed)]
    assert (width[1] < width[0])[0]
    # A forecast that was four times too low on the days before is believed less.
    corrected = forecast_plays(plays, today, np.full(plays.shape, 10.0))
    falling = forecast_plays(plays, today, np.full(plays.shape, 40.0))
    assert falling.mean[0] < corrected.mean[0]


def test_launches_have_what_launches_had() -> None:
    nan = np.nan
    plays = np.array([[1.0, nan, nan, nan, nan], [1, 50, nan, nan, nan], [1, 20, 60, 55, nan]])
    mean = forecast_plays(plays).mean
    assert mean[4] == pytest.approx((50 + 60 + 55) / 3)
    assert mean[0] < 5


# -- plans -------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.floats(0.1, 5)), min_size=1, max_size=7))
def test_a_plan_offloads_the_most_of_its_size(drawn: list[tuple[int, float]]) -> None:
    sizes, requests = [one[0] for one in drawn], [one[1] for one in drawn]
    files, plays = files_of(sizes, requests), [1.0] * len(drawn)
    nothing = np.zeros(len(drawn), bool)
    plan = make_plan(files, certain(plays), nothing, sum(sizes) // 2, PLAIN)
    used = sum(sizes[at] for at in plan.keep)
    assert used <= sum(sizes) // 2
    streamed = [size * asked for size, asked in drawn]
    best = max(
        sum(streamed[at] for at in subset)
        for count in range(len(drawn) + 1)
        for subset in combinations(range(len(drawn)), count)
        if sum(sizes[at] for at in subset) <= used
    )
    assert sum(streamed[at] for at in plan.keep) == pytest.approx(best)


def test_what_is_pulled_ahead_pays_for_itself() -> None:
    files = files_of([10, 10, 10, 10], [3.0, 0.3, 0.1, 0.005])
    nothing, plays = np.zeros(4, bool), certain([1.0] * 4)
    asked = 1 - np.exp(-STAY_DAYS * files.requests)
    for price in (0.0, 0.1, 0.3, 0.5, 1.0):
        plan = make_plan(files, plays, nothing, 100, replace(PLAIN, fill_price=price))
        assert plan.ahead.tolist() == [at for at in range(4) if asked[at] > price]
        assert sorted([*plan.ahead, *plan.admit]) == plan.keep.tolist() == [0, 1, 2, 3]
    start = replace(files, start_seconds=np.zeros(4))
    weighted = FillRules(Goal(Objective.OFFLOAD, 8.0), held_bonus=0.0)
    assert make_plan(start, plays, nothing, 100, weighted).ahead.tolist() == [0, 1, 2]
    budget = replace(PLAIN, fill_price=0.0, budget_bytes=25)
    plan = make_plan(files, plays, nothing, 100, budget)
    assert (plan.ahead.tolist(), plan.over_budget) == ([0, 1], 20)


def test_files_that_are_there_are_favoured_and_others_removed() -> None:
    files, plays = files_of([10] * 3, [1.0, 1.05, 0.2]), certain([1.0] * 3)
    held = np.array([True, False, True])
    assert make_plan(files, plays, held, 10, PLAIN).keep.tolist() == [1]
    plan = make_plan(files, plays, held, 10, replace(PLAIN, held_bonus=0.1))
    assert plan.keep.tolist() == [0]
    assert plan.ahead.tolist() == plan.admit.tolist() == []
    assert plan.remove.tolist() == [2]


def test_rules_that_make_no_sense() -> None:
    for wrong in ({"share": 1.1}, {"fill_price": -1}, {"held_bonus": -1}, {"budget_bytes": -1},
                  {"fill_price": float("nan")}, {"held_bonus": float("inf")},
                  {"goal": Goal(Objective.QUALITY)}):  # fmt: skip
        with pytest.raises(BadInput):
            FillRules(**wrong)  # type: ignore[arg-type]


# -- sites -------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 19), max_size=40), min_size=1, max_size=5),
    st.integers(12, 80),
    st.floats(0, 1),
    st.integers(0, 1000),
)
def test_a_site_never_holds_more_than_it_can(
    days: list[list[int]], capacity: int, share: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 10, 20).tolist()
    files = files_of(sizes, [1.0] * 20)
    site = Site(files.num_bytes, capacity)
    for day in days:
        held = site.held()
        forecast = certain(rng.exponential(size=20).tolist())
        rules = replace(PLAIN, share=share, fill_price=0.5)
        plan = make_plan(files, forecast, held, capacity, rules)
        filled = site.follow(plan)
        assert filled == files.num_bytes[plan.ahead].sum()
        assert site.held()[plan.keep[held[plan.keep]]].all()  # planned files stay, for nothing
        for file in day:
            hit = site.request(file, sizes[file])
            assert hit == held_before(site, file, plan.keep, hit)
            assert files.num_bytes[site.held()].sum() <= capacity
        kept = set(plan.keep.tolist()) & set(day)
        assert site.held()[sorted(kept)].all()  # what is planned and was asked for is there


def held_before(site: Site, file: int, keep: np.ndarray, hit: bool) -> bool:
    """A planned file is there after the first request, whatever else is asked for."""
    return hit if file not in keep else bool(hit or site.held()[file]) and hit


def steady(rng: np.random.Generator, files: SiteFiles, plays: np.ndarray) -> np.ndarray:
    counts = rng.poisson(plays)
    return rng.permutation(np.repeat(np.arange(len(files)), counts)).astype(np.intp)


def test_the_share_follows_the_world() -> None:
    """What is foreseen is planned; what is not is left to the pull cache."""
    rng = np.random.default_rng(2)
    count = 4000
    files = files_of([10] * count, [1.0] * count)
    plays = 3000 / np.arange(1, count + 1)
    for foreseen in (True, False):
        follower = ShareFollower(files, 2000, PLAIN, shares=(0.0, 0.5, 1.0), sample=2)
        for _ in range(4):
            happens = plays if foreseen else rng.permutation(plays)
            follower.plan(certain(plays.tolist()))
            follower.observe(steady(rng, files, happens))
        share = follower.plan(certain(plays.tolist()))
        assert share == (1.0 if foreseen else 0.0), follower.saved


# -- plays -------------------------------------------------------------------------------------


def test_sessions_ask_as_often_as_expected() -> None:
    prefetch = build_prefetch(*written_package("sessions", shots=12, rungs=4, sizes=100_000))
    known = catalogue({"a": build_prefetch(*written_package("first")), "b": prefetch})
    plays, nan = 5000, np.full(5000, np.nan)
    log = Plays(np.arange(float(plays)), np.ones(plays, np.intp), np.zeros(plays), nan, nan)
    requests = requests_of(known.titles, log)
    counts = np.bincount(requests.file, minlength=len(known.demand)) / plays
    offset = len(known.demand) - len(file_demand(prefetch))
    assert counts[:offset].sum() == 0
    for at, file in enumerate(file_demand(prefetch), start=offset):
        assert known.demand[at].uri == file.uri
        assert counts[at] == pytest.approx(file.requests, abs=0.03), file.uri
    assert (np.diff(requests.time) >= 0).all()
    one = requests.among(requests.session == 0)
    assert one.early[0]
    assert not (one.early & (one.time - one.time[0] >= 8)).any()
    late = replace(log, position=np.full(plays, 10.0), watched_seconds=np.ones(plays))
    starts = known.files.start_seconds[requests_of(known.titles, late).file]
    assert starts.max() < 11
    assert sorted(set(starts)) == sorted({0.0, *(s.start_seconds for s in prefetch.boundaries
                                               if 5 < s.start_seconds < 11)})  # fmt: skip


def test_titles_of_the_same_files_are_one() -> None:
    prefetch = build_prefetch(*written_package("same"))
    known = catalogue({"a": prefetch, "b": prefetch, "c": build_prefetch(*written_package("c"))})
    assert known.names == {"a": 0, "b": 0, "c": 1}
    assert known.name_of(1) == "c"
    mask, foreign = known.mask_of([known.demand[2].sha256, "0" * 64])
    assert (np.flatnonzero(mask).tolist(), foreign) == ([2], 1)


def test_history_says_what_was_known() -> None:
    day = 86400.0
    log = Plays(
        np.array([0.1, 0.2, 1.5, 2.2, 2.3]) * day + 4 * 3600,
        np.array([0, 0, 0, 1, 1]), *np.full((3, 5), np.nan),
    )  # fmt: skip
    history = history_of(log, 3, last_day=2, day_starts=4, releases={1: 2, 2: 9})
    assert history.plays[:, 0].tolist() == [2, 1, 0]
    assert np.isnan(history.plays[:2, 1]).all()
    assert history.plays[2, 1] == 2
    assert history.before(1).mean[1] < 1e-6 < history.before(2).mean[1]
    assert history.before(3).mean[2] < 1e-6


def test_a_replay_counts_what_it_says() -> None:
    """Three files; the second day is counted. A plan pulls file 0 ahead."""
    files = files_of([10, 20, 30], [2.0, 0.1, 0.1])
    early = np.array([True, True, False])
    days = [
        Requests(np.arange(3.0), np.array([2, 1, 2]), np.array([0, 0, 1]), early),
        Requests(np.arange(3.0) + 5, np.array([0, 1, 0]), np.array([2, 3, 3]), early),
    ]
    forecasts = [certain([0.0] * 3), certain([5.0, 0.0, 0.0])]
    rules = replace(PLAIN, fill_price=0.9)
    row = replay("plan", files, days, forecasts, 10, rules, warm_days=1,
                 peak=lambda requests: requests.time >= 6)  # fmt: skip
    # File 0 was pulled ahead (10 bytes); of 40 bytes 20 miss; session 3 is spoiled.
    assert (row.bytes, row.net, row.filled_per_day) == (0.5, 0.25, 10)
    assert (row.early, row.starts) == (0.5, 0.5)
    assert row.peak == pytest.approx(1 - 20 / 30)
    with pytest.raises(BadInput, match="nothing is left"):
        replay("lru", files, days, forecasts, 10, rules, warm_days=2)
    with pytest.raises(BadInput, match="no cache"):
        replay("fifo", files, days, forecasts, 10, rules)


# -- the simulator -----------------------------------------------------------------------------


def test_the_plan_saves_more_than_s3fifo_in_a_small_world(monkeypatch: pytest.MonkeyPatch) -> None:
    sim = simulator("cache_sim")
    from tests import cache_plug

    monkeypatch.setattr(sim, "SESSIONS", 400)
    monkeypatch.setattr(sim, "TITLES", 120)
    for function in (sim.make_files, sim.make_popularity):
        monkeypatch.setattr(function, "__defaults__", (120,))
    site = sim.Site(21)
    capacity = int(0.1 * site.files.size.sum())
    plain = sim.simulate(site, sim.policies.S3FIFO(capacity), capacity)
    followed = sim.simulate(site, cache_plug.Follow(capacity), capacity)
    assert followed["bytes"] > plain["bytes"]
    assert followed["net"] > plain["net"]
    assert followed["first8"] > plain["first8"] + 0.1
