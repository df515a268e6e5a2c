"""Features of every pool that was decided from, kept for as long as the log: the log names pools
instead of repeating their features in every row, and packages are removed before logs are."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.store.files import atomic_write
from encoder.errors import BadInput
from recommender.policy.features import FEATURES, FEATURES_VERSION
from recommender.policy.trials import Pictures

POOLS_SCHEMA: Final = "shotladder/policy-pool/1"


def write_pool(folder: Path, pictures: Pictures) -> Path:
    """Write the features of a pool, unless they are there; return the file."""
    path = folder / f"{pictures.pool}.parquet"
    if path.exists():
        return path
    columns = {
        "action_id": pa.array(pictures.actions, pa.string()),
        "pool_quality": pa.array(pictures.quality, pa.float32()),
        **{
            name: pa.array(pictures.features[:, column], pa.float32())
            for column, name in enumerate(FEATURES)
        },
    }
    if pictures.looks is not None:
        columns["embedding"] = pa.array(list(pictures.looks), pa.list_(pa.float32()))
    about = {
        "schema": POOLS_SCHEMA,
        "pool": pictures.pool,
        "features_version": FEATURES_VERSION,
        "embedding_model": pictures.looks_model,
    }
    table = pa.table(columns).replace_schema_metadata({"shotladder": json.dumps(about)})
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd")
    atomic_write(path, file.getvalue(), durable=False)
    return path


def read_pool(folder: Path, pool: str, title: str) -> Pictures:
    """Read the features of a pool, for the title of this name.

    Raises:
        BadInput: the file is missing, or of other features than this release's.
    """
    path = folder / f"{pool}.parquet"
    try:
        table = pq.read_table(path)
        about = json.loads(table.schema.metadata[b"shotladder"])
        if about["features_version"] != FEATURES_VERSION:
            raise KeyError(f"features version {about['features_version']}")
        features = np.column_stack([table.column(name).to_numpy() for name in FEATURES])
        quality = table.column("pool_quality").to_numpy()
        actions = tuple(table.column("action_id").to_pylist())
        looks = None
        if "embedding" in table.column_names:
            looks = np.array(table.column("embedding").to_pylist(), np.float64)
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowInvalid) as error:
        raise BadInput(
            f"{path} holds no features of this release ({error}); restore the file from a backup, "
            "or leave out the hours that decided from this pool"
        ) from error
    return Pictures(
        title,
        pool,
        actions,
        features.astype(np.float64),
        quality.astype(np.float64),
        looks,
        about["embedding_model"],
    )
