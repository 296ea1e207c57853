"""What the papers report for their own task, to stand beside runs on the same classes.

Accuracy, kappa and F1 are fractions; None is what a paper does not report. Only figures that their
authors published are here, none that were computed afterwards.

    F. Zunair et al., "ViPTT-Net: video pretraining of spatio-temporal model for tuberculosis type
        classification from chest CT scans", ImageCLEF 2021, Tables 1 (val) and 2 (test)
    A. Makhdoom, COVIDNet-CT-Identification, the test outputs of its two notebooks for COVIDx CT-3A
    SpaceTime-SonoNet, ``evaluation.json`` of its repository; macro F1 by scikit-learn. The paper is
        Guraschi et al., "SpaceTime-SonoNet", Med. Biol. Eng. Comput. 2026, doi 10.1007/s11517-025-03504-w
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

TB = ("Infiltrative", "Focal", "Tuberculoma", "Miliary", "Fibro-cavernous")
COVIDX = ("Normal", "Pneumonia", "COVID-19")
SONONET = (
    "diramazione-porta",
    "confluenza-sovraepatiche",
    "colecisti",
    "cuore",
    "rapporto-epatorenale",
    "ilo",
    "other",
)


@dataclass(frozen=True)
class Figures:
    """A line of a paper; ``f1`` is per class, in the order of the paper's classes, or empty."""

    name: str
    network: str
    strategy: str
    split: str
    samples: int | None
    kappa: float | None
    accuracy: float | None
    f1: Mapping[str, float] = field(default_factory=dict)
    macro_f1: float | None = None


@dataclass(frozen=True)
class Paper:
    """A paper's figures, and its task: classes, and whether a sample is one picture (None: either)."""

    source: str
    classes: tuple[str, ...]
    pictures: bool | None
    figures: tuple[Figures, ...]


def papers_for(classes: Sequence[str], *, depth: int) -> tuple[Paper, ...]:
    """The papers whose task it is to tell these classes, in any order, in volumes of this depth."""
    wanted = {_plain(name) for name in classes}
    return tuple(
        paper
        for paper in PAPERS
        if {_plain(name) for name in paper.classes} == wanted and paper.pictures in (None, depth == 1)
    )


def f1_of(figures: Figures, name: str) -> float | None:
    """The F1 of a class that the user may spell with other capitals and hyphens."""
    return {_plain(known): value for known, value in figures.f1.items()}.get(_plain(name))


def _plain(name: str) -> str:
    return "".join(sign for sign in name.casefold() if sign.isalnum())


# --- the figures --------------------------------------------------------------------------------


def _viptt(strategy: str, kappa: float, *f1: float) -> Figures:
    f1_of_classes = dict(zip(TB, f1, strict=True))
    return Figures("paper, Table 1", "viptt-net", strategy, "val", 184, kappa, None, f1_of_classes)


def _viptt_test(strategy: str, kappa: float, accuracy: float) -> Figures:
    return Figures("paper, Table 2", "viptt-net", strategy, "test", 421, kappa, accuracy)


def _covidx(notebook: str, accuracy: float, *f1: float) -> Figures:
    f1_of_classes = dict(zip(COVIDX, f1, strict=True))
    return Figures(notebook, "densenet201", "–", "test", 33781, None, accuracy, f1_of_classes)


def _sononet(network: str, start: str, samples: int, accuracy: float, macro_f1: float) -> Figures:
    return Figures("SpaceTime-SonoNet", network, start, "test", samples, None, accuracy, {}, macro_f1)


PAPERS = (
    Paper(
        "paper: Zunair et al., ViPTT-Net, ImageCLEF 2021",
        TB,
        False,
        (
            _viptt("no-pt", 0.17, 0.61, 0.46, 0.0, 0.2, 0.14),
            _viptt("pt", 0.35, 0.68, 0.56, 0.09, 0.4, 0.48),
            _viptt("pt+cw", 0.30, 0.59, 0.41, 0.37, 0.33, 0.65),
            _viptt("pt+cw+aug", 0.33, 0.59, 0.47, 0.27, 0.54, 0.61),
            _viptt_test("pt", 0.13, 0.423),
            _viptt_test("pt+cw", 0.14, 0.385),
            _viptt_test("pt+cw+aug", 0.20, 0.423),
        ),
    ),
    Paper(
        "CT-ID: Makhdoom, COVIDNet-CT-Identification, COVIDx CT-3A, two runs of the same code",
        COVIDX,
        True,
        (
            _covidx("CT-ID, first", 0.869572, 0.8902, 0.9183, 0.7909),
            _covidx("CT-ID, second", 0.881087, 0.91, 0.8977, 0.8094),
        ),
    ),
    Paper(
        "SpaceTime-SonoNet: evaluation.json of the repository of Guraschi et al., 2026",
        SONONET,
        None,
        (
            _sononet("2d", "scratch", 29700, 0.576, 0.49),
            _sononet("2d", "pretrained", 29700, 0.545, 0.46),
            _sononet("3d", "scratch", 3666, 0.681, 0.56),
            _sononet("2+1d", "scratch", 3666, 0.679, 0.57),
        ),
    ),
)
