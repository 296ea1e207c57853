"""A split is the same on every Python, whatever seeds its hashes, wherever it runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GOLDEN = {
    "ct": "4588c2702e4e3b3961016cd2a651a54e18d5f3b055667045b4f39c4b73ca8470",
    "ucf": "a3fcf21c92fd975da5631f02c39b48219cf4e290ad4ec7494e40a631334277bf",
    "mixed": "71a8b204b4690d827f585fa68a2219f2d0c0ed42919bd3924aca3703c1a73616",
}
DRAWS = """
import hashlib, json, sys
from pipeline.split import assign
assert "numpy" not in sys.modules
digest = lambda drawn: hashlib.sha256(json.dumps(drawn).encode()).hexdigest()
labels = [c for c, n in enumerate([419, 226, 101, 100, 70]) for _ in range(n)]
ucf = [(f"v_C{c}_g{g:02d}_c{k:02d}", f"C{c}", f"C{c}_g{g:02d}")
       for c in range(50) for g in range(25) for k in range(4 + (c * 7 + g * 3) % 4)]
thirds = {f"f{k}": 1 / 3 for k in range(3)}
mixed = [f"s{n}" for n in range(40)], [n % 3 for n in range(40)], [f"p{n * n % 11}" for n in range(40)]
print(json.dumps({
    "ct": digest(assign([f"TRN_{i:04d}" for i in range(916)], labels, fractions={"train": 0.8, "val": 0.2})),
    "ucf": digest(assign(*map(list, zip(*ucf)), fractions={"train": 0.7, "val": 0.15, "test": 0.15}, seed=3)),
    "mixed": digest(assign(*mixed, fractions=thirds, seed=1)),
}))
"""


def pythons() -> list[str]:
    """This one, and others that pyenv has; they need no packages."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    return [sys.executable, *map(str, sorted(versions.glob("3.1[123].*/bin/python")))]


@pytest.mark.parametrize("python", pythons())
@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_golden_draws_on_every_python(python, hash_seed):
    environment = {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": hash_seed, "TZ": "Asia/Tokyo", "LANG": "C"}
    answer = subprocess.run(
        [python, "-S", "-c", DRAWS], env=environment, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout) == GOLDEN
