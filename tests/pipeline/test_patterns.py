"""Globs and expressions of a catalog, over the paths of sources."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.catalog.patterns import check_glob, matches_glob, search

pytestmark = pytest.mark.unit

GLOBS = {  # glob: what it takes, what it does not
    "*.nii": (["a.nii", "x/a.nii", "x/y/a.nii"], ["a.nii.gz", "a.NII"]),
    "x": (["x", "x/a.nii", "y/x/a.nii"], ["xx/a.nii", "a/xx"]),
    "x/*.nii": (["x/a.nii", "x/a.nii/b"], ["a.nii", "x/y/a.nii", "y/x/a.nii"]),
    "x/**/a.nii": (["x/a.nii", "x/y/a.nii", "x/y/z/a.nii"], ["a.nii", "y/x/a.nii"]),
    "**/y/*": (["y/a", "x/y/a", "x/z/y/a"], ["y", "x/y"]),
    "x/": (["x/a.nii", "y/x/a"], ["xx"]),
    "**": (["a", "x/a"], []),
    "x/**": (["x/a", "x/y/a"], ["a", "y/x/a"]),
    "p[0-9]?/a": (["p12/a"], ["p1/a", "pp1/a"]),
    "a.b": (["a.b"], ["aXb"]),
    "**/**/a/**": (["a/b", "x/a/b", "a"], ["b"]),
}


@pytest.mark.parametrize("glob", GLOBS)
def test_globs(glob):
    taken, left = GLOBS[glob]
    assert [path for path in taken if not matches_glob(path, glob)] == []
    assert [path for path in left if matches_glob(path, glob)] == []


@pytest.mark.timeout(10)
def test_many_stars_take_no_time():
    start = time.perf_counter()
    assert not matches_glob("/".join(["a"] * 60), "/".join(["**", "a"] * 25 + ["b"]))
    assert not matches_glob("a" * 200, "*a" * 50 + "b")
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize("glob", ["/etc/*", "../x", "x/../y", "..", "a\x1b"])
def test_globs_that_leave_the_folder(glob):
    with pytest.raises(ValueError, match="relative to `path`"):
        check_glob(glob)


EXPRESSIONS = [
    r"v_(?P<group>(?P<label>[A-Za-z]+)_g\d+)_c\d+\.avi$",
    r"(?P<label>[^/]+)/[^/]+$",
    r"(?i:^(?P<label>ROW|mix))",
    r"(?P<label>\w)(?=_g)|^(?P<group>x)?(?P=group)",
    r"(?P<label>(?<!v)[éÉ]\w*?)",
    r"^(?:(?P<label>a++)|(?P<group>b*+))$",
]


@given(st.sampled_from(EXPRESSIONS), st.text("aAbvxé_g1/.Rowmix", max_size=12))
def test_expressions_mean_what_they_mean_in_python(expression, path):
    match = re.search(expression, path)
    assert search(expression, path) == (match and match.groupdict())


@pytest.mark.timeout(30)
def test_a_search_has_a_limit():
    with pytest.raises(TimeoutError):
        search(r"(?P<label>(a|aa)+)$", "a" * 60 + "!")
