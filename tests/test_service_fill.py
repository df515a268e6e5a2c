"""``POST /v1/prefetch:fill``: a site's plans day by day, and the route."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import httpx
import numpy as np
import pytest

from cluster.service.database import Database
from cluster.service.decisions.keeping import Decisions
from cluster.service.http.api import build
from cluster.service.http.auth import Tokens, token
from cluster.service.http.context import Service
from cluster.service.http.reading import Reader
from cluster.service.library.library import Library
from cluster.service.library.playable import Playable
from cluster.service.library.similar import SimilarPictures
from cluster.service.metrics import Metrics
from cluster.service.queue.deliveries import Deliveries
from cluster.service.queue.jobs import Jobs
from cluster.service.queue.table import JobTable
from cluster.service.queue.webhooks import WebhookPolicy
from cluster.service.sites import SiteDay, SitePlan, SitePlans
from cluster.service.sources import SourcePolicy
from cluster.service.writable import Writable
from encoder.errors import Conflict
from recommender.caching import Goal, Objective
from recommender.sites.filling import FillRules
from recommender.sites.sessions import counted_plays, hours_of
from tests.service_material import write_package

FIRST = date(2026, 12, 1)
PRICELESS = FillRules(Goal(Objective.OFFLOAD), share=1.0, fill_price=0.0)


@dataclass
class Published:
    """In place of the library: packages in a folder."""

    root: Path
    withdrawn: frozenset[str] = frozenset()

    @property
    def files(self) -> Any:
        return SimpleNamespace(folder=lambda package: self.root / package)

    def current(self, title: str) -> Any:
        there = title not in self.withdrawn and (self.root / title).exists()
        return SimpleNamespace(version=1, package=title) if there else None


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("published")
    for name in ("a", "b"):
        write_package(root / name, f"fill {name}", shots=6, rungs=2, sizes=2000)
    return root


@pytest.fixture
def plans(packages: Path, tmp_path: Path) -> SitePlans:
    return SitePlans(Published(packages), tmp_path)  # type: ignore[arg-type]


def planned(plans: SitePlans, day: int, expected: dict[str, float], **more: Any) -> SitePlan:
    asked: dict[str, Any] = {"site": "rome", "capacity": 30_000, "played": None, "held": None}
    asked |= more
    site_day = SiteDay(day=date(2026, 12, day), expected=expected, **asked)
    return plans.plan(site_day, PRICELESS)


def added(plan: SitePlan) -> set[str]:
    return {plan.known.demand[at].sha256 for at in plan.planned.files.ahead.tolist()}


def test_the_next_day_goes_on_from_what_the_site_was_told(plans: SitePlans) -> None:
    first = planned(plans, 1, {"a": 50, "b": 1, "gone": 3})
    assert first.missing == ["gone"]
    assert added(first)
    assert first.removed == []
    again = planned(plans, 1, {"a": 50, "b": 1})
    assert added(again) == added(first)  # the same day, as if for the first time
    second = planned(plans, 2, {"a": 50, "b": 1})
    assert (added(second), second.removed) == (set(), [])
    turned = planned(plans, 3, {"a": 1, "b": 50})
    assert added(turned)
    assert set(turned.removed) <= added(first)
    back = planned(plans, 3, {"a": 50, "b": 1})
    assert added(back) == set()
    with pytest.raises(Conflict, match=r"2026-12-03 already.*remove sites/rome\.json"):
        planned(plans, 2, {"a": 1})
    assert added(planned(plans, 1, {"a": 50}, site="oslo"))  # a site of its own
    told = planned(plans, 4, {"a": 50, "b": 1}, held=[])
    assert added(told) == added(first)


def test_what_was_played_corrects_what_is_expected(plans: SitePlans) -> None:
    expected = {"a": 10.0, "b": 10.0}
    means = []
    for day in range(1, 6):
        plan = planned(plans, day, expected, played={"a": 60.0} if day > 1 else None)
        means.append(plan.planned.forecast.mean)
    assert means[0] == pytest.approx([10, 10])
    at = [plan.known.names[name] for name in ("a", "b")]
    assert 20 < means[-1][at[0]] < 60
    assert means[-1][at[1]] < 4
    assert plan.calibration[1] > 0


def test_the_share_follows_what_was_played(
    plans: SitePlans, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = replace(PRICELESS, share=0.3)

    def shares(site: str, last_day: int) -> list[tuple[float, int]]:
        found = []
        for day in range(1, last_day + 1):
            played = None if day == 1 else {"a": 40.0, "gone": 3.0}
            asked = SiteDay(site, date(2026, 12, day), 24_000, {"a": 60.0}, played, None)
            plan = plans.plan(asked, rules, follow=True)
            found.append((plan.planned.share, plan.planned.followed_days))
        return found

    assert shares("rome", 4) == [(0.3, 0), (1.0, 1), (1.0, 2), (1.0, 3)]
    monkeypatch.setattr("cluster.service.sites.FOLLOWED_PLAYS", 100)
    assert shares("oslo", 5)[-1] == (1.0, 2)  # the requests of earlier days are not drawn
    monkeypatch.setattr("cluster.service.sites.FOLLOWED_PLAYS", 39)
    assert shares("lima", 3)[-1] == (0.3, 0)


def test_plays_of_counts_are_as_many_at_random_times_of_their_day() -> None:
    plays = counted_plays(np.array([3.0, np.nan, 0.0, 200.0]), day=5)
    assert plays.per_day(4, 5, 1, 0).tolist() == [[3, 0, 0, 200]]
    assert (np.diff(plays.time) >= 0).all()
    assert 0.4 < (hours_of(plays.time) < 12).mean() < 0.6
    assert set(plays.title[:100].tolist()) != {0}


def test_files_of_withdrawn_titles_are_removed(packages: Path, tmp_path: Path) -> None:
    plans = SitePlans(Published(packages), tmp_path)  # type: ignore[arg-type]
    before = added(planned(plans, 1, {"a": 50}))
    plans = SitePlans(Published(packages, frozenset("a")), tmp_path)  # type: ignore[arg-type]
    after = planned(plans, 2, {"a": 50, "b": 50})
    assert after.missing == ["a"]
    assert set(after.removed) == before
    assert added(after)


# -- the route ---------------------------------------------------------------------------------


@pytest.fixture
def service(packages: Path, tmp_path: Path) -> Iterator[Service]:
    database = Database(tmp_path / "service.db")
    library = Library(database, tmp_path)
    tokens = Tokens([token("cdn", "0123456789abcdef", ["fill"]),
                     token("ann", "fedcba9876543210", ["read"])])  # fmt: skip
    jobs, deliveries = Jobs(JobTable(database), library), Deliveries(database)
    whole = Service(
        jobs=jobs,
        library=library,
        tokens=tokens,
        reader=Reader(library, tokens),
        metrics=Metrics(jobs, library, deliveries),
        deliveries=deliveries,
        webhooks=WebhookPolicy(),
        sources=SourcePolicy(),
        writable=Writable(database, tmp_path),
        playable=Playable(library),
        decisions=Decisions(library, tmp_path),
        sites=SitePlans(library, tmp_path),
        similar=SimilarPictures(library),
    )
    published: Any = Published(packages)
    yield replace(whole, sites=SitePlans(published, tmp_path))
    database.close()


def test_the_route(service: Service) -> None:
    app = build(service)[0]

    async def post(body: object, secret: str = "0123456789abcdef") -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            headers = {"Authorization": f"Bearer {secret}"}
            return await client.post("/v1/prefetch:fill", json=body, headers=headers)

    def answered(body: object, secret: str = "0123456789abcdef") -> httpx.Response:
        return anyio.run(post, body, secret)

    asked = {"site": "rome", "day": "2026-12-01", "capacity_bytes": 30_000,
             "expected": {"a": 50, "b": 1, "c": 4}}  # fmt: skip
    answer = answered(asked)
    assert answer.status_code == 200, answer.text
    plan = answer.json()
    assert plan["missing"] == ["c"]
    assert sum(file["bytes"] for file in plan["add"]) == plan["add_bytes"] > 0
    assert sum(file["bytes"] for file in plan["admit"]) == plan["admit_bytes"]
    assert plan["add_bytes"] + plan["admit_bytes"] <= 0.9 * 30_000
    assert plan["titles"]["a"]["low"] < 50 < plan["titles"]["a"]["high"]
    assert {file["title"] for file in plan["add"]} <= {"a", "b"}
    assert answered(asked).json() == plan
    later = answered(asked | {"day": "2026-12-02", "played": {"a": 70}}).json()
    assert later["inside_band"] is not None
    assert len(later["add"]) < len(plan["add"])
    assert answered(asked).status_code == 409
    assert answered(asked, "fedcba9876543210").status_code == 403
    wrongs: tuple[dict[str, object], ...] = (
        {"site": "../x"},
        {"capacity_bytes": -1},
        {"share": 2},
        {"objective": "quality"},
        {"expected": {"a": -1}},
        {"held": ["x"]},
        {"day": "today"},
        {"more": 1},
    )
    for wrong in wrongs:
        assert answered(asked | wrong).status_code == 422, wrong
