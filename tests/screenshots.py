"""Write the pictures of README and docs: pages of `viptt report` about generated scans, in Chromium.

Run it by `make screenshots`. Two of the scans are spoilt on purpose, so that there is something to see.
"""

import io
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from browser import browser
from PIL import Image

from pipeline.demo.catalog import write_demo

ROOT = Path(__file__).resolve().parents[1]
SIZE = (1100, 960)
COLOURS = 64
MOST_BYTES = 150_000
DATASET = """\
  {name}:
    type: nifti
    path: ct
    labels: {{file: ct/labels.csv, id: FileName, label: TypeOfTB, group: PatientID}}
    classes: {{1: Infiltrative, 2: Focal, 3: Tuberculoma, 4: Miliary, 5: Fibro-cavernous}}
    recipe: {{shape: [32, 96, 96], window: {window}}}
    store: cache/{name}.zarr
    split: {{file: splits/{name}.json, fractions: {{train: 0.8, val: 0.2}}}}
"""
WINDOWS = {"wide": [-1000, 400], "narrow": [-700, 150]}
SPOILT = {
    "DEMO_0003": lambda hu: hu > -200,
    "DEMO_0008": lambda hu: np.clip((hu + 1000) / 5.5, 0, 255),
}


def main() -> None:
    """Generate, build, report, and write docs/report.png and docs/comparison.png."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_demo(folder, seed=0, scans=60, groups=5)
        spoil(folder / "ct")
        catalog = folder / "screenshots.yaml"
        datasets = [DATASET.format(name=name, window=window) for name, window in WINDOWS.items()]
        catalog.write_text("version: 1\ndatasets:\n" + "".join(datasets))
        for command in ("build", "split", "report wide", "report wide --compare narrow"):
            viptt(*command.split(), "--catalog", str(catalog), "-q")
        shots = {"report": "wide.report", "comparison": "wide.narrow.comparison"}
        with browser(folder / "profile") as page:
            for picture, file in shots.items():
                page.open(folder / f"cache/{file}.html", width=SIZE[0], height=SIZE[1])
                page.write_screenshot(folder / "shot.png")
                write_small(folder / "shot.png", ROOT / f"docs/{picture}.png")


def viptt(*arguments: str) -> None:
    """Run a command of this version."""
    subprocess.run([sys.executable, ROOT / "cli.py", *arguments], check=True)


def spoil(scans: Path) -> None:
    """Make a mask of one scan, and of another a stack of gray levels as a viewer exports it."""
    for name, change in SPOILT.items():
        file = scans / f"{name}.nii.gz"
        scan = nib.load(file)
        changed = change(np.asarray(scan.dataobj)).astype(np.uint8)
        nib.save(nib.Nifti1Image(changed, scan.affine), file)


def write_small(source: Path, target: Path) -> None:
    """The top of a picture, with few colours. Raises RuntimeError if it is too large for the repository."""
    top = Image.open(source).convert("RGB").crop((0, 0, *SIZE))
    data = io.BytesIO()
    top.quantize(COLOURS, dither=Image.Dither.NONE).save(data, "PNG", optimize=True)
    if len(data.getvalue()) > MOST_BYTES:
        raise RuntimeError(f"{target} would have {len(data.getvalue())} bytes")
    target.write_bytes(data.getvalue())


if __name__ == "__main__":
    main()
