"""From a log to a policy: training, judging, promoting and showing, in the library and the CLI."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.cli import main
from cluster.policy.evaluation import ask_promotion, contrast_of, drift_of, evaluate
from cluster.policy.ledger import Ledger
from cluster.policy.logbook import Logbook, merged
from cluster.policy.place import Place
from cluster.policy.pools import write_pool
from cluster.policy.records import Outcome
from cluster.policy.registry import Registry
from cluster.policy.training import Training, train
from cluster.service.decisions.choosing import Chooser, Row
from cluster.service.decisions.ids import DecisionIds
from cluster.service.library.links import SigningKeys
from encoder.errors import BadInput
from recommender.policy import gate
from recommender.policy.exploring import UNTRAINED
from recommender.policy.features import FEATURES
from recommender.policy.simulation import POLICIES, World, made_up_pools, simulate
from tests.test_decisions import TITLES, Shelved

START = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
HOUR = 3600.0
SETTLED = START + 100 * HOUR
QUALITY, PLACE = FEATURES.index("quality"), FEATURES.index("place")


class Logged:
    """A folder with the log of some hours, in which viewers like early pictures, and those whose
    context is high like quality too."""

    def __init__(self, data: Path) -> None:
        self.data, self.place = data, Place.of(data)
        self.ledger, self.registry = Ledger(self.place), Registry(self.place)
        self.ids = DecisionIds(SigningKeys(self.place.keys))
        self.shelved: Any = Shelved(stills=12)
        self.chooser = Chooser(self.ledger, self.registry, self.shelved, self.ids)
        for shelf in self.shelved.shelves.values():
            write_pool(self.place.pools, shelf.pictures)
        self.rng = np.random.default_rng(5)

    def hours(self, first: int, count: int, viewers: int, shift: float = 0.0) -> None:
        for hour in range(first, first + count):
            outcomes = []
            for number in range(viewers):
                x = float(self.rng.normal()) + shift
                row = Row(f"r{hour}-{number}", f"v{hour}-{number}", {"x": x}, list(TITLES), "16:9",
                          frozenset(), False)  # fmt: skip
                now = START + HOUR * hour + number
                for one in self.chooser.choose(row, now).chosen:
                    features = one.shelf.pictures.features[one.position]
                    logit = -0.5 - 1.2 * features[PLACE] + 1.0 * x * features[QUALITY]
                    played = self.rng.random() < 1 / (1 + np.exp(-logit))
                    outcomes.append(
                        Outcome(one.decision.decision_id, now, now, number % 10 > 0, 2.0,
                                bool(played and number % 10 > 0), 30.0 * played)
                    )  # fmt: skip
            self.ledger.report(outcomes)
        self.ledger.write_log(START + HOUR * (first + count + 1))

    @property
    def logbook(self) -> Logbook:
        return Logbook(self.place)


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logged]:
    found = Logged(tmp_path_factory.mktemp("logged"))
    found.hours(0, 6, 50)
    yield found
    found.ledger.close()


@pytest.fixture(scope="module")
def trained(logged: Logged) -> Training:
    found = train(logged.logbook, logged.registry, settled_until=SETTLED)
    logged.hours(8, 6, 50)
    return found


def test_what_is_learned_is_what_viewers_like(trained: Training) -> None:
    assert (trained.hours, trained.trials) == (6, 6 * 45 * 4)  # a tenth was not on the screen
    mean = trained.policy.effects.shared.mean[:-2].reshape(len(FEATURES), 2)
    assert mean[PLACE, 0] < -0.1
    assert mean[QUALITY, 1] > 0.05
    assert trained.policy.context.names == ("x",)
    assert trained.path.stem == trained.policy.name
    assert trained.policy.name.startswith("policy-2026-03-01T05-")


def test_the_same_hours_give_the_same_policy(logged: Logged, trained: Training) -> None:
    again = train(logged.logbook, logged.registry, settled_until=START + 7 * HOUR, anew=True)
    assert again.policy.name == trained.policy.name
    assert again.policy.content == trained.path.read_bytes()


def test_hours_that_are_not_settled_are_left_out(logged: Logged) -> None:
    with pytest.raises(BadInput, match="0 pictures on the screen"):
        train(logged.logbook, logged.registry, settled_until=START, anew=True)


def test_a_policy_is_judged_by_later_hours(logged: Logged, trained: Training) -> None:
    name = trained.policy.name
    found = evaluate(logged.logbook, logged.registry, name, against=[UNTRAINED], until=SETTLED)
    assert found.hours[0] > trained.policy.hours[-1]
    assert found.decisions == 6 * 45 * 4
    assert found.clusters == 6 * 45
    assert found.logged_policies == (UNTRAINED,)
    judged, base = found.policies
    assert [one.estimator for one in judged.estimates] == ["ips", "snips", "dr"]
    # The policy that wrote the log is worth what it earned, with weights of 1.
    for one in base.estimates[:2]:
        assert one.mean_weight == pytest.approx(1, abs=1e-5)
        assert one.interval.mean == pytest.approx(found.logged.mean, abs=1e-5)
    assert base.gain.low < 0 < base.gain.high
    assert found.gain.low > 0
    assert judged.estimates[0].effective_size < 0.5 * found.decisions
    with pytest.raises(BadInput, match="no settled hour"):
        evaluate(logged.logbook, logged.registry, name, against=[], until=START + 7 * HOUR)


def test_a_promotion_is_refused_until_the_sample_is_large_enough(
    logged: Logged, trained: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, now = trained.policy.name, SETTLED
    verdict, _ = ask_promotion(logged.logbook, logged.registry, name, until=SETTLED, now=now)
    assert not verdict.passed
    assert "effective sample" in verdict.reasons[0]
    monkeypatch.setattr(gate, "MIN_EFFECTIVE", 30.0)
    monkeypatch.setattr(gate, "MEAN_WEIGHT", (0.7, 1.3))
    second, _ = ask_promotion(logged.logbook, logged.registry, name, until=SETTLED, now=now)
    assert second.passed, second.reasons
    assert (verdict.asked, second.asked) == (1, 2)
    assert second.confidence > verdict.confidence
    assert logged.registry.newest() == UNTRAINED  # asking alone promotes nothing


def test_a_contrast_and_drift_of_the_log(logged: Logged, trained: Training) -> None:
    tried = logged.logbook.tried(logged.logbook.hours())
    place = contrast_of(tried, "place")
    assert place.difference.high < 0
    with pytest.raises(BadInput, match="never varies"):
        contrast_of(tried, "sharpness")
    with pytest.raises(BadInput, match="no property 'eyes'"):
        contrast_of(tried, "eyes")
    moved = drift_of(tried[:1000], tried[1000:])
    assert not any(one.shifted for one in moved)


def test_reports_are_merged_in_any_order() -> None:
    one = Outcome("d", 5.0, 6.0, True, 1.0, False, 0.0)
    two = Outcome("d", 4.0, 9.0, False, 0.5, True, 7.0)
    wanted = Outcome("d", 4.0, 9.0, True, 1.0, True, 7.0)
    assert merged([one, two])["d"] == merged([two, one, two])["d"] == wanted


# -- the command line ------------------------------------------------------------------------


def lines(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[Any]]:
    status = main(["policy", *map(str, arguments), "--json"])
    return status, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_commands_tell_what_the_library_found(
    logged: Logged, trained: Training, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ("--data", logged.data)
    status, found = lines(capsys, "show", *data, "--worth", "place", "--drift")
    assert status == 0
    assert {one["type"] for one in found} >= {"policy", "contrast", "drift", "done"}
    status, found = lines(capsys, "evaluate", trained.policy.name, *data)
    assert status == 0
    assert found[0]["policy"] == trained.policy.name
    status, found = lines(capsys, "promote", trained.policy.name, *data)
    assert status == 1
    assert found[-1]["type"] == "error"
    assert "effective sample" in json.dumps(found[-1])
    status, _ = lines(capsys, "promote", trained.policy.name, *data, "--shadow")
    assert logged.registry.shadow() == trained.policy.name
    status, _ = lines(capsys, "promote", trained.policy.name, *data, "--force")
    assert logged.registry.newest() == trained.policy.name
    assert main(["policy", "show", *map(str, data), "--worth", "place"]) == 0
    assert "Contrast of place" in capsys.readouterr().out
    assert main(["policy", "evaluate", trained.policy.name, *map(str, data)]) == 0
    assert trained.policy.name[:20] in capsys.readouterr().out


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "train", "--data", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "has no decisions" in error
    assert len(error.strip().splitlines()) == 1


def test_a_simulation_ranks_policies_and_the_best_is_out_of_reach() -> None:
    pools = made_up_pools(20, 10, 6, seed=2)
    world = World(base_rate=0.2, effect=1.5, visits=30, days=3, seed=2)
    uniform, untrained, trained, best = (simulate(pools, world, name) for name in POLICIES)
    assert uniform.rates[0] < trained.rates[-1] < best.rates[0]
    assert trained.rates[-1] > untrained.rates[-1] + 0.03
    assert 0.5 < trained.mean_weight < 1.5


def test_where_pictures_do_not_matter_every_policy_earns_the_base_rate() -> None:
    """By hand: with no effect a viewer takes a title by its level alone, whatever is shown."""
    pools = made_up_pools(4, 3, 5, seed=3)
    world = World(base_rate=0.2, effect=0.0, visits=60, days=2, seed=3)
    uniform, best = (simulate(pools, world, name) for name in ("uniform", "best"))
    assert uniform.rates == pytest.approx(best.rates)
    assert uniform.mean_weight == 1
    assert best.mean_weight == pytest.approx(1 / 3)
    untrained = simulate(pools, world, "untrained")  # every row shows all four titles
    assert untrained.rates == pytest.approx(uniform.rates)
    with pytest.raises(ValueError, match="choose one of uniform"):
        simulate(pools, world, "other")


def test_training_goes_on_where_it_ended(
    logged: Logged, trained: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.policy.training.SETTLED", 500)
    more = train(logged.logbook, logged.registry, settled_until=SETTLED)
    assert more.policy.parent == trained.policy.name
    assert more.policy.trials == 2 * trained.trials
    assert more.policy.hours[:6] == trained.policy.hours
    with pytest.raises(BadInput, match="0 pictures"):
        train(logged.logbook, logged.registry, settled_until=SETTLED)
