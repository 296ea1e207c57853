"""Headers of pictures: by OpenCV's encoders and of real clips, of known size, and made bit by bit."""

import random
import time

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.readers.pictures import _PICTURES, Picture, change

SIZES = ((48, 64), (96, 128), (50, 66))
BY_OPENCV = {  # fourcc, suffix → what the packets say, by OpenCV's name
    ("PIM1", ".mpg"): "mpg1",
    ("MPG2", ".mpg"): "mpg2",
    ("XVID", ".avi"): "FMP4",
    ("mp4v", ".mp4"): "FMP4",
    ("MJPG", ".avi"): "MJPG",
    ("MPNG", ".avi"): "MPNG",
    ("VP80", ".webm"): "VP80",
    ("VP90", ".webm"): "VP90",
}


def packets_of(path):
    """OpenCV's name for the codec, columns and rows, and all packets; what stands beside them comes first."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1])
    codec = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode()
    size = (int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
    beside = capture.retrieve(None, int(capture.get(cv2.CAP_PROP_CODEC_EXTRADATA_INDEX)))[1]
    packets = [] if beside is None else [beside.tobytes()]
    while (packet := capture.read())[0]:
        packets.append(packet[1].tobytes())
    return codec, size, packets


def pictures(codec, packets):
    return list(_PICTURES[codec.lower()](packets))


@pytest.fixture
def coded(tmp_path, write_clip):
    """``coded(fourcc, suffix, rows, columns)``: what ``packets_of`` tells of a clip by OpenCV's encoder."""

    def make(fourcc, suffix, rows, columns):
        noise = np.random.default_rng(rows).integers(0, 256, (20, rows, columns, 3), np.uint8)
        return packets_of(write_clip(tmp_path / f"{rows}{suffix}", noise, fourcc))

    return make


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("fourcc", "suffix"), BY_OPENCV)
@pytest.mark.parametrize(("rows", "columns"), SIZES)
def test_sizes_of_what_opencv_encodes(coded, fourcc, suffix, rows, columns):
    codec, size, packets = coded(fourcc, suffix, rows, columns)
    assert codec == BY_OPENCV[fourcc, suffix]
    assert size == (columns, rows)
    found = pictures(codec, packets)
    assert {(picture.columns, picture.rows) for picture in found} == {size}
    assert len(set(found)) == 1
    assert change(codec, packets) is None


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("fourcc", "suffix"), BY_OPENCV)
def test_a_change_of_size_is_told(coded, fourcc, suffix):
    (codec, _, small), (_, _, large) = (coded(fourcc, suffix, *sides) for sides in SIZES[:2])
    before, after = change(codec, small + large)
    assert before.differing(after) == "64x48 and 128x96"
    assert change(codec, small + small) is None


def test_codecs_that_are_not_known_say_nothing():
    packets = iter([jpeg(48, 64), jpeg(9, 7), sequence_set(4, 3)])
    assert change("ffv1", packets) is None
    assert next(packets, None) is None


def test_sizes_of_real_clips(shared):
    files = [path for folder in ("ucf", "ultrasound", "video") for path in (shared / folder).rglob("*.*")]
    seen = set()
    for path in files:
        codec, (columns, rows), packets = packets_of(path)
        if not packets or codec == "gif ":
            continue
        found = pictures(codec, packets)
        assert found, path
        # The container of one says 141 rows, of a sampling that only has whole pairs of them.
        assert {(p.columns, p.rows) for p in found} == {(columns, rows + (rows == 141))}, path
        assert change(codec, packets) is None
        seen.add(codec)
    assert seen >= {"FMP4", "h264", "mpg2", "VP80"}


# --- JPEG ---------------------------------------------------------------------------------------


def jpeg(rows, columns, sampling=None):
    image = np.random.default_rng(0).integers(0, 256, (rows, columns, 3), np.uint8)
    if sampling is None:
        return cv2.imencode(".jpg", image[..., 0])[1].tobytes()
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling])[1].tobytes()


SAMPLINGS = {  # by the names of OpenCV's factors: horizontal and vertical, of luma
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420: "2x2 1x1 1x1 of 8 bits",
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422: "2x1 1x1 1x1 of 8 bits",
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440: "1x2 1x1 1x1 of 8 bits",
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444: "1x1 1x1 1x1 of 8 bits",
    None: "grey of 8 bits",
}


@pytest.mark.parametrize(("sampling", "words"), SAMPLINGS.items(), ids=map(str, SAMPLINGS.values()))
def test_jpeg(sampling, words):
    assert pictures("mjpg", [jpeg(37, 53, sampling)]) == [Picture(53, 37, words)]


def test_progressive_jpeg_and_fill_bytes():
    image = np.zeros((9, 7, 3), np.uint8)
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    start = data.index(b"\xff\xc2")
    (picture,) = pictures("mjpg", [data[:start] + b"\xff\xff" + data[start:]])
    assert (picture.columns, picture.rows) == (7, 9)


def test_a_picture_within_the_header_of_a_jpeg_does_not_count():
    """As cameras put a small one beside the large."""
    data, small = jpeg(48, 64), jpeg(12, 16)
    beside = b"\xff\xe1" + (len(small) + 2).to_bytes(2, "big") + small
    assert pictures("mjpg", [data[:2] + beside + data[2:]]) == pictures("mjpg", [data])


def test_samplings_differ_in_words():
    found = pictures("mjpg", [jpeg(48, 64), jpeg(48, 64, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)])
    assert found[0].differing(found[1]) == "64x48 as grey of 8 bits and as 1x1 1x1 1x1 of 8 bits"


# --- headers made bit by bit --------------------------------------------------------------------


class Writer:
    """Bits one after the other."""

    def __init__(self):
        self.bits = ""

    def put(self, count, value):
        self.bits += f"{value:0{count}b}"
        return self

    def golomb(self, *values):
        for value in values:
            code = f"{value + 1:b}"
            self.bits += "0" * (len(code) - 1) + code
        return self

    def signed(self, value):
        return self.golomb(2 * value - 1 if value > 0 else -2 * value)

    def data(self):
        """Ended as all units are, by a one and zeros."""
        bits = self.bits + "1"
        bits += "0" * (-len(bits) % 8)
        return int(bits, 2).to_bytes(len(bits) // 8, "big")


def unit(kind, writer):
    """Of Annex B, with a 3 wherever the data would look like a start code."""
    data, zeros = bytearray(), 0
    for byte in writer.data():
        if zeros >= 2 and byte <= 3:
            data.append(3)
            zeros = 0
        data.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return b"\0\0\0\1" + bytes([kind]) + bytes(data)


def sequence_set(
    width, height, *, number=0, profile=100, chroma=1, depth=8, lists=(), order=0, fields=False, crop=None
):
    """ITU-T H.264, 7.3.2.1.1: macroblocks across, map units down."""
    writer = Writer().put(8, profile).put(8, 0).put(8, 30).golomb(number)
    if profile == 100:
        writer.golomb(chroma)
        if chroma == 3:
            writer.put(1, 0)
        writer.golomb(depth - 8, depth - 8).put(1, 0).put(1, bool(lists))
        for place in range(12 if chroma == 3 else 8) if lists else ():
            scaling = lists[place] if place < len(lists) else ()
            writer.put(1, bool(scaling))
            for delta in scaling:
                writer.signed(delta)
    writer.golomb(4, order)
    if order == 0:
        writer.golomb(2)
    elif order == 1:
        writer.put(1, 0).signed(-3).signed(5).golomb(3)
        for offset in (-1, 0, 70):
            writer.signed(offset)
    writer.golomb(4).put(1, 0).golomb(width - 1, height - 1).put(1, not fields)
    if fields:
        writer.put(1, 1)
    writer.put(1, 1).put(1, crop is not None)
    if crop:
        writer.golomb(*crop)
    return unit(0x67, writer.put(1, 0))


def picture_set(number, used):
    return unit(0x68, Writer().golomb(number, used).put(2, 0))


def idr_slice(number):
    return unit(0x65, Writer().golomb(0, 7, number).put(60, 12345))


def stream(*sets, number=0):
    return b"".join([*sets, picture_set(0, number), idr_slice(0)])


CROPS = st.none() | st.tuples(*[st.integers(0, 3)] * 4)
# A list of 16 or of 64; the second ends early, where the next scale is nought: 8 - 8.
LISTS = st.sampled_from([(), ((1,) * 16,), ((1, -2) * 8, (), (-8,), (), (), (), (3,) * 64, (-8,))])


@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    number=st.integers(0, 31),
    profile=st.sampled_from([66, 77, 100]),
    chroma=st.integers(0, 3),
    depth=st.integers(8, 14),
    lists=LISTS,
    order=st.integers(0, 2),
    fields=st.booleans(),
    crop=CROPS,
)
def test_h264(width, height, number, profile, chroma, depth, lists, order, fields, crop):
    options = {"profile": profile, "chroma": chroma, "depth": depth, "lists": lists, "order": order}
    data = stream(
        sequence_set(width, height, number=number, fields=fields, crop=crop, **options), number=number
    )
    if profile != 100:
        chroma, depth = 1, 8
    left, right, top, bottom = crop or (0, 0, 0, 0)
    across = {0: 1, 1: 2, 2: 2, 3: 1}[chroma]  # table 6-1: SubWidthC, SubHeightC
    down = {0: 1, 1: 2, 2: 1, 3: 1}[chroma] * (2 if fields else 1)
    columns = 16 * width - across * (left + right)
    rows = 16 * height * (2 if fields else 1) - down * (top + bottom)
    (found,) = pictures("h264", [data])
    assert (found.columns, found.rows) == (columns, rows)
    sampling = {0: "grey", 1: "4:2:0", 2: "4:2:2", 3: "4:4:4"}[chroma]
    assert found.sampling == f"{sampling} of {depth} bits"


def test_h264_a_set_counts_when_it_is_used():
    small, large = sequence_set(4, 3), sequence_set(8, 6, number=1)
    both = small + large
    used = stream(both), stream(both, number=1)
    assert change("h264", [used[0], used[0]]) is None
    before, after = change("h264", used)
    assert before.differing(after) == "64x48 and 128x96"
    assert change("h264", [small, idr_slice(0)]) is None  # no picture parameter set


def test_h264_a_set_may_be_replaced():
    before, after = change("h264", [stream(sequence_set(4, 3)), stream(sequence_set(8, 6))])
    assert before.differing(after) == "64x48 and 128x96"
    before, after = change("h264", [stream(sequence_set(4, 3)), stream(sequence_set(4, 3, chroma=3))])
    assert before.differing(after) == "64x48 as 4:2:0 of 8 bits and as 4:4:4 of 8 bits"


@given(
    columns=st.integers(1, 8191),
    rows=st.integers(1, 8191),
    version=st.none() | st.integers(1, 15),
    aspect=st.integers(1, 15),
    control=st.sampled_from([None, 0, 1]),
    ticks=st.integers(1, 65535),
    fixed=st.booleans(),
)
def test_mpeg4(columns, rows, version, aspect, control, ticks, fixed):
    writer = Writer().put(1, 0).put(8, 1).put(1, version is not None)
    if version is not None:
        writer.put(4, version).put(3, 1)
    writer.put(4, aspect)
    if aspect == 15:
        writer.put(16, 0x0B0C)
    writer.put(1, control is not None)
    if control is not None:
        writer.put(2, 1).put(1, 0).put(1, control)
        if control:
            writer.put(79, (1 << 79) - 1)
    writer.put(2, 0).put(1, 1).put(16, ticks).put(1, 1).put(1, fixed)
    if fixed:
        writer.put(max(1, int(np.ceil(np.log2(ticks)))), 0)
    writer.put(1, 1).put(13, columns).put(1, 1).put(13, rows).put(1, 1)
    data = b"\0\0\1\xb0\1" + b"\0\0\1\xb5\x89\x13" + b"\0\0\1\0\0\0\1\x20" + writer.data()
    assert pictures("FMP4", [data]) == [Picture(columns, rows, "4:2:0")]


@given(
    st.integers(1, 16383), st.integers(1, 16383), st.sampled_from([(1, "4:2:0"), (2, "4:2:2"), (3, "4:4:4")])
)
def test_mpeg2(columns, rows, chroma):
    head = Writer().put(12, columns & 4095).put(12, rows & 4095).put(39, 0)
    more = Writer().put(4, 1).put(9, 0).put(2, chroma[0]).put(2, columns >> 12).put(2, rows >> 12).put(20, 0)
    data = b"\0\0\1\xb3" + head.data() + b"\0\0\1\xb5" + more.data()
    found = pictures("mpg2", [data])
    assert found == ([Picture(columns, rows, chroma[1])])


@pytest.mark.parametrize(("low", "high", "colour", "words"), [
    (0, 0, [(3, 2), (1, 0)], "4:2:0 of 8 bits"),
    (1, 0, [(3, 2), (1, 0), (2, 0), (1, 0)], "subsampling 0 of 8 bits"),
    (1, 0, [(3, 7), (1, 0)], "RGB of 8 bits"),
    (0, 1, [(1, 1), (3, 2), (1, 0)], "4:2:0 of 12 bits"),
])  # fmt: skip
def test_vp9(low, high, colour, words):
    writer = Writer().put(2, 2).put(1, low).put(1, high).put(1, 0).put(1, 0).put(2, 2).put(24, 0x498342)
    for field in colour:
        writer.put(*field)
    data = writer.put(16, 639).put(16, 479).put(30, 0).data()
    assert pictures("VP90", [data]) == [Picture(640, 480, words)]


# --- any bytes ----------------------------------------------------------------------------------

STARTS = [
    b"",
    b"\0\0\1\xb3",
    b"\0\0\1\xb3\x04\x00\x30\x13\0\0\1\xb5\x14",
    b"\0\0\1\x20",
    b"\0\0\1\x67\x64\0\x1e",
    b"\0\0\1\x68",
    b"\0\0\1\x65",
    b"\xff\xd8\xff\xc0\0\x11\x08",
    b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR",
    b"\x50\xad\x04\x9d\x01\x2a",
    b"\x82\x49\x83\x42",
]


@given(
    st.sampled_from(sorted(_PICTURES)), st.lists(st.tuples(st.sampled_from(STARTS), st.binary(max_size=60)))
)
@example("h264", [(b"\0\0\1\x67\x64\0\x1e", bytes(40)), (b"\0\0\1\x67\x42\0\x1e\xff", b"\xff" * 40)])
def test_any_bytes_give_pictures_or_none(codec, parts):
    packets = [start + data for start, data in parts]
    for picture in pictures(codec, [*packets, b"".join(packets)]):
        assert picture.columns > 0
        assert picture.rows > 0
    change(codec, packets)


@pytest.mark.parametrize("codec", sorted(_PICTURES))
def test_damaged_headers_never_raise(codec, coded, seed):
    rng = random.Random(f"{codec} {seed}")
    sound = b"".join([sequence_set(4, 3), picture_set(0, 0), idr_slice(0)]) + jpeg(48, 64)
    sound += b"".join(STARTS)
    for _ in range(300):
        data = bytearray(sound)
        for _ in range(rng.choice([1, 3, 10])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        start = rng.choice([0, sound.index(b"\xff\xd8")])
        pictures(codec, [bytes(data[start:]), bytes(data[start : rng.randrange(len(data))])])


@pytest.mark.parametrize("codec", sorted(_PICTURES))
@pytest.mark.parametrize("start", STARTS[1:])
def test_the_time_is_bounded_by_the_bytes(codec, start):
    """A packet of a megabyte that is nothing but headers."""
    packet = (start + b"\xff\x55") * (1_000_000 // (len(start) + 2))
    begin = time.process_time()
    pictures(codec, [packet])
    assert time.process_time() - begin < 2
