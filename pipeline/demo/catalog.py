"""The demo's folder: generated sources of one kind, the catalog that describes them, files of settings."""

from pathlib import Path

from pipeline.demo.clips import write_clips
from pipeline.demo.scans import write_scans
from pipeline.demo.slices import write_slices
from pipeline.demo.ultrasound import write_ultrasound
from pipeline.errors import ConfigError

SCANS = 150  # enough for over 100 to learn from, and a validation part that one lucky scan does not decide
GROUPS = 8
PATIENTS = 9  # of each centre; of ultrasound
SLICE_PATIENTS = 12  # of each class; of slices
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
_ULTRASOUND = """# Generated frames, written by `viptt demo --kind ultrasound`.
version: 1
datasets:
  demo_ultrasound:
    type: frames
    sample: picture
    path: ultrasound/videos
    labels: {files: ultrasound/labels}
    groups: {exams: ultrasound/exams.json, infos: [ultrasound/train-infos.csv]}
    classes: [drift-left, drift-right, pulsing, resting, two-chambers]
    recipe: {shape: [1, 32, 32], resize: antialias, normalise: max, select: ssim}
    store: cache/demo_ultrasound.zarr
    # The last patients of each centre validate.
    split: {file: splits/demo_ultrasound.json, method: sononet-2025, fractions: {train: 0.7, val: 0.3}}
"""
_SLICES = """# Generated slices, written by `viptt demo --kind slices`.
version: 1
datasets:
  demo_slices:
    type: slices
    path: slices/images
    labels: {train: slices/train_demo.txt, val: slices/val_demo.txt, test: slices/test_demo.txt}
    classes: {0: Normal, 1: Pneumonia, 2: COVID-19}
    recipe: {shape: [1, 32, 32], crop: box, resize: antialias}
    store: cache/demo_slices.zarr
    split: {file: splits/demo_slices.json, method: given}
"""
# Small networks, so that each is trained within a minute on two cores.
_SHARED = """width: 8
batch_size: 16
optimizer: adam
learning_rate: 0.002
plateau_patience: null
stop_patience: null
"""
_WINDOWS = "window: {length: 5, stride: 3, labels: same}\n"
_SETTINGS = {
    "2d": f"model: sononet-2d\nframes: selected\nepochs: 8\n{_SHARED}",
    "3d": f"model: sononet-3d\nepochs: 10\n{_WINDOWS}{_SHARED}",
    "2+1d": f"model: sononet-2+1d\nepochs: 14\n{_WINDOWS}{_SHARED}",
}
_SLICE_SETTINGS = {"slices": f"model: sononet-2d\nepochs: 12\n{_SHARED}"}


def write_demo(folder: Path, *, seed: int = 0, scans: int = SCANS, groups: int = GROUPS) -> Path:
    """Write `scans` CT phantoms with labels, `groups` groups of clips per action, and a catalog of both.

    Returns the catalog's path. `folder` must be new or empty; ConfigError otherwise, and nothing is written.
    """
    _require_empty(folder)
    write_scans(folder / "ct", seed=seed, scans=scans)
    write_clips(folder / "clips", seed=seed, groups=groups)
    return _write_texts(folder, _CATALOG, {})


def write_ultrasound_demo(folder: Path, *, seed: int = 0, patients: int = PATIENTS) -> Path:
    """Write ultrasound videos of `patients` patients of each centre, settings for networks, and a catalog.

    Returns the catalog's path; raises as `write_demo` does.
    """
    _require_empty(folder)
    write_ultrasound(folder / "ultrasound", seed=seed, patients=patients)
    return _write_texts(folder, _ULTRASOUND, _SETTINGS)


def write_slices_demo(folder: Path, *, seed: int = 0, patients: int = SLICE_PATIENTS) -> Path:
    """Write CT slices of `patients` patients of each class, settings of a network, and a catalog.

    Returns the catalog's path; raises as `write_demo` does.
    """
    _require_empty(folder)
    write_slices(folder / "slices", seed=seed, patients=patients)
    return _write_texts(folder, _SLICES, _SLICE_SETTINGS)


def _write_texts(folder: Path, text: str, settings: dict[str, str]) -> Path:
    for name, content in settings.items():
        (folder / "settings").mkdir(exist_ok=True)
        (folder / "settings" / f"{name}.yaml").write_text(content, encoding="utf-8")
    catalog = folder / "data_catalog.yaml"
    catalog.write_text(text, encoding="utf-8")
    return catalog


def _require_empty(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError.of(
            folder, "not-empty", "the demo needs a folder that is new or empty", "name another folder"
        )
