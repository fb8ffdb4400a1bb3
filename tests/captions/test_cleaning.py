"""Answers as models really give them, and what becomes of each."""

import json
import random
import time

import pytest

from coemogen_train.captions.cleaning import FAULTS, MAX_ANSWER, clean_answer

DOG = "A brown dog leaps through golden leaves while a girl laughs."

CLEAN = [
    # as asked
    (DOG, DOG),
    ("A woman looking sad sits alone on a grey bench in the rain.",) * 2,
    ("A man walks home at 3 p.m. through St. James's Park, his head bowed.",) * 2,
    ("A sign that reads 'No. 5, closed!' hangs above an empty, dusty counter.",) * 2,
    ("Under a very, very, very dark sky a lone boat drifts.",) * 2,
    # without its full stop
    (DOG[:-1], DOG),
    # reasoning
    (f"<think>The user wants a caption. 1. dog 2. leaves\n\nOkay.</think>\n\n{DOG}", DOG),
    (f"The user wants one sentence about a dog.\n</think>\n{DOG}", DOG),
    (f"◁think▷hm, a dog◁/think▷{DOG}", DOG),
    (f"[THINK]a dog[/THINK]{DOG}", DOG),
    (f"<|channel|>analysis<|message|>A dog.<|end|><|start|>assistant<|channel|>final<|message|>{DOG}", DOG),
    # titles, politeness, quotation marks, and all of them nested
    (f"Caption: {DOG}", DOG),
    (f"**Caption:** {DOG}", DOG),
    (f"**One-sentence caption:**\n\n> {DOG}", DOG),
    (f"Sure! Here is a one-sentence caption for the image:\n\n{DOG}", DOG),
    (f"Here's the sentence: \N{LEFT DOUBLE QUOTATION MARK}{DOG}\N{RIGHT DOUBLE QUOTATION MARK}", DOG),
    (f'"{DOG}"', DOG),
    (f'"{DOG[:-1]}".', DOG),
    (f"ASSISTANT: {DOG}</s>", DOG),
    (f"<|im_start|>assistant\n{DOG}<|im_end|>", DOG),
    (f"{DOG} (11 words)", DOG),
    # markup
    (f"```\n{DOG}\n```", DOG),
    (f'```json\n{{"caption": "{DOG}"}}\n```', DOG),
    (f"<p>{DOG}</p>", DOG),
    ("A **brown dog** leaps through *golden leaves* while a girl laughs.", DOG),
    (f"# {DOG}", DOG),
    (f"- {DOG}", DOG),
    (f"1. {DOG}", DOG),
    ("A brown dog leaps through golden leaves while a girl laughs 😄🐶!", DOG[:-1] + "!"),
    (
        "A girl &amp; a brown dog leap through golden leaves.",
        "A girl & a brown dog leap through golden leaves.",
    ),
    # the frame that says only that this is a picture
    ("The image shows a brown dog in golden leaves.", "A brown dog in golden leaves."),
    ("In this photo, we see an old man on a porch.", "An old man on a porch."),
    # several sentences, of which one stands
    (f"{DOG} The leaves are golden. The girl wears red.", DOG),
    (f"This image evokes pure amusement. {DOG}", DOG),
    (f"Joy in Autumn\n\n{DOG}", DOG),
    (f"{DOG}\n\n{DOG}\n\n{DOG}", DOG),
    (f"{DOG}\n\nLet me know if you would like another one!", DOG),
]

FAULTY = [
    ("", "empty"),
    (" \n\t\x00 ", "empty"),
    ("...", "empty"),
    ("<|im_end|>", "empty"),
    ("<think>The user wants a caption of the picture, so", "reasoning"),
    ("I'm sorry, but I can't help with that.", "refusal"),
    ("I\N{RIGHT SINGLE QUOTATION MARK}m unable to view images directly.", "refusal"),
    ("I cannot provide a description of this image.", "refusal"),
    ("As an AI language model, I do not feel fear.", "refusal"),
    ("Sorry, I can't describe people.", "refusal"),
    ("There is no image attached to your message.", "refusal"),
    ("It seems that no image was uploaded.", "refusal"),
    ("Please provide the image that you would like me to describe.", "refusal"),
    ("1. A brown dog runs.\n2. A girl laughs at it.", "list"),
    ("* a brown dog in the leaves\n* a girl who laughs", "list"),
    ("1. A dog runs here. 2. A girl laughs there.", "list"),
    ("Option 1: A brown dog runs on.\nOption 2: A girl laughs at it.", "list"),
    ("Brightness: high\nColours: golden\nScene: a park", "list"),
    ("Fear.", "too_short"),
    ("A dog.", "too_short"),
    (" ".join(["A dog runs past"] + [f"tree number {i}," for i in range(40)]), "too_long"),
    ("A dog runs and runs and runs and runs and runs", "repetition"),
    ("The dog is in the park and the dog is in the park and the dog is in the park and", "repetition"),
    ("Aaaaaaaaaaaaaaaaaaaa what a dog", "repetition"),
    ("A dog <unknown> runs over {place}.", "markup"),
    ("A dog runs, see https://example.com for more.", "markup"),
    ("一个女人坐在长椅上,看起来很悲伤。", "language"),
    ("Женщина сидит одна на скамейке под дождём.", "language"),
]

VERDICTS = [
    "This image evokes fear with its dark alley.",
    "The picture evokes a strong feeling of awe.",
    "A dark forest at night, evoking fear in anyone who sees it.",
    "A sad image of a broken doll in the mud.",
    "A heartwarming scene of a father and his son.",
    "A peaceful and quiet scene by a lake at dawn.",
    "A haunting black-and-white photograph of a ruin.",
    "The scene is truly terrifying, with blood on the walls.",
    "Bare trees under a red moon create a sense of dread.",
    "Waves crash against the rocks, creating a tense atmosphere.",
    "The overall mood is gloomy, with low clouds over a field.",
    "A vast canyon at sunset inspires awe.",
    "A rotting apple on a plate triggers disgust.",
    "Empty streets and grey light convey loneliness.",
    "The painting captures the joy of a summer evening.",
    "A clown that makes you laugh stands on a ball.",
    "Huge mountains let the viewer forget the valley.",
    "An image of pure joy, with balloons over a garden.",
    "An old swing in the fog fills the scene with a feeling of loss.",
]

SHOWN = [
    "A woman looking sad holds a faded photograph of a child.",
    "A sad girl with wet eyes clutches a torn teddy bear.",
    "A happy family eats watermelon on a sunny porch.",
    "A man's face expresses terror as a wave rises behind him.",
    "Her eyes convey sorrow while she folds an empty shirt.",
    "An angry man throws a chair across a dim bar.",
    "Two children, full of excitement, run towards a lit carousel.",
    "A frightened boy hides under a table during a storm.",
    "Awe-inspiring mountains tower over a tiny wooden hut.",
    "A laughing crowd throws bright powder into the air.",
    "A scary clown grins from a dark doorway.",
    "Friends take pictures of each other on a sunlit beach.",
    "A dim scene with a single candle on a bare table.",
    "A painter mixes bright colours in front of a large canvas.",
    "Mouldy bread crawls with maggots on a filthy plate.",
    "A man provokes a bull with a red cloth.",
    "A candle sparks a fire in a dry barn.",
]


@pytest.mark.parametrize(("raw", "text"), CLEAN)
def test_what_can_be_taken_off_is_taken_off(raw, text):
    answer = clean_answer(raw, "amusement")
    assert (answer.text, answer.faults) == (text, ())


@pytest.mark.parametrize(("raw", "fault"), FAULTY)
def test_what_cannot_be_mended_is_named(raw, fault):
    answer = clean_answer(raw, "amusement")
    assert fault in answer.faults
    assert set(answer.faults) <= set(FAULTS)


@pytest.mark.parametrize("sentence", VERDICTS)
def test_a_verdict_on_the_picture_is_found(sentence):
    assert clean_answer(sentence, "fear").faults == ("verdict",)


@pytest.mark.parametrize("sentence", SHOWN)
def test_what_shows_an_emotion_passes(sentence):
    assert clean_answer(sentence, "fear") == clean_answer(sentence, "sadness and joy")
    assert clean_answer(sentence, "fear").faults == ()


def test_a_verdict_in_the_words_of_the_users_own_emotion_is_found():
    sentence = "Faded toys in an attic inspire saudade."
    assert clean_answer(sentence, "fear").faults == ()
    assert clean_answer(sentence, "saudade").faults == ("verdict",)
    assert clean_answer(sentence, "awe and saudade").faults == ("verdict",)


def test_an_answer_stopped_at_its_limit_is_unfinished_unless_a_sentence_was_whole():
    assert clean_answer("A dog runs over the wide", cut_off=True).faults == ("unfinished",)
    assert clean_answer(f"{DOG} The girl wears a", cut_off=True) == clean_answer(f"{DOG} The girl wears a")
    assert clean_answer(DOG, cut_off=True).faults == ()


def test_what_was_taken_off_is_recorded():
    raw = f'<think>hm</think>Sure! Here is a caption:\n**"{DOG}"** It is autumn.'
    answer = clean_answer(raw)
    assert answer.text == DOG
    assert answer.mended == ("reasoning", "markup", "lead_in", "quotes", "several_sentences")


def test_an_endless_sentence_is_not_kept():
    answer = clean_answer(", ".join(f"tree {number} of the forest" for number in range(900)))
    assert (answer.text, "too_long" in answer.faults) == ("", True)


def test_of_faulty_sentences_the_mildest_is_kept():
    answer = clean_answer("Fear.\nA dark alley creates a sense of dread.", "fear")
    assert (answer.text, answer.faults) == ("A dark alley creates a sense of dread.", ("verdict",))


@pytest.mark.parametrize(
    "raw",
    [
        "<" * MAX_ANSWER,
        "< think" * MAX_ANSWER,
        "*_" * MAX_ANSWER,
        "[a](" * MAX_ANSWER,
        '"' * MAX_ANSWER,
        "a " * MAX_ANSWER,
        "sure, " * MAX_ANSWER,
        "the " * MAX_ANSWER,
        "the mood " * MAX_ANSWER,
        "1. " * MAX_ANSWER,
        "{" * MAX_ANSWER + "}",
        "[" * MAX_ANSWER,
        "inspiring a, " * MAX_ANSWER,
        # Stuck models, just within the limit, whose last letter makes a pattern over the run fail.
        "a" + "\n" * (MAX_ANSWER - 2) + "b",
        "a" + " \n" * (MAX_ANSWER // 2 - 1) + "x",
        "caption" + "\n" * (MAX_ANSWER - 8) + "x",
        "a man " + "." * (MAX_ANSWER - 7) + "a",
        "." * (MAX_ANSWER - 1) + "a",
        "?!" * (MAX_ANSWER // 2 - 1) + "a",
        "the" + " " * (MAX_ANSWER - 4) + "x",
        "a." + "'" * (MAX_ANSWER - 3) + "a",
        # Runs that are there only when what stands between is taken out.
        "caption" + "<b>\n" * (MAX_ANSWER // 4 - 2) + "x",
        "caption" + "\n\N{GRINNING FACE}" * (MAX_ANSWER // 2 - 4) + "x",
        "a man " + ".\N{GRINNING FACE}" * (MAX_ANSWER // 2 - 4) + "a",
        "a" + " \N{GRINNING FACE}" * (MAX_ANSWER // 2 - 1) + "x",
        "caption" + "&#10;" * (MAX_ANSWER // 5 - 2) + "x",
        '{"caption": "caption' + r"\n" * (MAX_ANSWER // 2 - 12) + 'x"}',
        "&#0;" * MAX_ANSWER,
    ],
    ids=lambda raw: repr(raw[:8]),
)
def test_a_hostile_answer_is_read_in_reasonable_time(raw):
    begin = time.process_time()
    clean_answer(raw, "fear")
    assert time.process_time() - begin < 1


def test_no_answer_is_too_strange():
    pieces = [
        "<think>",
        "</think>",
        "**",
        "\n",
        "1. ",
        "- ",
        '"',
        "'",
        "\ud800",
        "\x00",
        "\N{BULLET}",
        "```",
        "{",
    ]
    pieces += [
        "}",
        "a",
        "dog",
        ". ",
        ":",
        "Caption:",
        "&lt;",
        "😄",
        "恐",
        "\u202e",
        "<|x|>",
        "I'm sorry",
        "[",
        "](",
    ]
    draw = random.Random(0)
    for _ in range(3000):
        answer = clean_answer("".join(draw.choices(pieces, k=draw.randint(0, 30))), "awe")
        assert "\n" not in answer.text and answer.text == answer.text.strip()
        assert answer.text or answer.faults
        answer.text.encode("utf-8")


@pytest.mark.parametrize(
    "raw",
    [
        "A brown dog&#x202e; leaps&#8203; through&#27;[2J golden leaves.",
        json.dumps({"caption": "A brown dog\u202e leaps\u200b through\x1b[2J golden leaves."}),
    ],
    ids=["HTML", "JSON"],
)
def test_characters_that_html_or_json_spell_are_taken_out_too(raw):
    assert clean_answer(raw).text.isprintable()
