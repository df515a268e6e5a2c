"""Probabilities of pictures: for a policy that knows nothing yet, and for one that has learned.

Every probability is one that the draw really has, so that a log can be used again.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from encoder.arrays import Float64, Mask

UNTRAINED: Final = "quality-softmax/1"
"""Name of the policy that chooses before any other was trained."""
FIRST_PICTURES: Final = 12
"""Pictures of a pool among which an untrained policy chooses: 10 % over 48 would mean weights of
480, with which a log of realistic length says nothing."""
FIRST_UNIFORM: Final = 0.1
QUALITY_STEP: Final = 0.25
"""Difference of quality by which a picture is e times as likely, untrained."""

UNIFORM: Final = 0.01
"""Share of the choices that a trained policy makes evenly over all pictures that are allowed."""
LOGIT_STEP: Final = 0.03
"""Difference of logits by which a picture is e times as likely, trained. Of 0.1, 0.05 and 0.03 the
last took the most in the simulator, with weak effects on seeds 11 and 12, with strong ones on 11.
"""


def softmax(scores: Float64, allowed: Mask, step: float, uniform: float) -> Float64:
    """Return probabilities by which a score that is higher by ``step`` is e times as likely, mixed
    with a share ``uniform`` of even ones.

    Args:
        scores: those of the pictures of one title, (pictures,), or of several, (..., pictures).
        allowed: which may be chosen, at least one of each title; the others have probability 0.
    """
    masked = np.where(allowed, scores, -np.inf)
    weights = np.exp((masked - masked.max(axis=-1, keepdims=True)) / step)
    weights *= (1 - uniform) / weights.sum(axis=-1, keepdims=True)
    weights += allowed * (uniform / allowed.sum(axis=-1, keepdims=True))
    return np.asarray(weights, np.float64)


def untrained(quality: Float64, allowed: Mask) -> Float64:
    """Return probabilities by quality, (..., pictures), over the first dozen that are allowed.

    Pictures are in the order of their pool, which has one of every cluster before a second of any,
    so the dozen differs in what it shows. The others have probability 0.
    """
    first = allowed & (allowed.cumsum(axis=-1) <= FIRST_PICTURES)
    return softmax(quality, first, QUALITY_STEP, FIRST_UNIFORM)


def trained(
    effects: Float64,
    context: Float64,
    allowed: Mask,
    *,
    step: float = LOGIT_STEP,
    uniform: float = UNIFORM,
) -> Float64:
    """Return probabilities by expected logits, (..., pictures), over all that are allowed.

    Args:
        effects: those of :meth:`.effects.Effects.picture_effects`, (..., pictures, 1 + context).
        context: of the viewer, (context,).
        allowed: which pictures may be shown, at least one of each title, (..., pictures).
        step: difference of logits by which a picture is e times as likely.
        uniform: share of even choices, so that every picture is tried and no weight of the log is
            above pictures / uniform.
    """
    return softmax(effects[..., 0] + effects[..., 1:] @ context, allowed, step, uniform)
