"""By how much do windows beat single frames where motion alone tells the class? The demo, seed after seed.

    python benchmarks/motion_seeds.py [SEED]...       seeds 0, 1 and 2 where none is given

`viptt demo --kind ultrasound` trains SonoNet in 2-D, 3-D and (2+1)-D on generated videos. Accuracies are of
the validation frames that all three judge, and of the four classes of motion alone. Times are in seconds.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from demo_seeds import ROOT, cpu_seconds, environment

SEEDS = range(3)
NETWORKS = ("2d", "3d", "2+1d")


def run(seed: int) -> tuple[list[float], float, float]:
    """Accuracy of each network, and the seconds of the demo on the clock and of CPU."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "demo"
        before, start = cpu_seconds(), time.monotonic()
        command = [sys.executable, ROOT / "cli.py", "demo", folder, "--kind", "ultrasound", "--no-progress"]
        command += ["--seed", str(seed)]
        ended = subprocess.run(command, cwd=name, capture_output=True, text=True, env=environment())
        wall_s, cpu_s = time.monotonic() - start, cpu_seconds() - before
        if ended.returncode:
            sys.exit(f"seed {seed}: exit code {ended.returncode}\n{ended.stderr[-2000:]}")
        return accuracies(folder / "runs"), wall_s, cpu_s


def accuracies(runs: Path) -> list[float]:
    """Of each network on the frames of moving classes that all judge."""
    sys.path.insert(0, str(ROOT))
    from model.judged import read_table
    from pipeline.demo.ultrasound import MOTION, PLANES

    tables = [read_table(runs / name / "predictions.csv", PLANES) for name in NETWORKS]
    shared = set.intersection(*(set(table.ids) for table in tables))
    moving = [PLANES.index(name) for name in MOTION]
    found = []
    for table in (table.only(shared) for table in tables):
        inside = np.isin(table.truth, moving)
        found.append(float(np.mean((table.predicted == table.truth)[inside])))
    return found


def main() -> int:
    seeds = [int(argument) for argument in sys.argv[1:]] or SEEDS
    print("seed    2-D    3-D  (2+1)-D  least lead  seconds  CPU seconds")
    least = 1.0
    for seed in seeds:
        (single, window, factored), wall_s, cpu_s = run(seed)
        lead = min(window, factored) - single
        least = min(least, lead)
        scores = f"{single:5.2f}  {window:5.2f}  {factored:7.2f}  {lead:10.2f}"
        print(f"{seed:4}  {scores}  {wall_s:7.0f}  {cpu_s:11.0f}", flush=True)
    print(f"least lead of a network of windows: {least:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
