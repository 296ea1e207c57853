"""How far from failing is the demo? Kappa and time of the whole demo, for one seed after the other.

    python benchmarks/demo_seeds.py [SEED]...       seeds 0 to 9 where none is given

Each demo is a process of its own in the environment of this one, so that `TF_ENABLE_ONEDNN_OPTS=0`,
`taskset` and the like try other arithmetic and other machines. Times are measured, in seconds.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SEEDS = range(10)


@dataclass(frozen=True)
class Demo:
    """What a demo ended with: kappa and samples of the validation part, seconds on the clock and of CPU."""

    seed: int
    clips: float
    scans: float
    samples: int
    wall_s: float
    cpu_s: float


def run(seed: int) -> Demo:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "demo"
        before, start = cpu_seconds(), time.monotonic()
        command = [sys.executable, ROOT / "cli.py", "demo", folder, "--seed", str(seed), "--no-progress"]
        ended = subprocess.run(command, cwd=name, capture_output=True, text=True, env=environment())
        wall_s, cpu_s = time.monotonic() - start, cpu_seconds() - before
        if ended.returncode:
            sys.exit(f"seed {seed}: exit code {ended.returncode}\n{ended.stderr[-2000:]}")
        clips, scans = (
            json.loads((folder / f"runs/{run}/metrics.json").read_text())["scores"] for run in ("clips", "ct")
        )
        return Demo(seed, clips["kappa"], scans["kappa"], scans["samples"], wall_s, cpu_s)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def cpu_seconds() -> float:
    """Of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    seeds = [int(argument) for argument in sys.argv[1:]] or SEEDS
    print(f"{len(os.sched_getaffinity(0))} cores")
    print("seed  kappa of clips  kappa of scans  scans judged  seconds  CPU seconds")
    lowest = 1.0
    for seed in seeds:
        demo = run(seed)
        lowest = min(lowest, demo.scans)
        times = f"{demo.wall_s:7.0f}  {demo.cpu_s:11.0f}"
        print(f"{seed:4}  {demo.clips:14.3f}  {demo.scans:14.3f}  {demo.samples:12}  {times}", flush=True)
    print(f"lowest kappa of scans: {lowest:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
