"""The file that says how fast a build was."""

import json

import pytest

from pipeline.store.throughput import Throughput, read_throughput, write_throughput

pytestmark = pytest.mark.unit
FOUND = Throughput("sha256:a", 10, 2, 4_000_000, 8.0, 2)


def test_it_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "ct.build.json"
    write_throughput(path, FOUND, staged=tmp_path / "staged")
    assert read_throughput(path, "sha256:a") == FOUND
    assert FOUND.megabytes_per_second == 0.5
    write_throughput(path, Throughput("sha256:b", 1, 0, 1, 1.0, 1), staged=tmp_path / "staged")
    assert read_throughput(path, "sha256:a") is None


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"kind": "viptt build"}', b'{"kind": "mine"}', json.dumps({"seconds": 3}).encode()],
)
def test_another_file_is_not_read_and_not_replaced(tmp_path, content):
    path = tmp_path / "ct.build.json"
    path.write_bytes(content)
    assert read_throughput(path, "sha256:a") is None
    write_throughput(path, FOUND, staged=tmp_path / "staged")
    assert path.read_bytes() == content
    assert [entry.name for entry in tmp_path.iterdir()] == ["ct.build.json"]


def test_without_a_file_nothing_is_known(tmp_path):
    assert read_throughput(tmp_path / "ct.build.json", "sha256:a") is None
