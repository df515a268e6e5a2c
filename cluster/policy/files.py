"""A trained policy as a file: ``policies/NAME.safetensors``, written once and never changed."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from cluster.store.files import atomic_write
from encoder.arrays import AnyArray, Float64
from encoder.errors import BadInput
from recommender.policy.effects import Block, Effects, Priors
from recommender.policy.features import FEATURES, FEATURES_VERSION

POLICY_SCHEMA: Final = "shotladder/policy/1"
CLIP: Final = 4.0
"""Standard deviations to which context features are clipped, so that no viewer is an outlier."""


@dataclass(frozen=True, slots=True)
class ContextScale:
    """Which context features a policy uses, and how they are brought to variance 1."""

    names: tuple[str, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]

    def scaled(self, context: Mapping[str, float]) -> Float64:
        """Return a context as the policy takes it, (names,); a feature that is missing counts as
        average."""
        means = np.array(self.means)
        values = np.array(
            [context.get(name, mean) for name, mean in zip(self.names, self.means, strict=True)]
        )
        return np.asarray(np.clip((values - means) / np.array(self.deviations), -CLIP, CLIP))


@dataclass(frozen=True)
class TrainedPolicy:
    """A policy and how it came to be."""

    effects: Effects
    context: ContextScale
    parent: str | None
    """Name of the policy from which training went on; None if it began anew."""
    hours: tuple[str, ...]
    """Hours of decisions that it learned from, its parent's included."""
    trials: int
    """Number of decisions that it learned from."""
    loss: float
    """Mean of minus the log of the probability given to what came, before learning from it."""

    def facts(self) -> dict[str, Any]:
        """Return what is told of the policy."""
        return {
            "parent": self.parent,
            "first_hour": self.hours[0] if self.hours else None,
            "last_hour": self.hours[-1] if self.hours else None,
            "hours": len(self.hours),
            "trials": self.trials,
            "loss": self.loss,
            "titles": len(self.effects.titles),
            "pictures": len(self.effects.pictures),
            "context": list(self.context.names),
        }

    @cached_property
    def content(self) -> bytes:
        """The bytes of the file."""
        effects = self.effects
        about = {
            "schema": POLICY_SCHEMA,
            "features": list(FEATURES),
            "features_version": FEATURES_VERSION,
            "context": asdict(self.context),
            "priors": asdict(effects.priors),
            "num_features": effects.num_features,
            "titles": list(effects.titles),
            "pictures": list(effects.pictures),
            "seen": effects.seen,
            "total_loss": effects.loss,
            **({"days": effects.days} if effects.days else {}),
            "parent": self.parent,
            "hours": list(self.hours),
            "trials": self.trials,
            "loss": self.loss,
        }
        size = effects.num_context + 1
        tensors: dict[str, AnyArray] = {
            "shared_mean": effects.shared.mean,
            "shared_covariance": effects.shared.covariance.astype(np.float32),
        }
        for name, blocks in (("title", effects.titles), ("picture", effects.pictures)):
            held = list(blocks.values())
            means = np.array([block.mean for block in held]).reshape(-1, size)
            covariances = np.array([block.covariance for block in held]).reshape(-1, size, size)
            tensors[f"{name}_means"] = means.astype(np.float32)
            tensors[f"{name}_covariances"] = covariances.astype(np.float32)
            if effects.days:  # a policy of an earlier release keeps its bytes, and so its name
                tensors[f"{name}_learned_at"] = np.array([block.learned_at for block in held])
        return save(tensors, {"shotladder": json.dumps(about, sort_keys=True)})

    @cached_property
    def name(self) -> str:
        """The name: the last hour that was learned from, and a digest of the content."""
        last = self.hours[-1] if self.hours else "prior"
        return f"policy-{last}-{hashlib.sha256(self.content).hexdigest()[:8]}"

    def write(self, folder: Path) -> Path:
        """Write the policy into a folder, unless it is there; return its file."""
        path = folder / f"{self.name}.safetensors"
        if not path.exists():
            atomic_write(path, self.content)
        return path


def read_policy(path: Path) -> TrainedPolicy:
    """Read a policy.

    Raises:
        BadInput: the file is missing or holds no policy that this release can use.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(
            f"{path} cannot be read ({error.strerror}); `shotladder policy show` lists the policies"
        ) from error
    try:
        about = _about(content)
        tensors = load(content)
        if about["schema"] != POLICY_SCHEMA:
            raise KeyError(about["schema"])
        if about["features_version"] != FEATURES_VERSION or about["features"] != list(FEATURES):
            raise BadInput(
                f"{path} was trained on features of another release; train a policy with this one"
            )
        return _policy(about, tensors)
    except (SafetensorError, KeyError, ValueError, TypeError, struct.error) as error:
        raise BadInput(
            f"{path} holds no policy of this release ({error}); train another"
        ) from error


def _about(content: bytes) -> dict[str, Any]:
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    about: dict[str, Any] = json.loads(header["__metadata__"]["shotladder"])
    return about


def _policy(about: dict[str, Any], tensors: Mapping[str, Any]) -> TrainedPolicy:
    context = ContextScale(**{name: tuple(values) for name, values in about["context"].items()})
    effects = Effects(
        about["num_features"],
        len(context.names),
        Priors(**about["priors"]),
        Block(
            tensors["shared_mean"].astype(np.float64),
            tensors["shared_covariance"].astype(np.float64),
        ),
        _blocks(about["titles"], tensors, "title"),
        _blocks(about["pictures"], tensors, "picture"),
        about["seen"],
        about["total_loss"],
        about.get("days", 0.0),
    )
    return TrainedPolicy(
        effects, context, about["parent"], tuple(about["hours"]), about["trials"], about["loss"]
    )


def _blocks(names: list[str], tensors: Mapping[str, Any], kind: str) -> dict[str, Block]:
    # A policy of an earlier release does not tell when: all of it counts as learned just now.
    moments = tensors.get(f"{kind}_learned_at", np.zeros(len(names)))
    means, covariances = tensors[f"{kind}_means"], tensors[f"{kind}_covariances"]
    return {
        name: Block(mean.astype(np.float64), covariance.astype(np.float64), float(moment))
        for name, mean, covariance, moment in zip(names, means, covariances, moments, strict=True)
    }
