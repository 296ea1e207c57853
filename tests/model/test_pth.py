import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from pth_files import (
    EMPTY,
    call,
    numbers,
    pickled,
    sequence,
    storage,
    tensor,
    text,
    whole,
    write_legacy,
    write_zip,
)

from model.pth import LONGEST_PICKLE, read_tensors
from pipeline.errors import IntegrityError

VALUES = {
    "a.weight": np.arange(24, dtype="f4").reshape(2, 3, 2, 2),
    "a.bias": np.array([1.5, -2.5, 1e-30]),
    "half": np.array([[0.5], [-7]], "f2"),
    "counter": np.array(7, "i8"),
    "bytes": np.array([0, 255], "u1"),
}
ONE = {"a": np.arange(6, dtype="f4")}


def assert_same(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype
        assert found[name].flags.writeable


# --- what is read -------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["little", "big"])
def test_a_zip_gives_names_dtypes_and_values(tmp_path: Path, order: str) -> None:
    assert_same(read_tensors(write_zip(tmp_path / "a.pth", VALUES, order=order)), VALUES)


def test_a_file_of_before_1_6_gives_the_same(tmp_path: Path) -> None:
    assert_same(read_tensors(write_legacy(tmp_path / "a.pth", VALUES)), VALUES)


def test_the_two_files_of_the_fetal_database_hold_the_same(shared: Path) -> None:
    files = [shared / f"oracle/weights/SonoNet2D-16-FetalDB{old}.pth" for old in ("", "-old")]
    new, old = (read_tensors(path) for path in files)
    assert len(new) == 75
    assert sum(value.size for value in new.values()) == 933_064
    for ours, theirs in zip(new.values(), old.values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_parts_and_turned_views_of_a_shared_storage_are_read(tmp_path: Path) -> None:
    kept = storage("0", 24)
    told = {
        "turned": tensor(kept, (4, 2, 3), (1, 12, 4)),
        "part": tensor(kept, (2, 4), (4, 1), offset=16),
        "repeated": tensor(kept, (2, 3), (0, 1)),
        "parameter": call("torch._utils _rebuild_parameter", tensor(kept, (24,), (1,)), b"\x88", EMPTY),
    }
    values = np.arange(24, dtype="f4")
    write_zip(tmp_path / "a.pth", {"all": values, "room": values}, pickle=pickled(told))
    found = read_tensors(tmp_path / "a.pth")
    cube = values.reshape(2, 3, 4)
    expected = [cube.transpose(2, 0, 1), cube[1, 1:], np.stack([values[:3]] * 2), values]
    assert_same(found, dict(zip(told, expected, strict=True)))


# --- what is refused ----------------------------------------------------------------------------


def refused(path: Path, match: str = "weights-unreadable") -> None:
    with pytest.raises(IntegrityError, match=match) as caught:
        read_tensors(path)
    (problem,) = caught.value.problems
    assert problem.code == "weights-unreadable"
    assert len(str(problem)) < 500
    assert "\n" not in str(problem)


class Foreign:
    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.reduced


@pytest.mark.parametrize("protocol", range(6))
def test_foreign_objects_are_refused_and_not_called(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "called"
    told = pickle.dumps({"a": Foreign(Path.touch, mark)}, protocol)
    refused(write_zip(tmp_path / "a.pth", ONE, pickle=told), "its pickle (names|has the instruction)")
    refused(
        write_zip(tmp_path / "a.pth", ONE, pickle=pickle.dumps(Foreign(eval, "1"), 2)), "__builtin__ eval"
    )
    (tmp_path / "a.pth").write_bytes(told)
    refused(tmp_path / "a.pth", "its pickle (names|has the instruction)")
    assert not mark.exists()
    pickle.loads(told)  # what is refused would have been called
    assert mark.exists()


@pytest.mark.parametrize(
    ("body", "match"),
    [
        (b"}", "does not hold tensors by name"),
        (b"]", "does not hold tensors by name"),
        (b"}" + text("epoch") + b"K\x03s", "'epoch' is not a tensor"),
        (b"cos\nsystem\n" + sequence(text("true")) + b"R", "names 'os system'"),
        (b"ctorch\nFloatStorage\n" + sequence() + b"R", "calls what is no function"),
        (b"ccollections\nOrderedDict\n" + sequence(b"]") + b"R", "takes 0 positional"),
        (b"K\x05K\x06", "too many values"),
        (b"h\x07", "7"),
        (b"t", "no mark"),
        (b"R", "takes more values than there are"),
        (b"K\x01" + text("a") + b"K\x02s", "no dict where one is needed"),
        (b"}" + sequence(text("a")) + b"K\x02s", "a key that is not a text"),
        (b"I9\n", "has the instruction INT"),
        (text("x") + b"Q", "unpack"),
    ],
)
def test_a_bent_pickle_is_refused(tmp_path: Path, body: bytes, match: str) -> None:
    refused(write_zip(tmp_path / "a.pth", ONE, pickle=whole(body)), match)


@pytest.mark.parametrize(
    ("told", "match"),
    [
        (tensor(storage("0", 6), (7,), (1,)), "does not fit into a storage of 6"),
        (tensor(storage("0", 6), (6,), (1,), offset=1), "does not fit"),
        (tensor(storage("0", 6), (2, 3), (4, 1)), "does not fit"),
        (tensor(storage("0", 6), (2,), (-1,), offset=3), "-1 for a number of items"),
        (tensor(storage("0", 6), (2,), (1,), offset=-2), "-2 for a number of items"),
        (tensor(storage("0", 6), (-2,), (1,)), "-2 for a number of items"),
        (tensor(storage("0", 6), (2, 3), (1,)), "without a storage or a shape"),
        (tensor(storage("0", 6), (1,) * 9, (1,) * 9), "without a storage or a shape"),
        (tensor(storage("0", 6), (0,), (1,)), "does not fit"),
        (tensor(text("0"), (6,), (1,)), "without a storage"),
        (tensor(storage("0", 7), (7,), (1,)), "has 24 bytes instead of 28"),
        (tensor(storage("0", 6, kind="Double"), (6,), (1,)), "has 24 bytes instead of 48"),
        (tensor(storage("0", 6, kind="Complex"), (6,), (1,)), "names 'torch ComplexStorage'"),
        (tensor(storage("0", 6, legacy=True), (6,), (1,)), "refers to what is no storage"),
        (tensor(storage("../x", 6), (6,), (1,)), "no item named"),
        (tensor(storage("0", 6), (1000, 1000, 6), (0, 0, 1)), "larger than the file"),
    ],
)
def test_a_tensor_outside_its_storage_is_refused(tmp_path: Path, told: bytes, match: str) -> None:
    refused(write_zip(tmp_path / "a.pth", ONE, pickle=pickled({"a": told})), match)


def test_a_storage_of_two_kinds_is_refused(tmp_path: Path) -> None:
    told = {kind: tensor(storage("0", 6, kind=kind), (6,), (1,)) for kind in ("Float", "Int")}
    refused(write_zip(tmp_path / "a.pth", ONE, pickle=pickled(told)), "two kinds")


def test_many_large_tensors_in_one_small_storage_are_refused(tmp_path: Path) -> None:
    told = {str(number): tensor(storage("0", 6), (6,), (1,)) for number in range(3000)}
    assert len(pickled(told)) < LONGEST_PICKLE
    path = write_zip(tmp_path / "a.pth", ONE, pickle=pickled(told))
    assert len(read_tensors(path)) == 3000  # they are not larger than the file that names them
    told = {name: tensor(storage("0", 6), (1000, 6), (0, 1)) for name in told}
    refused(write_zip(tmp_path / "b.pth", ONE, pickle=pickled(told)), "larger than the file")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"no checkpoint", bytes(2000)])
def test_a_file_of_another_format_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    refused(tmp_path / "a.pth")


def test_a_zip_of_another_kind_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("word/document.xml", "<xml/>")
    refused(tmp_path / "a.pth", "not one data.pkl")
    with zipfile.ZipFile(tmp_path / "a.pth", "a") as archive:
        archive.writestr("one/data.pkl", whole(b"}"))
        archive.writestr("two/data.pkl", whole(b"}"))
    refused(tmp_path / "a.pth", "not one data.pkl")
    refused(write_zip(tmp_path / "a.pth", ONE, order="middle"), "byte order")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.pth", {"a": np.zeros(1_000_000)}, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 20_000
    refused(path, "packed entries")


def test_entries_that_lie_in_one_another_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("net/data.pkl", whole(b"}"))
        archive.writestr("net/data/0", bytes(100_000))
        entry = archive.infolist()[1]
        for key in range(1, 50):  # the same bytes under more names
            twin = zipfile.ZipInfo(f"net/data/{key}")
            for name in ("CRC", "compress_size", "file_size", "header_offset"):
                setattr(twin, name, getattr(entry, name))
            archive.filelist.append(twin)
    refused(tmp_path / "a.pth", "more bytes than the file")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_of_one_name_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(write_zip(tmp_path / "a.pth", ONE), "a") as archive:
        archive.writestr("net/data/0", bytes(24))
    refused(tmp_path / "a.pth", "entries of one name")


def test_an_entry_that_tells_more_bytes_than_it_has_is_refused(tmp_path: Path) -> None:
    told = pickled({"a": tensor(storage("0", 10), (10,), (1,))})
    content = bytearray(write_zip(tmp_path / "a.pth", ONE, pickle=told).read_bytes())
    listed = content.rindex(b"net/data/0") - 46 + 24  # its length in the list at the end
    assert content[listed : listed + 4] == (24).to_bytes(4, "little")
    content[listed : listed + 4] = (40).to_bytes(4, "little")
    (tmp_path / "a.pth").write_bytes(content)
    refused(tmp_path / "a.pth", "has 24 bytes instead of 40")


def test_a_pickle_that_is_too_long_is_refused(tmp_path: Path) -> None:
    long = whole(b"}" + b"0" * LONGEST_PICKLE)
    refused(write_zip(tmp_path / "a.pth", ONE, pickle=long), "at most 1048576 bytes")


def test_values_nested_very_deeply_do_not_crash_python(tmp_path: Path) -> None:
    nested = b")" + b"\x85" * 200_000
    refused(write_zip(tmp_path / "a.pth", ONE, pickle=whole(b"}" + nested + b"K\x01s")), "not a text")
    refused(write_zip(tmp_path / "a.pth", ONE, pickle=whole(nested)), "does not hold tensors")
    refused(write_zip(tmp_path / "a.pth", ONE, pickle=whole(nested + b"Q")), "unpack")
    told = tensor(storage("0", 6), (6,), (1,)).replace(numbers(6), nested, 1)
    refused(write_zip(tmp_path / "a.pth", ONE, pickle=pickled({"a": told})))
    refused(write_legacy(tmp_path / "a.pth", ONE, keys=nested), "not a text")


@pytest.mark.parametrize("cut", [1, 23, 25, 33])
def test_a_truncated_file_of_before_1_6_is_refused(tmp_path: Path, cut: int) -> None:
    refused(write_legacy(tmp_path / "a.pth", ONE, cut=cut))


def test_other_faults_of_a_file_of_before_1_6_are_refused(tmp_path: Path) -> None:
    refused(write_legacy(tmp_path / "a.pth", ONE, little=False), "byte order")
    refused(write_legacy(tmp_path / "a.pth", ONE, keys=b"]" + text("b") + b"a"), "instruction APPEND")
    refused(write_legacy(tmp_path / "a.pth", ONE, keys=b"](" + text("b") + b"e"), "b")
    refused(write_legacy(tmp_path / "a.pth", ONE, keys=b"]"), "a")


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, write: Callable[..., Path]) -> None:
    path = write(tmp_path / "a.pth", ONE)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        refused(path)


def test_flipped_bytes_of_a_pickle_end_in_an_error_of_ours_or_in_tensors(tmp_path: Path, seed: int) -> None:
    rng, good = np.random.default_rng(seed), pickled({"a": tensor(storage("0", 6), (2, 3), (3, 1))})
    errors = 0
    for _ in range(1000):
        bent = bytearray(good)
        for place in rng.integers(2, len(bent), rng.integers(1, 4)):
            bent[place] = rng.integers(256)
        path = write_zip(tmp_path / "a.pth", ONE, pickle=bytes(bent))
        try:
            assert all(value.nbytes <= 4096 for value in read_tensors(path).values())
        except IntegrityError:
            errors += 1
    assert 500 < errors < 1000
