"""Like faults.py, for features: killed, or failing, at the N-th file operation of ``derive``.

features_faults.py STORE FAULT FIRST STEP     FAULT: kill, or the name of an errno such as ENOSPC
"""

import json
import os
import shutil
import sys
from functools import partial
from pathlib import Path

import numpy as np
from faults import CRASHED, STRUCK, UNSTRUCK, Strike, complete_or_absent, in_child, tree

from pipeline.build.features import derive
from pipeline.errors import VipttError
from pipeline.store import features_of, open_store


def means(volume: np.ndarray) -> np.ndarray:
    """Stands for a network: the mean of every column."""
    return volume.astype(np.float32).mean(axis=1)


def run(store: Path) -> int:
    volumes = open_store(store)
    depth, _, width = volumes.header.shape
    recipe = {"shape": [depth, width], "dtype": "float32", "network": "means"}
    derive(volumes, means, recipe, created_with={})
    return 0


def struck_run(store: Path, number: int, fault: str) -> int:
    strike = Strike(store.parent, number, fault)
    sys.addaudithook(strike.hook)
    os.fsync = strike.fsync
    try:
        run(store)
    except VipttError as error:
        return error.exit_code if strike.struck else CRASHED
    return STRUCK if strike.struck else UNSTRUCK


def main() -> int:
    store, fault, number, step = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    features, volumes = features_of(store), tree(store)
    in_child(lambda: run(store))
    undisturbed = tree(features)
    while True:
        shutil.rmtree(features)
        code = in_child(partial(struck_run, store, number, fault))
        early = in_child(lambda: complete_or_absent(features))
        again = in_child(lambda: run(store))
        result = {
            "operation": number,
            "code": code,
            "readable": early == 0,
            "resumed": again == 0,
            "same": tree(features) == undisturbed and tree(store) == volumes,
            "left": [path.name for path in store.parent.glob("*.building")],
        }
        print(json.dumps(result), flush=True)
        if code == UNSTRUCK:
            return 0
        number += step


if __name__ == "__main__":
    sys.exit(main())
