"""Kill saves of weights: python kills.py FOLDER SEED KILLS

Each save writes weights that are all one number, the number of the try, in a forked child that gets a
SIGKILL after a random while. Prints a JSON line for each try: which numbers load afterwards, and
whether a sidecar agrees.
"""

import hashlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import keras
import numpy as np

from model.network import small_net
from model.weights import load_weights, save_weights

SLOWER = 1.1


def fill(net: keras.Model, number: float) -> None:
    net.set_weights([np.full(weight.shape, number, np.float32) for weight in net.weights])


def killed_after(seconds: float, net: keras.Model, path: Path) -> bool:
    """Kill a save after a while; whether it was still at work."""
    child = os.fork()
    if child == 0:
        save_weights(net, path)
        os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def numbers_in(path: Path, net: keras.Model) -> list[float]:
    fill(net, -1)
    load_weights(net, path)
    return np.unique(np.concatenate([weight.ravel() for weight in net.get_weights()])).tolist()


def sidecar_agrees(path: Path) -> bool:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    sidecars = path.parent.glob(f"{path.name}.sha256*")
    return f"{digest}  {path.name}\n" in [sidecar.read_text() for sidecar in sidecars]


def main(folder: Path, seed: int, wanted: int) -> None:
    path, net, reader = (
        folder / "model.weights.h5",
        small_net((2, 32, 32, 1), 3),
        small_net((2, 32, 32, 1), 3),
    )
    fill(net, 0)
    save_weights(net, path)
    begun = time.monotonic()
    save_weights(net, path)
    span = 2 * (time.monotonic() - begun)
    moments, kills, number = random.Random(seed), 0, 0
    while kills < wanted:
        number += 1
        fill(net, number)
        killed = killed_after(moments.uniform(0, span), net, path)
        kills += killed
        span *= (
            SLOWER if killed else 1 / SLOWER
        )  # about every second save is done, however busy the machine is
        found = numbers_in(path, reader)
        line = {"number": number, "killed": killed, "found": found, "sidecar": sidecar_agrees(path)}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
