"""Processor, memory, GPU and limits of this machine, as far as the system tells them. Sizes are in bytes."""

import os
import platform
import resource
import shutil
import subprocess
from pathlib import Path

from pipeline.doctor.findings import Entry, Missing, Topic, as_gib

QUERY = ("--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
ANSWER_SECONDS = 20
FEW_FILES = 1024  # a build opens a dozen files per worker
LITTLE_SHARED = 64 << 20  # what Docker gives by default; worker processes share through it
LITTLE_MEMORY = 2 << 30  # per worker; a large scan with its intermediate results takes about as much
CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def examine_machine() -> Topic:
    """System, processor, memory, GPU."""
    cores, usable = os.cpu_count() or 1, _usable_cores()
    total, available = _memory()
    gpus = _gpus()
    shown = f"{cores} cores" + (f", {usable} of them for this process" if usable != cores else "")
    missing = []
    if available < LITTLE_MEMORY * usable:
        workers = max(1, available // LITTLE_MEMORY)
        what = f"{as_gib(available)} of memory for {usable} workers"
        missing.append(Missing(what, f"use `viptt build --workers {workers}` for large sources"))
    return Topic(
        "machine",
        (
            Entry("system", platform.platform(), platform.platform(terse=True)),
            Entry("processor", {"name": _processor(), "cores": cores, "usable": usable}, _processor()),
            Entry("cores", usable, shown),
            Entry(
                "memory",
                {"total": total, "available": available},
                f"{as_gib(total)}, {as_gib(available)} of it available",
            ),
            Entry("gpu", gpus, "; ".join(gpus) or "none that nvidia-smi knows"),
        ),
        tuple(missing),
    )


def examine_limits() -> Topic:
    """Open files, processes, memory of a control group, shared memory."""
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    entries = [Entry("open files", files, f"{_limit(files)}, up to {_limit(most)} on request")]
    missing = []
    if 0 <= files < FEW_FILES:
        missing.append(Missing(f"a limit of {files} open files is low", f"`ulimit -n {FEW_FILES}`"))
    memory = _control_group_memory()
    entries.append(Entry("memory of the container", memory, as_gib(memory) if memory else "no limit"))
    shared = Path("/dev/shm")
    if shared.is_dir():
        free = shutil.disk_usage(shared).free
        entries.append(Entry("/dev/shm", free, f"{as_gib(free)} free"))
        if free < LITTLE_SHARED:
            what = f"{as_gib(free)} in /dev/shm is little for worker processes"
            missing.append(Missing(what, "in Docker `--shm-size=1g`; else `--scheduler threads`"))
    return Topic("limits", tuple(entries), tuple(missing))


def _limit(count: int) -> str:
    return "no limit" if count == resource.RLIM_INFINITY else str(count)


def _usable_cores() -> int:
    # A batch system may give a process fewer cores than there are; macOS has no such call.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    lines = _lines(Path("/proc/cpuinfo"))
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _memory() -> tuple[int, int]:
    """Total and available."""
    fields = {line.split(":")[0]: line.split()[1] for line in _lines(Path("/proc/meminfo")) if ":" in line}
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    available = int(fields["MemAvailable"]) << 10 if "MemAvailable" in fields else total
    limit = _control_group_memory()
    return total, min(available, limit or available)


def _control_group_memory() -> int | None:
    """The limit of a container or batch job, if there is one."""
    for path in CGROUP_LIMITS:
        text = "".join(_lines(path)).strip()
        if text.isdigit() and int(text) < 1 << 60:  # version 1 writes a huge number for no limit
            return int(text)
    return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "replace").splitlines()
    except OSError:  # not Linux, or a sandbox
        return []


def _gpus() -> list[str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        answer = subprocess.run(
            [program, *QUERY], capture_output=True, text=True, timeout=ANSWER_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in answer.stdout.splitlines() if line.strip()]
