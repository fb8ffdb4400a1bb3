"""A paragraph per analysis, made from its figures: what the data shows, and what it does not."""

from __future__ import annotations

from ..intervals import Interval
from .content import EMOCTRL, ContentGrid
from .entry import Centre, Entry, Peak
from .intensity import DialLine, Intensity
from .resamples import told
from .swap import Swap

_CARRIED_BY = {
    "v": "v, drawn from the Gaussians",
    "words": "the label in the pseudo-words",
    "hilora": "HiLoRA",
}
_DIAL = {"words": "the pseudo-words' intensity", "hilora": "HiLoRA's strength", "both": "both together"}


def tell_entry(result: Entry) -> str:
    """When polarity and emotion enter, or that it cannot be told."""
    full, nothing = result.full, result.nothing
    parts = [
        f"With condition and HiLoRA on all the time the probe sees the emotion in {told(full.emotion)} of "
        f"{result.pictures} pictures and its polarity in {told(full.polarity)}; with neither, in "
        f"{told(nothing.emotion)} and {told(nothing.polarity)} (by chance {result.chance['emotion']:.2f} and "
        f"{result.chance['polarity']:.2f})."
    ]
    unsure = [figure for figure, gain in result.gained.items() if gain.low <= 0]
    if "emotion" in unsure:
        parts.append(
            f"The gain in emotion, {told(result.gained['emotion'], sign='+')}, is not told from none, and so "
            "nothing can be said of when it enters."
        )
        return " ".join(parts)
    parts += [_tell_peak(result, peak) for peak in result.peaks]
    for centre in result.centres:
        if centre.carrier == "both":
            parts.append(_tell_centre(centre))
    if unsure:
        parts.append(
            f"But the gain in polarity, {told(result.gained['polarity'], sign='+')}, is not told from none, "
            "and so neither is whether it enters before the emotion: no schedule follows from it."
        )
    else:
        parts.append(_entry_verdict(result))
    return " ".join(parts)


def _tell_peak(result: Entry, peak: Peak) -> str:
    """Names a stretch only where it is told from the median one: some stretch is always the best."""
    alone = peak.way == "within"
    what = "by what it alone brings" if alone else "by what is lost without it"
    stretches = [stretch for stretch in result.stretches if stretch.carrier == "both"]
    beyond = f"{told(peak.beyond, sign='+')} beside the median one"
    if not (peak.beyond.low > 0 if alone else peak.beyond.high < 0):
        return f"Of {len(stretches)} stretches none stands out {what}: the foremost has {beyond}."
    own = next(stretch for stretch in stretches if stretch.start == peak.start)
    figures = own.within if alone else own.without
    return (
        f"The stretch from {peak.start:.2f} to {peak.end:.2f} of the denoising (0 is pure noise) stands out "
        f"{what}: emotion {told(figures.emotion)}, {beyond}, and polarity {told(figures.polarity)}."
    )


def _tell_centre(centre: Centre) -> str:
    what = "what a stretch alone brings" if centre.way == "within" else "what is lost without a stretch"
    if centre.emotion is None or centre.polarity is None or centre.later is None:
        return f"Of {what} there is too little to place it."
    return (
        f"The centre of {what} lies at {told(centre.polarity)} for the polarity and {told(centre.emotion)} "
        f"for the emotion, {told(centre.later, sign='+')} later."
    )


def _entry_verdict(result: Entry) -> str:
    later = [centre.later for centre in result.centres if centre.carrier == "both" and centre.later]
    first, last = [each.low > 0 for each in later], [each.high < 0 for each in later]
    if any(first) and any(last):
        return "The two ways of asking contradict each other: no schedule follows."
    if sum(first) == 2:
        return (
            "Both ways of asking say that polarity enters before emotion: a schedule that has the polarity's "
            "LoRAs on early and the emotions' later follows from it, and is to be tried."
        )
    if any(first):
        return (
            "One way of asking says that polarity enters before emotion, the other does not tell: a hint, on "
            "which no schedule should rest yet."
        )
    if any(last):
        return "The data rather says the reverse: emotion enters before polarity."
    return (
        "The data does not tell polarity's entry from emotion's: no schedule follows from it. Nor does it "
        "show that they enter together, only that the difference is within the noise."
    )


def tell_swap(result: Swap) -> str:
    """Which of the carriers the pictures follow."""
    parts = []
    for shares in result.shares:
        if shares.pairing == "own":
            parts.append(
                f"Where v and label agree the probe sees the emotion in {told(shares.label)} of pictures."
            )
            continue
        where = "of one polarity" if shares.pairing == "within" else "of different polarities"
        parts.append(
            f"With v of one emotion and the label of another {where}, it sees the label in "
            f"{told(shares.label)}, the source of v in {told(shares.source)}, neither in "
            f"{told(shares.neither)}{_winner(shares.lead)}."
        )
        if shares.pairing == "across":
            parts.append(
                f"The polarity is the label's in {told(shares.label_polarity)} and the source's in "
                f"{told(shares.source_polarity)}."
            )
    if result.odd_ones:
        said = [f"{_CARRIED_BY[odd.odd]} {told(odd.own)}" for odd in result.odd_ones]
        parts.append(
            "Where one carrier disagrees with the two others across polarities, the probe follows it in: "
            + "; ".join(said)
            + "."
        )
    if result.v_alone is not None:
        beside = (
            "" if result.v_alone.real is None else f" (on real held-out pictures {result.v_alone.real:.2f})"
        )
        parts.append(
            "On the drawn v alone, without any picture, the probe is right in "
            f"{told(result.v_alone.accuracy)} of {result.v_alone.draws}{beside}: so much of the emotion is "
            "in v before anything is drawn."
        )
    parts.append(
        "A share by the label need not be the mapper's doing: the label also routes HiLoRA, which is why the "
        "carriers are told apart one by one."
    )
    return " ".join(parts)


def _winner(lead: Interval) -> str:
    if lead.low > 0:
        verdict = "so it follows the label rather than v"
    elif lead.high < 0:
        verdict = "so it follows v rather than the label"
    else:
        verdict = "and which of the two is within the noise"
    return f", {verdict} (label less source {told(lead, sign='+')})"


def tell_content(result: ContentGrid) -> str:
    """How often content and emotion are both there, and against what."""
    ours, base, alone = result.rows[0], result.row("base"), result.row("content")
    if result.gain.low > 0:
        verdict = "more than the base prompted with the name"
    elif result.gain.high < 0:
        verdict = "less than the base prompted with the name"
    else:
        verdict = "not told from the base prompted with the name"
    parts = [
        f"{ours.title}: the content is kept in {told(ours.kept)} of {ours.pictures} pictures, the emotion "
        f"hit in {told(ours.hit)}, both in {told(ours.joint)}; that is {verdict}, {told(base.joint)} "
        f"(difference {told(result.gain, sign='+')}).",
        f"The base, asked for the content alone, shows it in {told(alone.kept)}: a mark to compare with (by "
        f"chance {result.chance:.2f} of the elements). Intervals are over these {len(result.contents)} "
        "contents, as a sample of such contents, and over their pictures.",
    ]
    for row in result.rows[1:]:
        if row.key.startswith("adapter_"):
            parts.append(
                f"{row.title}: content {told(row.kept)}, emotion {told(row.hit)}, both {told(row.joint)}."
            )
    if ours.surplus.high < 0:
        parts.append(
            "Content and emotion crowd each other out: both at once are rarer than chance would have it."
        )
    elif ours.surplus.low > 0:
        parts.append("Pictures that keep the content also hit the emotion more often than the others.")
    else:
        parts.append("Whether they crowd each other out is within the noise.")
    parts.append(
        f"EmoCtrl's published joint score of {EMOCTRL} is SDXL's, on other contents and by another head: it "
        "stands on another scale, and nothing here may be held against it."
    )
    return " ".join(parts)


def tell_intensity(result: Intensity) -> str:
    """Whether more intensity is more of the emotion, dial by dial."""
    parts = [_tell_dial(line) for line in result.lines]
    parts.append(
        "A rank correlation says that it rises, not by how much, nor that a person would feel it so; all "
        f"settings of one start share noise and v ({result.pictures} starts)."
    )
    return " ".join(parts)


def _tell_dial(line: DialLine) -> str:
    first, last = line.points[0], line.points[-1]
    rho = line.correlation
    if rho.low > 0 and line.rise.low > 0:
        verdict = "more is more"
    elif rho.high < 0 and line.rise.high < 0:
        verdict = "more is less"
    elif rho.excludes_zero:
        verdict = "a trend, but the last setting is not told from the first in its direction"
    else:
        verdict = "no trend is told from noise"
    rising = [name for name, interval in line.of.items() if interval.low > 0]
    return (
        f"Turning {_DIAL[line.dial]} from {first.intensity:g} to {last.intensity:g} takes the probe's mean "
        f"probability from {told(first.probability)} to {told(last.probability)}, by "
        f"{told(line.rise, sign='+')}; rank correlation {told(rho)} over all, {told(line.own)} within a "
        f"start: {verdict}. The correlation's interval is above zero for {len(rising)} of {len(line.of)} "
        "emotions."
    )
