"""The content-addressed store, in a folder or behind a URL."""

from cluster.store.local import Blob, Record, Store, open_store

__all__ = ["Blob", "Record", "Store", "open_store"]
