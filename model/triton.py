"""The description that Triton Inference Server wants beside an ONNX model: ``config.pbtxt``.

Source: Triton's "Model Configuration", protobuf text format of the message ``ModelConfig``.
"""

import json
from collections.abc import Sequence

import tensorflow as tf

CONFIG, VERSION = "config.pbtxt", "1"
TYPES = {tf.float32: "TYPE_FP32", tf.int32: "TYPE_INT32", tf.string: "TYPE_STRING"}
ANY_SIZE = -1


def config_text(name: str, signature: Sequence[tf.TensorSpec], classes: int) -> str:
    """The text of ``config.pbtxt`` for a model of this name, the name of its folder.

    Inputs are those of the signature; outputs the probabilities and names of the classes. Its inputs
    have no batch axis, since they differ in size: ``max_batch_size`` is 0.
    """
    inputs = [_tensor("input", spec) for spec in signature]
    outputs = [
        _tensor("output", tf.TensorSpec([classes], tf.float32, name="probabilities")),
        _tensor("output", tf.TensorSpec([classes], tf.string, name="classes")),
    ]
    head = f'name: {_quoted(name)}\nbackend: "onnxruntime"\nmax_batch_size: 0\n'
    return head + "".join(inputs + outputs)


def _tensor(kind: str, spec: tf.TensorSpec) -> str:
    sizes = ", ".join(str(size or ANY_SIZE) for size in spec.shape.as_list())
    fields = [f"name: {_quoted(spec.name)}", f"data_type: {TYPES[spec.dtype]}", f"dims: [{sizes}]"]
    return f"{kind} {{\n" + "".join(f"  {field}\n" for field in fields) + "}\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
