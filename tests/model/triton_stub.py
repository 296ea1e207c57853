"""Triton's HTTP interface (KServe's inference protocol, version 2) over a model repository, for tests.

    python -I triton_stub.py REPOSITORY

loads each ``NAME/config.pbtxt`` with ``NAME/1/model.onnx``, prints the number of its port, and knows of a
model only what these files say. It has no binary tensors and no batches. Like Triton, it refuses inputs
that are not as the configuration says. It needs neither TensorFlow nor anything of this project.
"""

import json
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import onnxruntime

DTYPES = {"FP32": np.float32, "INT32": np.int32, "BYTES": np.object_}
NAMES = {"TYPE_FP32": "FP32", "TYPE_INT32": "INT32", "TYPE_STRING": "BYTES"}
TENSOR = re.compile(r'(input|output) \{\s*name: "(\w+)"\s*data_type: (\w+)\s*dims: \[([^]]*)\]\s*\}')


class Model:
    def __init__(self, folder):
        text = (folder / "config.pbtxt").read_text("utf-8")
        assert f'name: "{folder.name}"' in text, "Triton wants the name of the folder"
        self.tensors = {"input": {}, "output": {}}
        for kind, name, dtype, dims in TENSOR.findall(text):
            self.tensors[kind][name] = NAMES[dtype], [int(size) for size in dims.split(",")]
        self.session = onnxruntime.InferenceSession(folder / "1/model.onnx")
        self.name = folder.name

    def metadata(self):
        listed = {
            f"{kind}s": [
                {"name": name, "datatype": dtype, "shape": dims} for name, (dtype, dims) in known.items()
            ]
            for kind, known in self.tensors.items()
        }
        return {"name": self.name, "versions": ["1"], "platform": "onnxruntime_onnx", **listed}

    def infer(self, body):
        given = {tensor["name"]: self.read(tensor) for tensor in body["inputs"]}
        assert set(given) == set(self.tensors["input"]), f"expected {sorted(self.tensors['input'])}"
        wanted = [tensor["name"] for tensor in body.get("outputs", [])] or list(self.tensors["output"])
        found = dict(zip(wanted, self.session.run(wanted, given), strict=True))
        outputs = [
            {
                "name": name,
                "datatype": self.tensors["output"][name][0],
                "shape": list(values.shape),
                "data": values.ravel().tolist(),
            }
            for name, values in found.items()
        ]
        return {"model_name": self.name, "model_version": "1", "outputs": outputs}

    def read(self, tensor):
        """An input from its row-major values, nested or flat."""
        name, shape = tensor["name"], tensor["shape"]
        assert name in self.tensors["input"], f"unexpected inference input '{name}'"
        dtype, dims = self.tensors["input"][name]
        assert tensor["datatype"] == dtype, f"'{name}' is {dtype}"
        fits = len(shape) == len(dims) and all(
            want in (-1, size) for want, size in zip(dims, shape, strict=True)
        )
        assert fits, f"unexpected shape for input '{name}': {shape}, expected {dims}"
        return np.array(tensor["data"], DTYPES[dtype]).reshape(shape)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        found = re.fullmatch(r"/v2/models/([^/]+)(/ready)?", self.path)
        if self.path == "/v2/health/ready" or (found and found[1] in MODELS and found[2]):
            self.answer(200, {})
        elif found and found[1] in MODELS:
            self.answer(200, MODELS[found[1]].metadata())
        else:
            self.answer(400, {"error": f"Request for unknown model: {self.path}"})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        found = re.fullmatch(r"/v2/models/([^/]+)(?:/versions/1)?/infer", self.path)
        if not found or found[1] not in MODELS:
            return self.answer(400, {"error": f"Request for unknown model: {self.path}"})
        try:
            return self.answer(200, MODELS[found[1]].infer(body))
        except (AssertionError, ValueError) as error:
            return self.answer(400, {"error": str(error)})

    def answer(self, status, document):
        payload = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *arguments):
        pass


MODELS = {path.parent.name: Model(path.parent) for path in Path(sys.argv[1]).glob("*/config.pbtxt")}
assert not {"pipeline", "model", "cli", "tensorflow"} & set(sys.modules)
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
