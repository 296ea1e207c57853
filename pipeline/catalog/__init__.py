"""``data_catalog.yaml`` as frozen objects: its schema, its YAML, and what is wrong with it."""

from pipeline.catalog.load import load_catalog, select
from pipeline.catalog.places import check_output
from pipeline.catalog.schema import Catalog, json_schema

__all__ = ["Catalog", "check_output", "json_schema", "load_catalog", "select"]
