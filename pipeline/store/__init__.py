"""What a store is and how it stays true: its format, chunks, publishing, opening and verification."""

from pipeline.files import canonical_json, sync_directory, write_durably
from pipeline.store.chunks import Chunk, is_intact, read_chunk, write_chunk, write_chunks
from pipeline.store.format import (
    CRC_BYTES,
    FEATURES,
    REBUILD,
    ROOT,
    Header,
    Json,
    Row,
    digest_of,
    features_of,
    small_names,
    statistics_of,
)
from pipeline.store.layout import write_store
from pipeline.store.open import Store, open_store
from pipeline.store.root import is_store

__all__ = [
    "CRC_BYTES",
    "FEATURES",
    "REBUILD",
    "ROOT",
    "Chunk",
    "Header",
    "Json",
    "Row",
    "Store",
    "canonical_json",
    "digest_of",
    "features_of",
    "is_intact",
    "is_store",
    "open_store",
    "read_chunk",
    "small_names",
    "statistics_of",
    "sync_directory",
    "write_chunk",
    "write_chunks",
    "write_durably",
    "write_store",
]
