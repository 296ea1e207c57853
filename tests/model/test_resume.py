"""A training that was stopped goes on, on the same path to the same weights, or says why not."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import SETTINGS, STILL, equal, history_of, weights_of

from model.checkpoint import Checkpoint
from model.run_folder import read_config
from model.training import train
from pipeline.errors import ConfigError, IntegrityError
from pipeline.store import Store

MakeStore = Callable[..., Store]
MakeSplit = Callable[..., Path]
ROOT = Path(__file__).parents[2]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("optimizer", ["sgd", pytest.param("adam", marks=pytest.mark.slow)])
def test_killed_in_an_epoch_and_resumed_the_weights_are_the_same_bits(
    trained: Callable, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    settings = replace(SETTINGS, epochs=3, checkpoint_s=0.0, deterministic=True, optimizer=optimizer)
    whole, _ = trained(settings, name="whole")
    calls = iter(range(100))
    real = Checkpoint.on_train_batch_end

    def batch_end(self: object, batch: int, logs: object = None) -> None:
        real(self, batch, logs)
        if next(calls) == 7:  # five batches to an epoch: the third of the second
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "on_train_batch_end", batch_end)
        with pytest.raises(Killed):
            trained(settings, name="killed")
    run, said = trained(settings, name="killed", resume=True)
    assert said[1] == "resuming at epoch 2, batch 4"
    assert equal(weights_of(whole), weights_of(run))
    columns = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")
    histories = [history_of(path) for path in (whole, run)]
    first, second = ([[row[name] for name in columns] for row in history] for history in histories)
    assert first == second


@pytest.mark.slow
def test_a_process_killed_in_an_epoch_goes_on_to_the_same_bits(trained: Callable, tmp_path: Path) -> None:
    settings = replace(SETTINGS, epochs=4, batch_size=1, checkpoint_s=0.0, deterministic=True)
    whole, _ = trained(settings, name="whole")
    data, killed = read_config(whole).data, tmp_path / "killed"
    code = f"""
from model.settings import Settings
from model.training import train
train({data.store!r}, {data.split!r}, {str(killed)!r}, {settings!r})
"""
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, cwd=ROOT) as process:
        while process.poll() is None and not (2 <= _batches_done(killed) % 9 <= 4):
            time.sleep(0.002)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert _batches_done(killed) % 9 > 0
    run, said = trained(settings, name="killed", resume=True)
    assert said[1].startswith("resuming at epoch")
    assert equal(weights_of(whole), weights_of(run))
    assert [row["loss"] for row in history_of(whole)] == [row["loss"] for row in history_of(run)]


def _batches_done(run: Path) -> int:
    """By the checkpoint of a run with nine batches to an epoch; 0 before the second epoch."""
    if not (run / "state.npz").exists():
        return 0
    with np.load(run / "state.npz") as state:
        progress = json.loads(state["arr_0"].tobytes())
    return int(9 * progress["epoch"] + progress["step"]) if progress["epoch"] else 0


@pytest.mark.slow
def test_a_finished_run_can_be_given_more_epochs(trained: Callable) -> None:
    settings = replace(SETTINGS, deterministic=True)
    whole, _ = trained(replace(settings, epochs=3), name="whole")
    trained(replace(settings, epochs=2), name="parts")
    run, said = trained(replace(settings, epochs=3), name="parts", resume=True)
    assert said[1] == "resuming at epoch 3, batch 1"
    assert equal(weights_of(whole), weights_of(run))


@pytest.mark.slow
def test_schedule_and_early_stopping_survive(trained: Callable) -> None:
    settings = replace(STILL, learning_rate=1e-30, plateau_patience=2, stop_patience=4)
    for epochs in (2, 3, 4, 20):
        run, _ = trained(replace(settings, epochs=epochs), resume=epochs > 2)
    rows = history_of(run)
    rates = [float(row["learning_rate"]) for row in rows]
    np.testing.assert_allclose(rates, [1e-30, 1e-30, 1e-30, 1e-31, 1e-31], rtol=1e-4)
    _, said = trained(replace(settings, epochs=20), resume=True)
    assert not any(line.startswith("epoch") for line in said)


def test_resuming_with_other_settings_is_refused(resumed: Callable) -> None:
    with pytest.raises(ConfigError, match="other-settings"):
        resumed(replace(SETTINGS, batch_size=1))


def test_resuming_with_another_split_is_refused(
    finished: Any, make_split: MakeSplit, make_store: MakeStore
) -> None:
    store = make_store(name="nifti2")
    with pytest.raises(IntegrityError, match="other-data"):
        train(store.path, make_split(store), finished.run, SETTINGS, resume=True)


def test_resuming_without_a_run_is_refused(trained: Callable) -> None:
    with pytest.raises(ConfigError, match="not-a-run"):
        trained(resume=True)


def test_a_damaged_state_is_refused(finished: Any, resumed: Callable, tmp_path: Path) -> None:
    state = shutil.copytree(finished.run, tmp_path / "run") / "state.npz"
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)
    with pytest.raises(IntegrityError, match="state-damaged"):
        resumed(replace(SETTINGS, epochs=3))


@pytest.mark.slow
def test_rotations_resume_bit_for_bit(finished: Any, trained: Callable) -> None:
    settings = replace(SETTINGS, strategy="pt+cw+aug", init=str(finished.run), deterministic=True)
    whole, _ = trained(replace(settings, epochs=2), name="whole")
    trained(settings, name="parts")
    run, _ = trained(replace(settings, epochs=2), name="parts", resume=True)
    assert equal(weights_of(whole), weights_of(run))
