"""SpaceTime-SonoNet's split: the last patients of each centre validate. No files, no chance.

A patient is complete with five videos, one of each standard view. Of the complete patients of a centre, in
the order of ``exams.json``, which is that of their dates, the last go to ``test``, those before them to
``val``. All other videos, also those of patients who are incomplete or unknown, go to ``train``.

Source: Guraschi, Interlando, Noceti, Odone, Zini, "SpaceTime-SonoNet", Med. Biol. Eng. Comput., 2026, and its
code, which first set 15 % of the patients aside as test, and then took 20 % of the others for validation.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from fractions import Fraction

from pipeline.errors import ConfigError
from pipeline.split.terms import CENTRES, TEST, TRAIN, VAL

COMPLETE = 5  # videos of a patient


def assign_by_centre(
    patients: Mapping[str, str], centres: Mapping[str, str], fractions: Mapping[str, float]
) -> dict[str, str]:
    """The split of each video: ``patients`` and ``centres`` give patient number and centre of video ids.

    ``fractions`` are of all patients; a centre with n complete ones gives round(n * test) to test, and of
    the m others round(m * val / (1 - test)) to val. A half is rounded to the even number, as Python does.
    Raises ConfigError if the fractions are for other splits than train, val and perhaps test.
    """
    if not {TRAIN, VAL} <= set(fractions) <= {TRAIN, VAL, TEST}:
        reason = f"{CENTRES} makes the splits train, val and perhaps test, not {', '.join(fractions)}"
        raise ConfigError.of("split", "fractions", reason, "name these")
    home: dict[str, str] = {}
    for complete in _complete(patients, centres).values():
        for name, share in _shares(fractions):
            count = round(len(complete) * share)
            taken = complete[len(complete) - count :]
            del complete[len(complete) - count :]
            home |= dict.fromkeys(taken, name)
    return {video: home.get(patients.get(video, ""), TRAIN) for video in centres}


def _shares(fractions: Mapping[str, float]) -> list[tuple[str, Fraction]]:
    """What test takes of all complete patients, and then val of the others: as written, not in binary."""
    exact = {name: Fraction(str(share)) for name, share in fractions.items()}
    test = exact.get(TEST, Fraction(0))
    return [(TEST, test), (VAL, exact[VAL] / (1 - test))]


def _complete(patients: Mapping[str, str], centres: Mapping[str, str]) -> dict[str, list[str]]:
    """The complete patients of each centre, in the order of their numbers.

    A patient who was seen in two centres belongs to the one of the first video.
    """
    videos = Counter(patient for video, patient in patients.items() if video in centres)
    seen: dict[str, str] = {}
    for video, patient in patients.items():
        if video in centres:
            seen.setdefault(patient, centres[video])
    complete: defaultdict[str, list[str]] = defaultdict(list)
    for patient, centre in sorted(seen.items(), key=lambda item: int(item[0])):
        if videos[patient] == COMPLETE:
            complete[centre].append(patient)
    return complete
