"""TensorFlow Serving's REST interface over SavedModels, for tests: no binary of the real server can be had.

    python -I rest_server.py NAME=FOLDER…

serves the highest version in each folder, prints the number of its port, and needs nothing of this project.
What it does with instances, inputs, signatures, versions and errors follows the page "RESTful API" of
TensorFlow Serving (tensorflow.org/tfx/serving/api_rest).
"""

import json
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class NotInstalled:
    """The project may be installed for the tests; here it cannot be imported."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("pipeline", "model", "cli", "viptt"):
            raise ModuleNotFoundError(name)


sys.meta_path.insert(0, NotInstalled())
import tensorflow as tf  # noqa: E402  # only now that the project is out of reach


class Refused(Exception):
    """An HTTP status and the text of the error."""


class Servable:
    """One SavedModel, known by its signatures alone."""

    def __init__(self, name, folder):
        self.name = name
        self.version = max(int(path.name) for path in folder.iterdir() if path.name.isdigit())
        self.model = tf.saved_model.load(str(folder / str(self.version)))

    def status(self):
        state = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        return {"model_version_status": [{"version": str(self.version), **state}]}

    def predict(self, body):
        name = body.get("signature_name", "serving_default")
        if name not in self.model.signatures:
            raise Refused(400, f'Serving signature name: "{name}" not found in signature def')
        call = self.model.signatures[name]
        specs = call.structured_input_signature[1]
        if ("instances" in body) == ("inputs" in body):
            raise Refused(400, "give either `instances` or `inputs`")
        rows = "instances" in body
        given = from_rows(body["instances"], specs) if rows else from_columns(body["inputs"], specs)
        found = {key: plain(value) for key, value in call(**tensors(given, specs)).items()}
        if not rows:
            return {"outputs": found if len(found) > 1 else next(iter(found.values()))}
        if len({len(column) for column in found.values()}) > 1:
            raise Refused(400, "outputs have different numbers of rows")
        predictions = [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]
        return {"predictions": predictions}


def from_columns(inputs, specs):
    """The value of each input: an object, or the value itself where there is one input only."""
    return inputs if isinstance(inputs, dict) else {next(iter(specs)): inputs}


def from_rows(instances, specs):
    """The same from a list of rows, which are objects unless there is one input only."""
    if all(isinstance(row, dict) for row in instances):
        return {name: [row[name] for row in instances] for name in specs}
    if len(specs) > 1:
        raise Refused(400, "instances is a plain list, but expecting list of objects")
    return {next(iter(specs)): instances}


def tensors(given, specs):
    if set(given) != set(specs):
        raise Refused(400, f"inputs are {sorted(specs)}, not {sorted(given)}")
    made = {name: tf.constant(value, specs[name].dtype) for name, value in given.items()}
    for name, tensor in made.items():
        if not specs[name].shape.is_compatible_with(tensor.shape):
            raise Refused(400, f"{name} has the shape {tensor.shape}")
    return made


def plain(tensor):
    values = tensor.numpy().tolist()
    return [value.decode() for value in values] if tensor.dtype == tf.string else values


SERVABLES = {}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(lambda: self.servable(verb=None).status())

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(lambda: self.servable(verb="predict").predict(body))

    def servable(self, verb):
        found = re.fullmatch(r"/v1/models/([^/:]+)(?:/versions/(\d+))?(?::(\w+))?", self.path)
        if not found or found[3] != verb:
            raise Refused(404, f"Malformed request: {self.command} {self.path}")
        servable = SERVABLES.get(found[1])
        if servable is None or int(found[2] or servable.version) != servable.version:
            raise Refused(404, f"Servable not found for request: {found[1]}")
        return servable

    def answer(self, compute):
        try:
            status, document = 200, compute()
        except Refused as error:
            status, document = error.args[0], {"error": error.args[1]}
        except (tf.errors.InvalidArgumentError, ValueError, TypeError) as error:
            status, document = 400, {"error": str(error)}
        payload = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *arguments):
        pass


for argument in sys.argv[1:]:
    name, _, folder = argument.partition("=")
    SERVABLES[name] = Servable(name, Path(folder))
assert not {"pipeline", "model", "cli"} & set(sys.modules)
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
