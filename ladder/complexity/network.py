"""A small ensemble of networks: what a shot is and how it is encoded in, its curves out.

The networks never see the CRF. They give, for a shot at one size under one recipe, the
coefficients of two curves over it: ``level - sum(drop_k x ramp_k(position))`` with every drop
positive and every ramp rising, so that rate and quality fall with CRF whatever the weights are.
All members are trained side by side, as one batch of matrices; their mean is the prediction and
their spread says how far it can be trusted away from what they were trained on.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

RAMPS = 5
"""Of a curve: how many bends it can have."""
HIDDEN = 48
"""Units of each of the two hidden layers."""
DROPOUT = 0.1


def ramps(position: Tensor) -> Tensor:
    """Rising functions of the position on the CRF scale, shape ``[...]`` to ``[..., RAMPS]``.

    Integrals of quadratic B-splines, from 0 to 1 each and centred to be 0 at position 0, the middle
    of the codec's scale (its ends are -1 and 1): sums with positive weights rise everywhere and
    have a continuous second derivative (I-splines; Ramsay, "Monotone regression splines in
    action", Statistical Science 3, 1988).
    """
    step = 2.0 / (RAMPS - 2)
    starts = (
        torch.arange(RAMPS, dtype=position.dtype, device=position.device) * step - 1.0 - 2 * step
    )
    return _rise((position.unsqueeze(-1) - starts) / step) - _rise(-starts / step)


def _rise(t: Tensor) -> Tensor:
    """Integral of the quadratic B-spline on [0, 3]."""
    t = t.clamp(0.0, 3.0)
    cubes = [(t - knot).clamp(min=0.0) ** 3 for knot in range(4)]
    return (cubes[0] - 3 * cubes[1] + 3 * cubes[2] - cubes[3]) / 6


class Layer(nn.Module):
    """A linear layer of every member, shape ``[members, batch, inputs]`` to ``[..., outputs]``."""

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        scale = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.randn(members, inputs, outputs) * scale)
        self.bias = nn.Parameter(torch.zeros(members, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """One batched product."""
        return torch.baddbmm(self.bias, x, self.weight)


class CurveNetworks(nn.Module):
    """``members`` networks with ``curves`` curves each: log rate first, then warped qualities."""

    def __init__(self, members: int, inputs: int, curves: int) -> None:
        super().__init__()
        self.curves = curves
        self.members = members
        self.body = nn.Sequential(
            Layer(members, inputs, HIDDEN),
            nn.SiLU(),
            nn.Dropout(DROPOUT),
            Layer(members, HIDDEN, HIDDEN),
            nn.SiLU(),
            nn.Dropout(DROPOUT),
        )
        self.head = Layer(members, HIDDEN, curves * (1 + RAMPS))
        with torch.no_grad():  # start from gentle curves
            self.head.weight.mul_(0.1)

    def coefficients(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Levels ``[members, batch, curves]`` and positive drops ``[..., curves, RAMPS]``.

        ``inputs`` is ``[batch, inputs]``, standardised.
        """
        hidden = self.body(inputs.expand(self.members, *inputs.shape))
        out = self.head(hidden).unflatten(-1, (self.curves, 1 + RAMPS))
        return out[..., 0], nn.functional.softplus(out[..., 1:])

    def forward(self, inputs: Tensor, position: Tensor) -> Tensor:
        """Return every member's curves at one position per row: ``[members, batch, curves]``."""
        levels, drops = self.coefficients(inputs)
        return levels - (drops * ramps(position)[:, None, :]).sum(-1)
