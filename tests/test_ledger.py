"""Which tasks run again, who is blamed for a death, and when a cluster is given up."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cluster.execution.ledger import (
    NO_WORKER_SECONDS,
    REFUSED_SECONDS,
    UNBLAMED_DEATHS,
    Deliver,
    GiveUp,
    Ledger,
    Recall,
    Retry,
)
from cluster.execution.tasks import Outcome, Task
from encoder.errors import BadInput, ShotladderError, SourceUnusable, ToolFailed, WorkerLost

RETRIES = 2


def task(name: str, *, tried: int = 0, divisible: bool = False) -> Task:
    return Task(name, print, label=f"shot {name}", tried=tried, divisible=divisible)


def ledger_of(*tasks: Task, retries: int = RETRIES) -> Ledger:
    return Ledger(tasks, retries=retries, run="run")


def started(ledger: Ledger) -> str:
    """Submit one attempt, let it leave the cluster, and return its name."""
    ledger.submit(1)
    (name,) = ledger.running()
    assert ledger.ended(name)
    return name


def test_tasks_go_in_their_order_up_to_the_limit_and_have_names_of_their_own() -> None:
    ledger = ledger_of(task("a"), task("b"), task("c"))
    first = ledger.submit(2)
    assert [one.task.id for one in first] == ["a", "b"]
    assert ledger.submit(2) == []
    assert ledger.ended(first[0].name)
    (third,) = ledger.submit(2)
    assert third.task.id == "c"
    assert len({first[0].name, first[1].name, third.name}) == 3
    assert len(ledger) == 3  # nothing has its outcome yet
    assert ledger.finished(first[0].name, Outcome("a", 1)) == Deliver(Outcome("a", 1))
    assert len(ledger) == 2


def test_what_may_pass_is_tried_again_and_what_stays_wrong_is_not() -> None:
    ledger = ledger_of(task("a"), retries=1)
    failed = Outcome("a", error=ToolFailed("killed"))
    assert ledger.finished(started(ledger), failed) == Retry("ToolFailed")
    assert ledger.finished(started(ledger), failed) == Deliver(
        Outcome("a", error=failed.error, attempts=2)
    )
    ledger = ledger_of(task("a"))
    wrong = SourceUnusable("no")
    assert ledger.finished(started(ledger), wrong) == Deliver(Outcome("a", error=wrong))


def test_a_retry_goes_before_what_waits() -> None:
    ledger = ledger_of(task("a"), task("b"))
    ledger.finished(started(ledger), ConnectionError())
    assert [one.task.id for one in ledger.submit(1)] == ["a"]


def test_a_task_that_had_begun_is_blamed_for_its_workers_death() -> None:
    ledger = ledger_of(task("7"))
    for _ in range(RETRIES):
        assert ledger.died(started(ledger), "tcp://x", begun=True) == Retry("worker died")
    told = ledger.died(started(ledger), "tcp://x:1", begun=True)
    assert isinstance(told, Deliver)
    assert type(told.outcome.error) is WorkerLost
    assert "shot 7: each worker that ran it died, the last one tcp://x:1" in str(told.outcome.error)
    assert told.outcome.attempts == RETRIES + 1
    assert len(ledger) == 0


def test_a_task_that_waited_on_a_worker_is_not_blamed_for_its_death() -> None:
    ledger = ledger_of(task("a"))
    for _ in range(UNBLAMED_DEATHS):
        assert ledger.died(started(ledger), "w", begun=False) == Retry("worker died")
    assert [one.tried for one in ledger.left()] == [0]
    # A death at once after the beginning cannot be told from one before it, but not for ever.
    for _ in range(RETRIES):
        assert ledger.died(started(ledger), "w", begun=False) == Retry("worker died")
    assert isinstance(ledger.died(started(ledger), "w", begun=False), Deliver)


def test_the_first_death_on_a_task_that_can_be_divided_is_told() -> None:
    ledger = ledger_of(task("a", divisible=True))
    assert ledger.died(started(ledger), "w", begun=False) == Retry("worker died")
    told = ledger.died(started(ledger), "w", begun=True)
    assert isinstance(told, Deliver)
    assert told.outcome.attempts == 1


def test_earlier_attempts_of_a_divided_task_count() -> None:
    ledger = ledger_of(task("a", tried=RETRIES))
    told = ledger.died(started(ledger), "w", begun=True)
    assert isinstance(told, Deliver)
    assert told.outcome.attempts == RETRIES + 1


def test_nobody_is_blamed_for_a_lost_scheduler() -> None:
    ledger = ledger_of(task("a"), task("b"), task("c"))
    for _ in range(100):
        assert ledger.scheduler_lost(started(ledger)) == Retry("scheduler lost")
    ledger.died(started(ledger), "w", begun=True)
    ledger.submit(2)
    ledger.ended(ledger.running()[0])
    assert {one.id: one.tried for one in ledger.left()} == {"a": 1, "b": 0, "c": 0}


def test_a_recalled_task_waits_again_in_its_place_and_its_old_attempt_counts_for_nothing() -> None:
    ledger = ledger_of(task("a"), task("b"), task("c"))
    names = [one.name for one in ledger.submit(2)]
    ledger.recalled(names)
    assert not ledger.ended(names[0])
    again = ledger.submit(3)
    assert [one.task.id for one in again] == ["a", "b", "c"]
    assert not {one.name for one in again} & {*names}
    assert [one.tried for one in ledger.left()] == [0, 0, 0]


def test_a_cluster_without_workers_is_given_up_sooner_if_it_refused_some() -> None:
    ledger = ledger_of(task("a"))
    assert ledger.count(0, "", 100.0) is None
    assert ledger.count(0, "", 100.0 + NO_WORKER_SECONDS) is None
    given_up = ledger.count(0, "", 101.0 + NO_WORKER_SECONDS)
    assert isinstance(given_up, GiveUp)
    assert type(given_up.error) is ShotladderError  # not of the input: it may come any time
    assert "no worker for 300 s" in str(given_up.error)
    ledger = ledger_of(task("a"))
    assert ledger.count(0, "code is a there and b here", 0.0) is None
    assert ledger.count(0, "code is a there and b here", REFUSED_SECONDS) is None
    given_up = ledger.count(0, "code is a there and b here", REFUSED_SECONDS + 1)
    assert isinstance(given_up, GiveUp)
    assert isinstance(given_up.error, BadInput)
    assert "code is a there and b here" in str(given_up.error)


def test_tasks_are_recalled_when_the_first_workers_come_and_the_wait_begins_anew() -> None:
    ledger = ledger_of(task("a"))
    assert ledger.count(4, "", 0.0) is None  # they were there from the beginning
    assert ledger.count(0, "", 1.0) is None
    assert ledger.count(2, "", 2.0) == Recall()
    assert ledger.count(3, "", 3.0) is None
    assert ledger.count(0, "", 4.0) is None
    assert ledger.count(0, "", 4.0 + NO_WORKER_SECONDS) is None


class AnyOrder(RuleBasedStateMachine):
    """The ledger gets any events in any order."""

    @initialize(
        tasks=st.lists(st.tuples(st.integers(0, RETRIES), st.booleans()), max_size=6),
        retries=st.integers(0, RETRIES),
    )
    def begin(self, tasks: list[tuple[int, bool]], retries: int) -> None:
        self.tasks = {
            str(number): task(str(number), tried=tried, divisible=divisible)
            for number, (tried, divisible) in enumerate(tasks)
        }
        self.ledger = ledger_of(*self.tasks.values(), retries=retries)
        self.retries = retries
        self.on_cluster: dict[str, str] = {}
        self.unjudged: dict[str, str] = {}
        self.names: set[str] = set()
        self.outcomes: dict[str, Outcome] = {}
        self.blamed: Counter[str] = Counter()

    def judged(self, instruction: Deliver | Retry) -> None:
        if isinstance(instruction, Deliver):
            outcome = instruction.outcome
            assert outcome.task_id not in self.outcomes
            self.outcomes[outcome.task_id] = outcome

    @rule(limit=st.integers(0, 8))
    def submit(self, limit: int) -> None:
        for submission in self.ledger.submit(limit):
            identity = submission.task.id
            assert submission.name not in self.names
            assert identity not in {*self.on_cluster.values(), *self.unjudged.values()}
            assert identity not in self.outcomes
            self.names.add(submission.name)
            self.on_cluster[submission.name] = identity
            assert len(self.on_cluster) <= limit

    @precondition(lambda self: self.on_cluster)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.on_cluster)))
        assert self.ledger.ended(name)
        assert not self.ledger.ended(name)
        self.unjudged[name] = self.on_cluster.pop(name)

    @precondition(lambda self: self.unjudged)
    @rule(
        data=st.data(),
        how=st.sampled_from(["done", "wrong", "passing", "lost", "died", "died before it began"]),
    )
    def judge(self, data: st.DataObject, how: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.unjudged)))
        identity = self.unjudged.pop(name)
        self.blamed[identity] += how in ("passing", "died")
        match how:
            case "done":
                self.judged(self.ledger.finished(name, Outcome(identity, 1)))
            case "wrong":
                self.judged(self.ledger.finished(name, SourceUnusable("no")))
            case "passing":
                self.judged(self.ledger.finished(name, ConnectionError()))
            case "lost":
                self.judged(self.ledger.scheduler_lost(name))
            case _:
                self.judged(self.ledger.died(name, "w", begun=how == "died"))

    @rule(data=st.data())
    def recall(self, data: st.DataObject) -> None:
        names = data.draw(st.sets(st.sampled_from(sorted(self.on_cluster) or [""])))
        names &= set(self.on_cluster)
        self.ledger.recalled(sorted(names))
        for name in names:
            del self.on_cluster[name]

    @invariant()
    def every_task_has_one_outcome_or_is_left(self) -> None:
        left = self.ledger.left()
        assert Counter([*self.outcomes, *(one.id for one in left)]) == Counter(self.tasks.keys())
        assert len(self.ledger) == len(left)
        assert set(self.ledger.running()) == set(self.on_cluster)

    @invariant()
    def no_task_is_tried_more_often_than_it_may_be(self) -> None:
        for one in self.ledger.left():
            before = self.tasks[one.id].tried
            assert before <= one.tried <= max(self.retries, before)
        for outcome in self.outcomes.values():
            before = self.tasks[outcome.task_id].tried
            assert before < outcome.attempts <= 1 + max(self.retries, before)
            # Only what a task is blamed for counts, but for the deaths beyond those allowed.
            assert outcome.attempts <= 1 + before + self.blamed[outcome.task_id]


AnyOrder.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestAnyOrder = AnyOrder.TestCase


@pytest.mark.parametrize("begun", [True, False])
def test_a_task_whose_workers_always_die_ends(begun: bool) -> None:
    ledger = ledger_of(task("a"))
    deaths = 0
    while len(ledger):
        ledger.died(started(ledger), "w", begun=begun)
        deaths += 1
    assert deaths == 1 + RETRIES + (0 if begun else UNBLAMED_DEATHS)
