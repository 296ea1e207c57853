"""A new network is one file: the example of CONTRIBUTING.md, built by the name that it is registered by."""

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

from model.architectures import NETWORKS, Architecture, architecture


def test_the_example_is_built_by_its_name(
    load_example: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(NETWORKS, "mean-net", Architecture(load_example("mean_net.py").mean_net))
    net = architecture("mean-net").build((4, 32, 32, 1), 3, weights="none")
    kernel, bias = np.array([[1.0, 2.0, -1.0]]), np.array([0.5, 0.0, 0.0])
    net.set_weights([kernel, bias])
    volumes = np.random.default_rng(0).random((2, 4, 32, 32, 1), np.float32)
    logits = volumes.mean(axis=(1, 2, 3)) @ kernel + bias
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(net(volumes), expected, rtol=1e-5)
