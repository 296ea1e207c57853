"""From names and files to networks: those that a training starts from, and those of finished runs.

A network is always built from code, and only its weights are read from a file.
"""

from pathlib import Path

import keras

from model.architectures import architecture, build_options, check_fits
from model.run_folder import WEIGHTS, Config, read_config
from model.settings import Settings
from model.weights import load_body, load_weights
from model.windows import sample_shape
from pipeline.errors import ConfigError


def starting_weights(settings: Settings) -> Path | None:
    """The weights file that ``init`` or ``weights`` names; raises ConfigError if it is not there."""
    named = settings.init or settings.weights
    return None if named in (None, "none", "imagenet") else _weights_file(Path(named))


def _weights_file(path: Path) -> Path:
    """The weights of a run, or a file."""
    if path.is_dir():
        # A folder must be a run: this says "not-a-run" for any other.
        read_config(path)
        path = path / WEIGHTS
    if not path.is_file():
        raise ConfigError.of(path, "no-weights", "there is no such file", "give a run, or a weights file")
    return path


def build_network(
    settings: Settings, shape: tuple[int, ...], classes: int, *, statistics: tuple[float, float] | None = None
) -> keras.Model:
    """The network that a training starts from, with the weights that the settings name.

    ``shape`` is that of a sample without the batch; ``statistics`` are mean and deviation of the train
    part, for networks that standardise. Raises ConfigError if the network does not read such samples or
    does not know a setting, and as its builder does.
    """
    check_fits(settings, shape)
    start = starting_weights(settings)
    # `--init` overwrites the backbone as well, so fetching other weights would be wasted.
    weights = "none" if settings.init else str(start) if start else settings.weights
    # Left out, the builder takes its own default: ImageNet for VGG-16, none for the small network.
    given = {} if weights is None else {"weights": weights}
    options = build_options(settings, statistics)
    net = architecture(settings.model).build(shape, classes, **given, **options)
    if settings.init and start:
        load_body(net, start)
    return net


def load_network(folder: Path) -> tuple[Config, keras.Model]:
    """Build the network of a run and load its best weights.

    Raises ConfigError if the folder holds no run or no epoch was finished, IntegrityError if a file
    of it is damaged.
    """
    config = read_config(folder)
    if not (folder / WEIGHTS).is_file():
        reason = "it has no weights yet: no epoch was finished"
        raise ConfigError.of(folder, "no-weights", reason, "finish it with `viptt train … --resume`")
    settings, data = config.settings, config.data
    shape = sample_shape(data.shape, data.recipe, settings.window)
    options = build_options(settings, data.statistics)
    # "none": all weights come from the file, and nothing is fetched.
    net = architecture(settings.model).build(shape, len(data.classes), weights="none", **options)
    load_weights(net, folder / WEIGHTS)
    return config, net
