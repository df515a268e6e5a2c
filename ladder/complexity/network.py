"""A small ensemble of networks: from a shot and a recipe to the shot's rate and quality curves.

The networks never see the CRF. For a shot at one size under one recipe they give the coefficients
of curves over the CRF, ``level - sum(drop_k x ramp_k(position))``. Every drop is positive and every
ramp rises, so rate and quality fall with CRF whatever the weights are. All members are trained
side by side, as one batch of matrices; their mean is the prediction.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

RAMPS = 5
"""Number of ramps of a curve, which is how many bends it can have."""
HIDDEN = 48
"""Number of units of each of the two hidden layers."""
DROPOUT = 0.1
"""Share of hidden units that are left out at each training step."""


def ramps(position: Tensor) -> Tensor:
    """Return rising functions of the position on the CRF scale, ``[...]`` to ``[..., RAMPS]``.

    They are integrals of quadratic B-splines that rise by 1 each and are 0 at position 0, the
    middle of the codec's scale. Sums of them with positive weights rise everywhere and have a
    continuous second derivative (I-splines; Ramsay, "Monotone regression splines in action",
    Statistical Science 3, 1988).
    """
    step = 2.0 / (RAMPS - 2)
    starts = (
        torch.arange(RAMPS, dtype=position.dtype, device=position.device) * step - 1.0 - 2 * step
    )
    return _rise((position.unsqueeze(-1) - starts) / step) - _rise(-starts / step)


def _rise(t: Tensor) -> Tensor:
    """Return the integral of the quadratic B-spline on [0, 3]."""
    t = t.clamp(0.0, 3.0)
    cubes = [(t - knot).clamp(min=0.0) ** 3 for knot in range(4)]
    return (cubes[0] - 3 * cubes[1] + 3 * cubes[2] - cubes[3]) / 6


class Layer(nn.Module):
    """One linear layer per member, shape ``[members, batch, inputs]`` to ``[..., outputs]``."""

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        scale = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.randn(members, inputs, outputs) * scale)
        self.bias = nn.Parameter(torch.zeros(members, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Apply every member's layer in one batched product."""
        return torch.baddbmm(self.bias, x, self.weight)


class CurveNetworks(nn.Module):
    """``members`` networks with ``curves`` curves each: first log rate, then warped qualities."""

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
        """Return levels ``[members, batch, curves]`` and positive drops ``[..., curves, RAMPS]``.

        ``inputs`` are standardised, shape ``[batch, inputs]``.
        """
        hidden = self.body(inputs.expand(self.members, *inputs.shape))
        out = self.head(hidden).unflatten(-1, (self.curves, 1 + RAMPS))
        return out[..., 0], nn.functional.softplus(out[..., 1:])

    def forward(self, inputs: Tensor, position: Tensor) -> Tensor:
        """Return every member's curves at one position per row: ``[members, batch, curves]``."""
        levels, drops = self.coefficients(inputs)
        return levels - (drops * ramps(position)[:, None, :]).sum(-1)
