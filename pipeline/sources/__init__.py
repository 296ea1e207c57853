"""Which sources a dataset has, with which label and group, and which of them are quarantined."""

from pipeline.sources.listing import list_samples
from pipeline.sources.quarantine import Quarantined, read_quarantine, write_quarantine
from pipeline.sources.samples import Listing, Sample

__all__ = ["Listing", "Quarantined", "Sample", "list_samples", "read_quarantine", "write_quarantine"]
