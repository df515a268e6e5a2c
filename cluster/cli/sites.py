"""``shotladder prefetch fill`` and ``simulate``: what sites of limited size hold."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli.command import command, option
from cluster.cli.output import Output
from cluster.cli.prefetch import read_bytes
from encoder.errors import BadInput

if TYPE_CHECKING:
    from recommender.sites.catalogue import Catalogue
    from recommender.sites.filling import FillRules
    from recommender.sites.history import History
    from recommender.sites.planning import PeakHours
    from recommender.sites.sessions import Requests

Directories = Annotated[
    tuple[Path, ...],
    typer.Argument(metavar="DIR...", help="Directories of finished packages, one or more."),
]


@dataclass(frozen=True, slots=True)
class PlayOptions:
    """What is known of plays."""

    log: Path | None = option(
        None,
        metavar="CSV",
        help="Log of plays with the columns `time` and `title` (a DIR or its last part), and "
        "optionally `site`, `position_seconds`, `watched_seconds` and `kbps`.",
    )
    forecast: Path | None = option(
        None,
        metavar="CSV",
        help="Expected plays a day: columns `title`, `plays` and optionally `date`; without a "
        "date they are of the day that is planned.",
    )
    releases: Path | None = option(
        None,
        metavar="CSV",
        help="Days of releases: columns `title` and `date`. A new title is expected to have "
        "what launches had. Titles that are not listed were there from the log's beginning.",
    )
    day_starts: float = option(
        4.0, metavar="HOUR", min=0, max=24, help="Hour, UTC, at which sites are filled."
    )
    peak: str = option("18-23", metavar="H-H", help="Peak hours, UTC, in which nothing is filled.")


@dataclass(frozen=True, slots=True)
class RuleOptions:
    """What a fill plan is for."""

    objective: str = option(
        "offload", metavar="NAME", help="`offload`, `offload-net`, `hits` or `starts`."
    )
    start_weight: float = option(
        8.0, metavar="W", help="Requests that one for a title's start is worth."
    )
    start_seconds: float = option(8.0, metavar="S", help="Length of a title's start.")
    share: float | None = option(
        None,
        metavar="SHARE",
        min=0,
        max=1,
        help="Share of the site that is planned; the rest is left to the pull cache. [default: "
        "with a log the share that would have been best lately, else 1]",
    )
    fill_price: float = option(
        0.9,
        metavar="P",
        min=0,
        help="What a byte costs that is pulled ahead, where one that misses costs 1.",
    )
    held_bonus: float = option(
        0.0, metavar="N", min=0, help="Requests a day by which files that are there are favoured."
    )
    fill: str | None = option(
        None, metavar="BYTES", help="Fill budget: most bytes to pull ahead. [default: no limit]"
    )

    def rules(self) -> FillRules:
        """Return what they mean.

        Raises:
            BadInput: an option is invalid.
        """
        from cluster.cli.prefetch import read_objective
        from recommender.caching import Goal, Objective
        from recommender.sites.filling import FillRules

        objective = read_objective(self.objective)
        unweighted = objective in (Objective.QUALITY, Objective.STARTS)
        weight = 1.0 if unweighted else self.start_weight
        return FillRules(
            Goal(objective, weight, self.start_seconds),
            1.0 if self.share is None else self.share,
            self.fill_price,
            self.held_bonus,
            None if self.fill is None else read_bytes(self.fill, "--fill"),
        )


@command
def fill(
    output: Output,
    directories: Directories,
    plays: PlayOptions,
    rules: RuleOptions,
    site: tuple[str, ...] = option(
        (), metavar="NAME=BYTES", help="A site and its capacity, such as `rome=20G`. Repeatable."
    ),
    plans: Path | None = option(
        None,
        metavar="DIR",
        help="Folder that keeps each site's plan: what a site holds is what its last plan said.",
    ),
    held: tuple[str, ...] = option(
        (),
        metavar="NAME=FILE",
        help="What a site really holds: SHA-256 digests, one a line. Repeatable.",
    ),
    top: int = option(5, metavar="N", min=0, help="Files to show of each; `--json` lists all."),
) -> None:
    """Plan the files to add to each site and to remove from it, from a log or a forecast."""
    from cluster.cli.views.sites import SiteShown, fill_view, plan_lines
    from cluster.package.fill_plans import read_plan, write_plan
    from recommender.sites.planning import plan_site

    capacities = _by_name(site, "--site", "rome=20G")
    if not capacities:
        raise BadInput("fill plans sites; name each with its capacity, such as --site rome=20G")
    holds = _by_name(held, "--held", "rome=held")
    for name in holds.keys() - capacities.keys():
        raise BadInput(f"--held names the site {name!r}, which no --site does")
    if plays.log is None and plays.forecast is None:
        raise BadInput("what is played is not known; give a --log of plays, a --forecast or both")
    known, chosen, peak = _catalogue(directories), rules.rules(), _hours(plays.peak)
    past, shown = _Past(plays, known), []
    for name, size in capacities.items():
        last = read_plan(plans, name) if plans is not None else None
        digests = _digests(Path(holds[name])) if name in holds else (last.keep if last else [])
        mask, gone = known.mask_of(digests)
        history = past.of(name)
        followed = None
        if rules.share is None and plays.log is not None:
            followed = history, past.requests(name, history)
        planned = plan_site(
            *(known, name, read_bytes(size, "--site"), mask, history.before(history.days)),
            chosen,
            followed=followed,
        )
        shown.append(SiteShown(planned, peak, history.calibration() if plays.log else None, gone))
    for each in shown if plans is not None else ():
        assert plans is not None
        write_plan(plans, each.site.document(known))
    output.finish(
        lines=plan_lines(shown, known),
        result={"sites": len(shown), "unknown_plays": sum(past.unknown.values())},
        view=lambda: fill_view(shown, known, past.unknown, top),
    )


@command
def simulate(
    output: Output,
    directories: Directories,
    plays: PlayOptions,
    rules: RuleOptions,
    site: str = option("", metavar="NAME", help="Site whose plays of the log are replayed."),
    capacity: tuple[str, ...] = option(
        (), metavar="BYTES", help="Size of the cache, such as `20G`. Repeatable."
    ),
    cache: tuple[str, ...] = option(
        ("lru", "s3fifo", "plan", "follow"),
        metavar="NAME",
        help="`lru`, `s3fifo`, `plan` (of `--share`, beside S3-FIFO) or `follow` (its share "
        "follows what would have been best). Repeatable.",
    ),
    warm_days: int = option(2, metavar="N", min=0, help="First days that are not counted."),
) -> None:
    """Replay a log of plays: what caches and plans would have saved of it."""
    from cluster.cli.views.sites import simulation_view
    from recommender.sites.replay import replay
    from recommender.sites.sessions import hours_of

    if plays.log is None:
        raise BadInput("simulate replays a log of plays; give it with --log")
    sizes = [read_bytes(text, "--capacity") for text in capacity]
    if not sizes:
        raise BadInput("give the size of the cache with --capacity, such as --capacity 20G")
    known, chosen, peak = _catalogue(directories), rules.rules(), _hours(plays.peak)
    past = _Past(plays, known)
    history = past.of(site)
    days = past.requests(site, history)
    forecasts = [history.before(day) for day in range(history.days)]
    measured = [
        (
            size,
            replay(
                *(name, known.files, days, forecasts, size, chosen),
                warm_days=warm_days,
                peak=lambda requests: peak.contain(hours_of(requests.time)),
            ),
        )
        for size in sizes
        for name in cache
    ]
    calibration = history.calibration()
    output.finish(
        lines=[
            ("simulated_cache", {"capacity_bytes": size, **_finite(asdict(row))})
            for size, row in measured
        ],
        result={
            "days": history.days - warm_days,
            "inside_band": None if calibration[1] == 0 else calibration[0],
            "compared": calibration[1],
            "unknown_plays": sum(past.unknown.values()),
        },
        view=lambda: simulation_view(
            measured, int(known.files.num_bytes.sum()), calibration, past.unknown
        ),
    )


class _Past:
    """What the options say of past plays."""

    def __init__(self, options: PlayOptions, known: Catalogue) -> None:
        from cluster.cli.plays import read_forecasts, read_plays, read_releases
        from recommender.sites.sessions import day_of

        self._options, self._known = options, known
        self._log = None if options.log is None else read_plays(options.log, known.names)
        self.unknown: Mapping[str, int] = {} if self._log is None else self._log.unknown
        times = [] if self._log is None else [each.time for each in self._log.sites.values()]
        starts = options.day_starts
        self._last = max((int(day_of(time[-1:], starts)[0]) for time in times), default=-1)
        forecast, releases = options.forecast, options.releases
        today = self._last + 1
        self._forecasts = read_forecasts(forecast, known.names, today) if forecast else {}
        self._releases = read_releases(releases, known.names) if releases else {}

    def of(self, site: str) -> History:
        """Return what is known of a site's past plays."""
        from recommender.sites.history import history_of, unplayed

        if self._log is None:
            forecast = next(iter(self._forecasts.values())) if len(self._forecasts) == 1 else None
            if forecast is None:
                raise BadInput("without a --log the --forecast has to be of one day")
            return unplayed(len(self._known.titles), forecast)
        return history_of(
            self._log.of(site),
            len(self._known.titles),
            last_day=self._last,
            day_starts=self._options.day_starts,
            forecasts=self._forecasts,
            releases=self._releases,
        )

    def requests(self, site: str, history: History) -> list[Requests]:
        """Return the requests of each day of a site's past plays."""
        from recommender.sites.planning import requests_by_day
        from recommender.sites.sessions import day_of, requests_of

        assert self._log is not None
        requests = requests_of(self._known.titles, self._log.of(site))
        day = day_of(requests.time, self._options.day_starts)
        return requests_by_day(requests, day, history.first_day, history.days)


def _catalogue(directories: tuple[Path, ...]) -> Catalogue:
    """Return the titles; a directory's last part is a name too where no other has it."""
    from cluster.package.documents import read_prefetch
    from recommender.sites.catalogue import catalogue

    lasts = Counter(path.name for path in directories)
    return catalogue(
        {
            name: prefetch
            for path in directories
            for prefetch in (read_prefetch(path),)
            for name in dict.fromkeys([path.name] * (lasts[path.name] == 1) + [str(path)])
        }
    )


def _by_name(texts: tuple[str, ...], name: str, example: str) -> dict[str, str]:
    values = dict[str, str]()
    for text in texts:
        left, right = _named(text, name, example)
        if left in values:
            raise BadInput(f"{name} names {left!r} twice; give each site once")
        values[left] = right
    return values


def _named(text: str, name: str, example: str) -> tuple[str, str]:
    left, _, right = text.partition("=")
    if not left or not right:
        raise BadInput(f"{name} takes NAME=VALUE, such as {example}; got {text!r}")
    return left, right


def _hours(text: str) -> PeakHours:
    from recommender.sites.planning import PeakHours

    try:
        begin, end = (float(part) for part in text.split("-"))
    except ValueError:
        raise BadInput(f"--peak takes two hours, such as 18-23; got {text!r}") from None
    return PeakHours(begin, end)


def _digests(path: Path) -> list[str]:
    try:
        lines = path.read_text("utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"--held {path} cannot be read") from error
    for line in lines:
        if not re.fullmatch("[0-9a-f]{64}", line):
            raise BadInput(f"--held {path}: {line!r:.80} is no SHA-256 digest in lower case")
    return lines


def _finite(row: dict[str, object]) -> dict[str, object]:
    """Return a row in which what is not known is None, as JSON has no nan."""
    return {
        key: None if isinstance(value, float) and value != value else value
        for key, value in row.items()
    }
