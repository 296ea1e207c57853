"""What this machine offers to viptt, and what it lacks: software, processor, disks, limits."""

from collections.abc import Callable
from pathlib import Path

from pipeline.doctor.findings import Entry, Missing, Topic, findings_json, findings_text
from pipeline.doctor.machine import examine_limits, examine_machine
from pipeline.doctor.software import examine_framework, examine_software

__all__ = ["examine", "findings_json", "findings_text"]

REMEDY = "install viptt again; if that does not help, report it"


def examine(catalog: Path) -> tuple[Topic, ...]:
    """Everything that can be found out; of the disks, those with the stores of the catalog."""
    machine = _examined("machine", examine_machine)
    gpus = any(entry.name == "gpu" and bool(entry.value) for entry in machine.entries)
    return (
        _examined("software", examine_software),
        machine,
        _examined("tensorflow", lambda: examine_framework(gpus=gpus)),
        _examined("codecs", _examine_codecs),
        _examined("disks", lambda: _examine_disks(catalog)),
        _examined("limits", examine_limits),
    )


def _examined(name: str, examination: Callable[[], Topic]) -> Topic:
    """A topic, or what stopped its examination: a broken installation is told, and stops no other topic."""
    try:
        return examination()
    except Exception as error:  # noqa: BLE001 - whatever is broken is what the user wants to know
        text = f"{type(error).__name__}: {error}"
        return Topic(name, (Entry("failed", text, text),), (Missing(f"{name}: {text}", REMEDY),))


# PyAV and what reads catalogs are imported within: a library that cannot be imported is a finding, too.
def _examine_codecs() -> Topic:
    from pipeline.doctor.codecs import examine_codecs

    return examine_codecs()


def _examine_disks(catalog: Path) -> Topic:
    from pipeline.doctor.disks import examine_disks

    return examine_disks(catalog)
