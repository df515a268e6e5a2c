"""After how many views a ladder has paid for its encoding: egress saved against CPU spent. Pure.

A view is one viewer who watches the whole title. What a view saves is stated at equal quality: the
BD-rate against the fixed ladder, of the bits that a viewer of the fixed ladder receives. The bits
that viewers really receive would not do: a ladder that looks worse would seem to save.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from encoder.errors import BadInput

EGRESS_PER_GB = 0.02
"""Price of delivering 10^9 bytes, in any currency; of the order of a CDN's price for large
volumes in US dollars."""
CPU_PER_HOUR = 0.04
"""Price of one core for an hour, in the same currency; of the order of a rented core."""


@dataclass(frozen=True, slots=True)
class Prices:
    """What delivering and computing cost, in one currency.

    Raises:
        BadInput: a price is negative, or egress is free, so that nothing can pay.
    """

    egress_per_gb: float = EGRESS_PER_GB
    """Price of delivering 10^9 bytes."""
    cpu_per_hour: float = CPU_PER_HOUR
    """Price of one core for an hour."""

    def __post_init__(self) -> None:
        if not (self.egress_per_gb > 0 and self.cpu_per_hour >= 0):
            raise BadInput(
                f"the prices are {self.egress_per_gb:g} for egress and {self.cpu_per_hour:g} for "
                "CPU; give a positive price of 10^9 bytes, and a price of an hour of a core that "
                "is not negative"
            )


@dataclass(frozen=True, slots=True)
class Payback:
    """What a ladder costs once, and what each view of it saves."""

    cpu_hours: float
    """CPU hours of the whole job."""
    cost: float
    """Price of the job's CPU."""
    saved_bytes: float
    """Bytes that a view saves against the fixed ladder at equal quality; negative where it takes
    more."""
    saved: float
    """Price of those bytes."""

    @property
    def views(self) -> float | None:
        """Views after which the ladder has paid for its CPU; None where no number is enough."""
        return self.cost / self.saved if self.saved > 0 else None


def payback(
    percent: float, fixed_rate: float, seconds: Fraction | float, cpu_hours: float, prices: Prices
) -> Payback:
    """Return when a ladder pays.

    Args:
        percent: BD-rate against the fixed ladder; negative for fewer bits.
        fixed_rate: Mean rate in bit/s that viewers receive from the fixed ladder.
        seconds: Duration of the title.
        cpu_hours: CPU hours of the job that made the ladder.
        prices: Prices of egress and CPU.
    """
    saved_bytes = -percent / 100 * fixed_rate * float(seconds) / 8
    return Payback(
        cpu_hours=cpu_hours,
        cost=cpu_hours * prices.cpu_per_hour,
        saved_bytes=saved_bytes,
        saved=saved_bytes / 1e9 * prices.egress_per_gb,
    )
