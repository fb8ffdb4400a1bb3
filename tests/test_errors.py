"""What people are told of a mistake, whatever the file or server held that is quoted in it."""

from coemogen_train.errors import AdapterError, UserError, quoted


def test_a_mistake_is_told_as_it_was_written():
    assert str(AdapterError("größer: 基 fehlt\nund mehr")) == "größer: 基 fehlt\nund mehr"


def test_what_a_terminal_would_obey_is_escaped():
    assert str(UserError("a\x1b[2J\u202eb\0\ud800")) == r"a\x1b[2J\u202eb\x00\ud800"


def test_a_long_quotation_keeps_what_stands_around_it():
    told = str(UserError(f"a.json: the value {'x' * 50_000} is wrong: write a number."))
    assert told.startswith("a.json: the value xxx") and told.endswith("xxx is wrong: write a number.")
    assert len(told) < 1700


def test_a_wrong_value_is_quoted_short_whatever_it_is():
    assert quoted("a\n") == "'a\\n'" and quoted([1]) == "[1]"
    assert len(quoted("a" * 1_000_000)) < 200 and quoted("a" * 1_000_000).endswith("...")
    assert quoted(16**5000) == "a number beyond reason"
