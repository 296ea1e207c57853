"""What a user without rights is told; another process asks, for root may read everything."""

import pytest

from pipeline.readers import nifti, video
from pipeline.sources.discover import find_files


@pytest.mark.parametrize("name", ["a.nii", "a.avi"])
@pytest.mark.parametrize("entire", [True, False])
def test_a_file_that_may_not_be_read_is_refused(as_nobody, name, entire):
    def prepare(folder):
        (folder / name).write_bytes(b"RIFF")
        (folder / name).chmod(0)

    reader = {"a.nii": nifti, "a.avi": video}[name]
    look = reader.read if entire else reader.inspect
    said = as_nobody(prepare, lambda folder: look(folder / name))
    assert said.startswith("SourceError: ")
    assert f"{name}: unreadable: Permission denied → " in said


def test_a_folder_that_may_not_be_read_is_not_skipped(as_nobody):
    def prepare(folder):
        (folder / "a.nii").touch()
        (folder / "closed").mkdir(mode=0)

    said = as_nobody(prepare, lambda folder: find_files(folder, (".nii",)))
    assert "closed: unreadable: Permission denied → " in said
