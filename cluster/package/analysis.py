"""Verbs that look at a title or a package and change neither. They report, and print nothing."""

from __future__ import annotations

from pathlib import Path

from cluster import events
from cluster.package import assemble
from cluster.package.inspect import ListedShots
from cluster.stages.title import find_shots, open_title
from cluster.store import open_store
from encoder.package.verify import VerifyReport
from ladder.document import Ladder


def shots_of_source(path: Path, store: Path | str | None, on_event: events.Listener) -> ListedShots:
    """The shots of a video, from the store or by the analysis pass, kept for a later run.

    Raises:
        SourceUnusable: it cannot be read, or not by us.
    """
    kept = open_store(store)
    with kept.scratch() as workdir:
        source = open_title(path, workdir)
        reference = source.reference
        stage = events.StagePlanned("shots", total=reference.frames, unit="frames")
        on_event(stage)
        found = find_shots(source, kept.place)
        on_event(events.StageProgress("shots", done=stage.total, total=stage.total))
    return ListedShots(path.name, reference.frame_rate, found)


def verify_package(directory: Path, ladder: Ladder, on_event: events.Listener) -> VerifyReport:
    """Decode a package and compare every frame with those that were scored.

    Raises:
        VerificationFailed: it is not what was measured.
    """
    rungs = len(ladder.rungs)
    on_event(events.StagePlanned("verify", total=rungs, unit="rungs"))
    done = assemble.verify_directory(directory, ladder.rungs, ladder.title.frame_rate)
    on_event(events.StageProgress("verify", done=rungs, total=rungs))
    return done
