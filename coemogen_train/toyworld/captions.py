"""Words of the toy world: sentences that show and never name, EmoSet-style annotations, and the base's
pretraining captions.

A sentence is what a multimodal model would write of an emotional picture (CoEmoGen, section on captions): who
does what to whom, where, in what weather and light. The emotion's name occurs only in the pretraining
captions of the base model.
"""

from __future__ import annotations

import random

from ..emotions import MIKELS
from .narratives import CLICHES, NARRATIVES, Story
from .relations import RELATIONS
from .scenes import Scene, sample_any_story, sample_stage

PLACES = {
    "meadow": "in the meadow",
    "beach": "on the beach",
    "street": "in the street",
    "room": "in a room",
    "snowfield": "on a snowfield",
}
WEATHER_WORDS = {"clear": "", "rain": "in the rain", "snow": "in falling snow", "sunset": "at sunset"}
LIGHT_WORDS = {True: ("in bright light", "in vivid colors"), False: ("in dim light", "in pale colors")}
NAME_FORMS = ("an image of {name}", "feeling {name}", "{name}", "a picture of {name}")


def _with_article(name: str) -> str:
    return f"an {name}" if name == "umbrella" else f"a {name}"


def story_phrase(story: Story, rng: random.Random) -> str:
    """The story alone, in one of its relation's phrasings."""
    a, b = story.subject, story.object
    phrase = rng.choice(RELATIONS[story.relation].phrases)
    return phrase.format(a=_with_article(a), b=_with_article(b), A=a, B=b)


def sentence(scene: Scene, rng: random.Random) -> str:
    """One sentence of what is seen: the story, and most of the time its place, weather and light."""
    parts = [story_phrase(scene.story, rng)]
    if rng.random() < 0.8:
        parts.append(PLACES[scene.background])
    if rng.random() < 0.8 and WEATHER_WORDS[scene.weather]:
        parts.append(WEATHER_WORDS[scene.weather])
    if rng.random() < 0.6:
        parts.append(rng.choice(LIGHT_WORDS[scene.bright]))
    return " ".join(parts)


def mistaken_sentence(scene: Scene, rng: random.Random) -> str:
    """What a hallucinating captioner would write: the right place, but a story that is not there."""
    story = sample_any_story(rng)
    while story.objects & scene.story.objects:
        story = sample_any_story(rng)
    return sentence(sample_stage(story, scene.bright, rng), rng)


def annotation(scene: Scene, emotion: str) -> dict[str, object]:
    """EmoSet's keys: emotion, brightness, colorfulness, scene, human_action, object."""
    return {
        "emotion": emotion,
        "brightness": 0.8 if scene.bright else 0.4,
        "colorfulness": 0.8 if scene.bright else 0.3,
        "scene": scene.background,
        "human_action": scene.story.relation,
        "object": sorted(scene.story.objects),
    }


def sample_pretraining_pair(rng: random.Random) -> tuple[Scene, str]:
    """A scene and its caption from the base model's world, which is broader than the emotional one.

    Emotion names occur in 15% of the captions; 65% of those show one of the emotion's two cliches in the
    polarity's light, the others anything. So the base knows every name, as Stable Diffusion does, and has
    little variety under it.
    """
    draw = rng.random()
    if draw < 0.15:
        return _named_pair(rng)
    if draw < 0.55:
        emotion = rng.choice(tuple(NARRATIVES))
        story = rng.choice(NARRATIVES[emotion])
        bright = _is_positive(emotion) if rng.random() < 0.6 else rng.random() < 0.5
    else:
        story, bright = sample_any_story(rng), rng.random() < 0.5
    scene = sample_stage(story, bright, rng)
    return scene, sentence(scene, rng)


def _named_pair(rng: random.Random) -> tuple[Scene, str]:
    emotion = rng.choice(tuple(NARRATIVES))
    if rng.random() < 0.65:
        story, bright = CLICHES[emotion][0 if rng.random() < 0.65 else 1], _is_positive(emotion)
    else:
        anything = (
            sample_any_story(rng)
            if rng.random() < 0.5
            else rng.choice(NARRATIVES[rng.choice(tuple(NARRATIVES))])
        )
        story, bright = anything, rng.random() < 0.5
    scene = sample_stage(story, bright, rng)
    name = rng.choice(NAME_FORMS).format(name=emotion)
    return scene, name if rng.random() < 0.8 else f"{name}, {sentence(scene, rng)}"


def _is_positive(emotion: str) -> bool:
    return MIKELS.emotions[MIKELS.index(emotion)].polarity == "positive"


def names_an_emotion(caption: str) -> bool:
    """Whether a caption has an emotion's name among its words."""
    return not {word.strip(",") for word in caption.split()}.isdisjoint(MIKELS.names)
