"""Decisions and outcomes: a viewer's day, the ledger and its hours, and the service itself."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest

from cluster.policy.files import ContextScale, TrainedPolicy, read_policy
from cluster.policy.ledger import CLOSE_SECONDS, Ledger
from cluster.policy.place import LATE_SECONDS, WINDOW_SECONDS, Place
from cluster.policy.pools import read_pool
from cluster.policy.records import Decision, Outcome, decisions_of, outcomes_of
from cluster.policy.registry import Registry
from cluster.service.decision_documents import OutcomeReport
from cluster.service.decisions import keeping
from cluster.service.decisions.choosing import Answered, Chooser, Row
from cluster.service.decisions.ids import DecisionIds
from cluster.service.decisions.reporting import Report, take
from cluster.service.decisions.shelf import Shelf, shelf_of
from cluster.service.library.links import SigningKeys
from encoder.errors import BadInput, StoreUnusable
from recommender.policy.drawing import draw, luck_of, unlike
from recommender.policy.effects import Block, Effects
from recommender.policy.exploring import UNTRAINED, untrained
from recommender.policy.features import FEATURES
from tests.service_material import (
    ServiceProcess,
    service,
    written_artwork,
    written_package,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
HOUR = 3600.0
TITLES = ("a", "b", "c", "d")


class Shelved:
    """In place of the library's shelves: pools that a test may replace."""

    def __init__(self, stills: int = 20) -> None:
        ladder, _ = written_package("title")
        self.shelves = {
            title: shelf_of(written_artwork(title, ladder, stills=stills), title, f"/{title}/")
            for title in TITLES
        }

    def get(self, title: str) -> Shelf | None:
        return self.shelves.get(title)


class Deciding:
    """A chooser in a folder, without a service."""

    def __init__(self, folder: Path) -> None:
        self.place = Place.of(folder)
        self.ledger = Ledger(self.place)
        self.registry = Registry(self.place)
        self.ids = DecisionIds(SigningKeys(self.place.keys))
        self.shelved: Any = Shelved()
        self.chooser = Chooser(self.ledger, self.registry, self.shelved, self.ids)

    def ask(self, viewer: str = "ann", now: float = NOON, **more: Any) -> Answered:
        fields: dict[str, Any] = {
            "request_id": "r1", "context": {"x": 0.5}, "titles": list(TITLES), "aspect": "16:9",
            "excluded": frozenset(), "no_spoilers": False,
        }  # fmt: skip
        return self.chooser.choose(Row(viewer=viewer, **(fields | more)), now)


@pytest.fixture
def deciding(tmp_path: Path) -> Iterator[Deciding]:
    found = Deciding(tmp_path)
    yield found
    found.ledger.close()


def other(text: str) -> str:
    """Another text of the same length, which is base64 where ``text`` is."""
    return ("B" if text[0] == "A" else "A") + text[1:]


def actions(answered: Answered) -> list[str]:
    return [one.decision.action_id for one in answered.chosen]


def policy(preferred: str, parent: str | None = None) -> TrainedPolicy:
    """A policy that shows one picture nearly always, where it may."""
    effects = Effects.untrained(len(FEATURES), 1)
    effects.pictures[preferred] = Block(np.array([60.0, 0.0]), np.eye(2))
    return TrainedPolicy(
        effects, ContextScale(("x",), (0.0,), (1.0,)), parent, ("2026-02-28T00",), 10, 0.5
    )


# -- a viewer's day --------------------------------------------------------------------------


def test_the_same_viewer_sees_the_same_all_day_and_another_draw_on_the_next(
    deciding: Deciding,
) -> None:
    first = deciding.ask()
    again = deciding.ask(now=NOON + 6 * HOUR, titles=list(reversed(TITLES)), request_id="r2")
    assert actions(again) == list(reversed(actions(first)))
    assert all(one.repeated for one in again.chosen)
    assert not any(one.repeated for one in first.chosen)
    days = {tuple(actions(deciding.ask(now=NOON + 24 * HOUR * day))) for day in range(1, 6)}
    assert len(days) > 1
    viewers = {tuple(actions(deciding.ask(viewer=f"v{number}"))) for number in range(6)}
    assert len(viewers) > 1


def test_a_day_starts_at_the_stated_hour(deciding: Deciding) -> None:
    late = Chooser(deciding.ledger, deciding.registry, deciding.shelved, deciding.ids,
                   day_starts_hour=4)  # fmt: skip
    row = Row("r", "ann", {}, list(TITLES), "16:9", frozenset(), False)
    midnight = datetime(2026, 3, 2, tzinfo=UTC).timestamp()
    assert late.choose(row, midnight - 1).day == "2026-03-01"
    after = late.choose(row, midnight + 3 * HOUR)
    assert after.day == "2026-03-01"
    assert all(one.repeated for one in after.chosen)
    assert late.choose(row, midnight + 5 * HOUR).day == "2026-03-02"


def test_a_promotion_at_noon_changes_nobody_before_the_next_day(deciding: Deciding) -> None:
    preferred = deciding.shelved.shelves["a"].pictures.actions[15]
    trained = policy(preferred)
    trained.write(deciding.place.policies)
    before = deciding.ask()
    deciding.registry.promote(trained.name, now=NOON + 1)
    assert actions(deciding.ask(now=NOON + HOUR)) == actions(before)
    new_viewer = deciding.ask(viewer="bob", now=NOON + HOUR)
    assert new_viewer.policy == UNTRAINED
    tomorrow = [deciding.ask(viewer=f"v{n}", now=NOON + 24 * HOUR) for n in range(20)]
    assert {one.policy for one in tomorrow} == {trained.name}
    assert sum(actions(one)[0] == preferred for one in tomorrow) > 15


def test_a_new_key_changes_nobodys_pictures_before_the_next_day(deciding: Deciding) -> None:
    before = deciding.ask()
    old = deciding.place.keys.read_bytes()
    deciding.place.keys.write_bytes(b"n" * 64 + b"\n" + old)
    ids = DecisionIds(SigningKeys(deciding.place.keys))
    rotated = Chooser(deciding.ledger, deciding.registry, deciding.shelved, ids)
    row = Row("r2", "ann", {"x": 0.5}, list(TITLES), "16:9", frozenset(), False)
    after = rotated.choose(row, NOON + HOUR)
    assert actions(after) == actions(before)
    assert all(one.repeated for one in after.chosen)
    wider = rotated.choose(replace(row, aspect="1:1"), NOON + HOUR)
    assert {one.decision.viewer_day for one in wider.chosen} == {
        one.decision.viewer_day for one in before.chosen
    }
    tomorrow = rotated.choose(row, NOON + 24 * HOUR)
    assert {one.decision.viewer_day for one in tomorrow.chosen} == {
        ids.viewer_days("ann", tomorrow.day)[0]
    }


def test_a_shadow_that_is_no_text_is_logged_and_decides_nothing(deciding: Deciding) -> None:
    (deciding.place.root / "shadow").write_bytes(b"\xff\xfe\x00")
    assert len(deciding.ask().chosen) == len(TITLES)


def test_an_exclusion_leaves_the_allowed_set_before_the_draw(deciding: Deciding) -> None:
    first = deciding.ask()
    gone = frozenset(actions(first)[:2])
    second = deciding.ask(now=NOON + HOUR, excluded=gone)
    assert gone.isdisjoint(actions(second))
    assert actions(second)[2:] == actions(first)[2:]
    redrawn = second.chosen[0].decision
    shelf = deciding.shelved.shelves["a"].pictures
    assert shelf.actions.index(actions(first)[0]) not in redrawn.allowed
    assert redrawn.redraw == 1
    assert sum(redrawn.propensities) == pytest.approx(1, abs=1e-6)
    assert actions(deciding.ask(now=NOON + 2 * HOUR)) == actions(second)
    everything = frozenset(shelf.actions)
    assert deciding.ask(viewer="bob", excluded=everything).missing == {"a": "all_excluded"}
    assert deciding.ask(titles=["nothing"]).missing == {"nothing": "no_artwork"}


def test_a_crop_that_would_cut_a_face_is_not_drawn(deciding: Deciding) -> None:
    shelf = deciding.shelved.shelves["a"]
    shelf.has_files["2:3"][:18] = False
    drawn = [
        deciding.ask(viewer=f"v{number}", titles=["a"], aspect="2:3").chosen[0].decision
        for number in range(10)
    ]
    assert {decision.allowed for decision in drawn} == {(18, 19)}
    assert {decision.action_id for decision in drawn} <= set(shelf.pictures.actions[18:])
    shelf.has_files["2:3"][:] = False
    assert not deciding.ask(viewer="zoe", titles=["a"], aspect="2:3").chosen


def test_a_retired_picture_is_drawn_again_and_a_kept_one_stays(deciding: Deciding) -> None:
    first = deciding.ask()
    shelf = deciding.shelved.shelves["a"]
    ladder, _ = written_package("title")
    deciding.shelved.shelves["a"] = shelf_of(written_artwork("other", ladder), "a", "/a/")
    second = deciding.ask(now=NOON + HOUR)
    assert not second.chosen[0].repeated
    assert second.chosen[0].decision.action_id in deciding.shelved.shelves["a"].pictures.actions
    assert actions(second)[1:] == actions(first)[1:]
    deciding.shelved.shelves["a"] = shelf


def test_the_log_has_all_that_the_draw_followed_from(deciding: Deciding) -> None:
    """Every propensity is computed again from the logged row alone."""
    for number in range(30):
        deciding.ask(viewer=f"v{number}", request_id=f"r{number}")
    deciding.ledger.write_log(NOON + HOUR + CLOSE_SECONDS)
    (path,) = deciding.place.decisions.glob("*.parquet")
    assert path.stem == "2026-03-01T12"
    rows = decisions_of(pq.read_table(path))
    assert len(rows) == 120
    shelves = deciding.shelved.shelves
    with_neighbours = 0
    for row in rows:
        pictures = shelves[row.title].pictures
        allowed = np.zeros(len(pictures), np.bool_)
        allowed[list(row.allowed)] = True
        before = [
            shelves[one.title].pictures.looks[
                shelves[one.title].pictures.actions.index(one.action_id)
            ]
            for one in row.earlier
        ]
        with_neighbours += len(before) > 0
        chances = unlike(untrained(pictures.quality, allowed), pictures.looks, before)
        drawn = draw(chances, luck_of(row.seed.encode()))
        assert pictures.actions[drawn.index] == row.action_id
        assert drawn.propensity == pytest.approx(row.propensity)
        assert np.array(row.propensities) == pytest.approx(chances[list(row.allowed)], abs=1e-6)
    assert with_neighbours == 90
    assert not any("v1" in row.viewer_day for row in rows)


def test_a_shadow_is_logged_beside_the_live_policy(deciding: Deciding) -> None:
    preferred = deciding.shelved.shelves["a"].pictures.actions[15]
    trained = policy(preferred)
    trained.write(deciding.place.policies)
    deciding.registry.set_shadow(trained.name)
    decision = deciding.ask().chosen[0].decision
    assert (decision.policy, decision.shadow_policy) == (UNTRAINED, trained.name)
    assert decision.shadow_propensities is not None
    assert decision.shadow_propensities[15] > 0.9
    deciding.registry.set_shadow(None)
    assert deciding.ask(viewer="bob").chosen[0].decision.shadow_policy is None


def test_requests_of_one_viewer_at_once_get_one_picture(deciding: Deciding) -> None:
    found: list[list[str]] = []

    def ask(number: int) -> None:
        titles = TITLES if number % 2 else tuple(reversed(TITLES))
        answered = deciding.ask(titles=list(titles))
        found.append(sorted(actions(answered)))
        deciding.ledger.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len({tuple(one) for one in found}) == 1


def test_a_title_that_another_request_takes_with_an_excluded_picture_is_drawn_again(
    deciding: Deciding, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = {title: deciding.shelved.get(title).pictures.actions[0] for title in TITLES}
    add, taken = deciding.ledger.add, []

    def late(new: list[Decision]) -> list[Decision]:
        if not taken:
            taken.extend(
                replace(one, decision_id=deciding.ids.make(NOON), action_id=first[one.title])
                for one in new
            )
            add(taken)
        return add(new)

    monkeypatch.setattr(deciding.ledger, "add", late)
    answered = deciding.ask(excluded=frozenset(first.values()))
    assert [one.decision.title for one in answered.chosen] == list(TITLES)
    assert {one.decision.redraw for one in answered.chosen} == {1}
    assert not set(actions(answered)) & set(first.values())


def test_a_torn_promotion_stops_nobody_and_a_damaged_one_is_named(deciding: Deciding) -> None:
    path = deciding.place.root / "promotions.jsonl"
    path.write_text('{"policy": "unt')
    assert deciding.ask().policy == UNTRAINED
    deciding.registry.promote(UNTRAINED, now=NOON)
    assert [one.policy for one in deciding.registry.promotions()] == [UNTRAINED]
    path.write_text("nothing\n")
    with pytest.raises(StoreUnusable, match="holds a line that is no promotion"):
        deciding.ask(viewer="bob")


# -- ids and reports -------------------------------------------------------------------------


def test_ids_are_signed_and_tell_their_moment(deciding: Deciding) -> None:
    made = deciding.ids.make(NOON)
    assert deciding.ids.moment(made) == NOON
    prefix, content, signature = made.split(".")
    swapped = other(content)
    for forged in (f"{prefix}.{swapped}.{signature}", f"{prefix}.{content}.{other(signature)}",
                   f"{prefix}.{content}", "", "d1..", made + "=", made.replace("d1", "d2"),
                   f"{prefix}.{content}.é"):  # fmt: skip
        assert deciding.ids.moment(forged) is None, forged
    deciding.place.keys.write_text(f"{'k' * 40}\n{deciding.place.keys.read_text()}")
    rotated = DecisionIds(SigningKeys(deciding.place.keys))
    assert rotated.moment(made) == NOON
    assert deciding.ids.moment(rotated.make(NOON)) is None


def test_reports_are_taken_within_the_window_late_and_never_forged(deciding: Deciding) -> None:
    made = deciding.ids.make(NOON)
    reports = [
        Report(made, NOON + HOUR, True, 3.0, False, 0),
        Report("d1.x.y", NOON, True, 0, True, 0),
        Report(made, NOON + WINDOW_SECONDS + 1, True, 0, True, 9),
        Report(made, NOON - HOUR, True, 0, True, 9),
    ]
    taken = take(reports, deciding.ledger, deciding.ids, NOON + 3 * 24 * HOUR)
    assert taken.accepted == 1
    assert taken.refused == [
        (1, "not_signed_here"), (2, "outside_window"), (3, "outside_window"),
    ]  # fmt: skip
    late = take(reports[:1], deciding.ledger, deciding.ids, NOON + LATE_SECONDS + 1)
    assert late.refused == [(0, "too_late")]


# -- the ledger's hours ----------------------------------------------------------------------


def test_an_hour_is_written_once_and_nothing_is_added_to_it(deciding: Deciding) -> None:
    deciding.ask()
    assert deciding.ledger.write_log(NOON + HOUR + CLOSE_SECONDS - 1) == []
    (path,) = deciding.ledger.write_log(NOON + HOUR + CLOSE_SECONDS)
    content = path.read_bytes()
    deciding.ask(viewer="bob")  # by a clock that was put back
    assert deciding.ledger.write_log(NOON + HOUR + CLOSE_SECONDS) == []
    (later,) = deciding.ledger.write_log(NOON + 2 * HOUR + CLOSE_SECONDS)
    assert (path.read_bytes(), later.stem) == (content, "2026-03-01T13")
    assert len(decisions_of(pq.read_table(later))) == 4


def test_a_clock_that_was_far_ahead_does_not_end_the_log(deciding: Deciding) -> None:
    ahead = NOON + 24 * 365 * 24 * HOUR
    deciding.ask(viewer="ann", now=ahead)
    assert len(deciding.ledger.write_log(ahead + 2 * HOUR)) == 1
    deciding.ask(viewer="bob")  # the clock is right again
    (path,) = deciding.ledger.write_log(NOON + 2 * HOUR)
    assert path.stem == "2026-03-01T12"


def test_an_hour_half_written_by_a_process_that_died_is_written_again(
    deciding: Deciding, monkeypatch: pytest.MonkeyPatch
) -> None:
    deciding.ask()
    outcome = Outcome(deciding.ids.make(NOON), NOON, NOON, True, 1.0, True, 5.0)
    deciding.ledger.report([outcome])

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "_mark", die)
        with pytest.raises(KeyboardInterrupt):
            deciding.ledger.write_log(NOON + 2 * HOUR)
    assert len(deciding.ledger.write_log(NOON + 2 * HOUR)) == 2
    (path,) = deciding.place.outcomes.glob("*.parquet")
    (read,) = outcomes_of(pq.read_table(path))
    assert read == outcome
    deciding.ledger.write_log(NOON + 4 * 24 * HOUR)
    assert actions(deciding.ask(now=NOON + HOUR))  # still of that day: it was kept


def test_a_picture_that_is_drawn_again_and_again_does_not_stop_the_log(deciding: Deciding) -> None:
    decision = replace(deciding.ask().chosen[0].decision, redraw=40_000)
    deciding.ledger.add([decision])
    (path,) = deciding.ledger.write_log(NOON + 2 * HOUR)
    assert decision in decisions_of(pq.read_table(path))


def test_the_thread_outlives_an_hour_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = threading.Semaphore(0)

    class Failing:
        def write_log(self) -> None:
            calls.release()
            raise ValueError("an hour of another kind")

    monkeypatch.setattr(keeping, "LOG_SECONDS", 0.01)
    with keeping.log_written(Failing()):  # type: ignore[arg-type]
        assert calls.acquire(timeout=10)
        assert calls.acquire(timeout=10)


# -- policies as files -----------------------------------------------------------------------


@pytest.mark.parametrize("days", [0.0, 200.5])
def test_a_policy_is_read_as_it_was_written(tmp_path: Path, days: float) -> None:
    trained = policy("0123456789abcdef", parent="policy-before")
    if days:
        trained.effects.days = days
        trained.effects.pictures["0123456789abcdef"].learned_at = days - 1
    path = trained.write(tmp_path)
    assert trained.write(tmp_path) == path
    read = read_policy(path)
    assert read.name == trained.name == path.stem
    assert read.facts() == trained.facts()
    assert read.effects.days == days
    assert [one.learned_at for one in read.effects.pictures.values()] == [max(days - 1, 0)]
    assert dataclasses.astuple(read.context) == dataclasses.astuple(trained.context)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(BadInput, match="holds no policy"):
        read_policy(path)


def test_a_context_is_scaled_clipped_and_average_where_it_is_unknown() -> None:
    scale = ContextScale(("x", "y"), (1.0, 5.0), (2.0, 1.0))
    assert scale.scaled({"x": 3.0, "z": 9.0}) == pytest.approx([1, 0])
    assert scale.scaled({"x": -1e6, "y": 6}) == pytest.approx([-4, 1])


# -- the service -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with service(tmp_path_factory.mktemp("decisions")) as one:
        with one.client() as client:
            jobs = [
                client.submit(one.source(f"{name}.json", artwork=name), external_id=name)
                for name in TITLES[:3]
            ]
            for job in jobs:
                client.wait(job.id)
        yield one


def post(one: ServiceProcess, path: str, body: Any, token: str | None = None) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token or one.token}"}
    return httpx.post(f"{one.url}{path}", json=body, headers=headers, timeout=60)


def test_decide_and_report_over_http_and_nothing_is_lost_by_kill(serving: ServiceProcess) -> None:
    asked = {"request_id": "r1", "viewer": "ann", "context": {"x": 1.5},
             "titles": ["a", "b", "zzz"], "aspect": "2:3"}  # fmt: skip
    answer = post(serving, "/v1/decisions", asked)
    assert answer.status_code == 200, answer.text
    row = answer.json()
    assert [one["title"] for one in row["decisions"]] == ["a", "b"]
    assert row["missing"] == {"zzz": "no_artwork"}
    assert row["policy"] == UNTRAINED
    first = row["decisions"][0]
    image = first["image"]["renditions"][0]
    media = httpx.get(f"{serving.url}{first['base']}{image['uri']}", timeout=60)
    assert len(media.content) == image["bytes"]
    reports = [
        {"decision_id": one["decision_id"], "shown": True, "played": True, "minutes": 12}
        for one in row["decisions"]
    ]
    prefix, content, signature = first["decision_id"].split(".")
    forged = {"decision_id": f"{prefix}.{content}.{other(signature)}", "played": True}
    taken = post(serving, "/v1/outcomes", {"outcomes": [*reports, forged]})
    assert taken.json() == {
        "accepted": 2, "refused": [{"index": 2, "reason": "not_signed_here"}],
    }  # fmt: skip
    serving.kill()
    serving.start()
    again = post(serving, "/v1/decisions", asked | {"request_id": "r2"}).json()
    assert [one["decision_id"] for one in again["decisions"]] == [
        one["decision_id"] for one in row["decisions"]
    ]
    assert all(one["repeated"] for one in again["decisions"])
    ledger = Ledger(Place.existing(serving.data))
    written = ledger.write_log(datetime.now(UTC).timestamp() + 2 * HOUR)
    ledger.close()
    assert {path.parent.name for path in written} == {"decisions", "outcomes"}
    (outcomes,) = serving.data.glob("policy/log/outcomes/*.parquet")
    assert pq.read_table(outcomes).num_rows == 2
    (decisions,) = serving.data.glob("policy/log/decisions/*.parquet")
    logged = decisions_of(pq.read_table(decisions))
    assert isinstance(logged[0], Decision)
    assert {one.viewer_day for one in logged} != {"ann"}
    pictures = read_pool(Place.of(serving.data).pools, logged[0].pool, "a")
    assert logged[0].action_id in pictures.actions
    assert pictures.features.shape[1] == len(FEATURES)


def test_the_application_answers_as_what_stands_in_front_of_it(serving: ServiceProcess) -> None:
    """A media type that only the framework knows reaches the application."""
    body = {"request_id": "r", "viewer": "both-ways", "titles": list(TITLES)}
    front = post(serving, "/v1/decisions", body)
    headers = {"Authorization": f"Bearer {serving.token}", "Content-Type": "application/a+json"}
    behind = httpx.post(
        f"{serving.url}/v1/decisions", content=json.dumps(body), headers=headers, timeout=60
    )
    assert front.status_code == behind.status_code == 200
    for kind in ("application/jsonp", "text/plain"):
        headers["Content-Type"] = kind
        refused = httpx.post(
            f"{serving.url}/v1/decisions", content=json.dumps(body), headers=headers, timeout=60
        )
        assert refused.status_code == 422, (kind, refused.text)
    again = [{**one, "repeated": True} for one in front.json()["decisions"]]
    assert behind.json() == {**front.json(), "decisions": again}
    names = ("content-type", "cache-control")
    assert [front.headers[name] for name in names] == [behind.headers[name] for name in names]


def test_the_client_decides_and_reports(serving: ServiceProcess) -> None:
    with serving.client() as client:
        row = client.decide("r", "eve", ["a", "b"], context={"x": 1.0}, aspect="1:1")
        assert [one.title for one in row.decisions] == ["a", "b"]
        taken = client.report(
            [OutcomeReport(decision_id=one.decision_id, shown=True) for one in row.decisions]
        )
        assert taken.accepted == 2
        with pytest.raises(BadInput, match="viewer"):
            client.decide("r", "", ["a"])


def test_only_tokens_with_the_scope_may_decide_and_report(serving: ServiceProcess) -> None:
    decider, reporter = "d" * 20, "r" * 20
    with (serving.data / "tokens").open("a") as file:
        file.write(f"web {decider} decide\nplayer {reporter} report\n")
    asked = {"request_id": "r", "viewer": "bob", "titles": ["a"]}
    for _ in range(100):
        answer = post(serving, "/v1/decisions", asked, decider)
        if answer.status_code == 200:
            break
    made = answer.json()["decisions"][0]["decision_id"]
    report = {"outcomes": [{"decision_id": made, "shown": True}]}
    assert post(serving, "/v1/outcomes", report, decider).status_code == 403
    assert post(serving, "/v1/decisions", asked, reporter).status_code == 403
    assert post(serving, "/v1/outcomes", report, reporter).json()["accepted"] == 1
    nobody = httpx.post(f"{serving.url}/v1/decisions", json=asked, timeout=60)
    assert nobody.status_code == 401


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"viewer": "x" * 200}, "viewer"),
        ({"context": {"X": 1}}, "context"),
        ({"context": {"x": 1e9}}, "context"),
        ({"context": {f"x{n}": 1 for n in range(65)}}, "context"),
        ({"titles": []}, "titles"),
        ({"aspect": "4:3"}, "aspect"),
        ({"user_name": "Ann"}, "user_name"),
    ],
)
def test_requests_are_bounded_and_refused_in_words(
    serving: ServiceProcess, change: dict[str, Any], words: str
) -> None:
    asked = {"request_id": "r", "viewer": "bob", "titles": ["a"]} | change
    answer = post(serving, "/v1/decisions", asked)
    assert answer.status_code == 422
    assert words in answer.json()["detail"]


def test_a_batch_of_which_nothing_can_be_taken_is_refused(serving: ServiceProcess) -> None:
    answer = post(serving, "/v1/outcomes", {"outcomes": [{"decision_id": "made-up"}]})
    assert answer.status_code == 403
    assert answer.json()["type"].endswith("not-signed-here")
