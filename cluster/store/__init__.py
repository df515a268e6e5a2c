"""The content-addressed store, in a folder or behind a URL."""

from cluster.store.files import file_sha256
from cluster.store.keys import key
from cluster.store.local import Store
from cluster.store.place import default_store, open_store
from cluster.store.records import Blob, Record

__all__ = ["Blob", "Record", "Store", "default_store", "file_sha256", "key", "open_store"]
