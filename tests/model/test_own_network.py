"""Networks of the user's own, in real modules on disk."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from model.own_network import is_own, own_backbone, own_network
from pipeline.errors import ConfigError

MODULE = """
import keras

def net(shape, classes):
    sample = keras.Input(shape)
    pooled = keras.ops.mean(sample, axis=tuple(range(1, len(shape) + 1)))[:, None]
    return keras.Model(sample, keras.layers.Dense(classes, activation="softmax")(pooled))

def one_class_too_many(shape, classes):
    return net(shape, classes + 1)

def broken(shape, classes):
    raise RuntimeError("no such layer")

def nothing(shape, classes):
    return None

def maps(shape):
    frame = keras.Input(shape)
    return keras.Model(frame, keras.layers.Conv2D(4, 3)(frame))

def features(shape):
    return keras.Model((start := maps(shape)).input, keras.layers.GlobalAveragePooling2D()(start.output))

NUMBER = 3
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_nets.py").write_text(MODULE)
    (tmp_path / "bad_nets.py").write_text("import a_library_that_is_missing")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_nets", raising=False)


@pytest.mark.parametrize("shape", [(32, 32, 1), (4, 32, 32, 1)])
def test_a_function_of_the_user_gives_the_network(shape: tuple[int, ...]) -> None:
    assert is_own("own_nets:net")
    assert not is_own("resnet50")
    found = own_network("own_nets:net", shape, 3)(np.zeros((2, *shape)))
    np.testing.assert_allclose(np.sum(found, axis=1), 1, rtol=1e-5)


def test_a_backbone_gives_features_or_maps() -> None:
    assert own_backbone("own_nets:features", (32, 32, 3), rank=2).output_shape == (None, 4)
    assert own_backbone("own_nets:maps", (32, 32, 3), rank=4).output_shape == (None, 30, 30, 4)
    with pytest.raises(ConfigError, match=r"other-shape: .* → let it map \(None, 32, 32, 3\) to features"):
        own_backbone("own_nets:maps", (32, 32, 3), rank=2)


@pytest.mark.parametrize(
    ("name", "code", "reason"),
    [
        ("own_nets:", "unknown-name", "it is not MODULE:FUNCTION"),
        ("own nets:net", "unknown-name", "it is not MODULE:FUNCTION"),
        ("own_nets:missing", "unknown-name", "own_nets has no function 'missing'"),
        ("own_nets:NUMBER", "unknown-name", "own_nets has no function 'NUMBER'"),
        ("not_there:net", "no-module", "No module named 'not_there'"),
        ("bad_nets:net", "no-module", "a_library_that_is_missing"),
        ("own_nets:broken", "own-model-failed", "no such layer"),
        ("own_nets:nothing", "no-model", "it gives a NoneType"),
        ("own_nets:one_class_too_many", "other-shape", "to (None, 4)"),
    ],
)
def test_what_is_no_network_is_refused_in_one_line(
    name: str, code: str, reason: str, refusal: Callable[..., tuple]
) -> None:
    (problem,) = refusal(ConfigError, lambda: own_network(name, (32, 32, 1), 3))
    assert problem.code == code
    assert reason in problem.reason
