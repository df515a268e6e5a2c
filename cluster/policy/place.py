"""Where a service keeps what its policies need, below its folder DATA.

::

    policy/ledger.db            decisions and outcomes, until they are in the log
    policy/log/decisions/HOUR.parquet, policy/log/outcomes/HOUR.parquet
    policy/pools/POOL.parquet   features of every pool that was decided from
    policy/policies/NAME.safetensors
    policy/promotions.jsonl     which policy was made live, and when
    policy/questions.jsonl      every time that a promotion was asked for
    policy/shadow               name of the policy that is logged beside the live one
    policy/keys                 keys of decision ids, the one that signs first
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path

from encoder.errors import BadInput

WINDOW_SECONDS = 24 * 3600.0
"""Time after a decision in which what the viewer does counts as its outcome."""
LATE_SECONDS = 7 * 24 * 3600.0
"""Time after a decision in which reports about it are taken."""
HOUR_FORMAT = "%Y-%m-%dT%H"


@dataclass(frozen=True, slots=True)
class Place:
    """The files of policies in the folder ``root``."""

    root: Path

    @staticmethod
    def of(data: Path) -> Place:
        """Return the place in a service's folder."""
        return Place(data / "policy")

    @staticmethod
    def existing(data: Path) -> Place:
        """Return the place in a service's folder.

        Raises:
            BadInput: no service has decided anything there.
        """
        place = Place.of(data)
        if not place.ledger.exists():
            raise BadInput(
                f"{data} has no decisions; give the --data folder of a service that was asked for "
                "decisions (POST /v1/decisions)"
            )
        return place

    @property
    def ledger(self) -> Path:
        """Tables of decisions and outcomes that are not in the log yet."""
        return self.root / "ledger.db"

    @property
    def decisions(self) -> Path:
        """Folder of the hours of decisions."""
        return self.root / "log" / "decisions"

    @property
    def outcomes(self) -> Path:
        """Folder of the hours of outcomes, by when they were received."""
        return self.root / "log" / "outcomes"

    @property
    def pools(self) -> Path:
        """Folder of the features of pools."""
        return self.root / "pools"

    @property
    def policies(self) -> Path:
        """Folder of policies."""
        return self.root / "policies"

    @property
    def keys(self) -> Path:
        """Keys of decision ids."""
        return self.root / "keys"


def hour_of(seconds: float) -> str:
    """Return the name of the hour (UTC) in which a moment lies."""
    return _hour_name(int(seconds // 3600))


@lru_cache(maxsize=64)
def _hour_name(hours: int) -> str:
    return datetime.fromtimestamp(3600 * hours, UTC).strftime(HOUR_FORMAT)


def hour_end(hour: str) -> float:
    """Return when an hour ends, in seconds since the epoch.

    Raises:
        BadInput: it is not the name of an hour.
    """
    try:
        begin = datetime.strptime(hour, HOUR_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        raise BadInput(f"{hour!r} is not an hour; give it as 2026-01-31T09, in UTC") from None
    return (begin + timedelta(hours=1)).timestamp()


def day_of(seconds: float, starts_hour: int = 0) -> date:
    """Return the day in which a moment lies; days start at ``starts_hour`` o'clock UTC."""
    return datetime.fromtimestamp(seconds - 3600 * starts_hour, UTC).date()


def day_start(day: date, starts_hour: int = 0) -> float:
    """Return when a day starts, in seconds since the epoch."""
    return datetime(day.year, day.month, day.day, starts_hour, tzinfo=UTC).timestamp()
