"""From pictures to a training set: `prepare`, similarity, `filter`, `cache`."""

from .cache import CacheOptions, EmbeddingCache, build_cache
from .filter import FilterReport, filter_set
from .prepare import PrepareOptions, prepare, prepare_folder, prepare_table
from .report import PrepareReport
from .samples import Sample, SampleRows, TrainingSet
from .sharedwork import Crew
from .similarity import score_similarities
from .splits import SplitRule
from .toy import prepare_toy

__all__ = [
    "CacheOptions",
    "Crew",
    "EmbeddingCache",
    "FilterReport",
    "PrepareOptions",
    "PrepareReport",
    "Sample",
    "SampleRows",
    "SplitRule",
    "TrainingSet",
    "build_cache",
    "filter_set",
    "prepare",
    "prepare_folder",
    "prepare_table",
    "prepare_toy",
    "score_similarities",
]
