"""The content-addressed store, in a folder or behind a URL."""

from cluster.store.files import file_sha256
from cluster.store.keys import key
from cluster.store.local import Blob, Record, Store
from cluster.store.place import default_store, open_store

__all__ = ["Blob", "Record", "Store", "default_store", "file_sha256", "key", "open_store"]
