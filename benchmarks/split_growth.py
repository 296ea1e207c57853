"""How do splits scale, how many samples change sides when 1 % is added, how often is a draw optimal?

    python benchmarks/split_growth.py [--quick]

Prints ratios measured in one run. Groups hold about ten samples; time and memory are of ``assign``
alone, each size in a process of its own.
"""

import argparse
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from fractions import Fraction
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pipeline.split import assign  # noqa: E402  (the script runs without an installation)

PARTS = {
    "0.8/0.2": {"train": 0.8, "val": 0.2},
    "0.7/0.15/0.15": {"train": 0.7, "val": 0.15, "test": 0.15},
    "5 folds": {f"fold-{index}": 0.2 for index in range(5)},
}
MEASURE = """
import random, resource, sys, time
from pipeline.split import assign
samples, mixed = int(sys.argv[1]), sys.argv[2] == "mixed"
rng = random.Random(0)
groups = [f"p{rng.randrange(samples // 10)}" for _ in range(samples)]
labels = [rng.randrange(7) if mixed else int(group[1:]) % 7 for group in groups]
ids = [f"s{number:07d}" for number in range(samples)]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.process_time()
assign(ids, labels, None if sys.argv[2] == "none" else groups, fractions={"train": 0.8, "val": 0.2})
seconds = time.process_time() - start
print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""

Table = tuple[list[str], list[str], list[str]]  # ids, labels, groups


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    quick = parser.parse_args().quick
    print_scale([10**4, 10**5] if quick else [10**4, 10**5, 10**6])
    print_growth(2 if quick else 10)
    print_optimality(20 if quick else 200)


# --- time and memory ----------------------------------------------------------------------------


def print_scale(sizes: list[int]) -> None:
    print(f"{'samples':>10} {'groups':>22} {'CPU s':>8} {'x':>6} {'peak MB':>9} {'x':>6}")
    for kind, words in (("single", "of one class"), ("mixed", "of several classes"), ("none", "none")):
        last: tuple[float, float] | None = None
        for samples in sizes:
            seconds, megabytes = measured(samples, kind)
            ratios = (seconds / last[0], megabytes / last[1]) if last else (1.0, 1.0)
            print(
                f"{samples:>10} {words:>22} {seconds:8.2f} {ratios[0]:6.1f} {megabytes:9.0f} {ratios[1]:6.1f}"
            )
            last = seconds, megabytes


def measured(samples: int, kind: str) -> tuple[float, float]:
    command = [sys.executable, "-c", MEASURE, str(samples), kind]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    seconds, megabytes = map(float, answer.split())
    return seconds, megabytes


# --- growth -------------------------------------------------------------------------------------


def print_growth(runs: int) -> None:
    print("\n10,000 samples, 1 % added, half to old groups: old samples that change sides, mean and most")
    print(f"{'classes x groups x samples':>30}" + "".join(f"{name:>20}" for name in PARTS))
    for classes, groups, size in (
        (5, 2000, 1),
        (50, 200, 1),
        (1000, 10, 1),
        (5, 200, 10),
        (50, 36, 5.5),
        (10, 500, 2),
        (50, 10, 20),
        (2, 50, 100),
    ):
        cells = []
        for fractions in PARTS.values():
            shares = [moved(random.Random(run), classes, groups, size, fractions) for run in range(runs)]
            cells.append(f"{sum(shares) / runs:.2%} {max(shares):.2%}")
        print(f"{f'{classes} x {groups} x {size}':>30}" + "".join(f"{cell:>20}" for cell in cells))


def moved(rng: random.Random, classes: int, groups: int, size: float, fractions: dict[str, float]) -> float:
    spread = range(max(1, round(size / 2)), round(size * 1.5) + 1) if size > 1 else [1]
    old = [
        (f"{c}_{g}_{k}", f"C{c}", f"{c}_{g}")
        for c in range(classes)
        for g in range(groups)
        for k in range(rng.choice(spread))
    ]
    new = [newcomer(rng, number, classes, groups, size) for number in range(len(old) // 100)]
    before, after = homes(old, fractions), homes(old + new, fractions)
    return sum(after[sample] != part for sample, part in before.items()) / len(old)


def newcomer(rng: random.Random, number: int, classes: int, groups: int, size: float) -> tuple[str, str, str]:
    label = rng.randrange(classes)
    joins = size > 1 and rng.random() < 0.5
    return f"new{number}", f"C{label}", f"{label}_{rng.randrange(groups)}" if joins else f"new{number}"


def homes(rows: Iterable[tuple[str, str, str]], fractions: dict[str, float]) -> dict[str, str]:
    ids, labels, groups = zip(*rows, strict=True)
    drawn = assign(ids, labels, groups, fractions=fractions)
    return {sample: part for part, members in drawn.items() for sample in members}


# --- optimality ---------------------------------------------------------------------------------


def print_optimality(cases: int) -> None:
    print("\nRandom instances: share whose summed deviation equals the best of all placings")
    print("(declared: no class past its largest group, no part empty; free: whatever the placing)")
    print(f"{'parts':>15} {'groups':>7} {'of classes':>10} {'declared':>9} {'free':>7}")
    for name, most in (("0.8/0.2", 12), ("0.7/0.15/0.15", 8)):
        for mixed in (False, True):
            hits = [judged(random.Random(seed), PARTS[name], most, mixed=mixed) for seed in range(cases)]
            declared, free = (sum(hit[index] for hit in hits) / cases for index in (0, 1))
            kind = "several" if mixed else "one"
            print(f"{name:>15} {f'1-{most}':>7} {kind:>10} {declared:9.1%} {free:7.1%}")


def judged(rng: random.Random, fractions: dict[str, float], most: int, *, mixed: bool) -> tuple[bool, bool]:
    """Whether one draw is the best under the declared rules, and the best without them."""
    rows = instance(rng, most, mixed=mixed)
    names, parts = sorted({group for _, _, group in rows}), list(fractions)
    home = homes(rows, fractions)
    place = {group: parts.index(home[sample]) for sample, _, group in rows}
    counts = {name: Counter(label for _, label, group in rows if group == name) for name in names}
    shares = [Fraction(str(share)) for share in fractions.values()]
    lone = {
        label for label in {label for _, label, _ in rows} if sum(label in c for c in counts.values()) == 1
    }
    mine = score(counts, place, shares)
    best, free = mine, mine[-1]
    for placing in product(range(len(parts)), repeat=len(names)):
        other = score(counts, dict(zip(names, placing, strict=True)), shares)
        free = min(free, other[-1])
        if all(part == 0 for name, part in zip(names, placing, strict=True) if lone & set(counts[name])):
            best = min(best, other)
    return mine == best, mine[-1] == free


def instance(rng: random.Random, most: int, *, mixed: bool) -> list[tuple[str, str, str]]:
    classes = rng.randint(1, 4)
    rows = []
    for group in range(rng.randint(1, most)):
        lead = rng.randrange(classes)
        rows += [
            (f"{group}_{k}", str(rng.randrange(classes) if mixed else lead), f"p{group}")
            for k in range(rng.randint(1, 8))
        ]
    return rows


def score(
    counts: dict[str, Counter[str]], place: dict[str, int], shares: list[Fraction]
) -> tuple[Fraction, int, Fraction]:
    """(past the bound, empty parts, summed deviation)."""
    inside: list[Counter[str]] = [Counter() for _ in shares]
    for name, held in counts.items():
        inside[place[name]].update(held)
    past, total = Fraction(0), Fraction(0)
    for label in {label for held in counts.values() for label in held}:
        sizes = [held[label] for held in counts.values() if held[label]]
        off = [abs(part[label] - share * sum(sizes)) for part, share in zip(inside, shares, strict=True)]
        past += sum(max(Fraction(0), distance - max(sizes)) for distance in off)
        total += sum(off)
    return past, len(shares) - len(set(place.values())), total


if __name__ == "__main__":
    main()
