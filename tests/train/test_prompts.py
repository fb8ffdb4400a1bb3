"""Neutral prompts tell the content and never the emotion."""

from coemogen_train.train.prompts import MAX_WORDS, content_words, neutral_prompt

MIKELS = ("amusement", "awe", "contentment", "excitement", "anger", "disgust", "fear", "sadness")


def test_annotation_comes_before_the_caption():
    assert content_words("A dog runs.", ["child", "kite"], "green_field", MIKELS) == (
        "child",
        "kite",
        "green field",
    )


def test_caption_words_without_stop_words():
    words = content_words("In the rain, a dog is standing near an old Gate, a dog.", (), None, MIKELS)
    assert words == ("rain", "dog", "standing", "old", "gate")


def test_names_of_emotions_and_their_relatives_are_left_out():
    caption = "a sad, fearful child in an awesome, amusing and exciting park, angry"
    assert content_words(caption, (), None, MIKELS) == ("child", "park")
    assert content_words(None, ["angry dog", "dog {emotion}"], None, ["anger"]) == ("dog emotion",)


def test_long_captions_are_cut_and_nothing_known_gives_nothing():
    assert len(
        content_words("one two three ".join("abcdefgh") + "alpha beta", [str(i) for i in range(20)], None, ())
    ) == (MAX_WORDS)
    assert content_words(None, (), None, MIKELS) == ()


def test_pseudo_words_stand_on_either_side():
    assert neutral_prompt(["dog", "gate"], 0.2) == "dog, gate, {emotion}"
    assert neutral_prompt(["dog", "gate"], 0.99) == "{emotion}, dog, gate"
