"""How the features of a sequence of frames become one summary: the layers between backbone and head.

Sequences are float ``(B, depth, n)``, for "convlstm" feature maps ``(B, depth, height, width, n)``;
summaries are ``(B, units)``. Written in Keras alone.

"lstm" and "gru" have the 256 units of ViPTT-Net (Zunair et al., ImageCLEF 2021, section 2.2), whose
authors tried the GRU, too, and a ConvLSTM of 64 filters of 3 x 3. "mean" and "attention" do not
depend on the order of the frames.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers, ops

UNITS, FILTERS, ATTENTION_UNITS = 256, 64, 128


def summary_layers(temporal: str) -> Sequence[keras.layers.Layer]:
    """New layers for a name in ``TEMPORAL``, to be applied one after the other."""
    return TEMPORAL[temporal]()


class AttentionPooling(layers.Layer):  # type: ignore[misc]  # Keras has no types
    """The mean of the frames, weighted by what is learned: (B, depth, n) to (B, n).

    M. Ilse, J. Tomczak and M. Welling, "Attention-based Deep Multiple Instance Learning", ICML 2018,
    equations 7 and 8: the weight of features h is the softmax over depth of w · tanh(V h).
    """

    def __init__(self, units: int, **options: Any) -> None:
        super().__init__(**options)
        self.units = units
        self.hidden = layers.Dense(units, activation="tanh", use_bias=False, name="hidden")
        self.score = layers.Dense(1, use_bias=False, name="score")

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Make the weights: V is (n, units), w is (units, 1)."""
        self.hidden.build(shape)
        self.score.build((*shape[:2], self.units))

    def call(self, sequence: Any) -> Any:
        """``sequence`` float (B, depth, n); gives (B, n)."""
        return ops.sum(self.weights_of(sequence) * sequence, axis=1)

    def weights_of(self, sequence: Any) -> Any:
        """The share of each frame, (B, depth, 1): above 0, with a sum of 1."""
        return ops.softmax(self.score(self.hidden(sequence)), axis=1)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Without depth."""
        return (shape[0], *shape[2:])

    def get_config(self) -> dict[str, Any]:
        """What builds the layer anew."""
        return {**super().get_config(), "units": self.units}


TEMPORAL: dict[str, Callable[[], Sequence[keras.layers.Layer]]] = {
    "lstm": lambda: [layers.LSTM(UNITS, name="lstm")],
    "gru": lambda: [layers.GRU(UNITS, name="gru")],
    "convlstm": lambda: [
        layers.ConvLSTM2D(FILTERS, 3, padding="same", name="convlstm"),
        layers.GlobalAveragePooling2D(name="pool"),
    ],
    "mean": lambda: [layers.GlobalAveragePooling1D(name="mean")],
    "attention": lambda: [AttentionPooling(ATTENTION_UNITS, name="attention")],
}
