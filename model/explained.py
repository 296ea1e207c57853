"""What ``viptt predict --explain`` draws: of each sample what a decision rests on, of each scan its slices.

Samples are volumes, see ``model.explain``, or single pictures, see ``model.grad_cam``; values are float32
(depth, height, width) as a network gets them. Files are PNG, called by the id of the sample; those of
whole scans lie in the folder ``scans``.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from model.architectures import require_backbone
from model.depth_axis import depth_axis
from model.explain import explain
from model.grad_cam import require_maps, slice_heat
from model.predictions import Prediction
from model.run_folder import Config, Data
from model.windows import is_of_pictures
from pipeline.errors import ConfigError

OPTION, SCANS = "--explain", "scans"
PIECES = re.compile(r"([^0-9]*)([0-9]*)")
Float32 = NDArray[np.float32]


def check_explainable(config: Config, net: keras.Model) -> None:
    """Raise ConfigError, before any work, if the decisions of a run cannot be explained."""
    if config.settings.window:
        reason = "the run reads windows of pictures"
        raise ConfigError.of(OPTION, "no-windows", reason, "leave it out, or train on pictures or stacks")
    if is_of_pictures(config.data.recipe):
        require_maps(net)
    else:
        require_backbone(config.settings.model, option=OPTION)


def draw_volume(
    folder: Path, nets: Sequence[keras.Model], data: Data, sample: Prediction, values: Float32
) -> None:
    """Draw the slices of a volume that a decision rests on as ``ID.png``.

    Raises ResourceError if the folder cannot be written.
    """
    from model.plots import draw_explanation, file_name, writing_pictures

    found = explain(nets, values)
    axis = depth_axis(data.recipe, sample.facts, len(values))
    title = _title(sample.id, data.classes, found.label, found.probability, truth=sample.truth)
    with writing_pictures(folder, OPTION):
        draw_explanation(folder / f"{file_name(sample.id)}.png", values, found, axis, title)


def draw_picture(
    folder: Path, nets: Sequence[keras.Model], classes: Sequence[str], found: Prediction, values: Float32
) -> None:
    """Draw a picture, values (1, height, width), beside its Grad-CAM as ``ID.png``.

    The heat of several networks is the mean of theirs. Raises ResourceError if it cannot be written.
    """
    from model.plots import draw_slice, file_name, writing_pictures

    heat = np.mean([slice_heat(net, values[0], label=found.label) for net in nets], axis=0)
    title = _title(found.id, classes, found.label, found.probabilities[found.label], truth=found.truth)
    with writing_pictures(folder, OPTION):
        draw_slice(folder / f"{file_name(found.id)}.png", values[0], heat, title)


def draw_scans(folder: Path, classes: Sequence[str], found: Iterable[Prediction]) -> None:
    """Draw for each scan of two pictures or more the probabilities along its slices: ``scans/ID.png``.

    Raises ResourceError if the folder cannot be written.
    """
    from model.plots import draw_scan, file_name, writing_pictures

    scans: defaultdict[str, list[Prediction]] = defaultdict(list)
    for prediction in found:
        scans[prediction.stack].append(prediction)
    for scan, slices in scans.items():
        if not scan or len(slices) < 2:
            continue
        slices.sort(key=lambda prediction: _place(prediction.id))
        probabilities = np.array([prediction.probabilities for prediction in slices])
        label = int(probabilities.mean(axis=0).argmax())
        mean = _title(scan, classes, label, probabilities[:, label].mean(), truth=None)
        with writing_pictures(folder, OPTION):
            (folder / SCANS).mkdir(exist_ok=True)
            path = folder / SCANS / f"{file_name(scan)}.png"
            draw_scan(path, probabilities, classes, f"{mean} (mean of {len(slices)} slices)")


def _place(sample: str) -> list[tuple[str, int]]:
    """What sorts ids by the numbers in them: 2 comes before 10."""
    return [(text, int(number or 0)) for text, number in PIECES.findall(sample)]


def _title(sample: str, classes: Sequence[str], label: int, probability: float, *, truth: int | None) -> str:
    """What was found, and the true class where it is known."""
    told = f"{sample}: {classes[label]}, probability {probability:.3f}"
    return told if truth is None else f"{told}; true class {classes[truth]}"
