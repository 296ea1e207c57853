"""What a data set says of itself when it is passed on: dataset card, Croissant metadata, table of samples.

The card is Markdown with the front matter that Hugging Face reads. Croissant is the metadata format of
MLCommons, version 1.0 (https://docs.mlcommons.org/croissant/docs/croissant-spec.html); its record set is the
table of samples. What viptt cannot know, such as the licence, is left for people to fill in.
"""

import csv
import hashlib
import io
import json
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.escape import table_cell
from pipeline.report.collect import Findings

STANDARD = "http://mlcommons.org/croissant/1.0"
TEXT, FLOAT = "sc:Text", "sc:Float"
# The columns of the table, their type, and what they mean.
COLUMNS = {
    "id": (TEXT, "the sample's id; rows of the store are sorted by it"),
    "label": (TEXT, "name of the class"),
    "group": (TEXT, "patient, scene or the like; empty where there is none"),
    "split": (TEXT, "split that the sample is in; empty where there is none"),
    "source": (TEXT, "path of the source below its folder"),
    "source_sha256": (TEXT, "SHA-256 of the source's bytes"),
    "sha256": (TEXT, "SHA-256 of the volume's bytes"),
    "lowest": (FLOAT, "lowest value of the source, before any window"),
    "highest": (FLOAT, "highest value of the source, before any window"),
}
# Terms of the specification, "Croissant JSON-LD context"; those of schema.org need no entry.
_AS_JSON = ("data", "examples")
_OWN_TERMS = (
    *("citeAs", "column", "extract", "field", "fileProperty", "fileObject", "fileSet", "format", "includes"),
    *("isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex"),
    *("repeated", "replace", "separator", "source", "subField", "transform", "samplingRate"),
    "equivalentProperty",
)


def samples_csv(found: Findings) -> bytes:
    """The table of samples, in the order of the store's rows; no cell is a formula to a spreadsheet."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for sample in sorted(found.samples, key=lambda sample: sample.index):
        row = found.store.rows[sample.index]
        names = (sample.id, sample.label, sample.group, sample.split, sample.source)
        writer.writerow(
            [*map(table_cell, names), row.source_sha256, row.sha256, sample.lowest, sample.highest]
        )
    return text.getvalue().encode("utf-8", "surrogateescape")


def croissant(found: Findings, table: Path, table_sha256: str) -> dict[str, Any]:
    """The metadata of a store, as a JSON-LD document; ``table`` is the file with its samples."""
    header, store = found.store.header, found.store.path.name
    return {
        "@context": _context(),
        "@type": "sc:Dataset",
        "conformsTo": STANDARD,
        "name": header.dataset,
        "description": _description(found),
        "identifier": found.store.digest,
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": table.name,
                "name": table.name,
                "contentUrl": table.name,
                "encodingFormat": "text/csv",
                "sha256": table_sha256,
            },
            {
                "@type": "cr:FileSet",
                "@id": store,
                "name": store,
                "description": f"Zarr v3 group; array {header.array}, one chunk per sample",
                "encodingFormat": "application/vnd.zarr",
                "includes": f"{store}/**",
            },
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "samples",
                "name": "samples",
                "key": {"@id": "samples/id"},
                "field": [_field(name, table.name) for name in COLUMNS],
            }
        ],
    }


def _field(name: str, table: str) -> dict[str, Any]:
    kind, meaning = COLUMNS[name]
    return {
        "@type": "cr:Field",
        "@id": f"samples/{name}",
        "name": name,
        "description": meaning,
        "dataType": kind,
        "source": {"fileObject": {"@id": table}, "extract": {"column": name}},
    }


def _context() -> dict[str, Any]:
    return {
        "@language": "en",
        "@vocab": "https://schema.org/",
        "sc": "https://schema.org/",
        "cr": "http://mlcommons.org/croissant/",
        "rai": "http://mlcommons.org/croissant/RAI/",
        "dct": "http://purl.org/dc/terms/",
        "conformsTo": "dct:conformsTo",
        "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
        **{term: {"@id": f"cr:{term}", "@type": "@json"} for term in _AS_JSON},
        **{term: f"cr:{term}" for term in _OWN_TERMS},
    }


def _description(found: Findings) -> str:
    header = found.store.header
    shape = " x ".join(map(str, header.shape))
    return (
        f"{len(found.store.rows)} samples of {len(header.classes)} classes in {found.groups} groups, "
        f"each a volume of {shape} {header.dtype.name} with values 0 to 1, made by viptt {__version__} from "
        f"sources of type {header.recipe['type']}."
    )


def card_context(found: Findings) -> dict[str, Any]:
    """What the template of the card shows beside the findings."""
    return {"found": found, "header": found.store.header, "description": _description(found)}


def croissant_json(found: Findings, table: Path) -> bytes:
    """The text of the metadata file."""
    document = croissant(found, table, hashlib.sha256(samples_csv(found)).hexdigest())
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "surrogateescape")
