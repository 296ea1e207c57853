"""The templates of a page: one HTML text that asks nothing of any other place.

Names, labels and messages come from others: Jinja2 escapes them all, and the page's content security policy
lets nothing run but the one script whose hash it names.
"""

import base64
import hashlib
import html
import re
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, PackageLoader, StrictUndefined
from jinja2 import Environment as Environment

from pipeline import __version__
from pipeline.errors import Code, ConfigError
from pipeline.escape import printable
from pipeline.pages.numbers import number, share

GENERATOR = "viptt report"
SIGNATURE = f"{GENERATOR} {__version__}"
HEAD_BYTES = 2000  # of a page, within which it names its generator


def environment(package: str) -> Environment:
    """The templates in a package's folder ``templates``, and those that all pages share."""
    made = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("pipeline.pages")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    made.filters |= {"number": number, "share": share, "md": markdown}
    made.globals |= {"generator": SIGNATURE}
    return made


def _shown(value: Any) -> Any:
    """Every text that the page shows, without what could turn the direction of writing."""
    return printable(value, keep="\n") if type(value) is str else value


def markdown(text: str) -> str:
    """A text in one line, in which nothing has a meaning to Markdown or HTML."""
    plain = html.escape(" ".join(printable(str(text)).split()), quote=False)
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", plain)


def policy(script: str) -> str:
    """The content security policy of a page whose only script is this one."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # Styles stand in the page, some of them computed: where a picture lies in its strip.
    allowed = f"img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return f"default-src 'none'; base-uri 'none'; form-action 'none'; {allowed}"


def require_own(path: Path) -> None:
    """Raise ConfigError rather than replace what is no page of ours."""
    if path.is_file():
        with path.open("rb") as file:
            ours = f'content="{GENERATOR} '.encode() in file.read(HEAD_BYTES)
    else:
        ours = not path.exists()
    if not ours:
        remedy = "name another file with `--out`"
        raise ConfigError.of(path, Code.OUT_EXISTS, "it is there and is no page of `viptt report`", remedy)


def require_new(path: Path) -> None:
    """Raise ConfigError rather than replace a file that people fill in."""
    if path.exists():
        raise ConfigError.of(path, Code.OUT_EXISTS, "it is there already", "remove it, or use `--out`")
