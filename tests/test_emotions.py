"""A taxonomy is data and refuses to contradict itself; a mixture is read exactly as its grammar says."""

import unicodedata

import pytest

from coemogen_train.emotions import (
    BUILT_IN,
    MIKELS,
    Emotion,
    Taxonomy,
    format_mixture,
    load_taxonomy,
    one_hot,
    parse_mixture,
)
from coemogen_train.errors import MixtureError, TaxonomyError, UserError

THREE_GROUPS = """
name = "home"

[[emotions]]
name = "nostalgia"
polarity = "bittersweet"
valence = 0.2
arousal = -1

[[emotions]]
name = "safety"
polarity = "pleasant"

[[emotions]]
name = "being at home"
polarity = "pleasant"

[[emotions]]
name = "dread"
polarity = "unpleasant"
"""


def test_mikels_eight_in_emosets_order():
    assert MIKELS.names == (
        "amusement", "awe", "contentment", "excitement", "anger", "disgust", "fear", "sadness",
    )  # fmt: skip
    assert MIKELS.polarities == ("positive", "negative")
    assert MIKELS.polarity_of == (0, 0, 0, 0, 1, 1, 1, 1)
    assert (MIKELS.num_emotions, MIKELS.num_polarities, MIKELS.num_groups) == (8, 2, 10)


def test_a_users_file_with_three_polarities(tmp_path):
    path = tmp_path / "Gefühle 感情.toml"
    path.write_text(THREE_GROUPS, encoding="utf-8")
    taxonomy = load_taxonomy(path)
    assert taxonomy.names == ("nostalgia", "safety", "being at home", "dread")
    assert taxonomy.polarities == ("bittersweet", "pleasant", "unpleasant")
    assert taxonomy.polarity_of == (0, 1, 1, 2)
    assert taxonomy.emotions[0] == Emotion("nostalgia", "bittersweet", 0.2, -1)
    assert taxonomy.emotions[1].valence is None


def test_a_file_without_a_name_takes_its_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('[[emotions]]\nname = "joy"\npolarity = "up"\n', encoding="utf-8")
    assert load_taxonomy(str(path)).name == "mine"


def test_a_file_saved_by_notepad_with_a_mark_at_its_start(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(THREE_GROUPS, encoding="utf-8-sig")
    assert load_taxonomy(path).name == "home"


def test_dict_round_trip():
    assert Taxonomy.from_dict(MIKELS.to_dict()) == MIKELS
    home = Taxonomy("home", (Emotion("calm", "a", 0.5, -0.25), Emotion("dread", "b")))
    assert Taxonomy.from_dict(home.to_dict()) == home
    assert home.to_dict()["emotions"][1] == {"name": "dread", "polarity": "b"}


def test_built_in_by_name():
    assert load_taxonomy("mikels") is MIKELS
    assert load_taxonomy(" Mikels ") is MIKELS


@pytest.mark.parametrize(("name", "size"), [("mikels", 8), ("ekman", 7), ("emoart", 12), ("plutchik", 24)])
def test_the_taxonomies_of_data_sets_are_bundled(name, size):
    taxonomy = load_taxonomy(name)
    assert (taxonomy.name, taxonomy.num_emotions) == (name, size)
    assert Taxonomy.from_dict(taxonomy.to_dict()) == taxonomy


@pytest.mark.parametrize(
    ("label", "taxonomy", "emotion"),
    [
        ("sad", "mikels", "sadness"),
        (" Angry ", "mikels", "anger"),
        ("content", "mikels", "contentment"),
        ("AFRAID", "mikels", "fear"),
        ("awe-struck", "mikels", "awe"),
        ("excitment", "mikels", "excitement"),
        ("amusemnet", "mikels", "amusement"),
        ("amusment", "mikels", "amusement"),
        ("amuzement", "mikels", "amusement"),
        ("contentmennt", "mikels", "contentment"),
        ("digsust", "mikels", "disgust"),
        ("Angger", "mikels", "anger"),
        ("sadnesss", "mikels", "sadness"),
        ("sadnes", "mikels", "sadness"),
        ("Sadness", "emoart", "sad"),
        ("Content", "emoart", "contentment"),
        ("frustation", "emoart", None),
        ("Frusrated", "emoart", "frustrated"),
        ("terrified", "plutchik", "terror"),
        ("scared", "ekman", "fear"),
        ("terrrified", "plutchik", None),
        # Near in meaning or in letters, yet another word: nobody said so.
        ("danger", "mikels", None),
        ("angel", "mikels", None),
        ("angler", "mikels", None),
        ("ranger", "mikels", None),
        ("discust", "mikels", None),
        ("neural", "ekman", None),
        ("tried", "emoart", None),
        ("tiered", "emoart", None),
        ("tirred", "emoart", None),
        ("exited", "emoart", None),
        ("thrust", "plutchik", None),
        ("truest", "plutchik", None),
        ("rust", "plutchik", None),
        ("unhappy", "emoart", None),
        ("happy", "mikels", None),
        ("terrified", "mikels", None),
        ("discontentment", "mikels", None),
        ("awful", "mikels", None),
        ("awesome", "mikels", None),
        ("year", "mikels", None),
        ("ear", "mikels", None),
        ("joy", "mikels", None),
        ("", "mikels", None),
        ("some thing else", "mikels", None),
    ],
)
def test_a_label_is_forgiven_its_form_and_one_slip_and_nothing_else(label, taxonomy, emotion):
    known = BUILT_IN[taxonomy]
    wanted = None if emotion is None else (known.index(emotion), False)
    assert known.forgiving_index(label) == wanted


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKD"])
@pytest.mark.parametrize("kept", ["NFC", "NFD"])
def test_an_umlaut_is_the_same_however_it_is_composed(form, kept):
    """The folders of a Mac are decomposed, what people type is not."""
    names = ("fröhlich", "Überraschung", "angoissé", "İyimser")
    taxonomy = Taxonomy("t", tuple(Emotion(unicodedata.normalize(kept, name), "up") for name in names))
    for place, name in enumerate(names):
        assert taxonomy.forgiving_index(unicodedata.normalize(form, name)) == (place, True)
        assert taxonomy.index(unicodedata.normalize(form, name.upper())) == place
    twice = (Emotion("fröhlich", "up"), Emotion(unicodedata.normalize("NFD", "fröhlich"), "up"))
    with pytest.raises(TaxonomyError, match="the same name"):
        Taxonomy("t", twice)


def test_a_doubled_letter_before_an_ending_makes_another_word():
    moods = Taxonomy("moods", (Emotion("scared", "a"), Emotion("hoping", "b"), Emotion("pinned", "b")))
    assert [moods.forgiving_index(word) for word in ("scarred", "hopping", "pined")] == [None] * 3


def test_every_bundled_name_is_itself_before_anything_is_forgiven():
    for taxonomy in BUILT_IN.values():
        for place, name in enumerate(taxonomy.names):
            assert taxonomy.forgiving_index(f" {name.upper()}") == (place, True)


def test_a_label_that_could_mean_two_emotions_means_neither():
    two = Taxonomy("two", (Emotion("amused", "a"), Emotion("amusing", "a"), Emotion("calmer", "b")))
    assert two.forgiving_index("amusement") is None
    assert Taxonomy("t", (Emotion("staling", "a"), Emotion("stalins", "a"))).forgiving_index("stalin") is None


@pytest.mark.parametrize("spelling", ["being at home", "Being_At-Home", "BEINGATHOME", " being  at home "])
def test_index_forgives_spelling(spelling, tmp_path):
    path = tmp_path / "home.toml"
    path.write_text(THREE_GROUPS, encoding="utf-8")
    assert load_taxonomy(path).index(spelling) == 2


def test_an_unknown_emotion_is_answered_with_the_nearest_first():
    with pytest.raises(TaxonomyError, match=r"'feer'.*choose one of fear, ") as caught:
        MIKELS.index("feer")
    assert all(name in str(caught.value) for name in MIKELS.names)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("name = ", "not valid TOML"),
        ('name = "x"', "lacks its 'emotions'"),
        ('name = "x"\nemotions = []', "has 0 emotions"),
        ('name = "x"\nemotions = 3', "must be a list"),
        ('name = "x"\nemotions = ["joy"]', "name and a polarity"),
        ('name = 3\nemotions = [{name = "joy", polarity = "up"}]', "word or phrase"),
        ('[[emotions]]\nname = "joy"', "lacks its 'polarity'"),
        ('[[emotions]]\nname = "joy"\npolarity = "up"\nvalance = 1', "no 'valance'"),
        ('[[emotions]]\nname = ""\npolarity = "up"', "word or phrase"),
        ('[[emotions]]\nname = "a + b"\npolarity = "up"', "'\\+' and ';'"),
        ('[[emotions]]\nname = "all"\npolarity = "up"', "cannot name an emotion"),
        ('[[emotions]]\nname = "type 2"\npolarity = "up"', "cannot name an emotion"),
        ('[[emotions]]\nname = "joy"\npolarity = "up"\nvalence = nan', "finite number"),
        ('[[emotions]]\nname = "joy"\npolarity = "up"\nvalence = true', "finite number"),
        (
            '[[emotions]]\nname = "joy"\npolarity = "up"\n[[emotions]]\nname = "J-oy"\npolarity = "up"',
            "same name",
        ),
    ],
)
def test_a_wrong_file_is_told_in_one_sentence_with_its_name(text, fault, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TaxonomyError, match=fault) as caught:
        load_taxonomy(path)
    assert "mine.toml" in str(caught.value) and "\n" not in str(caught.value).strip()


def test_neither_built_in_nor_a_file():
    with pytest.raises(TaxonomyError, match="'goemotions' is neither"):
        load_taxonomy("goemotions")


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TaxonomyError, match="UTF-8"):
        load_taxonomy(path)


def row(**weights):
    return tuple(float(weights.get(name, 0)) for name in MIKELS.names)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("awe", (row(awe=1),)),
        (" AWE ", (row(awe=1),)),
        ("awe 0.7 + fear 0.3", (row(awe=0.7, fear=0.3),)),
        ("awe 0.7+fear .3", (row(awe=0.7, fear=0.3),)),
        ("awe + fear", (row(awe=0.5, fear=0.5),)),
        ("awe 0.7 + fear 0.7", (row(awe=0.7, fear=0.7),)),
        ("awe 1e-1", (row(awe=0.1),)),
        ("awe 0 + fear 2", (row(fear=2),)),
        ("awe; fear; awe 0.5 + fear 0.5;", (row(awe=1), row(fear=1), row(awe=0.5, fear=0.5))),
        ("awe\nfear", (row(awe=1), row(fear=1))),
        ("all", tuple(one_hot(index, MIKELS) for index in range(8))),
        ("fear; All", (row(fear=1), *(one_hot(index, MIKELS) for index in range(8)))),
    ],
)
def test_the_grammar_of_mixtures(text, rows):
    assert parse_mixture(text, MIKELS) == rows


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "empty"),
        (" ; \n", "empty"),
        ("joy", "no emotion 'joy'"),
        ("awe 0.5 + joy 0.5", "no emotion 'joy'"),
        ("awe -0.5", "no weight"),
        ("awe nan", "no emotion 'awe nan'"),
        ("awe 1e999", "no weight"),
        ("awe 0.5x", "no weight"),
        ("awe 0.7 + fear", "all or none"),
        ("awe + Awe", "occurs twice"),
        ("awe 0", "every weight is 0"),
        ("awe +", "nothing beside"),
        ("0.7", "stands alone"),
        ("awe 0.7 fear 0.3", "no emotion 'awe 0.7 fear'"),
        ("awe;" * 5000, "more than 4096 rows"),
        ("awe" * 50000, "characters"),
    ],
)
def test_a_wrong_mixture_is_told_in_one_sentence(text, fault):
    with pytest.raises(MixtureError, match=fault):
        parse_mixture(text, MIKELS)


def test_names_of_several_words_take_weights():
    home = Taxonomy("home", (Emotion("being at home", "a"), Emotion("dread", "b")))
    assert parse_mixture("Being-at-home 0.25 + dread 0.75", home) == ((0.25, 0.75),)


@pytest.mark.parametrize("text", ["awe", "awe 0.7 + fear 0.1", "awe 2.0"])
def test_a_formatted_mixture_reads_back(text):
    (weights,) = parse_mixture(text, MIKELS)
    assert parse_mixture(format_mixture(weights, MIKELS), MIKELS) == (weights,)


def test_errors_are_user_errors():
    assert issubclass(TaxonomyError, UserError) and issubclass(MixtureError, UserError)
