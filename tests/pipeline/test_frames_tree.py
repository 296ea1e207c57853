"""Names of frames and SpaceTime-SonoNet's tables, against lists written out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError, SourceError
from pipeline.frames_tree import (
    Exam,
    group_by_folder,
    natural_key,
    order_frames,
    parse_exams,
    parse_infos,
    series_and_number,
)

pytestmark = pytest.mark.unit

INFOS = (
    ",idx,id-video,id-annotation,name-video,name-cvat,date,size,width,height\n"
    "0,0,1551436800001,17,20190301-1551436800001_NOVERLAY-000,Aquila-20190301-1551436800001,20190301,24,1200,760\n"
    "1,1,1551436800002,18,20190301-1551436800002_NOVERLAY-000,Palermo-20190301-1551436800002,20190301,9,1200,760\n"
)


def problems(error, function, text):
    with pytest.raises(error) as caught:
        function(text, where="file")
    return [(problem.where, problem.code) for problem in caught.value.problems]


# --- order and gaps -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ordered",
    [
        ["1.png", "2.png", "10.png"],
        ["f1.png", "f2.png", "f10.png", "g1.png"],
        ["a.png", "b.png"],
        ["2.png", "a2b1.png", "a2b10.png", "a10b1.png", "a.png"],
        ["frame_001.png", "frame_002.png", "frame_1000.png"],
    ],
)
@given(data=st.data())
def test_numbers_are_sorted_by_value(data, ordered):
    shuffled = data.draw(st.permutations(ordered))
    assert order_frames(shuffled, where="clip").names == tuple(ordered)


@given(st.lists(st.text(), unique=True))
def test_any_names_have_one_order(names):
    backwards = names[::-1]
    assert sorted(names, key=natural_key) == sorted(backwards, key=natural_key)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("20190301-1177_NOVERLAY-023.png", ("20190301-1177_NOVERLAY-*", 23)),
        ("7.png", ("*", 7)),
        ("frame_012_left.png", ("frame_*_left", 12)),
        ("cover.png", ("cover", -1)),
        ("frame9.v2", ("frame*", 9)),  # a suffix is no part of it
        ("12", ("*", 12)),
    ],
)
def test_the_last_number_is_that_of_the_frame(name, wanted):
    assert series_and_number(name) == wanted


def test_gaps_are_told_by_their_ends():
    order = order_frames([f"f-{number:03d}.png" for number in (1, 2, 5, 6, 8, 9)], where="clip")
    assert order.gaps == ((3, 4), (7, 7))
    assert order.missing == 3


@pytest.mark.parametrize(
    "names",
    [[], ["a.png"], ["5.png", "6.png"], ["l_1.png", "l_2.png", "r_5.png"], ["cover.png", "f1.png", "f2.png"]],
)
def test_there_may_be_no_gap(names):
    order = order_frames(names, where="clip")
    assert order.gaps == ()
    assert order.missing == 0


@pytest.mark.parametrize("names", [("7.png", "007.png"), ("7.png", "7.jpg"), ("cover.png", "cover.jpg")])
def test_one_frame_has_one_file(names):
    with pytest.raises(SourceError) as caught:
        order_frames(["1.png", *names], where="clip")
    (problem,) = caught.value.problems
    assert (problem.where, problem.code) == ("clip", "same-frame")
    assert all(name in problem.reason for name in names)


# --- SpaceTime-SonoNet's tables -----------------------------------------------------------------


def test_exams_give_patients_counted_from_one():
    assert parse_exams('[[11, 12], [], ["13"]]', where="file") == {"11": "1", "12": "1", "13": "3"}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("[[1, 2]", "not-json"),
        ('{"1": [2]}', "not-exams"),
        ("[1, 2]", "not-exams"),
        ("[[1.5]]", "not-exams"),
        ("[[true]]", "not-exams"),
        ("[[[1]]]", "not-exams"),
        ("[[1], [2, 1]]", "two-patients"),
    ],
)
def test_other_texts_are_no_exams(text, code):
    assert problems(ConfigError, parse_exams, text) == [("file", code)]


def test_infos_give_folders_and_centres():
    assert parse_infos(INFOS, where="file") == (
        Exam("1551436800001", "20190301-1551436800001_NOVERLAY-000", "Aquila"),
        Exam("1551436800002", "20190301-1551436800002_NOVERLAY-000", "Palermo"),
    )


def test_columns_may_stand_in_any_order():
    text = "name-cvat,name-video,id-video\nSassari-1,a,5\n"
    assert parse_infos(text, where="file") == (Exam("5", "a", "Sassari"),)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", [("file", "no-columns")]),
        ("id-video,name-video\n1,a\n", [("file", "no-columns")]),
        (INFOS + INFOS.splitlines()[1], [("file:4", "duplicate-video")]),
        (
            "id-video,name-video,name-cvat\n1,,A\n2,b\n3,c,A\n",
            [("file:2", "no-value"), ("file:3", "no-value")],
        ),
    ],
)
def test_faults_of_infos_are_told_with_their_lines(text, wanted):
    assert problems(ConfigError, parse_infos, text) == wanted


def test_folders_have_the_patient_of_their_video():
    exams = parse_infos(INFOS, where="file")
    assert group_by_folder(exams, {"1551436800001": "4"}) == {
        "20190301-1551436800001_NOVERLAY-000": "4",
        "1551436800001": "4",
        "20190301-1551436800002_NOVERLAY-000": None,
        "1551436800002": None,
    }
