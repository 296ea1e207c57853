"""The demo's folder: scans, clips, and the catalog that describes them."""

from pathlib import Path

from pipeline.demo.clips import write_clips
from pipeline.demo.scans import write_scans
from pipeline.errors import ConfigError

SCANS = 150  # enough for over 100 to learn from, and a validation part that one lucky scan does not decide
GROUPS = 8
_CATALOG = r"""# Generated sources, written by `viptt demo`; the small shape keeps training short.
version: 1
datasets:
  demo_clips:
    type: video
    path: clips
    labels: {regex: 'v_(?P<group>(?P<label>[A-Za-z]+)_g\d+)_c\d+\.avi$'}
    classes: [Mixing, JumpRope, Rowing, TennisSwing, HorseRiding]
    recipe: {shape: [16, 48, 48], spline_order: 3, frames: all, dtype: float16}
    store: cache/demo_clips.zarr
    split: {file: splits/demo_clips.json, fractions: {train: 0.75, val: 0.25}, seed: 0}

  demo_ct:
    type: nifti
    path: ct
    labels: {file: ct/labels.csv, id: FileName, label: TypeOfTB, group: PatientID}
    classes: {1: Infiltrative, 2: Focal, 3: Tuberculoma, 4: Miliary, 5: Fibro-cavernous}
    recipe: {shape: [16, 48, 48], spline_order: 3, window: [-1000, 400], dtype: float16}
    store: cache/demo_ct.zarr
    split: {file: splits/demo_ct.json, fractions: {train: 0.75, val: 0.25}, seed: 0}
"""


def write_demo(folder: Path, *, seed: int = 0, scans: int = SCANS, groups: int = GROUPS) -> Path:
    """Write `scans` CT phantoms with labels, `groups` groups of clips per action, and a catalog of both.

    Returns the catalog's path. `folder` must be new or empty; ConfigError otherwise, and nothing is written.
    """
    _require_empty(folder)
    write_scans(folder / "ct", seed=seed, scans=scans)
    write_clips(folder / "clips", seed=seed, groups=groups)
    catalog = folder / "data_catalog.yaml"
    catalog.write_text(_CATALOG, encoding="utf-8")
    return catalog


def _require_empty(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError.of(
            folder, "not-empty", "the demo needs a folder that is new or empty", "name another folder"
        )
