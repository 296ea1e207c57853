"""Scalars for TensorBoard, beside history.csv: its rows as events, the epoch as the step.

TensorBoard itself is not needed to write them. A resumed run adds a file; TensorBoard reads all files
of a folder as one. An epoch that was killed before its state was saved is trained again, and its events
are written twice.
"""

from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf


class Events:
    """Writes rows to a new file of a folder; the file is made with the first row."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: tf.summary.SummaryWriter | None = None

    def add(self, row: Mapping[str, float]) -> None:
        """Write every column of a row but ``epoch``, which is the step."""
        self._writer = self._writer or tf.summary.create_file_writer(str(self._folder))
        scalars = [
            tf.compat.v1.Summary.Value(tag=name, simple_value=value)
            for name, value in row.items()
            if name != "epoch"
        ]
        summary = tf.compat.v1.Summary(value=scalars).SerializeToString()
        with self._writer.as_default():
            tf.summary.experimental.write_raw_pb(summary, step=int(row["epoch"]))
        # So that TensorBoard shows an epoch when it is done, and a kill loses none.
        self._writer.flush()
