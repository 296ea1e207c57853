import os
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.catalog import load_catalog
from pipeline.errors import ConfigError
from pipeline.escape import printable
from pipeline.sources import list_samples
from pipeline.sources.discover import find_files

pytestmark = pytest.mark.unit

HEADER = "FileName,TypeOfTB,PatientID"
LABELS = "{file: labels.csv, id: FileName, label: TypeOfTB, group: PatientID}"
UCF = "{regex: 'v_(?P<group>(?P<label>[A-Za-z]+)_g\\d+)_c\\d+\\.avi$'}"


@pytest.fixture
def dataset(tmp_path):
    """A dataset of empty files below ``raw`` and a table; nothing here reads the files."""

    def make(files=(), table=None, *, type_="nifti", labels=LABELS, classes="{1: A, 2: B}", store="s.zarr"):
        catalog = tmp_path / "data_catalog.yaml"
        entry = f"type: {type_}, path: raw, labels: {labels}, classes: {classes}, store: '{store}'"
        catalog.write_text(f"version: 1\ndatasets:\n  ct: {{{entry}, split: {{file: split.json}}}}\n")
        (tmp_path / "raw").mkdir(exist_ok=True)
        for name in files:
            path = tmp_path / "raw" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        if table is not None:
            data = table if isinstance(table, bytes) else "\n".join(table).encode()
            (tmp_path / "labels.csv").write_bytes(data)
        return load_catalog(catalog).datasets["ct"]

    return make


def told(problems, tmp_path):
    """Problems as (place below the folder, code)."""
    return sorted((problem.where.replace(f"{tmp_path}/", ""), problem.code) for problem in problems)


def pairs(listing):
    return [(sample.id, sample.label, sample.group, sample.source) for sample in listing.samples]


# --- tables that are right ----------------------------------------------------------------------


@pytest.mark.parametrize("spelling", ["sub/b.nii.gz", "sub/b", "b.nii.gz", "b"])
def test_a_table_names_files_with_or_without_suffix_and_folder(dataset, tmp_path, spelling):
    ct = dataset(["a.nii", "sub/b.nii.gz"], [HEADER, f"{spelling},2,P1", "a,1,P0"])
    listing = list_samples(ct)
    assert pairs(listing) == [("a", 0, "P0", "a.nii"), ("b", 1, "P1", "sub/b.nii.gz")]
    assert [sample.path for sample in listing.samples] == [
        tmp_path / "raw/a.nii",
        tmp_path / "raw/sub/b.nii.gz",
    ]
    assert (listing.quarantined, listing.warnings, dict(listing.left_out)) == ((), (), {})


@pytest.mark.parametrize("order", list(permutations(["x.nii,1,P0", "y.nii,2,P1", "z.nii,1,P2"])))
def test_order_of_lines_does_not_matter(dataset, order):
    listing = list_samples(dataset(["z.nii", "x.nii", "y.nii"], [HEADER, *order]))
    assert pairs(listing) == [("x", 0, "P0", "x.nii"), ("y", 1, "P1", "y.nii"), ("z", 0, "P2", "z.nii")]


SAME_TABLE = {
    "L1 BOM": b"\xef\xbb\xbfFileName,TypeOfTB,PatientID\na,1,P\nb,2,Q",
    "CRLF": b"FileName,TypeOfTB,PatientID\r\na,1,P\r\nb,2,Q\r\n",
    "blank lines": b"FileName,TypeOfTB,PatientID\n\na,1,P\n\n\nb,2,Q\n\n",
    "quotes": b'"FileName","TypeOfTB","PatientID"\n"a","1",P\nb,2,"Q"\n',
    "other columns": b"x,PatientID,TypeOfTB,y,FileName\n,P,1,,a\n9,Q,2,=8,b\n",
}


@pytest.mark.parametrize("table", SAME_TABLE.values(), ids=SAME_TABLE)
def test_spellings_of_one_table(dataset, table):
    listing = list_samples(dataset(["a.nii", "b.nii"], table))
    assert pairs(listing) == [("a", 0, "P", "a.nii"), ("b", 1, "Q", "b.nii")]


def test_without_a_group_column_there_are_no_groups(dataset):
    labels = "{file: labels.csv, id: FileName, label: TypeOfTB}"
    listing = list_samples(dataset(["a.nii", "b.nii"], [HEADER, "a,1,P", "b,2,P"], labels=labels))
    assert pairs(listing) == [("a", 0, "", "a.nii"), ("b", 1, "", "b.nii")]


@pytest.mark.parametrize("allow_missing", [False, True])
def test_one_class_is_refused(dataset, tmp_path, refusal, allow_missing):
    ct = dataset(["a.nii", "b.nii"], [HEADER, "a,1,P", "b,1,Q"])
    found = refusal(ConfigError, lambda: list_samples(ct, allow_missing=allow_missing))
    assert told(found, tmp_path) == [("raw", "one-class")]
    assert "all 2 samples are A" in found[0].reason


def test_one_class_of_paths_is_refused(dataset, tmp_path, refusal):
    files = ["v_Row_g01_c01.avi", "v_Ski_g01_c01.avi"]
    ucf = dataset(files, type_="video", labels=UCF, classes="[Row]")
    assert told(refusal(ConfigError, lambda: list_samples(ucf)), tmp_path) == [("raw", "one-class")]


def test_formulas_are_data(dataset):
    listing = list_samples(dataset(["=cmd|x.nii", "y.nii"], [HEADER, "=cmd|x,1,=1+1", "y,2,@y"]))
    assert pairs(listing) == [("=cmd|x", 0, "=1+1", "=cmd|x.nii"), ("y", 1, "@y", "y.nii")]


def test_a_line_that_says_it_again_is_a_warning(dataset, tmp_path):
    listing = list_samples(dataset(["a.nii", "b.nii"], [HEADER, "a,1,P", "a,1,P", "b,2,Q"]))
    assert len(listing.samples) == 2
    assert told(listing.warnings, tmp_path) == [("labels.csv:3", "duplicate-id")]


# --- tables that are wrong ----------------------------------------------------------------------

WRONG = {  # table, place, code, part of the line
    "L2 latin-1": (b"FileName,TypeOfTB,PatientID\na,1,P\nb,2,\xe9", "labels.csv:3", "not-utf-8", "byte 38"),
    "L2 utf-16": (HEADER.encode("utf-16"), "labels.csv:1", "not-utf-8", "byte 0"),
    "L3 semicolons": (
        [HEADER.replace(",", ";"), "a;1;P"],
        "labels.csv:1",
        "no-column",
        "found 1 column: 'FileName;TypeOfTB;PatientID'",
    ),
    "L3 tabs": ([HEADER.replace(",", "\t"), "a\t1\tP"], "labels.csv:1", "no-column", "found 1 column"),
    "L4 missing value": ([HEADER, "a,1", "b,2,Q", "c,1"], "labels.csv", "ragged-table", "line 2, 4"),
    "L4 extra column": ([HEADER, "a,1,P,", "b,2,Q"], "labels.csv", "ragged-table", "line 2"),
    "L4 no such column": (["FileName,Type,PatientID", "a,1,P"], "labels.csv:1", "no-column", "'TypeOfTB'"),
    "column with a blank": (["FileName, TypeOfTB,PatientID", "a,1,P"], "labels.csv:1", "no-column", "' T"),
    "L5 column twice": ([f"{HEADER},TypeOfTB", "a,1,P,2"], "labels.csv:1", "duplicate-column", "TypeOfTB"),
    "L6 other label": ([HEADER, "a,1,P", "b,2,Q", "a,2,P"], "labels.csv:4", "contradiction", "labels.csv:2"),
    "L6 other group": ([HEADER, "a,1,P", "b,2,Q", "a,1,Q"], "labels.csv:4", "contradiction", "`a`"),
    "L6 other spelling": ([HEADER, "a,1,P", "b,2,Q", "a.nii,1,P"], "labels.csv:4", "duplicate-id", "a.nii"),
    "L7 open quote": ([HEADER, "b,2,Q", '"a,1,P', "c,1,P"], "labels.csv:3", "not-csv", "quotes"),
    "L7 text after a quote": ([HEADER, '"a"x,1,P', "b,2,Q"], "labels.csv:2", "not-csv", "quotes"),
    "L8 NUL": ([HEADER, "a\0,1,P"], "labels.csv:2", "nul-byte", "NUL"),
    "L8 CR": (b"FileName,TypeOfTB,PatientID\ra,1,P\r", "labels.csv", "line-ends", "CR"),
    "L8 200 kB cell": ([HEADER, f"{'a' * 200_000},1,P"], "labels.csv:2", "not-csv", "field"),
    "L10 nan": ([HEADER, "a,nan,P", "b,2,Q"], "labels.csv:2", "unknown-label", "`nan` is not one of 1, 2"),
    "L10 blanks": ([HEADER, "a, 1 ,P", "b,2,Q"], "labels.csv:2", "unknown-label", "` 1 `"),
    "L10 full width": ([HEADER, "a,１,P", "b,2,Q"], "labels.csv:2", "unknown-label", "`１`"),
    "L10 underscore": ([HEADER, "a,0_1,P", "b,2,Q"], "labels.csv:2", "unknown-label", "`0_1`"),
    "L10 decimal": ([HEADER, "a,1.0,P", "b,2,Q"], "labels.csv:2", "unknown-label", "`1.0`"),
    "L10 leading zero": ([HEADER, "a,01,P", "b,2,Q"], "labels.csv:2", "unknown-label", "`01`"),
    "L10 empty": ([HEADER, "a,,P", "b,2,Q"], "labels.csv:2", "unknown-label", "``"),
    "L10 name of the class": ([HEADER, "a,A,P", "b,2,Q"], "labels.csv:2", "unknown-label", "`A`"),
    "L12 above": ([HEADER, "../a,1,P", "b,2,Q"], "labels.csv:2", "path-outside-root", "../a"),
    "L12 above within": ([HEADER, "x/../../a,1,P", "b,2,Q"], "labels.csv:2", "path-outside-root", ".."),
    "L12 above, windows": ([HEADER, r"..\a,1,P", "b,2,Q"], "labels.csv:2", "path-outside-root", ".."),
    "L12 absolute": ([HEADER, "/etc/passwd,1,P"], "labels.csv:2", "path-outside-root", "/etc/passwd"),
    "L12 home": ([HEADER, "~/a,1,P", "b,2,Q"], "labels.csv:2", "path-outside-root", "~/a"),
    "L12 drive": ([HEADER, r"C:\a,1,P", "b,2,Q"], "labels.csv:2", "path-outside-root", "C:"),
    "L12 share": ([HEADER, r"\\host\a,1,P", "b,2,Q"], "labels.csv:2", "path-outside-root", "host"),
    "L13 empty": (b"", "labels.csv", "empty-table", "empty"),
    "L13 BOM only": (b"\xef\xbb\xbf", "labels.csv", "empty-table", "empty"),
    "L13 blank lines only": (b"\n\n\n", "labels.csv", "empty-table", "empty"),
    "L13 header only": ([HEADER], "labels.csv", "empty-table", "no lines"),
    "L13 one class": ([HEADER, "a,1,P", "b,1,Q"], "raw", "one-class", "are A"),
}


@pytest.mark.parametrize(("table", "where", "code", "part"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("allow_missing", [False, True], ids=["strict", "allow-missing"])
def test_wrong_tables_are_refused(dataset, tmp_path, refusal, table, where, code, part, allow_missing):
    ct = dataset(["a.nii", "b.nii"], table)
    found = refusal(ConfigError, lambda: list_samples(ct, allow_missing=allow_missing))
    about = [problem for problem in found if problem.code == code]
    assert about, [str(problem) for problem in found]
    assert about[0].where == str(tmp_path / where)
    assert part in about[0].reason + about[0].remedy


def test_faults_of_a_table_are_told_at_once(dataset, tmp_path, refusal):
    table = [HEADER, "a,9,P", "/b,1,P", "c,1,P", "a.nii,1,P", "d,1,P", "d.nii,1,P"]
    found = refusal(ConfigError, lambda: list_samples(dataset(["a.nii", "d.nii"], table)))
    assert told(found, tmp_path) == [
        ("labels.csv:2", "unknown-label"),
        ("labels.csv:3", "path-outside-root"),
        ("labels.csv:4", "no-file"),
        ("labels.csv:5", "duplicate-id"),
        ("labels.csv:7", "duplicate-id"),
    ]


@pytest.mark.timeout(5)
@pytest.mark.parametrize("make", ["missing", "folder", "pipe", "device"])
def test_only_a_regular_file_is_a_table(dataset, tmp_path, refusal, make):
    ct = dataset(["a.nii"])
    table = tmp_path / "labels.csv"
    {
        "missing": lambda: None,
        "folder": table.mkdir,
        "pipe": lambda: os.mkfifo(table),
        "device": lambda: table.symlink_to("/dev/null"),
    }[make]()
    (problem,) = refusal(ConfigError, lambda: list_samples(ct))
    assert (problem.where, problem.code) == (str(table), "no-table")


def test_files_and_labels_without_partner_are_all_told(dataset, tmp_path, refusal):
    ct = dataset(["a.nii", "x.nii", "sub/y.nii"], [HEADER, "a,1,P", "b,1,P", "c,2,Q"])
    found = refusal(ConfigError, lambda: list_samples(ct))
    assert told(found, tmp_path) == [
        ("labels.csv:3", "no-file"),
        ("labels.csv:4", "no-file"),
        ("raw/sub/y.nii", "no-label"),
        ("raw/x.nii", "no-label"),
    ]
    assert all("--allow-missing" in problem.remedy for problem in found)


def test_allow_missing_puts_them_into_quarantine(dataset):
    files, table = ["a.nii", "d.nii", "x.nii", "sub/y.nii"], [HEADER, "a,1,P", "b,1,P", "c,2,Q", "d,2,R"]
    listing = list_samples(dataset(files, table), allow_missing=True)
    assert pairs(listing) == [("a", 0, "P", "a.nii"), ("d", 1, "R", "d.nii")]
    assert sorted((item.source, item.problem.code) for item in listing.quarantined) == [
        ("b", "no-file"),
        ("c", "no-file"),
        ("sub/y.nii", "no-label"),
        ("x.nii", "no-label"),
    ]


AMBIGUOUS = {
    "L11 case": ["a.nii", "A.nii"],
    "L11 case of the suffix": ["a.nii", "a.NII"],
    "L11 NFC and NFD": ["\u00fc.nii", "u\u0308.nii"],
    "plain and compressed": ["a.nii", "a.nii.gz"],
    "two folders": ["p/a.nii", "q/a.nii"],
}


@pytest.mark.parametrize("files", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_files_that_share_an_id_are_refused(dataset, refusal, files):
    ct = dataset([*files, "other.nii"], [HEADER, "a,1,P"])
    (problem,) = refusal(ConfigError, lambda: list_samples(ct, allow_missing=True))
    assert problem.code == "ambiguous-id"
    assert all(name in problem.reason for name in files)
    assert "other" not in problem.reason


# --- hashes in the table ------------------------------------------------------------------------

PINNED = "{file: labels.csv, id: FileName, label: TypeOfTB, sha256: Hash}"


def test_a_column_of_hashes(dataset):
    table = ["FileName,Hash,TypeOfTB", f"a,{'AB' * 32},1", "b,,2"]
    listing = list_samples(dataset(["a.nii", "b.nii"], table, labels=PINNED))
    assert [sample.sha256 for sample in listing.samples] == ["ab" * 32, ""]


@pytest.mark.parametrize("cell", ["x", "ab" * 31, "ab" * 33, "zz" * 32, f" {'ab' * 32}"])
def test_what_is_no_hash_is_refused(dataset, tmp_path, refusal, cell):
    table = ["FileName,Hash,TypeOfTB", f"a,{cell},1", "b,,2"]
    ct = dataset(["a.nii", "b.nii"], table, labels=PINNED)
    assert told(refusal(ConfigError, lambda: list_samples(ct)), tmp_path) == [("labels.csv:2", "bad-sha256")]


def test_two_hashes_of_one_source_contradict(dataset, tmp_path, refusal):
    table = ["FileName,Hash,TypeOfTB", f"a,{'ab' * 32},1", "b,,2", "a,,1"]
    ct = dataset(["a.nii", "b.nii"], table, labels=PINNED)
    assert told(refusal(ConfigError, lambda: list_samples(ct)), tmp_path) == [
        ("labels.csv:4", "contradiction")
    ]


# --- folders ------------------------------------------------------------------------------------


def test_sources_are_in_a_folder(dataset, tmp_path, refusal):
    ct = dataset(table=[HEADER, "a,1,P"])
    (tmp_path / "raw").rmdir()
    assert told(refusal(ConfigError, lambda: list_samples(ct)), tmp_path) == [("raw", "no-folder")]
    (tmp_path / "raw").touch()
    assert told(refusal(ConfigError, lambda: list_samples(ct)), tmp_path) == [("raw", "no-folder")]
    (tmp_path / "raw").unlink()
    (tmp_path / "raw").symlink_to("raw")
    assert told(refusal(ConfigError, lambda: list_samples(ct)), tmp_path) == [("raw", "no-folder")]


def test_a_folder_whose_name_is_too_long(dataset, refusal):
    ct = dataset(["a.nii"], [HEADER, "a,1,P"])
    ct = ct.model_copy(update={"path": ct.path / ("x" * 300)})
    (problem,) = refusal(ConfigError, lambda: list_samples(ct))
    assert problem.code == "no-folder"


def test_a_store_beside_the_sources_is_fine(dataset):
    assert list_samples(dataset(["a.nii", "b.nii"], [HEADER, "a,1,P", "b,2,Q"], store="raw.zarr")).samples


def test_no_source_at_all(dataset, tmp_path, refusal):
    ct = dataset(["a.txt"], [HEADER, "a,1,P"])
    found = refusal(ConfigError, lambda: list_samples(ct, allow_missing=True))
    assert told(found, tmp_path) == [("raw", "no-samples")]


def test_suffixes_in_any_letter_case(dataset):
    files = ["a.nii", "b.NII", "c.Nii.Gz", "d.NII.GZ", "e.nii.txt", "f.gz", "nii"]
    table = [HEADER, *(f"{name},{label},P" for name, label in zip("abcd", "1212", strict=True))]
    assert pairs(list_samples(dataset(files, table))) == [
        ("a", 0, "P", "a.nii"),
        ("b", 1, "P", "b.NII"),
        ("c", 0, "P", "c.Nii.Gz"),
        ("d", 1, "P", "d.NII.GZ"),
    ]


def test_hidden_files_and_folders_are_left_out(dataset, tmp_path):
    dataset(["a.nii", "._a.nii", ".hidden/b.nii", ".nii", "sub/.c.nii", "sub/d.nii"])
    assert list(find_files(tmp_path / "raw", (".nii.gz", ".nii")).sources) == ["a.nii", "sub/d.nii"]


def test_a_folder_with_a_sources_name_is_listed_for_the_reader_to_refuse(dataset, tmp_path):
    dataset(["a.nii/inner.nii", "b.nii"])
    assert list(find_files(tmp_path / "raw", (".nii",)).sources) == ["a.nii", "b.nii"]


@pytest.mark.timeout(20)
def test_linked_folders_and_loops(dataset, tmp_path):
    dataset(["one/a.nii"])
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/b.nii").touch()
    raw = tmp_path / "raw"
    (raw / "two").symlink_to(tmp_path / "elsewhere")
    (raw / "one/up").symlink_to(raw)
    (raw / "self").symlink_to("self")
    (raw / "self.nii").symlink_to("self.nii")
    (raw / "file.nii").symlink_to(tmp_path / "elsewhere/b.nii")
    assert list(find_files(raw, (".nii",)).sources) == ["file.nii", "one/a.nii", "self.nii", "two/b.nii"]


@pytest.mark.parametrize("seed", range(8))
def test_a_folder_under_two_names_is_found_under_the_first(dataset, tmp_path, seed):
    names = [f"{digit}{seed}" for digit in "9182736450"]
    dataset([f"{names[seed]}/a.nii"])
    for name in names:
        if name != names[seed]:
            (tmp_path / "raw" / name).symlink_to(names[seed])
    assert list(find_files(tmp_path / "raw", (".nii",)).sources) == [f"{min(names)}/a.nii"]


# --- labels from paths --------------------------------------------------------------------------


def test_label_and_group_from_the_path(dataset):
    files = [
        "Row/v_Row_g01_c01.avi",
        "Row/v_Row_g01_c02.AVI",
        "Mix/v_Mix_g02_c01.avi",
        "Ski/v_Ski_g01_c01.avi",
    ]
    ucf = UCF.replace("avi$", "(?i:avi)$")
    listing = list_samples(dataset([*files, "x/notes.txt"], type_="video", labels=ucf, classes="[Mix, Row]"))
    assert pairs(listing) == [
        ("v_Mix_g02_c01", 0, "Mix_g02", "Mix/v_Mix_g02_c01.avi"),
        ("v_Row_g01_c01", 1, "Row_g01", "Row/v_Row_g01_c01.avi"),
        ("v_Row_g01_c02", 1, "Row_g01", "Row/v_Row_g01_c02.AVI"),
    ]
    assert dict(listing.left_out) == {"Ski": 1}


def test_classes_left_out_are_counted(dataset):
    files = [f"{name}/v_{name}_g01_c0{clip}.avi" for name in ("Row", "Ski", "Fly") for clip in (1, 2, 3)]
    files.append("Mix/v_Mix_g01_c01.avi")
    listing = list_samples(dataset(files[1:], type_="video", labels=UCF, classes="[Row, Mix]"))
    assert len(listing.samples) == 3
    assert dict(listing.left_out) == {"Fly": 3, "Ski": 3}


def test_a_class_map_names_values_of_the_path(dataset):
    files = ["v_Row_g01_c01.avi", "v_Ski_g01_c01.avi"]
    ucf = dataset(files, type_="video", labels=UCF, classes="{Ski: Skiing, Row: Rowing}")
    assert [(sample.id, sample.label) for sample in list_samples(ucf).samples] == [
        ("v_Row_g01_c01", 1),
        ("v_Ski_g01_c01", 0),
    ]
    assert ucf.class_names == ("Skiing", "Rowing")


def test_a_regex_without_group_or_with_folders(dataset):
    ucf = dataset(
        ["p1/Row/x.avi", "p2/Mix/y.avi"], type_="video", labels="{regex: '(?P<label>[^/]+)/[^/]+$'}"
    )
    ucf = ucf.model_copy(update={"classes": {"Row": "Row", "Mix": "Mix"}})
    assert pairs(list_samples(ucf)) == [("x", 0, "", "p1/Row/x.avi"), ("y", 1, "", "p2/Mix/y.avi")]


@pytest.mark.parametrize(
    "regex", [r"v_(?P<label>[A-Z]\w+)_g", r"(v_(?P<label>[A-Z]\w+)_g)?", r"v_(?P<label>[A-Z]*)\w*_g"]
)
def test_paths_that_do_not_match(dataset, tmp_path, refusal, regex):
    files = ["v_Row_g1.avi", "v_ski_g1.avi", "v_Mix_g1.avi"]
    ucf = dataset(files, type_="video", labels=f"{{regex: '{regex}'}}")
    ucf = ucf.model_copy(update={"classes": {name: name for name in ("Row", "R", "Mix", "M")}})
    (problem,) = refusal(ConfigError, lambda: list_samples(ucf))
    assert told([problem], tmp_path) == [("raw", "no-label")]
    assert problem.reason == f"`{regex}` matches 2 of 3 files, not e.g. v_ski_g1.avi"
    listing = list_samples(ucf, allow_missing=True)
    assert [sample.id for sample in listing.samples] == ["v_Mix_g1", "v_Row_g1"]
    assert [item.source for item in listing.quarantined] == ["v_ski_g1.avi"]


def test_names_that_are_not_utf8(dataset, tmp_path):
    good = ["v_Mix_g01_c01.avi", "v_Row_g01_c01.avi"]
    ucf = dataset(good, type_="video", labels=UCF, classes="[Row, Mix]")
    name = os.fsdecode(b"\xff/v_Row_g02_c01.avi")
    (tmp_path / "raw" / name).parent.mkdir()
    (tmp_path / "raw" / name).touch()
    listing = list_samples(ucf, allow_missing=True)
    assert [sample.source for sample in listing.samples] == good
    assert [(item.source, item.problem.code) for item in listing.quarantined] == [
        (r"\xff/v_Row_g02_c01.avi", "bad-name")
    ]
    with pytest.raises(ConfigError, match="bad-name"):
        list_samples(ucf)


CONTROLS = ["\t", "\n", "\x1b[31m", "\a", "\x7f", "\x85", "\u202e"]


@pytest.mark.parametrize("control", CONTROLS)
def test_names_with_control_characters(dataset, tmp_path, control):
    """A terminal would follow them, and a split file could not name them."""
    good = ["v_Mix_g01_c01.avi", "v_Row_g01_c01.avi"]
    bad = [f"x{control}v_Row_g02_c01.avi", f"f{control}x/v_Row_g03_c01.avi"]
    ucf = dataset([*good, *bad], type_="video", labels=UCF, classes="[Row, Mix]")
    listing = list_samples(ucf, allow_missing=True)
    assert [sample.source for sample in listing.samples] == good
    assert [item.problem.code for item in listing.quarantined] == ["bad-name", "bad-name"]
    assert {item.source for item in listing.quarantined} == {printable(name) for name in bad}
    with pytest.raises(ConfigError, match="bad-name") as caught:
        list_samples(ucf)
    assert "control character" in caught.value.problems[0].reason
    assert control not in str(caught.value.problems[0])


@pytest.mark.parametrize("column", range(3))
@pytest.mark.parametrize("control", CONTROLS)
def test_cells_with_control_characters(dataset, tmp_path, refusal, control, column):
    cells = ["a", "1", "P"]
    cells[column] += control
    line = ",".join(f'"{cell}"' for cell in cells)
    ct = dataset(["a.nii", "b.nii"], [HEADER, "b,2,Q", line])
    found = refusal(ConfigError, lambda: list_samples(ct, allow_missing=True))
    assert told(found, tmp_path) == [("labels.csv:3", "bad-name")]
    assert printable(cells[column]) in found[0].reason


def test_one_line_for_a_thousand_paths_that_do_not_match(dataset, tmp_path, refusal):
    ucf = dataset(
        [f"a{number:04d}.avi" for number in range(84)], type_="video", labels=UCF, classes="[Row, Mix]"
    )
    (problem,) = refusal(ConfigError, lambda: list_samples(ucf))
    assert told([problem], tmp_path) == [("raw", "no-label")]
    assert "matches 0 of 84 files, not e.g. a0000.avi, a0001.avi, a0002.avi" in problem.reason
    assert ucf.labels.regex in problem.reason


@pytest.mark.timeout(60)
@pytest.mark.parametrize("regex", [r"(?P<label>(a|aa)+)$", r"(?P<label>(a|a)*)$"])
def test_an_expression_that_would_take_hours_is_named_in_seconds(dataset, tmp_path, regex, refusal):
    name = f"{'a' * 60}!.avi"
    ucf = dataset([name], type_="video", labels=f"{{regex: '{regex}'}}", classes="[a, b]")
    (problem,) = refusal(ConfigError, lambda: list_samples(ucf, allow_missing=True))
    assert told([problem], tmp_path) == [(f"raw/{name}", "slow-regex")]
    assert regex in problem.reason


# --- what is left out ---------------------------------------------------------------------------

OTHERS = "{file: labels.csv, id: FileName, label: TypeOfTB, others: leave-out}"


def test_misspelt_classes_are_one_line_that_names_the_nearest(dataset, tmp_path, refusal):
    names = [f"n{number}" for number in range(9)]
    labels = ["Focal", "Focl", "Focl", "Focl", "Focl", "Miliary", "Milliary", "x", "focal"]
    table = [HEADER, *(f"{name},{label}," for name, label in zip(names, labels, strict=True))]
    ct = dataset([f"{name}.nii" for name in names], table, classes="[Focal, Miliary]")
    (problem,) = refusal(ConfigError, lambda: list_samples(ct))
    assert told([problem], tmp_path) == [("labels.csv:3", "unknown-label")]
    assert problem.reason == (
        "`Focl` (in 4 lines: 3, 4, 5, …), `Milliary`, `x`, `focal` are not among Focal, Miliary"
    )
    assert problem.remedy.startswith("did you mean `Focal`, `Miliary`? correct the table")


def test_a_class_in_place_of_its_value_is_seen(dataset, refusal):
    ct = dataset(["a.nii"], [HEADER, "a,Focal,"], classes="{1: Miliary, 2: Focal}")
    (problem,) = refusal(ConfigError, lambda: list_samples(ct))
    assert "did you mean `2`?" in problem.remedy


def test_a_table_may_be_limited_to_some_classes(dataset, tmp_path):
    table = [HEADER, "a,1,", "b,2,", "c,3,", "d,3,", "gone,3,", "e,4,"]
    ct = dataset(["a.nii", "b.nii", "c.nii", "d.nii", "e.nii"], table, labels=OTHERS)
    listing = list_samples(ct)
    assert [sample.id for sample in listing.samples] == ["a", "b"]
    assert (dict(listing.left_out), listing.quarantined, listing.warnings) == ({"3": 3, "4": 1}, (), ())


def test_a_label_left_out_that_is_like_a_class_is_a_warning(dataset, tmp_path):
    table = [HEADER, "a,Miliary,", "b,Focal,", "c,Milliary,", "d,Cavern,"]
    ct = dataset(["a.nii", "b.nii", "c.nii", "d.nii"], table, labels=OTHERS, classes="[Miliary, Focal]")
    listing = list_samples(ct)
    assert told(listing.warnings, tmp_path) == [("labels.csv", "misspelt-label")]
    assert "`Milliary`" in listing.warnings[0].reason


def test_classes_that_are_no_label_at_all(dataset, refusal):
    files = ["v_Row_g01_c01.avi", "v_Mix_g01_c01.avi"]
    ucf = dataset(files, type_="video", labels=UCF, classes="[Rowing, Mixing]")
    (problem,) = refusal(ConfigError, lambda: list_samples(ucf))
    assert problem.code == "no-samples"
    assert "such as Mix, Row, are none of Rowing, Mixing" in problem.reason


def test_a_column_in_another_letter_case_is_suggested(dataset, refusal):
    ct = dataset(["a.nii"], ["filename,TypeOfTB,PatientID", "a,1,P"])
    (problem,) = refusal(ConfigError, lambda: list_samples(ct))
    assert problem.code == "no-column"
    assert problem.remedy.startswith("did you mean 'filename'?")


def test_files_of_other_types_are_counted(dataset):
    files = ["a.nii", "b.nii", "x/c.DCM", "x/d.dcm", "1.2.840.5", "README", ".hidden", "notes.txt", "q.csv"]
    ct = dataset(files, [HEADER, "a,1,P", "b,2,P"])
    listing = list_samples(ct)
    assert dict(listing.ignored) == {".dcm": 2, "": 2, ".csv": 1, ".txt": 1}
    assert listing.ignored_text == "2 without suffix, 2 .dcm, 1 .txt, 1 .csv"


def test_the_label_table_among_the_sources_is_not_ignored(dataset, tmp_path):
    ct = dataset(["a.nii", "b.nii"], labels=LABELS.replace("labels.csv", "raw/labels.csv"))
    (tmp_path / "raw/labels.csv").write_text("\n".join([HEADER, "a,1,P", "b,2,P"]))
    assert dict(list_samples(ct).ignored) == {}


@pytest.mark.parametrize(
    ("suffix", "remedy"),
    [(".dcm", "dcm2niix"), (".NRRD", "SimpleITK"), (".avi", "use `type: video`"), (".xyz", "check `path`")],
)
def test_sources_of_an_unsupported_type_are_told(dataset, tmp_path, refusal, suffix, remedy):
    ct = dataset([f"scan{number}{suffix}" for number in range(9)], type_="nifti", labels=UCF)
    (problem,) = refusal(ConfigError, lambda: list_samples(ct))
    assert told([problem], tmp_path) == [("raw", "no-samples")]
    assert f"there are 9 {suffix.lower()}" in problem.reason
    assert remedy in problem.remedy


@pytest.mark.parametrize("name", ["b", "b.dcm", "x/b.dcm", "x/b"])
def test_a_line_whose_file_has_an_unsupported_suffix(dataset, tmp_path, refusal, name):
    ct = dataset(["a.nii", "x/b.dcm"], [HEADER, "a,1,P", f"{name},2,P"])
    (problem,) = refusal(ConfigError, lambda: list_samples(ct))
    assert told([problem], tmp_path) == [("labels.csv:3", "no-file")]
    assert f"`{name}` is x/b.dcm, which is no file of type nifti" in problem.reason
    assert "dcm2niix" in problem.remedy


def test_globs_choose_sources(dataset):
    files = ["a.nii", "b.nii", "x/c.nii", "x/localizer/d.nii", "e_scout.nii"]
    table = [HEADER, "a,1,", "b,2,", "c,1,", "d,2,", "e_scout,1,"]
    ct = dataset(files, table).model_copy(update={"exclude": ("localizer", "*_scout.nii")})
    listing = list_samples(ct)
    assert [sample.id for sample in listing.samples] == ["a", "b", "c"]
    assert (listing.excluded, listing.quarantined) == (2, ())
    ct = ct.model_copy(update={"include": ("*.nii",), "exclude": ("x/**",)})
    assert [sample.id for sample in list_samples(ct).samples] == ["a", "b", "e_scout"]
    ct = ct.model_copy(update={"include": ("x/*.nii", "b.nii"), "exclude": ()})
    assert [sample.id for sample in list_samples(ct).samples] == ["b", "c"]


# --- any table ----------------------------------------------------------------------------------

CELLS = st.sampled_from(
    ["a", "b.nii", "1", "2", "", " ", '"', '"a"', "../a", "\x00", "é", "\r", "x" * 10]
) | st.text(max_size=4)
TABLES = st.binary(max_size=80) | st.lists(st.lists(CELLS, max_size=4), max_size=5).map(
    lambda rows: "\n".join([HEADER, *map(",".join, rows)]).encode("utf-8", "surrogatepass")
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=TABLES, allow_missing=st.booleans())
def test_any_table_is_taken_or_refused(dataset, table, allow_missing):
    ct = dataset(["a.nii", "b.nii"], table)
    try:
        listing = list_samples(ct, allow_missing=allow_missing)
    except ConfigError as error:
        wrong = [
            line for line in str(error).splitlines() if " → " not in line or str(ct.path.parent) not in line
        ]
        assert wrong == []
    else:
        assert {sample.id for sample in listing.samples} <= {"a", "b"}
        assert {sample.label for sample in listing.samples} <= {0, 1}


def test_real_clips_and_scans(shared):
    catalog = load_catalog(shared / "data_catalog.yaml")
    ct = list_samples(catalog.datasets["ct_real"], allow_missing=True)
    lines = (shared / "ct/labels.csv").read_text().split()[1:]
    assert len(ct.samples) == len(lines) == len(list(Path(shared, "ct").glob("*.nii.gz")))
    ucf = list_samples(catalog.datasets["ucf_real"])
    assert {sample.id for sample in ucf.samples} == {path.stem for path in Path(shared, "ucf").rglob("*.avi")}
    assert all(sample.group.startswith(ucf_class(sample.source)) for sample in ucf.samples)


def ucf_class(source: str) -> str:
    return f"{source.split('/')[0]}_g"
