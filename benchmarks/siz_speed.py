"""How much faster is SIZ than scipy.ndimage.zoom, and how does it grow with the size of a scan?

One thread. Prints ratios measured in this run; the machine's own speed cancels out.
"""

import sys
import time
from collections.abc import Callable
from statistics import median

import numpy as np
from scipy import ndimage
from threadpoolctl import threadpool_limits

from pipeline.siz import zoom

SHAPE = (70, 224, 224)


def seconds(action: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return median(times)


def scan(depth: int, side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 400, (depth, side, side), np.int16)


def scipy_zoom(volume: np.ndarray, order: int) -> np.ndarray:
    factors = [target / size for target, size in zip(SHAPE, volume.shape, strict=True)]
    return ndimage.zoom(volume.astype(np.float64), factors, order=order, mode="nearest")


def main() -> int:
    volume = scan(150, 512)
    with threadpool_limits(1):
        print("512x512x150 int16 to 70x224x224, one thread")
        for order in (3, 1, 0):
            error = np.abs(zoom(volume, SHAPE, order=order) - scipy_zoom(volume, order)).max() / 1400
            ours = seconds(lambda order=order: zoom(volume, SHAPE, order=order), 7)
            theirs = seconds(lambda order=order: scipy_zoom(volume, order), 3)
            print(
                f"  order {order}: {theirs / ours:5.1f} times as fast as SciPy in float64, error {error:.1e}"
            )
        print("growth, relative to 75 x 256 x 256 voxels")
        small = scan(75, 256)
        base = seconds(lambda: zoom(small, SHAPE), 5)
        for depth, side in ((150, 256), (300, 256), (75, 512), (150, 512), (300, 512)):
            other = scan(depth, side)
            size = other.size / (75 * 256 * 256)
            time_ratio = seconds(lambda other=other: zoom(other, SHAPE), 5) / base
            print(f"  {depth:3} x {side} x {side}: {size:4.1f} times the voxels, {time_ratio:4.1f} the time")
    return 0


if __name__ == "__main__":
    sys.exit(main())
