"""Is a store still what the catalog asks for? Its recipe and its classes; the sources are not looked at."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.errors import IntegrityError

if TYPE_CHECKING:
    from pipeline.store import Header


def check_fresh(
    recipe_json: Mapping[str, Any], classes: tuple[str, ...], header: "Header", *, where: object
) -> None:
    """Refuse a store that was built with another recipe or for other classes than the catalog names.

    ``where`` is the store's path, for the message. Raises IntegrityError with code stale-store.
    """
    reasons = "; ".join(differences(recipe_json, classes, header))
    if reasons:
        remedy = "run `viptt build`, or go on with it as it is with `--stale-ok`"
        raise IntegrityError.of(
            where, "stale-store", f"the catalog asks for another store: {reasons}", remedy
        )


def differences(recipe_json: Mapping[str, Any], classes: tuple[str, ...], header: "Header") -> Iterator[str]:
    """In words, each parameter of the recipe that differs from the store's, and the classes if they do."""
    for key in sorted({*recipe_json, *header.recipe}):
        old, new = header.recipe.get(key), recipe_json.get(key)
        if old != new:
            yield f"recipe: {key} is {new}, the store was built with {old}"
    if header.classes != classes:
        yield f"classes: {', '.join(classes)}; the store has {', '.join(header.classes)}"
