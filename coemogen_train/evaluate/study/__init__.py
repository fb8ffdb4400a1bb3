"""A user study: one page of blind pairs that anybody can open, and what is made of the answers."""

from .answers import read_answers
from .build import Study, build_study
from .key import StudyKey, load_key
from .plan import Design
from .questions import Questionnaire, load_questions
from .results import StudyScore
from .scoring import score_study
from .tables import score_dict, score_parts

__all__ = [
    "Design",
    "Questionnaire",
    "Study",
    "StudyKey",
    "StudyScore",
    "build_study",
    "load_key",
    "load_questions",
    "read_answers",
    "score_dict",
    "score_parts",
    "score_study",
]
