"""What this machine offers to viptt, and what it lacks: software, processor, disks, limits."""

from pathlib import Path

from pipeline.doctor.disks import examine_disks
from pipeline.doctor.findings import Topic, findings_json, findings_text
from pipeline.doctor.machine import examine_limits, examine_machine
from pipeline.doctor.software import examine_codecs, examine_framework, examine_software

__all__ = ["examine", "findings_json", "findings_text"]


def examine(catalog: Path) -> tuple[Topic, ...]:
    """Everything that can be found out; of the disks, those with the stores of the catalog."""
    machine = examine_machine()
    gpus = next(bool(entry.value) for entry in machine.entries if entry.name == "gpu")
    return (
        examine_software(),
        machine,
        examine_framework(gpus=gpus),
        examine_codecs(),
        examine_disks(catalog),
        examine_limits(),
    )
