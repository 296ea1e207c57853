"""ViPTT-Net: from a store and a split file to batches, training, metrics and weights.

Never imports Dask, nibabel or OpenCV: the store and the split file are all that it shares with
``pipeline``. Importing the package imports nothing else; each module brings what it needs.
"""
