from __future__ import annotations

import contextlib
import gc
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distributed
import psutil
import pytest

from cluster.execution.executor import (
    DaskExecutor,
    Executor,
    InlineExecutor,
    Outcome,
    Task,
    settings,
    usable_cores,
    worth_retrying,
)
from encoder import ffmpeg
from encoder.errors import (
    BadInput,
    Infeasible,
    ShotladderError,
    SourceUnusable,
    StoreUnusable,
    ToolFailed,
    ToolTimedOut,
    WorkerLost,
)

REPOSITORY = Path(__file__).parent.parent

# -- tasks, run in workers ---------------------------------------------------------------------


def double(number: int) -> int:
    return 2 * number


def where(seconds: float = 0.0) -> tuple[int, float, float]:
    started = time.time()
    time.sleep(seconds)
    return os.getpid(), started, time.time()


def refuse(log: Path) -> None:
    note(log)
    raise SourceUnusable("asked for a title, found a poem; give a video", poem="The Raven")


def note(log: Path) -> int:
    """Append a line; return how many there are."""
    with log.open("a") as file:
        file.write(f"{os.getpid()}\n")
    return len(log.read_text().splitlines())


def fail_at_first(log: Path, times: int) -> str:
    if note(log) <= times:
        raise ToolFailed("ffmpeg was killed by signal 9", command="ffmpeg -i a")
    return "well"


def divide(by: int) -> float:
    return 1 / by


class StubbornError(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")
        self.lock = threading.Lock()


def raise_what_does_not_pickle() -> None:
    raise StubbornError(1, 2)


def return_what_does_not_pickle() -> Any:
    return threading.Lock()


def die(log: Path, times: int) -> str:
    if note(log) <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


def environment() -> dict[str, Any]:
    import cv2

    return {
        "omp": os.environ.get("OMP_NUM_THREADS"),
        "opencv": cv2.getNumThreads(),
        "threads": threading.active_count(),
        "sigint": signal.getsignal(signal.SIGINT) == signal.SIG_IGN,
        "level": logging.getLogger("distributed").level,
    }


def encode_for_a_minute(log: Path) -> None:
    note(log)
    source = ("-re", "-f", "lavfi", "-i", "testsrc=size=64x64:rate=5")
    ffmpeg.run(ffmpeg.Command((*source, "-t", "60", "-f", "null", "-")))


# -- both executors ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dask() -> Iterator[DaskExecutor]:
    with DaskExecutor(workers=2) as executor:
        yield executor


@pytest.fixture(params=["inline", "dask"])
def executor(request: pytest.FixtureRequest) -> Executor:
    if request.param == "inline":
        return InlineExecutor()
    found: Executor = request.getfixturevalue("dask")
    return found


def by_id(outcomes: Iterator[Outcome]) -> dict[str, Outcome]:
    collected = list(outcomes)
    assert len({outcome.task_id for outcome in collected}) == len(collected)
    return {outcome.task_id: outcome for outcome in collected}


def test_every_task_has_its_outcome(executor: Executor) -> None:
    tasks = [Task(str(number), double, (number,), cost=number % 7) for number in range(30)]
    outcomes = by_id(executor.run(iter(tasks)))
    assert {name: outcome.result for name, outcome in outcomes.items()} == {
        str(number): 2 * number for number in range(30)
    }
    assert all(outcome.error is None and outcome.attempts == 1 for outcome in outcomes.values())
    assert all(":" in outcome.worker for outcome in outcomes.values())


def test_no_tasks_no_outcomes(executor: Executor) -> None:
    assert list(executor.run([])) == []


def test_a_failed_task_does_not_take_the_others_along(executor: Executor, tmp_path: Path) -> None:
    tasks = [Task(str(number), double, (number,)) for number in range(8)]
    tasks.insert(3, Task("poem", refuse, (tmp_path / "log",)))
    outcomes = by_id(executor.run(tasks))
    assert len(outcomes) == 9
    error = outcomes["poem"].error
    assert type(error) is SourceUnusable
    assert error.context == {"poem": "The Raven"}
    assert len((tmp_path / "log").read_text().splitlines()) == 1  # what is wrong stays wrong
    assert sum(outcome.error is None for outcome in outcomes.values()) == 8


def test_what_may_pass_is_tried_again(executor: Executor, tmp_path: Path) -> None:
    outcomes = by_id(
        executor.run(
            [
                Task("twice", fail_at_first, (tmp_path / "twice", 2)),
                Task("always", fail_at_first, (tmp_path / "always", 99)),
            ]
        )
    )
    assert (outcomes["twice"].result, outcomes["twice"].attempts) == ("well", 3)
    assert isinstance(outcomes["always"].error, ToolFailed)
    assert outcomes["always"].error.context == {"command": "ffmpeg -i a"}
    assert outcomes["always"].attempts == 3


def test_a_defect_comes_with_its_traceback(executor: Executor) -> None:
    (outcome,) = executor.run([Task("divide", divide, (0,))])
    assert type(outcome.error) is ZeroDivisionError
    assert "return 1 / by" in "".join(outcome.error.__notes__)


def test_an_error_that_cannot_travel_is_told(executor: Executor) -> None:
    (outcome,) = executor.run([Task("stubborn", raise_what_does_not_pickle)])
    assert type(outcome.error) is ShotladderError
    assert str(outcome.error) == "StubbornError: 1 and 2"
    assert pickle.loads(pickle.dumps(outcome.error)).message == "StubbornError: 1 and 2"


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (ToolFailed("killed"), True),
        (ConnectionError("reset"), True),
        (MemoryError(), True),
        (ToolTimedOut("an hour"), True),
        (BadInput("no"), False),
        (SourceUnusable("no"), False),
        (Infeasible("no"), False),
        (StoreUnusable("full"), False),
        (ZeroDivisionError(), False),
        (None, False),
    ],
)
def test_what_is_worth_retrying(error: Exception | None, again: bool) -> None:
    assert worth_retrying(error) is again


def test_what_hung_twice_is_given_up() -> None:
    assert not worth_retrying(ToolTimedOut("an hour"), 2)
    assert worth_retrying(ToolFailed("killed"), 2)


# -- Dask --------------------------------------------------------------------------------------


def test_dask_uses_its_workers_at_once_longest_first(dask: DaskExecutor) -> None:
    assert dask.slots == 2
    tasks = [Task(str(cost), where, (cost / 20,), cost=cost) for cost in (1, 5, 2, 6, 4, 3)]
    outcomes = by_id(dask.run(tasks))
    spans = {int(name): outcome.result for name, outcome in outcomes.items()}
    assert len({pid for pid, _, _ in spans.values()}) == 2
    assert os.getpid() not in {pid for pid, _, _ in spans.values()}
    by_start = sorted(spans, key=lambda cost: spans[cost][1])
    assert 6 in by_start[:2]
    assert 1 in by_start[-2:]
    assert any(
        one[0] != two[0] and one[1] < two[2] and two[1] < one[2]
        for one in spans.values()
        for two in spans.values()
    )


def test_outcomes_come_as_tasks_end(dask: DaskExecutor) -> None:
    tasks = [Task("long", where, (0.6,), cost=9), *(Task(str(n), where, (0.01,)) for n in range(6))]
    order = [outcome.task_id for outcome in dask.run(tasks)]
    assert order[-1] == "long"


def test_workers_do_not_wait_for_a_slow_caller(dask: DaskExecutor) -> None:
    ends = []
    for outcome in dask.run(Task(str(n), where, (0.05,)) for n in range(8)):
        ends.append(outcome.result[2])
        time.sleep(0.3)
    assert max(ends) - min(ends) < 1.5  # 2 or more if they did


def test_a_worker_has_one_core_and_leaves_ctrl_c_to_the_command(dask: DaskExecutor) -> None:
    (outcome,) = dask.run([Task("environment", environment)])
    assert outcome.error is None
    assert outcome.result["omp"] == "1"
    assert outcome.result["opencv"] == 1
    assert outcome.result["sigint"]


def test_a_result_that_cannot_travel_fails_its_task_only(dask: DaskExecutor) -> None:
    outcomes = by_id(
        dask.run([Task("lock", return_what_does_not_pickle), Task("double", double, (2,))])
    )
    assert isinstance(outcomes["lock"].error, Exception)
    assert outcomes["double"].result == 4


def test_a_killed_worker_is_replaced_and_its_task_run_again(
    dask: DaskExecutor, tmp_path: Path
) -> None:
    tasks = [Task(str(n), where, (0.05,)) for n in range(20)]
    tasks.append(Task("victim", die, (tmp_path / "log", 1), cost=9))
    outcomes = by_id(dask.run(tasks))
    assert outcomes["victim"].result == "survived"
    assert len(outcomes) == 21
    assert all(outcome.error is None for outcome in outcomes.values())
    assert len(set((tmp_path / "log").read_text().split())) == 2


def test_a_poison_task_is_named_and_the_others_go_on(dask: DaskExecutor, tmp_path: Path) -> None:
    tasks = [Task(str(n), where, (0.2,)) for n in range(20)]
    tasks.append(Task("poison", die, (tmp_path / "log", 99), cost=9, label="shot 7 of title"))
    outcomes = by_id(dask.run(tasks))
    error = outcomes["poison"].error
    assert type(error) is WorkerLost
    assert "shot 7 of title" in error.message
    assert "died" in error.message
    assert len((tmp_path / "log").read_text().split()) == 3
    assert sum(outcome.error is None for outcome in outcomes.values()) == 20


def test_an_executor_can_be_left_in_the_middle_and_used_again() -> None:
    with DaskExecutor(workers=2) as executor:
        first = executor.run(Task(str(n), where, (0.2,)) for n in range(20))
        next(first)
        first.close()  # type: ignore[attr-defined]
        assert by_id(executor.run([Task("again", double, (4,))]))["again"].result == 8


def test_close_does_not_wait_for_busy_workers() -> None:
    before = psutil.Process().children()
    executor = DaskExecutor(workers=1)
    outcomes = executor.run([Task("quick", double, (1,), cost=2), Task("slow", where, (30,))])
    assert next(outcomes).task_id == "quick"
    time.sleep(0.2)
    started_here = set(psutil.Process().children()) - set(before)
    assert started_here
    started = time.monotonic()
    executor.close()
    assert time.monotonic() - started < 15  # 0.3 on idle cores; the task takes 30
    executor.close()
    tracker = [one for one in started_here if runs(one)]  # of multiprocessing, one per process
    assert all("resource_tracker" in " ".join(one.cmdline()) for one in tracker)


def test_a_cluster_that_closes_slowly_is_killed_and_fails_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    executor = DaskExecutor(workers=1)
    executor.start()
    cluster = executor.local_cluster
    workers = [psutil.Process(nanny.pid) for nanny in cluster.workers.values()]

    def slow(timeout: float) -> None:
        raise TimeoutError

    with monkeypatch.context() as patch:
        patch.setattr(cluster, "close", slow)
        executor.close()
    assert psutil.wait_procs(workers, timeout=20)[1] == []
    cluster.close()


def test_nothing_starts_before_the_first_task() -> None:
    before = psutil.Process().children(recursive=True)
    with DaskExecutor(workers=3) as executor:
        assert executor.slots == 3
        assert list(executor.run([])) == []
        assert psutil.Process().children(recursive=True) == before
    assert DaskExecutor().slots == usable_cores()


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense://x", "127.0.0.1"])
def test_no_scheduler_is_one_line(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {id(one) for one in gc.get_objects() if type(one) is distributed.Client}
    monkeypatch.setattr("cluster.execution.executor.SCHEDULER_SECONDS", 0.5)
    with DaskExecutor(scheduler=address) as executor, pytest.raises(BadInput) as error:
        list(executor.run([Task("double", double, (1,))]))
    assert address in str(error.value)
    assert "\n" not in str(error.value)
    # A client left to the garbage collector can lock up the start of another one.
    clients = [
        one for one in gc.get_objects() if type(one) is distributed.Client and id(one) not in before
    ]
    assert all(client.status in ("closed", "newly-created") for client in clients)


def test_workers_and_a_scheduler_exclude_each_other() -> None:
    with pytest.raises(BadInput, match="leave one out"):
        DaskExecutor(workers=2, scheduler="tcp://127.0.0.1:8786")
    with pytest.raises(BadInput, match="0 workers"):
        DaskExecutor(workers=0)


def test_an_existing_cluster_is_joined_and_left_running() -> None:
    """One that this product did not start: its own takes no connections from others."""
    with (
        settings(),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False}, silence_logs=logging.CRITICAL,
        ) as cluster,
    ):  # fmt: skip
        for _ in range(2):
            with DaskExecutor(scheduler=cluster.scheduler_address) as executor:
                outcomes = by_id(executor.run([Task("double", double, (21,))]))
                assert outcomes["double"].result == 42
                assert executor.slots == 2


# -- whole commands ----------------------------------------------------------------------------

COMMAND = """
import signal
import sys
from pathlib import Path
from cluster.execution.executor import DaskExecutor, Task
from tests import test_executor as tasks

def main():
    # A shell that started the tests in the background has had SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    log = Path(sys.argv[1])
    with DaskExecutor(workers=2) as executor:
        if sys.argv[2:] == ["quick"]:
            print(sorted(o.result for o in executor.run(
                Task(str(n), tasks.double, (n,)) for n in range(5))))
        else:
            list(executor.run(
                Task(str(n), tasks.encode_for_a_minute, (log,)) for n in range(5)))

if __name__ == "__main__":
    main()
"""


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    program = tmp_path / "command.py"
    program.write_text(COMMAND)
    return [sys.executable, "-W", "error", str(program), str(tmp_path / "log")]


def start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        start_new_session=True,  # a process group of its own, as a terminal gives
    )


def encodes(process: psutil.Process) -> bool:
    # Others are asked for their version, and gone.
    return any("testsrc" in argument for argument in process.cmdline())


def wait_until_encoding(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return all descendants, once two ffmpegs are among them."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = psutil.Process(process.pid).children(recursive=True)
        with contextlib.suppress(psutil.NoSuchProcess):
            if sum(encodes(child) for child in found) == 2:
                return found
        time.sleep(0.02)
    raise AssertionError("no ffmpeg was started")


def survivors(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Return those that still run. A zombie does not: it waits for an init that may not reap it."""
    deadline = time.monotonic() + seconds
    alive = processes
    while alive and time.monotonic() < deadline:
        time.sleep(0.02)
        alive = [one for one in alive if runs(one)]
    return alive


def runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_normal_command_is_quick_and_quiet(command: list[str]) -> None:
    started = time.monotonic()
    process = start([*command, "quick"])
    out, err = process.communicate(timeout=90)
    assert (process.returncode, out, err) == (0, "[0, 2, 4, 6, 8]\n", "")
    assert time.monotonic() - started < 60  # 1.5 on two idle cores


def test_kill_9_of_the_command_leaves_no_process(command: list[str]) -> None:
    process = start(command)
    found = wait_until_encoding(process)
    assert len(found) >= 4
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert survivors(found, 15) == []
    process.communicate()


def test_ctrl_c_is_quick_and_leaves_no_process(command: list[str]) -> None:
    process = start(command)
    found = wait_until_encoding(process)
    started = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - started < 15  # 0.5 on idle cores; the tasks take 60
    assert survivors(found, 5) == []
    # The command's own traceback and nothing from Dask or the workers.
    assert err.count("Traceback") == 1, err
    assert err.rstrip().endswith("KeyboardInterrupt")


def test_kill_9_of_a_worker_kills_its_ffmpeg_and_starts_the_task_again(
    command: list[str], tmp_path: Path
) -> None:
    process = start(command)
    try:
        found = wait_until_encoding(process)
        encoding = next(child for child in found if encodes(child))
        worker = encoding.parent()
        assert worker is not None
        worker.kill()
        assert survivors([encoding], 15) == []
        wait_until_encoding(process)
        assert len((tmp_path / "log").read_text().split()) == 3
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
