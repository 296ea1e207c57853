"""Preprocessing: sources (CT scans, videos) to a store of fixed-shape volumes, and splits of it.

Never imports TensorFlow or Keras.
"""

__version__ = "0.2.0"
