"""Text files that a catalog names, beside its tables: small, UTF-8."""

from pathlib import Path

from pipeline.errors import Code, ConfigError


def read_text(file: Path, *, key: str) -> str:
    """The text of a file; ``key`` is where the catalog names it. Raises ConfigError: no-table, not-utf-8."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError.of(file, Code.NO_TABLE, str(error.strerror), f"correct `{key}`") from None
    except UnicodeDecodeError:
        raise ConfigError.of(file, Code.NOT_UTF_8, "it is not UTF-8", "save it as UTF-8") from None
