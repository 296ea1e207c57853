"""Features: the output of the frozen backbone, computed once, so that training runs the rest alone.

A feature vector is what the backbone makes of one slice or frame; a sample has ``(depth, n)`` of them,
n = 512 for VGG-16. Of a store of pictures, each picture has ``(1, n)``, and the networks that are trained on
them read windows. The adapter before the backbone is fixed to the gray value in all three channels,
since stored features could not follow an adapter that is trained.

``viptt features`` writes them beside a store, bound by digests to the store and to the backbone; other
features are refused.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from model.applications import BACKBONE
from model.architectures import require_backbone
from model.loading import build_network
from model.network import encoder, fix_adapter
from model.settings import Settings
from model.stream import scaled
from model.windows import PICTURE, is_of_pictures
from pipeline.errors import ConfigError, IntegrityError
from pipeline.store import FEATURES, Store, canonical_json, features_of, is_store, open_store

ADAPTER = "gray"
AGAIN = "run `viptt features` with the `--model`, `--weights` and `--seed` of this training"


@dataclass(frozen=True)
class Extractor:
    """``compute`` takes a volume as it is stored, (depth, height, width), and gives float32 (depth, n);
    ``recipe`` is everything but the volume that decides its numbers."""

    compute: Callable[[NDArray[Any]], NDArray[np.float32]]
    recipe: Mapping[str, Any]


def extractor(settings: Settings, volumes: Store) -> Extractor:
    """The backbone that a training with these settings would freeze, for the volumes of a store.

    Raises ConfigError if the network has no backbone, and as its builder does where the weights cannot
    be had.
    """
    require_backbone(settings.model, option="--model")
    keras.utils.set_random_seed(settings.seed)
    depth, height, width = volumes.header.shape
    net = build_network(settings, (depth, height, width, 1), len(volumes.header.classes))
    # The adapter of a new network is random; only the gray one is the same in every training.
    fix_adapter(net)
    front = encoder(net)

    def compute(stored: NDArray[Any]) -> NDArray[np.float32]:
        # One volume at a time: in a batch, the last bits of a result may depend on its neighbours.
        batch = scaled(stored[np.newaxis, ..., np.newaxis].astype(np.float32), volumes.header.recipe)
        return np.asarray(front.predict_on_batch(batch)[0])

    # So marked, features of pictures lie in shards and know their stacks, as the pictures do.
    kind = {"sample": PICTURE} if is_of_pictures(volumes.header.recipe) else {}
    shape = list(front.output_shape[1:])
    return Extractor(compute, {"shape": shape, "dtype": "float32", **kind, **origin(net, settings.model)})


def origin(net: keras.Model, model: str) -> dict[str, str]:
    """What features are bound to: network, adapter, and a digest over the arrays of the backbone."""
    hasher = hashlib.sha256()
    for value in net.get_layer(BACKBONE).get_weights():
        # Shape and dtype are hashed too: the same bytes in another shape are other weights.
        hasher.update(canonical_json([list(value.shape), value.dtype.str]) + value.tobytes())
    return {"network": model, "adapter": ADAPTER, "weights_sha256": hasher.hexdigest()}


def open_features(volumes: Store) -> Store:
    """Open the features of a store; row i belongs to row i of the store.

    Raises IntegrityError if there are none, if they are damaged, or were made from another store,
    ConfigError if a store of volumes lies in their place.
    """
    path = features_of(volumes.path)
    if not is_store(path):
        raise IntegrityError.of(path, "no-features", "the features are not there", "run `viptt features`")
    features = open_store(path)
    if features.header.array != FEATURES:
        raise ConfigError.of(path, "not-features", "it is a store of volumes", "move it away")
    # Row i belongs to row i only while both stores have the same rows.
    made_from = features.header.recipe["store_digest"]
    if made_from != volumes.digest:
        reason = f"made from store {made_from[:19]}…, {volumes.path} is now {volumes.digest[:19]}…"
        raise IntegrityError.of(path, "stale-features", reason, "run `viptt features` again")
    return features


def check_origin(features: Store, net: keras.Model, model: str) -> None:
    """Raise IntegrityError unless the features were made by the backbone of this network."""
    for name, ours in origin(net, model).items():
        theirs = features.header.recipe.get(name)
        if theirs != ours:
            reason = f"made with {name} {str(theirs)[:16]}, this training has {ours[:16]}"
            raise IntegrityError.of(features.path, "stale-features", reason, AGAIN)
