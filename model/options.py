"""The settings of a training as options of a command."""

from collections.abc import Callable
from dataclasses import Field
from typing import Any, TypeVar

import click

from model import settings

Command = TypeVar("Command", bound=Callable[..., Any])

_CONFIG = click.option(
    "--config", metavar="FILE|NAME", help="Settings in a YAML file, or the name of a preset of viptt."
)
_SHOW = click.option("--show-config", is_flag=True, help="Print all settings as such a file, and stop.")


def settings_options(*names: str) -> Callable[[Command], Command]:
    """Add the settings of a training, these or all, and the file that they may stand in.

    The command gets None for one that is not given. ``show_config`` comes with all of them.
    """

    def add(command: Command) -> Command:
        command = _CONFIG(command if names else _SHOW(command))
        for setting in reversed(settings.options(*names)):
            command = _option(setting)(command)
        return command

    return add


def _option(setting: Field[Any]) -> Callable[[Command], Command]:
    details = dict(setting.metadata)
    choices, flags = details.pop("choices", None), details.pop("flags", None)
    if flags or isinstance(setting.default, bool):
        details |= {"is_flag": True, "default": None}
    elif "type" not in details:
        details["type"] = (
            click.Choice(choices) if choices else str if setting.default is None else type(setting.default)
        )
    return click.option(flags or f"--{setting.name.replace('_', '-')}", setting.name, **details)
