"""The augmentation stage: new content made of a run of a title's frames, for training."""

from __future__ import annotations

import hashlib
import math
import random
from pathlib import Path

from cluster.stages.stage import Made, find_or_make
from cluster.stages.title import TitleSource
from cluster.store import Store
from cluster.store.keys import key
from encoder import augment, ffmpeg


def make_augmented(source: TitleSource, name: str, seconds: float, seed: int, store: Store) -> Path:
    """Return the intermediate that an augmentation makes of a title's frames, in the store.

    Args:
        source: Title whose frames are used.
        name: One of :data:`encoder.augment.AUGMENTATIONS`.
        seconds: Maximum duration of the frames.
        seed: Seed of the choice of the first frame.
        store: Store that has, or gets, the intermediate.

    Raises:
        BadInput: the augmentation makes no sense for this title.
        ToolFailed: ffmpeg failed.
    """
    reference, augmentation = source.reference, augment.augmentation(name)
    most = max(1, math.ceil(seconds * reference.frame_rate)) * augmentation.frames_per_frame
    length = min(reference.frames, most)
    # The name is part of the seed, so that several augmentations show more of a long title.
    digest = hashlib.sha256(f"{seed}/{source.sha256}/{name}".encode()).digest()
    start = random.Random(digest).randrange(reference.frames - length + 1)
    identity = key(
        "augment",
        augment.STAGE_VERSION,
        source=source.sha256,
        reference=reference.graph_id,
        augmentation=name,
        frames=(start, start + length),
        tool=ffmpeg.version(),
    )

    def make(scratch: Path) -> Made:
        path = scratch / "made.mp4"
        cpu_seconds = augment.augment(reference, name, start, start + length, path)
        return Made(blobs={"media": path}, cpu_seconds={"other": cpu_seconds})

    record = find_or_make(
        store, identity, make, stage="augment", version=augment.STAGE_VERSION, title=source.id
    )
    return store.path(record.blobs["media"])
