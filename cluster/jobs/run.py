"""The main job: a title in, a verified package out.

:func:`run_title` is the whole pipeline on a page, in the order of the data. It never prints;
progress goes to ``on_event`` as :mod:`cluster.events`. Everything made on the way is in the store,
so a run that is killed at any moment continues when it is started again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import events
from cluster.execution.executor import Executor
from cluster.jobs.clock import Clock
from cluster.jobs.deliver import deliver, further_models
from cluster.jobs.history import recorded
from cluster.jobs.opening import opened_title
from cluster.jobs.past_runs import announce
from cluster.jobs.recipe_check import check_recipes
from cluster.jobs.request import LadderRequest, RunOptions
from cluster.jobs.setup import set_up
from cluster.jobs.solve import solve
from cluster.package.publish import check_output
from cluster.stages.analysis import features_key, shots_key
from cluster.stages.measurer import Measurer
from cluster.store.manifests import Manifest
from cluster.store.place import store_place
from ladder.document import Ladder


@dataclass(frozen=True, slots=True)
class RunResult:
    """A finished run."""

    ladder: Ladder
    out: Path
    """Folder of the package."""
    run: dict[str, Any]
    """Content of ``run.json``. That file, and the report, which shows it, are all that differs
    between two runs of the same title."""
    manifest: Manifest
    """What the store remembers of the run."""


def run_title(
    options: RunOptions, on_event: events.Listener, executor: Executor | None = None
) -> RunResult:
    """Make a package at ``options.out`` from the title at ``options.source``.

    Raises:
        BadInput: an option cannot be satisfied; nothing was written to ``options.out``.
        Infeasible: no ladder satisfies the profile's constraints.
        ToolFailed, VerificationFailed, StoreUnusable: the run failed; what was finished is kept.
    """
    clock = Clock()
    request = LadderRequest.of(options)
    request.check_encoders()
    place = store_place(options.store)
    check_output(options.out, keep=[options.source, *([place] if isinstance(place, Path) else [])])
    with opened_title(request, place, recorded, on_event, executor) as opened:
        request, title, record = opened.request, opened.title, opened.record
        setups = set_up(request, title, opened.store, opened.executor, on_event)
        models = (setups[0].quality_model,)
        measurer = Measurer(title, models, opened.store, opened.executor, on_event)
        planned = announce(setups, measurer, opened.analysis_seconds)
        checked = check_recipes(request, setups, measurer)
        solved = [solve(setup, measurer) for setup in checked.setups]
        ladder, run = deliver(request, solved, checked, measurer, planned, clock)
        record.keys.update(measurer.record_keys(further_models(request, measurer)))
        record.keys.update(checked.record_keys)
        record.keys.update([shots_key(title.source), features_key(title.source)])
        record.finish(options.out, len(ladder.rungs), run)
    return RunResult(ladder, options.out, run, record.manifest)
