"""What axe-core finds on a page: https://github.com/dequelabs/axe-core.

Its one script is that of npm where ``.ci/run`` has installed it, which is newer, or comes with the package
``axe-core-python``, of which nothing else is used.
"""

from importlib.util import find_spec
from pathlib import Path

import pytest
from browser import Page

GRAVE = ("serious", "critical")
OF_NPM = Path(__file__).resolve().parents[1] / ".venv/axe/node_modules/axe-core/axe.min.js"


def grave_violations(page: Page) -> list[str]:
    """Rules that the page breaks seriously, each with the first elements; skips where axe-core is missing."""
    page.value(_script().read_text("utf-8") + "\n;0")
    found = page.value("axe.run(document, {resultTypes: ['violations']}).then(found => found.violations)")
    return [
        f"{rule['id']}: {[node['html'][:120] for node in rule['nodes']][:3]}"
        for rule in found
        if rule["impact"] in GRAVE
    ]


def _script() -> Path:
    spec = find_spec("axe_core_python")
    if OF_NPM.is_file():
        return OF_NPM
    if spec is None or spec.origin is None:
        pytest.skip("no axe-core: pip install axe-core-python")
    return Path(spec.origin).with_name("axe.min.js")
