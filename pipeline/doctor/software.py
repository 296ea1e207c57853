"""Versions of what is installed, and what TensorFlow sees.

TensorFlow is never imported here: another process is asked, since importing it takes seconds and memory.
"""

import importlib.util
import json
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires, version

from pipeline import __version__
from pipeline.doctor.findings import Entry, Missing, Topic

OF_USERS = ("", "train", "onnx")  # extras; the others are for developers
FRAMEWORK_SECONDS = 120
ASK_FRAMEWORK = """
import json, os
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf
gpus = [device.name for device in tf.config.list_physical_devices("GPU")]
print(json.dumps({"version": tf.__version__, "cuda": tf.test.is_built_with_cuda(), "gpus": gpus}))
"""
_REQUIREMENT = re.compile(r"([\w.-]+)[^;]*(?:;.*extra == ['\"]([\w-]+)['\"])?")


def examine_software() -> Topic:
    """Versions of viptt, Python, and of each library that a user may want; what is not installed."""
    entries = [
        Entry("viptt", __version__, __version__),
        Entry("python", sys.version.split()[0], f"{sys.version.split()[0]} at {sys.executable}"),
    ]
    missing = []
    for extra, names in required().items():
        found = {name: installed(name) for name in names}
        title = f"viptt[{extra}]" if extra else "libraries"
        there = {name: number for name, number in found.items() if number}
        text = ", ".join(f"{name} {number}" for name, number in there.items()) or "not installed"
        entries.append(Entry(title, found, text))
        absent = [name for name in names if name not in there]
        if absent:
            missing.append(Missing(f"{_what_needs(extra)} {', '.join(absent)}", _how_to_install(extra)))
    return Topic("software", tuple(entries), tuple(missing))


def _what_needs(extra: str) -> str:
    needs = {"train": "features, train, evaluate, predict and export need", "onnx": "export --to onnx needs"}
    return needs.get(extra, "viptt needs")


def _how_to_install(extra: str) -> str:
    return f"`pip install '.[{extra}]'` in the folder of viptt" if extra else "install viptt again"


def required() -> dict[str, list[str]]:
    """Names of the packages that viptt asks for, by extra; those of ``""`` are always needed.

    Empty where viptt runs from a folder that nobody installed.
    """
    names: dict[str, list[str]] = {extra: [] for extra in OF_USERS}
    try:
        requirements = requires("viptt") or []
    except PackageNotFoundError:
        requirements = []
    for requirement in requirements:
        found = _REQUIREMENT.match(requirement)
        if found and (found[2] or "") in names and not found[1].startswith("viptt"):
            names[found[2] or ""].append(found[1])
    return {extra: found for extra, found in names.items() if found}


def installed(name: str) -> str | None:
    """The version of an installed package, without importing it."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def examine_framework(*, gpus: bool) -> Topic:
    """What TensorFlow sees, if it is installed; ``gpus`` tells whether the machine has any."""
    if importlib.util.find_spec("tensorflow") is None:
        return Topic("tensorflow", (Entry("version", None, "not installed; only training needs it"),))
    command = [sys.executable, "-c", ASK_FRAMEWORK]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=FRAMEWORK_SECONDS, check=True
        )
        found = json.loads(answer.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        missing = Missing("TensorFlow cannot be imported", "`python -c 'import tensorflow'` says why")
        return Topic("tensorflow", (Entry("version", None, type(error).__name__),), (missing,))
    entries = (
        Entry("version", found["version"], found["version"]),
        Entry("CUDA", found["cuda"], "built with it" if found["cuda"] else "built without it"),
        Entry("GPU", found["gpus"], ", ".join(found["gpus"]) or "none: training runs on the processor"),
    )
    blind = gpus and not found["gpus"]
    lack = Missing("TensorFlow does not see the GPU", "`pip install 'tensorflow[and-cuda]'`")
    return Topic("tensorflow", entries, (lack,) if blind else ())
