"""The words of a comparison's report: what the figures say, and as plainly what they do not say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .claims import DECIDED_BELOW, Claims, Judged
from .measures import Measure
from .result import Comparison, Row
from .statistics import smallest_exact_p

TITLE = "CoEmoGen beside the others"
_INTERVALS = (
    "Each figure is the mean over the seeds of a row, at the guidance scale that was chosen for it on a "
    "held-in seed; below it the 95% interval that pictures and seeds together leave it. Intervals that "
    "overlap do not mean that two rows are alike, because rows share their seeds: the claims below are "
    "tested seed by seed."
)
_ONE_SET = (
    " All seeds share one set and the same probes: the intervals leave out what another set or another probe "
    "would change."
)
CURVES = (
    "Guidance trades variety for accuracy, so methods are compared as curves: one point per guidance scale, "
    "which stands beside it, with 95% intervals both ways; up and to the right is better. A ring marks the "
    "scale that was chosen for the table; a row that was drawn at one scale alone is a single point."
)
DOTS = "Dots are means, bars their 95% intervals, small ticks the single seeds."
SHEETS = "The first pictures of the first seed for each emotion, none chosen."
COSTS = (
    "Every trained method has the same budget of training samples, all emotions together, and as few "
    "settings tried. It does not buy all of them the same: prompts are not trained and see no sample; half "
    "of DreamBooth's are class pictures, which the base drew; a quarter of EmoGen's goes into its emotion "
    "space; and a row of twice the steps sees double. Seconds are the mean over seeds on the machine named "
    "above, whose cores several processes shared meanwhile, so small differences mean nothing. Peak memory "
    "is what the fit adds: to the tensors on a GPU, on a CPU to the whole process."
)
_EXPERIMENTS = {
    "semantic": (
        "Cosine, MAE, MSE and KL stand at one and the same weight although their scales differ: a distance "
        "that does worse here may do as well at a weight of its own."
    ),
}
FOOTER = "Made by coemogen_train compare; the same figures stand in compare.json and compare.md."


def weights(comparison: Comparison) -> str:
    """Whether these figures may be read as the paper's."""
    if comparison.real_weights:
        return (
            "The base of this run has Stable Diffusion 1.5's architecture; whether its weights are the "
            "published ones this page cannot know."
        )
    return (
        "No figure here is from real Stable Diffusion 1.5 weights, but for the published ones, which stand "
        "in a table of their own: compare rows of this run with each other, not with the paper's."
    )


def intervals(comparison: Comparison) -> str:
    """What the intervals contain, and what they leave out."""
    return _INTERVALS + (_ONE_SET if comparison.one_set else "")


def experiment(name: str, rows: Sequence[Row], comparison: Comparison) -> list[str]:
    """What a reader of an experiment's rows must know of how they were compared."""
    told = [_ablations(rows, comparison), _EXPERIMENTS.get(name, "")]
    return [sentence for sentence in told if sentence]


def _ablations(rows: Sequence[Row], comparison: Comparison) -> str:
    """Under what the rows stand that had nothing chosen for themselves."""
    changed = [row for row in rows if row.kind == "ablation"]
    if not changed:
        return ""
    whole = next((row for row in comparison.rows if row.kind == "ours"), None)
    own = [row.title for row in changed if whole is not None and row.guidance != whole.guidance]
    but = f" (the guidance of {', '.join(own)} is another)" if own else ""
    return (
        "Rows that change the whole method have, but for that change, the setting and the guidance that were "
        f"chosen for it on the held-in seed{but}. Under a setting or a guidance of its own such a row might "
        "do better."
    )


def unfinished(comparison: Comparison) -> str:
    """What is missing, if anything."""
    if not comparison.unfinished:
        return ""
    return f"Unfinished, so that figures are missing or of fewer seeds: {', '.join(comparison.unfinished)}."


def tally(judged: Sequence[Judged]) -> str:
    """How many claims came out how."""
    counts = Counter(entry.verdict for entry in judged)
    tested = len(judged) - counts["not tested"]
    if not tested:
        return "This run tests none of the claims."
    return (
        f"Of {tested} claims that this run can test, {counts['supported']} are supported, "
        f"{counts['contradicted']} contradicted and {counts['not decided']} not decided."
    )


def claims(known: Claims, judged: Sequence[Judged], comparison: Comparison) -> str:
    """How the claims were tested, and what shows that they were written before."""
    if not comparison.claims_sha256:
        noted = "their file's SHA-256 was not noted when the run began"
    elif comparison.claims_sha256 == known.sha256:
        noted = "their file is the one that was noted when the run began"
    else:
        noted = "their file HAS CHANGED since the run began, so these are not the claims it was to test"
    return (
        "Each claim is tested by the differences of its two rows seed by seed, two-sided, and corrected by "
        "Holm's method for all claims that this run can test; supported or contradicted means a corrected p "
        "below 0.05. The test is a moderated paired t test: a few differences alone say little of their "
        "spread, so that of all fits with the same seeds counts as three degrees of freedom more; and it is "
        "never more certain than the number of pictures allows. "
        f"{_exact(judged)}The claims were written down before: {noted} (SHA-256 {known.sha256[:16]})."
    )


def _exact(judged: Sequence[Judged]) -> str:
    """What a reader must know where few seeds leave the exact test no power."""
    fewest = min((entry.test.seeds for entry in judged if entry.p is not None and entry.test), default=0)
    if not fewest or smallest_exact_p(fewest) < DECIDED_BELOW:
        return ""
    return (
        "This takes differences to be normally distributed: by the exact sign-flip test, which does not, no "
        f"claim is decidable with {fewest} seeds, where its p is {smallest_exact_p(fewest):g} at best. "
    )


def beside(comparison: Comparison) -> str:
    """What setting the two tables side by side can mean."""
    if comparison.real_weights:
        return (
            "The two tables differ in probes, in protocol and in which real pictures stand for the truth, so "
            "compare orders and gaps rather than figures."
        )
    return (
        "The two tables are of different worlds: their figures cannot be compared, only the order of their "
        "rows and which gaps there are. No figure of this run is from real Stable Diffusion 1.5 weights."
    )


def notes(rows: Sequence[Row], kinds: Sequence[Measure]) -> list[str]:
    """What each column means, and how few seeds there are where they are few."""
    told = [f"{kind.title}: {kind.tells}." for kind in kinds if kind.tells]
    fewest = min(len(row.seeds) for row in rows)
    if fewest == 1:
        told.append(
            "Rows of 1 seed have intervals over pictures alone: another training seed adds a spread that "
            "they do not contain."
        )
    return told
