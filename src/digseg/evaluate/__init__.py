"""How good a model is on labelled data. Level 5."""

from digseg.evaluate.core import EvaluateSettings, Evaluation, evaluate, evaluate_set
from digseg.evaluate.dataset import LabelledSet, open_sets
from digseg.evaluate.public import open_public
from digseg.evaluate.report import check_report, write_report

__all__ = [
    "EvaluateSettings",
    "Evaluation",
    "LabelledSet",
    "check_report",
    "evaluate",
    "evaluate_set",
    "open_public",
    "open_sets",
    "write_report",
]
