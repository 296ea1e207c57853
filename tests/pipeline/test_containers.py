"""Headers of AVI, MP4 and Matroska, made by hand and by FFmpeg, and any bytes at all."""

import io
import random
import struct
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipeline.errors import SourceError
from pipeline.readers.containers import MAX_STEPS, Container, known_codec, look

FRAMES, ROWS, COLUMNS = 6, 48, 64


class Counting(io.BytesIO):
    """Bytes that count how many of them are read."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.taken = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.taken += len(data)
        return data


def looked(folder: Path, data: bytes) -> Container:
    path = folder / "a.avi"
    path.write_bytes(data)
    with path.open("rb") as file:
        return look(path, file)


# --- AVI ----------------------------------------------------------------------------------------


def chunk(tag, body):
    return struct.pack("<4sI", tag, len(body)) + body + b"\0" * (len(body) % 2)


def parts(tag, kind, *chunks):
    return chunk(tag, kind + b"".join(chunks))


def strh(kind=b"vids", handler=b"XVID"):
    return chunk(b"strh", struct.pack("<4s4s24xI12x", kind, handler, FRAMES))


def strf(compression=b"XVID", rows=ROWS, columns=COLUMNS):
    return chunk(b"strf", struct.pack("<I2i2H4s20x", 40, columns, rows, 1, 24, compression))


def avih(rows=ROWS, columns=COLUMNS):
    return chunk(b"avih", struct.pack("<32x2I16x", columns, rows))


def avi(*streams, index=b"", lists=()):
    header = parts(b"LIST", b"hdrl", avih(), *(parts(b"LIST", b"strl", *stream) for stream in streams))
    return parts(b"RIFF", b"AVI ", header, *lists, parts(b"LIST", b"movi", bytes(200)), index)


SOUND = (strh(b"auds", b"\0\0\0\0"), chunk(b"strf", bytes(18)))
IMAGE = (strh(), strf())


def test_avi(tmp_path):
    found = looked(tmp_path, avi(SOUND, IMAGE))
    assert found == Container(("XVID", "XVID"), ((ROWS, COLUMNS), (ROWS, COLUMNS)))


def test_avi_all_streams_are_told(tmp_path):
    other = (strh(b"vids", b"M8RG"), strf(b"M8RG", rows=-7))
    found = looked(tmp_path, avi(IMAGE, other))
    assert found.codecs == ("XVID", "XVID", "M8RG", "M8RG")
    assert found.sizes[-1] == (7, COLUMNS)


def test_avi_a_stream_in_a_list_of_any_name_is_told(tmp_path):
    """FFmpeg opens every list before the frames, so a stream may stand anywhere."""
    odd = parts(b"LIST", b"odd ", parts(b"LIST", b"INFO", strh(handler=b"M8RG"), strf(b"M8RG")))
    assert "M8RG" in looked(tmp_path, avi(IMAGE, lists=[odd])).codecs


@pytest.mark.parametrize("compression", [bytes(4), b"\3\0\0\0"], ids=["BI_RGB", "BI_BITFIELDS"])
def test_avi_uncompressed_is_raw(tmp_path, compression):
    found = looked(tmp_path, avi((strh(handler=b"DIB "), strf(compression))))
    assert found.codecs == ("DIB ", "raw")
    assert all(map(known_codec, found.codecs))


def test_avi_run_lengths_are_not_raw(tmp_path):
    found = looked(tmp_path, avi((strh(handler=bytes(4)), strf(b"\1\0\0\0"))))
    assert found.codecs == ("raw", "\1\0\0\0")
    assert not known_codec(found.codecs[1])


def idx1(*entries):
    return chunk(b"idx1", b"".join(struct.pack("<4s3I", *entry) for entry in entries))


def test_avi_the_index_counts_the_frames_of_the_images(tmp_path):
    index = idx1(
        (b"01dc", 0, 4, 900),
        (b"00wb", 0, 4, 900),
        (b"01dc", 0, 4, 7),
        (b"01pc", 0, 4, 900),
        (b"01db", 0, 4, 0),
    )
    found = looked(tmp_path, avi(SOUND, IMAGE, index=index))
    assert (found.frames, found.repeats, found.packets) == (3, 2, 2)


def test_avi_a_damaged_index_says_nothing(tmp_path):
    index = idx1((b"00dc", 0, 4, 900), (b"\0\0\0\0", 0, 0, 0))
    assert looked(tmp_path, avi(IMAGE, index=index)).frames is None


def test_avi_the_index_of_a_first_part_says_nothing(tmp_path):
    whole = avi(IMAGE, index=idx1((b"00dc", 0, 4, 900)))
    assert looked(tmp_path, whole).frames == 1
    assert looked(tmp_path, whole + parts(b"RIFF", b"AVIX", bytes(100))).frames is None


def test_avi_cut(tmp_path):
    whole = avi(IMAGE)
    assert not looked(tmp_path, whole).cut
    assert looked(tmp_path, whole[:-1]).cut


# --- MP4 ----------------------------------------------------------------------------------------


def box(tag, *bodies):
    body = b"".join(bodies)
    return struct.pack(">I4s", len(body) + 8, tag) + body


def hdlr(kind):
    return box(b"hdlr", bytes(8), kind, bytes(12))


def entry(name, rows=ROWS, columns=COLUMNS, extra=b""):
    return box(name, bytes(24), struct.pack(">2H", columns, rows), bytes(50), extra)


def stsd(*entries):
    return box(b"stsd", struct.pack(">2I", 0, len(entries)), *entries)


def trak(kind, *entries, samples=FRAMES, edits=b"", ticks=60):
    table = box(b"stbl", stsd(*entries), box(b"stsz", struct.pack(">3I", 0, 9, samples)))
    mdhd = box(b"mdhd", struct.pack(">5I", 0, 0, 0, ticks, ticks * 2))  # two seconds
    return box(b"trak", edits, box(b"mdia", mdhd, hdlr(kind), box(b"minf", hdlr(b"alis"), table)))


def movie(*traks):
    mvhd = box(b"mvhd", struct.pack(">5I", 0, 0, 0, 600, 1200))
    return box(b"ftyp", b"isom", bytes(8)) + box(b"mdat", bytes(300)) + box(b"moov", mvhd, *traks)


def elst(*edits, version=0):
    form = ">QqI" if version else ">IiI"
    body = b"".join(struct.pack(form, length, place, 1 << 16) for length, place in edits)
    return box(b"edts", box(b"elst", struct.pack(">2I", version << 24, len(edits)), body))


def test_mp4(tmp_path):
    found = looked(tmp_path, movie(trak(b"soun", entry(b"mp4a")), trak(b"vide", entry(b"avc1"))))
    assert found == Container(("avc1",), ((ROWS, COLUMNS),), FRAMES)


def test_mp4_all_entries_are_told(tmp_path):
    found = looked(
        tmp_path, movie(trak(b"vide", entry(b"avc1"), entry(b"M8RG")), trak(b"vide", entry(b"dvc ")))
    )
    assert found.codecs == ("avc1", "M8RG", "dvc ")


@pytest.mark.parametrize(("name", "told"), [(b"tmcd", False), (b"mebx", False), (b"M8RG", True)])
def test_mp4_data_is_let_pass_but_not_images_that_say_they_are_data(tmp_path, name, told):
    found = looked(tmp_path, movie(trak(b"vide", entry(b"avc1")), trak(b"meta", entry(name))))
    assert found.codecs == (("avc1", "M8RG") if told else ("avc1",))


@pytest.mark.parametrize(
    ("edits", "frames"),
    [
        ((), 60),
        (((1200, 0),), 60),
        (((600, 30),), 30),
        (((300, -1), (400, 0), (200, 90)), 30),
        (((2400, 0),), 60),
    ],
)
@pytest.mark.parametrize("version", [0, 1])
def test_mp4_edits_show_a_part(tmp_path, edits, frames, version):
    """The movie has 600 ticks a second, the track two seconds."""
    track = trak(b"vide", entry(b"avc1"), samples=60, edits=elst(*edits, version=version))
    assert looked(tmp_path, movie(track)).frames == frames


def esds(kind, flags=0, extra=b"", long=False):
    length = (lambda size: b"\x80\x80\x80" + bytes([size])) if long else (lambda size: bytes([size]))
    config = b"\4" + length(13) + bytes([kind]) + bytes(12)
    whole = b"\0\1" + bytes([flags]) + extra + config
    return box(b"esds", bytes(4), b"\3" + length(len(whole)) + whole)


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize(("flags", "extra"), [(0, b""), (0x80, b"ab"), (0x20, b"ab"), (0xE0, b"ab\3urlcd")])
@pytest.mark.parametrize(("kind", "known"), [(0x20, True), (0x6C, True), (0x6E, False), (0xA4, False)])
def test_mp4v_by_its_object_type(tmp_path, kind, known, flags, extra, long):
    track = trak(b"vide", entry(b"mp4v", extra=esds(kind, flags, extra, long)))
    (codec,) = looked(tmp_path, movie(track)).codecs
    assert known_codec(codec) == known


@pytest.mark.parametrize("damage", [b"\5", b"\0"])
def test_mp4v_with_damaged_descriptors_is_not_known(tmp_path, damage):
    whole = movie(trak(b"vide", entry(b"mp4v", extra=esds(0x20))))
    place = whole.index(b"esds") + 8
    (codec,) = looked(tmp_path, whole[:place] + damage + whole[place + 1 :]).codecs
    assert not known_codec(codec)
    assert looked(tmp_path, movie(trak(b"vide", entry(b"mp4v")))).codecs == ("mp4v",)


def test_mp4_boxes_of_64_bits_and_to_the_end(tmp_path):
    moov = movie(trak(b"vide", entry(b"avc1")))
    large = struct.pack(">I4sQ", 1, b"mdat", 16 + 300) + bytes(300)
    assert looked(tmp_path, box(b"ftyp", bytes(8)) + large + moov).codecs == ("avc1",)
    last = struct.pack(">I4s", 0, b"moov") + moov[moov.index(b"moov") + 4 :]
    assert looked(tmp_path, box(b"ftyp", bytes(8)) + last).codecs == ("avc1",)


# --- Matroska -----------------------------------------------------------------------------------


def element(tag, *bodies):
    body = b"".join(bodies)
    return tag + struct.pack(">Q", len(body) | 1 << 56) + body


def track_entry(codec, private=b""):
    video = element(b"\xe0", element(b"\xb0", b"\0\x40"), element(b"\xba", b"\x30"))
    return element(b"\xae", element(b"\x83", b"\1"), element(b"\x86", codec), private, video)


def matroska(*elements, unknown=False):
    ebml = element(b"\x1a\x45\xdf\xa3", element(b"\x42\x82", b"matroska"))
    if unknown:
        return ebml + b"\x18\x53\x80\x67\x01" + b"\xff" * 7 + b"".join(elements)
    return ebml + element(b"\x18\x53\x80\x67", *elements)


CLUSTER = element(b"\x1f\x43\xb6\x75", bytes(500))


def tracks(*entries):
    return element(b"\x16\x54\xae\x6b", *entries)


@pytest.mark.parametrize("unknown", [False, True])
def test_matroska(tmp_path, unknown):
    found = looked(
        tmp_path, matroska(tracks(track_entry(b"V_VP8\0"), track_entry(b"A_OPUS")), unknown=unknown)
    )
    assert (found.codecs, found.sizes[0]) == (("V_VP8",), (ROWS, COLUMNS))


def test_matroska_fourcc_in_the_private_data(tmp_path):
    private = element(b"\x63\xa2", struct.pack("<I2i2H4s20x", 40, 64, 48, 1, 24, b"M8RG"))
    assert looked(tmp_path, matroska(tracks(track_entry(b"V_MS/VFW/FOURCC", private)))).codecs == ("M8RG",)
    (codec,) = looked(tmp_path, matroska(tracks(track_entry(b"V_MS/VFW/FOURCC")))).codecs
    assert not known_codec(codec)


def test_matroska_tracks_behind_the_clusters(tmp_path):
    found = looked(
        tmp_path, matroska(tracks(track_entry(b"V_VP8")), CLUSTER, tracks(track_entry(b"V_DIRAC")))
    )
    assert found.codecs == ("V_VP8", "V_DIRAC")


@pytest.mark.parametrize("size", [2**40, 2**56 - 2, 2**63 - 30, 2**64 - 1])
def test_a_length_beyond_any_file_ends_the_walk(tmp_path, size):
    cluster = b"\x1f\x43\xb6\x75" + struct.pack(">Q", min(size, 2**56 - 2) | 1 << 56)
    assert looked(tmp_path, matroska(tracks(track_entry(b"V_VP8")), cluster)).codecs == ("V_VP8",)
    large = struct.pack(">I4sQ", 1, b"mdat", size)
    assert looked(tmp_path, movie(trak(b"vide", entry(b"avc1"))) + large + bytes(99)).codecs == ("avc1",)


# --- any bytes ----------------------------------------------------------------------------------

CODECS = [("MJPG", ".avi"), ("XVID", ".avi"), ("mp4v", ".mp4"), ("mp4v", ".mov"), ("FFV1", ".mkv")]
CODECS += [("VP80", ".webm"), ("MPEG", ".mpg")]


@pytest.fixture(scope="module")
def good(tmp_path_factory, write_clip):
    """Clips as FFmpeg writes them."""
    folder = tmp_path_factory.mktemp("good")
    noise = np.random.default_rng(0).integers(0, 256, (FRAMES, ROWS, COLUMNS, 3), np.uint8)
    return [write_clip(folder / f"{name}{suffix}", noise, name).read_bytes() for name, suffix in CODECS]


def check_any(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    file, start = Counting(data), time.process_time()
    try:
        found = look(path, file)
    except SourceError as error:
        assert error.problems[0].code == "not-video"  # noqa: PT017
    else:
        assert isinstance(found, Container)
    assert time.process_time() - start < 1
    assert file.taken < 64 * len(data) + 4096


def mutated(rng: random.Random, data: bytes) -> bytes:
    result = bytearray(data[: rng.choice([len(data), len(data), rng.randrange(len(data))])])
    for _ in range(rng.choice([1, 3, 30])):
        place = rng.randrange(len(result) + 1)
        piece = rng.choice(
            [rng.randbytes(1), rng.randbytes(4), bytes(4), b"\xff" * 8, b"LIST", b"moov", b"\xae"]
        )
        result[place : place + rng.choice([0, len(piece)])] = piece
    return bytes(result)


def test_damaged_headers(tmp_path, good, seed):
    for number in range(1500):
        rng = random.Random(f"header {seed} {number}")
        check_any(tmp_path / "a.avi", mutated(rng, rng.choice(good)[: rng.choice([400, 2000, 10**6])]))


STARTS = [b"RIFF\0\0\0\0AVI ", b"\0\0\0\x08moov", b"\0\0\0\x10ftypisom", b"\x1aE\xdf\xa3", b""]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.sampled_from(STARTS), data=st.binary(max_size=200))
@example(start=b"\x1aE\xdf\xa3", data=b"\xff" * 9)
def test_any_bytes(tmp_path, start, data):
    check_any(tmp_path / "a.avi", start + data)


ENDLESS = {
    "AVI lists": b"RIFF\0\0\0\0AVI " + b"LIST\0\0\0\0odd " * (MAX_STEPS + 9),
    "AVI chunks": b"RIFF\0\0\0\0AVI " + b"JUNK\0\0\0\0" * (MAX_STEPS + 9),
    "boxes": b"\0\0\0\x08free" * (MAX_STEPS + 9),
    "boxes in boxes": struct.pack(">I4s", 0, b"moov") * (MAX_STEPS + 9),
    "elements": b"\x1aE\xdf\xa3\x80" + b"\xec\x80" * (MAX_STEPS + 9),
    "elements in elements": b"\x1aE\xdf\xa3\x80" + b"\x18\x53\x80\x67\xff" * (MAX_STEPS + 9),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_headers_without_end(tmp_path, refusal, name):
    path = tmp_path / "a.avi"
    path.write_bytes(ENDLESS[name])
    start = time.process_time()
    with path.open("rb") as file:
        if name == "boxes in boxes":  # as deep as it goes, not on
            assert look(path, file).codecs == ()
        else:
            (problem,) = refusal(SourceError, lambda: look(path, file))
            assert (problem.code, "without end" in problem.reason) == ("not-video", True)
    assert time.process_time() - start < 2
