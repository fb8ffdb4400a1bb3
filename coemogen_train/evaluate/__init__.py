"""How good the pictures are, how sure that is, and the page that says both."""

from .curves import Curve
from .intervals import (
    Interval,
    bootstrap_difference,
    bootstrap_mean,
    bootstrap_statistic,
    interval_over_seeds,
)
from .labeller import FLOOR, ProbeLabeller
from .linear_head import load_linear_head
from .metrics import (
    Coverage,
    confusion_matrix,
    correct,
    coverage,
    emotion_accuracy,
    frechet_distance,
    pairwise_diversity,
    story_rate,
    tells_its_story,
)
from .probe_file import load_probe, save_probe
from .probe_tables import report_dict, report_parts
from .probe_training import ProbeReport, check_probe, train_probe
from .probes import EmotionProbe, ProbeScore, fit_probe
from .report import (
    Comparison,
    Confusion,
    DemoReport,
    GuidancePoint,
    ProbeFacts,
    Row,
    StageTime,
    confusion_of,
    write_report,
)
from .sheet import SheetColumn, SheetRow, SheetStyle, png_bytes, sample_sheet
from .terminal import metrics_table, print_report

__all__ = [
    "FLOOR",
    "Comparison",
    "Confusion",
    "Coverage",
    "Curve",
    "DemoReport",
    "EmotionProbe",
    "GuidancePoint",
    "Interval",
    "ProbeFacts",
    "ProbeLabeller",
    "ProbeReport",
    "ProbeScore",
    "Row",
    "SheetColumn",
    "SheetRow",
    "SheetStyle",
    "StageTime",
    "bootstrap_difference",
    "bootstrap_mean",
    "bootstrap_statistic",
    "check_probe",
    "confusion_matrix",
    "confusion_of",
    "correct",
    "coverage",
    "emotion_accuracy",
    "fit_probe",
    "frechet_distance",
    "interval_over_seeds",
    "load_linear_head",
    "load_probe",
    "metrics_table",
    "pairwise_diversity",
    "png_bytes",
    "print_report",
    "report_dict",
    "report_parts",
    "sample_sheet",
    "save_probe",
    "story_rate",
    "tells_its_story",
    "train_probe",
    "write_report",
]
