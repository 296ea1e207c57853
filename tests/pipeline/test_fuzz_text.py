"""100,000 catalogs and label tables, mostly wrong: read or refused in plain lines, soon, in little room.

A case is a seed and a number. As a program:

    test_fuzz_text.py run SEED FIRST STOP       read the cases, print one JSON line of what was found
    test_fuzz_text.py show SEED NUMBER          print the bytes of one case
"""

import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from test_catalog import GOOD
from test_fuzz import ERROR_LINE, MIB, memory_of
from test_yaml_nodes import REFUSED

from pipeline.catalog import load_catalog
from pipeline.errors import ConfigError
from pipeline.sources import list_samples

SECONDS = 0.1  # of processor time for one text
ROOM = 64 * MIB  # above what the imports take
MOST_BYTES = 4096  # of a catalog; the one above has 800
CHILDREN = 2
Random = random.Random

# --- catalogs -----------------------------------------------------------------------------------

CORPUS = [text if isinstance(text, bytes) else text.encode() for text, _, _ in REFUSED.values()]
CORPUS = [text for text in CORPUS if len(text) < MOST_BYTES]
WORDS = [
    *(
        "NO",
        "on",
        "010",
        "12:30:45",
        "1e-3",
        ".nan",
        ".inf",
        "-.inf",
        "2021-05-06",
        "~",
        "null",
        "true",
        "''",
    ),
    *(
        "[]",
        "{}",
        "[1, 2]",
        "{a: 1}",
        "[[]]",
        "-1",
        "0",
        "7.0",
        "99999999999999999999999",
        "../x",
        "/",
        "http://h/x",
    ),
    *(
        "&a 1",
        "*a",
        "!!int 7",
        "!!python/name:os.system",
        "!x y",
        "<<: {a: 1}",
        "|",
        ">-",
        "'",
        '"',
        "\\",
        "?",
        "---",
    ),
    *(
        "...",
        "%YAML 1.1",
        "\t",
        "\0",
        "\ufeff",
        "\u2028",
        "１",
        "é",
        "e\u0301",
        "\U0001f600",
        "\x85",
        "\x7f",
        "x" * 300,
    ),
    *(
        "(?P<label>a)",
        "(?P<label>(",
        "(a+)+$",
        "{" * 40,
        "[" * 40,
        "- " * 40,
        "a: " * 40,
        "\r",
        "#",
        "seed: 1",
    ),
]


def other_value(rng: Random, lines: list[str]) -> None:
    place = rng.randrange(len(lines))
    key, colon, _ = lines[place].partition(": ")
    lines[place] = f"{key}{colon or ': '}{rng.choice(WORDS)}"


def other_word(rng: Random, lines: list[str]) -> None:
    place = rng.randrange(len(lines))
    words = lines[place].split(" ")
    words[rng.randrange(len(words))] = rng.choice(WORDS)
    lines[place] = " ".join(words)


def without_line(rng: Random, lines: list[str]) -> None:
    if len(lines) > 1:
        del lines[rng.randrange(len(lines))]


def line_again(rng: Random, lines: list[str]) -> None:
    lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))


def indented(rng: Random, lines: list[str]) -> None:
    place = rng.randrange(len(lines))
    lines[place] = rng.choice([" ", "    ", "\t", ""]) + lines[place].lstrip()


def own_line(rng: Random, lines: list[str]) -> None:
    lines.insert(rng.randrange(len(lines) + 1), " " * rng.randrange(9) + rng.choice(WORDS))


EDITS = [other_value, other_value, other_word, other_word, without_line, line_again, indented, own_line]


def catalog_case(rng: Random) -> bytes:
    kind = rng.random()
    if kind < 0.1:
        return spliced(rng, rng.choice(CORPUS))
    if kind < 0.2:
        return grown(rng, 0).encode("utf-8", "surrogatepass")
    lines = GOOD.splitlines()
    for _ in range(rng.choice([1, 1, 2, 5])):
        rng.choice(EDITS)(rng, lines)
    data = "\n".join(lines).encode("utf-8", "surrogatepass")
    return spliced(rng, data) if kind < 0.3 else data


def grown(rng: Random, depth: int) -> str:
    """Any document, by the grammar."""
    kind = rng.random()
    if depth > 6 or kind < 0.4:
        return rng.choice(WORDS)
    below = [grown(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind < 0.6:
        return f"[{', '.join(below)}]"
    names = ["version", "datasets", "ct", "split", "a", "<<", "''", rng.choice(WORDS)]
    pairs = [f"{rng.choice(names)}: {value}" for value in below]
    return "{" + ", ".join(pairs) + "}" if depth or kind < 0.7 else "\n".join(pairs)


def spliced(rng: Random, data: bytes) -> bytes:
    """Bytes put in, left out, or replaced."""
    for _ in range(rng.choice([1, 2, 8])):
        start = rng.randrange(len(data) + 1)
        piece = rng.choice(
            [b"", rng.randbytes(1), rng.randbytes(3), rng.choice(WORDS).encode("utf-8", "replace")]
        )
        data = data[:start] + piece + data[start + rng.choice([0, 1, len(piece), 40]) :]
    return data[:MOST_BYTES]


# --- tables -------------------------------------------------------------------------------------

HEADER = ["FileName", "TypeOfTB", "PatientID", "Hash"]
CELLS = [
    *(
        "a",
        "b",
        "a.nii",
        "b.nii",
        "c",
        "1",
        "2",
        "1",
        "2",
        "",
        "P",
        "nan",
        " 1 ",
        "１",
        "1_0",
        "3.0",
        "A",
        "ab" * 32,
    ),
    *(
        "../a",
        "/etc/x",
        "~",
        "C:\\x",
        "\\\\h\\x",
        "a\0",
        "a\rb",
        "a\nb",
        '"',
        '"a"',
        '"a',
        "'",
        "=cmd|x",
        "@x",
        ";",
        "\t",
    ),
    *("é", "e\u0301", "\ufeff", "\u2028", "x" * 5000, "zz" * 32, "http://h/a.nii", "\x1a", "a,b"),
]
ENCODINGS = ["utf-8", "utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1", "cp1252"]


def table_case(rng: Random) -> bytes:
    if rng.random() < 0.05:
        return rng.randbytes(rng.randrange(300))
    header = (
        rng.sample(HEADER, 4) if rng.random() < 0.8 else rng.choices([*HEADER, *CELLS], k=rng.randrange(6))
    )
    rows = [header]
    sound = rng.random() < 0.6
    for number in range(rng.choice([0, 1, 2, 2, 2, 3, 40])):
        good = {"FileName": "ab"[number % 2], "TypeOfTB": "12"[number % 2], "PatientID": "P", "Hash": ""}
        row = [good.get(name, "") for name in header] if sound else rng.choices(CELLS, k=len(header))
        if row and rng.random() < 0.3:
            place = rng.randrange(len(row))
            row[place : place + 1] = rng.choices(CELLS, k=rng.choice([0, 1, 1, 1, 2]))
        rows.append(row)
    quoted = rng.random() < 0.3
    ends, comma = (
        rng.choice(["\n", "\n", "\r\n", "\r", "\n\n"]),
        rng.choice([",", ",", ",", ",", ";", "\t", ", "]),
    )
    text = ends.join(comma.join(f'"{cell}"' if quoted else cell for cell in row) for row in rows)
    data = text.encode(rng.choice(ENCODINGS), "replace")
    return spliced_table(rng, data) if rng.random() < 0.3 else data


def spliced_table(rng: Random, data: bytes) -> bytes:
    start = rng.randrange(len(data) + 1)
    return (
        data[:start] + rng.choice([b"\0", b'"', b",", b"\xff", b"\n", b"\r", rng.randbytes(4)]) + data[start:]
    )


def case(seed: int, number: int) -> bytes:
    rng = Random(f"text {seed} {number}")
    return catalog_case(rng) if number % 2 else table_case(rng)


# --- the child ----------------------------------------------------------------------------------


def run(seed: int, first: int, stop: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset = tables_dataset(folder)
        findings: list[str] = []
        codes: Counter[str] = Counter()
        slowest, baseline = (0.0, -1), memory_of("self", "VmHWM")
        for number in range(first, stop):
            file = folder / ("catalog.yaml" if number % 2 else "labels.csv")
            file.write_bytes(case(seed, number))
            start = time.process_time()
            found = read(file, dataset)
            slowest = max(slowest, (time.process_time() - start, number))
            kind = "catalog" if number % 2 else "table"
            codes[f"{kind} {found}"] += 1
            if ": " in found:
                findings.append(f"case {number}: {found}")
        room = memory_of("self", "VmHWM") - baseline
    return {"findings": findings, "codes": codes, "slowest": slowest, "room": room}


def tables_dataset(folder: Path) -> Any:
    (folder / "raw").mkdir()
    for name in ("a.nii", "b.nii"):
        (folder / "raw" / name).touch()
    text = GOOD.replace("group: PatientID", "group: PatientID, sha256: Hash")
    (folder / "tables.yaml").write_text(text)
    (folder / "labels.csv").write_text("\n".join([",".join(HEADER), "a,1,P,", "b,2,P,"]))
    dataset = load_catalog(folder / "tables.yaml").datasets["ct"]
    assert len(list_samples(dataset).samples) == 2
    return dataset


def read(file: Path, dataset: Any) -> str:
    """A code, or with a colon what should not have been."""
    try:
        if file.suffix == ".yaml":
            load_catalog(file)
        else:
            list_samples(dataset)
    except ConfigError as error:
        lines = str(error).splitlines()
        wrong = [
            line for line in lines if not line.startswith(str(file.parent)) or not ERROR_LINE.fullmatch(line)
        ]
        return f"not as promised: {wrong[0]!r}" if wrong else error.problems[0].code
    except BaseException as error:  # noqa: BLE001 - that is what is looked for
        return f"{type(error).__name__}: {error}"
    return "accepted"


# --- the parent ---------------------------------------------------------------------------------


def check(seed: int, count: int) -> Counter[str]:
    edges = [count * part // CHILDREN for part in range(CHILDREN + 1)]
    with ThreadPoolExecutor(CHILDREN) as pool:
        found = list(pool.map(lambda edge: in_child(seed, *edge), pairwise(edges)))
    findings = [text for part in found for text in part["findings"]]
    assert not findings, f"seed {seed}: {len(findings)} findings: {findings[:20]}"
    seconds, number = max(tuple(part["slowest"]) for part in found)
    room = max(part["room"] for part in found)
    codes: Counter[str] = sum((Counter(part["codes"]) for part in found), Counter())
    print(
        f"{count} texts, seed {seed}: slowest {seconds * 1000:.0f} ms (case {number}), {room / MIB:.0f} MiB"
    )
    print(dict(codes.most_common()))
    assert sum(codes.values()) == count
    assert seconds <= SECONDS, f"seed {seed}: case {number} took {seconds:.3f} s"
    assert room <= ROOM
    return codes


def in_child(seed: int, first: int, stop: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "run", str(seed), str(first), str(stop)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_two_thousand_catalogs_and_tables():
    codes = check(0, 2000)
    assert len(codes) > 25  # the cases reach what they are meant to
    assert min(codes["catalog accepted"], codes["table accepted"]) > 20


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_thousand_catalogs_and_tables():
    check(Random().randrange(1 << 30), 100_000)


def main(command: str, *numbers: str) -> None:
    if command == "run":
        seed, first, stop = map(int, numbers)
        print(json.dumps(run(seed, first, stop)))
    elif command == "show":
        sys.stdout.buffer.write(case(int(numbers[0]), int(numbers[1])))


if __name__ == "__main__":
    main(*sys.argv[1:])
