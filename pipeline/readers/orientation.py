"""Where a NIfTI header says that voxels lie: its affine (mm), what is doubtful about it, canonical axes.

Canonical axes are (depth, height, width) toward (Superior, Posterior, Left).
"""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt2axcodes, ornt_transform
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from pipeline.errors import SourceError

Float64 = NDArray[np.float64]
CANONICAL = axcodes2ornt("LPS")
FETCH = "fetch or export it again"
VOXEL_APART = 1.0  # qform and sform may place a corner of the volume so many voxels apart: rounding, shear


def affine_of(path: Path, header: Nifti1Header) -> tuple[Float64, list[str]]:
    """The voxel-to-world matrix (mm), and what is doubtful about it."""
    with np.errstate(invalid="ignore"):  # a NaN may be a signalling one
        pixdim = header["pixdim"][1:4].astype(float)
    if not (np.isfinite(pixdim).all() and (pixdim > 0).all() and (pixdim < 1000).all()):
        raise SourceError.of(path, "bad-spacing", f"voxels of {pixdim.tolist()} mm", FETCH)
    forms = int(header["sform_code"]) > 0, int(header["qform_code"]) > 0
    if abs(header["pixdim"][0]) != 1:
        header["pixdim"][0] = 1  # nifti1.h: a qfac that is not set means 1
    try:
        with np.errstate(all="ignore"):
            affine = np.asarray(header.get_best_affine(), np.float64)
    except (HeaderDataError, ValueError) as error:
        raise SourceError.of(path, "bad-affine", str(error), FETCH) from None
    if not _tells_axes_apart(affine):
        raise SourceError.of(path, "bad-affine", "its voxel-to-world matrix is singular or absurd", FETCH)
    if not any(forms):
        return affine, ["orientation assumed: neither qform nor sform is set"]
    spacing = nib.affines.voxel_sizes(affine)
    if not np.allclose(spacing, pixdim, rtol=0.01, atol=1e-3):
        said = f"sform says {np.round(spacing, 3).tolist()} mm, pixdim {np.round(pixdim, 3).tolist()} mm"
        return affine, [f"form-conflict: {said}; the sform is used"]
    return affine, _conflict(header, affine) if all(forms) else []


def _conflict(header: Nifti1Header, affine: Float64) -> list[str]:
    """Whether the qform places the volume elsewhere than the sform, by the corners of both."""
    try:
        with np.errstate(all="ignore"):
            other = np.asarray(header.get_qform(), np.float64)
    except (HeaderDataError, ValueError):
        return ["form-conflict: its qform is not a rotation; the sform is used"]
    last = header["dim"][1:4].astype(np.float64) - 1
    corners = np.array([[*(last * corner), 1] for corner in np.ndindex(2, 2, 2)])
    with np.errstate(all="ignore"):  # an offset may be anything
        apart = float(np.linalg.norm((corners @ (affine - other).T)[:, :3], axis=1).max())
    if apart <= VOXEL_APART * nib.affines.voxel_sizes(affine).max():
        return []
    return [f"form-conflict: sform and qform place a corner {apart:.4g} mm apart; the sform is used"]


def _tells_axes_apart(affine: Float64) -> bool:
    """Whether every step is under a metre, and each voxel axis has a world axis of its own."""
    if not (np.isfinite(affine).all() and (np.abs(affine[:3, :3]) < 1000).all()):
        return False
    with np.errstate(all="ignore"):
        singular = abs(np.linalg.det(affine[:3, :3])) < 1e-9
        return not singular and bool(np.isfinite(io_orientation(affine)).all())


def canonical_view(array: NDArray[Any], affine: Float64) -> NDArray[Any]:
    """From (i, j, k) as stored to (depth, height, width) = (S, P, L); a view, no copy."""
    turned: NDArray[Any] = apply_orientation(array, ornt_transform(io_orientation(affine), CANONICAL))
    return turned.T


def axes_of(affine: Float64) -> tuple[str, list[int], list[float]]:
    """The axes' letters as stored, the stored axis of each canonical one, and the spacing (mm) of these."""
    orientation = io_orientation(affine)
    order = [int(axis) for axis in np.argsort(ornt_transform(orientation, CANONICAL)[:, 0])[::-1]]
    spacing = nib.affines.voxel_sizes(affine)
    return "".join(ornt2axcodes(orientation)), order, [round(float(spacing[axis]), 4) for axis in order]
