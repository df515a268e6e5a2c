"""``shotladder policy``: learn which artwork to show, from what a service has logged."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster.cli.command import argument, command, option
from cluster.cli.output import Output
from encoder.errors import BadInput, GateFailed

policy_app = typer.Typer(
    name="policy", help="Learn which artwork to show, from the decisions of a service."
)


@dataclass(frozen=True, slots=True)
class LogFlags:
    """Options of the commands that read the log of a service."""

    data: Path = option(
        Path("shotladder-service"), metavar="DIR", help="The --data folder of the service."
    )
    settled: float = option(
        24.0,
        metavar="HOURS",
        min=0,
        help="Leave out decisions of the last HOURS, whose outcomes may still come. With fewer "
        "than 24, titles that are played late count as not taken.",
    )
    min_minutes: float = option(
        0.0,
        metavar="MINUTES",
        min=0,
        help="Minutes for which a title must be played to count as taken.",
    )

    def opened(self) -> tuple[Any, Any, float]:
        """Return the log, the policies, and until when outcomes are settled, after writing the
        hours that are over.

        Raises:
            BadInput: no service has decided anything in this folder.
        """
        from cluster.policy.ledger import Ledger
        from cluster.policy.logbook import Logbook
        from cluster.policy.place import Place
        from cluster.policy.registry import Registry

        place = Place.existing(self.data)
        ledger = Ledger(place)
        try:
            ledger.write_log(time.time())
        finally:
            ledger.close()
        logbook = Logbook(place, min_minutes=self.min_minutes)
        return logbook, Registry(place), time.time() - 3600 * self.settled


@policy_app.command("simulate")
@command
def simulate(
    output: Output,
    *,
    directories: tuple[Path, ...] = argument(
        (), metavar="[DIR]...", help="Finished packages whose pools are used. [default: made up]"
    ),
    titles: int = option(40, metavar="N", min=2, help="Number of titles, where they are made up."),
    pictures: int = option(24, metavar="N", min=2, help="Pictures of each, where made up."),
    visits: int = option(200, metavar="N", min=1, help="Visits a day, of a row of titles each."),
    days: int = option(14, metavar="N", min=1, help="Days."),
    base_rate: float = option(
        0.05, metavar="SHARE", min=0.001, max=0.9, help="Share of titles taken, by average stills."
    ),
    effect: float = option(
        0.5,
        metavar="LOGITS",
        min=0,
        max=3,
        help="How much the picture matters: standard deviation on the scale of logits.",
    ),
    seed: int = option(1, metavar="N", min=0, help="Random seed of the viewers."),
) -> None:
    """Simulate how fast a policy would learn, on made-up viewers of your own pools.

    `recommender/policy/simulation.py` states what is assumed of viewers.
    """
    from cluster.cli.views.policy import simulated_view
    from cluster.package.documents import read_artwork
    from recommender.policy.features import FEATURES, pictures_of
    from recommender.policy.simulation import POLICIES, World, made_up_pools
    from recommender.policy.simulation import simulate as run

    pools = [pictures_of(read_artwork(each), str(each)) for each in directories]
    if not pools:
        pools = made_up_pools(titles, pictures, len(FEATURES), seed)
    if max(map(len, pools)) < 2:
        raise BadInput("no pool has two pictures, so there is nothing to choose; give other DIRs")
    world = World(base_rate, effect, visits, days, seed)
    results = [run(pools, world, name) for name in POLICIES]
    output.finish(
        lines=[("policy", asdict(each)) for each in results],
        result={"pools": len(pools), "pictures": sum(map(len, pools)), **asdict(world)},
        view=lambda: simulated_view(results),
    )


@policy_app.command("train")
@command
def train_policy(
    output: Output,
    *,
    log: LogFlags,
    anew: bool = option(
        False, "--anew", help="Learn from all hours again, instead of going on from the last one."
    ),
) -> None:
    """Train a policy on the hours of the log that are settled and that no policy has learned from.

    The same hours give the same file. It is used once `shotladder policy promote` says so.
    """
    from cluster.cli.views.policy import trained_view
    from cluster.policy.training import train

    logbook, registry, until = log.opened()
    trained = train(logbook, registry, settled_until=until, anew=anew)
    output.finish(
        result={
            "policy": trained.policy.name,
            "file": str(trained.path),
            "new_hours": trained.hours,
            "new_trials": trained.trials,
            "taken": trained.taken,
            "ignored_context": list(trained.ignored_context),
            **trained.policy.facts(),
        },
        view=lambda: trained_view(trained),
    )


_Name = Annotated[str, typer.Argument(metavar="POLICY", help="Name of a policy.")]


@policy_app.command("evaluate")
@command
def evaluate_policy(output: Output, name: _Name, *, log: LogFlags) -> None:
    """Estimate what a policy would have earned, on hours later than those it learned from.

    The estimates are IPS, SNIPS and cross-fitted DR with 90 % intervals, clustered by viewer and
    day. They are compared with what was logged, with the policy that needs no training, and with
    the one that was promoted last.
    """
    from cluster.cli.views.policy import evaluated_view
    from cluster.policy.evaluation import evaluate
    from recommender.policy.exploring import UNTRAINED

    logbook, registry, until = log.opened()
    against = [one for one in (UNTRAINED, registry.newest()) if one != name]
    found = evaluate(logbook, registry, name, against=against, until=until)
    output.finish(
        lines=[("policy", asdict(each)) for each in found.policies],
        result={
            "hours": len(found.hours),
            "decisions": found.decisions,
            "clusters": found.clusters,
            "logged_policies": list(found.logged_policies),
            "logged": asdict(found.logged),
            "gain": asdict(found.gain),
        },
        view=lambda: evaluated_view(found),
    )


@policy_app.command("promote")
@command
def promote_policy(
    output: Output,
    name: _Name,
    *,
    log: LogFlags,
    force: bool = option(
        False, "--force", help="Promote although the gate says no, for example to go back."
    ),
    shadow: bool = option(
        False, "--shadow", help="Do not promote it: log what it would do beside the live policy."
    ),
) -> None:
    """Make a policy live from the next day on, if it is better than the one promoted last.

    The lower bound of the gain must be above 0, at a confidence that grows with every question
    about the same incumbent, and the effective sample must be large enough.
    """
    from cluster.cli.views.policy import promoted_view
    from cluster.policy.evaluation import ask_promotion

    logbook, registry, until = log.opened()
    if shadow:
        registry.set_shadow(name)
        output.finish(result={"shadow": name}, view=lambda: f"{name} is logged as shadow from now")
        return
    if force:
        promotion = registry.promote(name, forced=True)
        output.finish(
            result=asdict(promotion), view=lambda: f"{name} is live from tomorrow, forced"
        )
        return
    verdict, found = ask_promotion(logbook, registry, name, until=until, now=time.time())
    result = {"policy": name, **asdict(verdict), "gain": asdict(found.gain)}
    if verdict.passed:
        result["promotion"] = asdict(registry.promote(name))
    failure = None
    if not verdict.passed:
        failure = GateFailed(f"{name} is not promoted: {'; '.join(verdict.reasons)}")
    output.finish(
        result=result,
        lines=[("verdict", result)],
        view=lambda: promoted_view(name, verdict, found),
        failure=failure,
    )


@policy_app.command("show")
@command
def show_policies(
    output: Output,
    *,
    log: LogFlags,
    worth: tuple[str, ...] = option(
        (),
        metavar="PROPERTY",
        help="Also show what a property of pictures, such as `faces`, went with. May be repeated.",
    ),
    drift: bool = option(
        False, "--drift", help="Also show how contexts and pictures moved since the last training."
    ),
) -> None:
    """Show the policies, which one is live and which its shadow, and what the log holds."""
    from cluster.cli.views.policy import policies_view
    from cluster.policy.evaluation import contrast_of, drift_of

    logbook, registry, until = log.opened()
    hours = logbook.hours()
    settled = logbook.hours(until=until)
    contrasts = [contrast_of(logbook.tried(settled), name) for name in worth]
    moved = []
    names = registry.names()
    if drift:
        if not names:
            raise BadInput("there is no policy whose training could be compared; train one first")
        learned = registry.policy(names[-1]).hours
        moved = drift_of(
            logbook.tried([hour for hour in hours if hour in set(learned)]),
            logbook.tried([hour for hour in hours if hour > learned[-1]]),
        )
    policies = [(name, registry.policy(name)) for name in names]
    facts = {
        "promoted": registry.newest(),
        "live": registry.live_at(time.time() - time.time() % 86400),
        "shadow": registry.shadow(),
        "hours": len(hours),
        "settled_hours": len(settled),
        "promotions": [asdict(each) for each in registry.promotions()],
    }
    output.finish(
        lines=[
            *(("policy", {"name": name, **policy.facts()}) for name, policy in policies),
            *(("contrast", asdict(each)) for each in contrasts),
            *(("drift", asdict(each) | {"shifted": each.shifted}) for each in moved),
        ],
        result=facts,
        view=lambda: policies_view(policies, facts, contrasts, moved),
    )
