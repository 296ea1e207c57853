"""One type of source = one file here = one record: a path goes in, an array with its facts comes out.

Arrays are (depth, height, width): slices or frames, rows, columns.
"""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from pipeline.errors import ConfigError
from pipeline.readers import clip, frames, nifti, slices
from pipeline.readers.reading import SourceType
from pipeline.recipe import Recipe

SOURCE_TYPES: dict[str, SourceType] = {
    source.name: source for source in (nifti.SOURCE, clip.SOURCE, frames.SOURCE, slices.SOURCE)
}


def recipe_from(document: Mapping[str, Any]) -> Recipe:
    """The recipe that stands in a store or a run: ``Recipe.as_json`` read back.

    Raises ConfigError if it is none that this version knows.
    """
    try:
        parameters = {key: value for key, value in document.items() if key != "type"}
        return SOURCE_TYPES[document["type"]].recipe.model_validate_json(json.dumps(parameters))
    except (AttributeError, KeyError, TypeError, ValidationError):
        reason = f"this version cannot follow {json.dumps(document)[:200]}"
        raise ConfigError.of("recipe", "unknown-recipe", reason, "use the version that made it") from None
