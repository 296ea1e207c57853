"""COVIDx-CT's lists: the real ones against their published counts, and every fault with its line."""

import csv
import time
from collections import Counter

import pytest

from pipeline.covidx import Slice, parse_list, patient_and_scan, shared_patients, unknown_names
from pipeline.errors import ConfigError

pytestmark = pytest.mark.unit

LINES = "NCP_96_1328_0032.png 2 9 94 512 405\nNormal_1_2_3.png 0 0 0 1 1\n"
# Slices per class (normal, pneumonia, COVID-19), from the documentation of COVIDNet-CT
COUNTS = {
    "train_COVIDx_CT-1": [27201, 22061, 12520],
    "val_COVIDx_CT-1": [9107, 7400, 4529],
    "test_COVIDx_CT-1": [9450, 7395, 4346],
    "test_COVIDx_CT-3A": [17922, 7965, 7894],
}
SCANS = {
    "Normal_3855_5367_0208.png": ("Normal_3855", "Normal_3855_5367"),
    "CP_5_3509_0130.png": ("CP_5", "CP_5_3509"),
    "NCP_341_1834_0022.png": ("NCP_341", "NCP_341_1834"),
    "LIDC-IDRI-0274-1.3.6.1.4.1.14519.5.2.1.6279-0093.png": (
        "LIDC-IDRI-0274",
        "LIDC-IDRI-0274-1.3.6.1.4.1.14519.5.2.1.6279",
    ),
    "volume-covid19-A-0576_ct-0045.png": ("volume-covid19-A-0576", "volume-covid19-A-0576_ct"),
    "volume-covid19-A-0383_1_ct-0018.png": ("volume-covid19-A-0383", "volume-covid19-A-0383_1_ct"),
    "137covid_patient92_SR_4_IM00057.png": ("patient92", "137covid_patient92_SR_4"),
    "normal1_patient181_SR_2_IM00038.png": ("patient181", "normal1_patient181_SR_2"),
    "normalcd2_patient413_SR_2_IM00028.png": ("patient413", "normalcd2_patient413_SR_2"),
    "coronacases_010-0177.png": ("coronacases_010", "coronacases_010"),
    "radiopaedia_7_85703_0-0036.png": ("radiopaedia_7_85703", "radiopaedia_7_85703_0"),
    "radiopaedia-11516-76669-2-0004.png": ("radiopaedia-11516", "radiopaedia-11516-76669-2"),
    "STOIC-10011-0123.png": ("STOIC-10011", "STOIC-10011"),
    "COVIDCTMD-P005-IM0077.png": ("COVIDCTMD-P005", "COVIDCTMD-P005"),
    "COVIDCTMD-cap012-IM0007.png": ("COVIDCTMD-cap012", "COVIDCTMD-cap012"),
    "COVIDCTMD-normal068-IM0016.png": ("COVIDCTMD-normal068", "COVIDCTMD-normal068"),
    "study_0255-0012.png": ("study_0255", "study_0255"),
    "HUST-Patient1314-0348.png": ("HUST-Patient1314", "HUST-Patient1314"),
    "A002304-CT-CHEST-W-CONTRAST-3-0041.png": ("A002304", "A002304-CT-CHEST-W-CONTRAST-3"),
}


def parse(text, classes=3):
    return parse_list(text, where="list.txt", classes=classes)


def faults(text):
    with pytest.raises(ConfigError) as caught:
        parse(text)
    return [(problem.where, problem.code) for problem in caught.value.problems]


# --- lines --------------------------------------------------------------------------------------


def test_lines_become_records():
    assert parse(LINES) == (
        Slice("NCP_96_1328_0032.png", 2, (9, 94, 512, 405)),
        Slice("Normal_1_2_3.png", 0, (0, 0, 1, 1)),
    )


@pytest.mark.parametrize("text", [LINES.replace("\n", "\r\n"), "\ufeff" + LINES, LINES.rstrip()])
def test_line_ends_and_byte_order_marks_do_not_matter(text):
    assert parse(text) == parse(LINES)


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("a.png 0 1 2 3", "bad-line", "is not `filename class"),
        ("a.png 0 1 2 3 4 5", "bad-line", "a space in the name"),
        ("a b.png 0 1 2 3 4", "bad-line", "a space in the name"),
        ("a.png  0 1 2 3 4", "bad-line", "single spaces"),
        (" a.png 0 1 2 3 4", "bad-line", "single spaces"),
        ("a.png\t0 1 2 3 4", "bad-line", "single spaces"),
        ("a.png 0 1 2 3 4 ", "bad-line", "single spaces"),
        ("a.png 0 -1 2 3 4", "bad-line", "is not `filename class"),
        ("a.png 0 1.0 2 3 4", "bad-line", "is not `filename class"),
        ("a.png 0 ٣ 2 3 4", "bad-line", "is not `filename class"),
        ("a.png COVID 1 2 3 4", "bad-line", "is not `filename class"),
        ("../a.png 0 1 2 3 4", "bad-line", "is a path"),
        ("x\\a.png 0 1 2 3 4", "bad-line", "is a path"),
        ("", "bad-line", "the line is empty"),
        ("a.png 3 1 2 3 4", "bad-class", "class 3 of 3"),
        ("a.png 0 3 2 3 4", "bad-box", "is empty"),
        ("a.png 0 1 5 3 4", "bad-box", "is empty"),
        ("Normal_1_2_3.png 0 1 2 3 4", "duplicate-file", "stands in line 2 already"),
    ],
)
def test_every_fault_is_told_with_its_line(line, code, words):
    with pytest.raises(ConfigError) as caught:
        parse(f"{LINES}{line}\nNormal_1_2_4.png 0 0 0 1 1\n")
    (problem,) = caught.value.problems
    assert (problem.where, problem.code) == ("list.txt:3", code)
    assert words in problem.reason


def test_all_faults_are_told_at_once():
    text = "a.png 7 3 2 3 4\nb.png 0 1 2 3\na.png 0 1 2 3 4\nc.png 0 1 2 3 4\n"
    assert faults(text) == [
        ("list.txt:1", "bad-class"),
        ("list.txt:1", "bad-box"),
        ("list.txt:2", "bad-line"),
        ("list.txt:3", "duplicate-file"),
    ]


def test_an_empty_list_is_a_fault():
    assert faults("") == [("list.txt", "empty-list")]


def test_a_list_of_v3_is_parsed_in_seconds():
    text = "".join(f"NCP_{n // 100}_{n // 50}_{n % 50:04d}.png 2 0 130 512 429\n" for n in range(425_000))
    start = time.thread_time()
    assert len(parse(text)) == 425_000
    assert time.thread_time() - start < 8


# --- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", SCANS)
def test_names_tell_patient_and_scan(file):
    assert patient_and_scan(file) == SCANS[file]


@pytest.mark.parametrize(
    "file",
    [
        "IMG-0001-00007.jpg",
        "NCP_341_0022.png",
        "ncp_341_1834_0022.png",
        "NCP_341_1834_0022",
        "xNCP_1_2_3.png",
    ],
)
def test_other_names_tell_nothing(file):
    assert patient_and_scan(file) is None
    assert unknown_names(["CP_5_3509_0130.png", file]) == [file]


def test_patients_of_two_parts_are_found():
    parts = {
        "train": ["NCP_1_1_1.png", "NCP_2_1_1.png", "volume-covid19-A-0383_0_ct-0001.png"],
        "val": ["NCP_1_9_1.png", "NCP_1_9_2.png", "other.png"],
        "test": ["NCP_1_8_1.png", "CP_2_1_1.png", "volume-covid19-A-0383_1_ct-0001.png", "other.png"],
    }
    assert shared_patients(parts) == {
        "NCP_1": ("train", "val", "test"),
        "volume-covid19-A-0383": ("train", "test"),
    }


# --- real lists ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lists(shared):
    paths = {name: shared / f"labels/covidx__{name}.txt" for name in COUNTS}
    if not all(path.is_file() for path in paths.values()):
        pytest.skip("the real COVIDx-CT lists are not here")
    return {name: parse_list(path.read_text(), where=name, classes=3) for name, path in paths.items()}


@pytest.mark.parametrize("name", COUNTS)
def test_real_lists_have_their_published_counts(lists, name):
    counts = Counter(item.label for item in lists[name])
    assert [counts[label] for label in range(3)] == COUNTS[name]
    assert unknown_names(item.file for item in lists[name]) == []


def test_no_patient_of_v1_is_in_two_parts(lists):
    parts = {name: [item.file for item in items] for name, items in lists.items() if name.endswith("-1")}
    assert len(parts) == 3
    assert shared_patients(parts) == {}


def test_patients_of_v3_are_those_of_the_metadata(lists, shared):
    with (shared / "labels/covidx__metadata.csv").open(encoding="utf-8") as file:
        known = {row["patient id"] for row in csv.DictReader(file)}
    patients = {patient_and_scan(item.file)[0] for item in lists["test_COVIDx_CT-3A"]}
    assert len(patients) == 503  # as its documentation says
    # one of TCIA's cases with two scans, which the metadata lists as ..._0 and ..._1
    assert patients - known == {"volume-covid19-A-0383"}
