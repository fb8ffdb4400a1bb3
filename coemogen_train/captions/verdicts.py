"""Whether a sentence pronounces on its picture, where it should show what is in it (METHOD: captions).

"This image evokes fear" and "a sad picture" tell the reader what to feel; "a woman looking sad" shows it, and
is wanted. What decides is of whom a feeling is said: of somebody in the picture, or of the picture itself.
"""

from __future__ import annotations

import re
from functools import lru_cache

_PICTURE = (
    "(?:images?|pictures?|photos?|photographs?|photography|paintings?|artworks?|illustrations?|drawings?|"
    "scenes?|compositions?|visuals?|snapshots?)"
)
_MOOD = "(?:mood|atmosphere|ambience|ambiance|vibe)"
_FEELINGS = (
    "amusement|awe|contentment|excitement|anger|disgust|fear|sadness|joy|happiness|delight|"
    "sorrow|grief|melancholy|dread|terror|horror|anxiety|unease|discomfort|tension|wonder|"
    "wonderment|amazement|calm|calmness|peace|peacefulness|serenity|tranquility|tranquillity|"
    "relaxation|nostalgia|loneliness|isolation|despair|rage|fury|frustration|hostility|"
    "revulsion|repulsion|hope|hopelessness|comfort|warmth|thrill|adventure|admiration|reverence|"
    "compassion|empathy|sympathy|curiosity|mystery|laughter|enthusiasm"
)
_ADJECTIVE = (
    "(?:sad|happy|joyful|joyous|cheerful|scary|frightening|terrifying|horrifying|horrific|"
    "fearful|spooky|creepy|eerie|disgusting|repulsive|revolting|gross|awesome|awe-inspiring|"
    "breathtaking|amusing|funny|hilarious|humorous|comical|exciting|thrilling|exhilarating|"
    "angry|infuriating|heartbreaking|heartwarming|heart-warming|depressing|melancholy|melancholic|"
    "sorrowful|tragic|disturbing|unsettling|ominous|menacing|sinister|haunting|peaceful|serene|"
    "calming|soothing|tranquil|comforting|uplifting|touching|poignant|emotional|evocative|moody|"
    "somber|sombre|dreadful)"
)
_KIND_OF_PICTURE = (
    "(?:black-and-white|black and white|monochrome|old|vintage|digital|close-up|indoor|outdoor|nighttime|"
    "night|urban|rural|winter|summer|beach|street|forest|landscape|nature|domestic|colou?r)"
)
# Of these a feeling may be said: it shows on them.
_SOMEBODY = re.compile(
    r"\b(?:m[ae]n|wom[ae]n|boys?|girls?|child(?:ren)?|kids?|bab(?:y|ies)|toddlers?|infants?|persons?|people|"
    r"couples?|crowds?|famil(?:y|ies)|friends?|fans?|soldiers?|players?|athletes?|mothers?|fathers?|parents?|"
    r"his|her|their|he|she|they|faces?|eyes|expressions?|gaze|smiles?|frowns?|posture|gestures?|dogs?|cats?|"
    r"puppy|puppies|animals?|creatures?|figures?|clowns?|brides?|dancers?|teenagers?|elders?)\b",
    re.IGNORECASE,
)

# Said of anything, these are verdicts.
_ALWAYS = re.compile(
    r"\bevok(?:e|es|ed|ing)\b|\belicit\w*|\bevocative\b|\bviewers?\b|\bonlookers? (?:feel|to feel)\b|"
    rf"\b(?:the|its|overall|an?(?: [\w-]+){{0,3}}) {_MOOD}\b|\b{_MOOD} of\b|"
    r"\b(?:emotional (?:impact|response|tone|effect|depth)|feelings of|feeling of|sense of foreboding)\b|"
    r"\bmak(?:es|e|ing) (?:you|one|us|people|me|anyone|everyone) (?:feel|want|smile|laugh|cry|shiver)\b|"
    r"\b(?:you|one|we) (?:can(?:not|'t)? |could |might |almost )*(?:feel|feels|sense|help but)\b|"
    r"\b(?:leaves|leaving|fills|filling) (?:you|one|us|me)\b|\breminds? (?:you|one|us|me)\b",
    re.IGNORECASE,
)
_OF_THE_PICTURE = re.compile(
    # "a sad picture", "a peaceful and quiet scene", "a touching black-and-white photograph"
    rf"\b{_ADJECTIVE}(?:(?:,| and|, and) [\w-]+| {_KIND_OF_PICTURE})? {_PICTURE}\b|"
    # "the picture is very sad"
    rf"\b{_PICTURE} (?:is|are|looks?|feels?|seems?|appears?|was)(?: (?:\w+ly|very|so|quite|rather|both|an?))"
    rf"{{0,2}} {_ADJECTIVE}\b",
    re.IGNORECASE,
)
_CAUSES = (
    "(?:trigger|provok|induc|spark|stir|arous|inspir|instil|rous|conjur|incit|awaken|caus|sow|heighten|intensif|"
    r"amplif|enhanc|bring)\w*"
)
_EXPRESSES = (
    r"(?:convey|express|radiat|exud|emanat|communicat|symboli[sz]|represent|embod|epitomi[sz]|impart)\w*"
)
_SHOWS = r"(?:captur|show|portray|depict|display|reflect|suggest)\w*"


def pronounces(sentence: str, emotion: str = "") -> bool:
    """Whether the sentence says what its picture is like or does to people, instead of what is to be seen.

    emotion: the words of the emotion asked for; those are looked for beside the common ones.
    """
    plain = " ".join(sentence.split())
    if _ALWAYS.search(plain) or _OF_THE_PICTURE.search(plain):
        return True
    effects, says = _patterns(" ".join(emotion.split())[:200].casefold())
    if effects.search(plain):
        return True
    found = says.search(plain)
    return found is not None and not _SOMEBODY.search(plain[: found.start()])


@lru_cache(maxsize=64)
def _patterns(emotion: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What causes a feeling, and what expresses one, for the common feelings and those asked for."""
    asked = [word for word in re.split(r"\s*,\s*|\s+and\s+", emotion) if word]
    feeling = f"(?:{'|'.join((*map(re.escape, asked), _FEELINGS))})"
    between = r"(?:[\w'-]+,? ){0,3}"
    effects = re.compile(
        # "inspiring quiet awe", "triggers feelings"
        rf"\b{_CAUSES} (?:up |about |forth |out )?{between}(?:{feeling}|feelings|emotions?)\b|"
        # "a sense of dread"
        rf"\b(?:sense|feeling|impression|air|aura|wave|tinge|hint|note) of {between}{feeling}\b|"
        # "an image of pure joy"
        rf"\b{_PICTURE} (?:full )?of (?:(?:pure|great|deep|quiet|sheer|utter|intense|simple) )?{feeling}\b|"
        # "this picture captures the fear"
        rf"\b{_PICTURE} (?:[\w-]+ly )?(?:{_SHOWS}|{_EXPRESSES}) (?:[\w-]+ ){{0,2}}{feeling}\b",
        re.IGNORECASE,
    )
    says = re.compile(rf"\b{_EXPRESSES} {between}{feeling}\b", re.IGNORECASE)
    return effects, says
