"""No row of a table vanishes unsaid: not in an open quote, not behind a null."""

import json

import pytest

from coemogen_train.data.sources.rows import read_rows
from coemogen_train.errors import DataError

HEADER = "image,emotion,caption\n"


def rows_of(path, text):
    path.write_text(text, encoding="utf-8", newline="")
    return list(read_rows(path))


def pictures(first, last, caption="fine"):
    return "".join(f"{i}.png,fear,{caption}\n" for i in range(first, last + 1))


@pytest.mark.parametrize("ending", ["\n", "\r\n", ""])
@pytest.mark.parametrize("before", [0, 3])
def test_a_quote_that_is_open_at_the_end_is_refused_with_its_row(tmp_path, before, ending):
    text = HEADER + pictures(1, before) + '0.png,awe,"never closed\n' + pictures(1, 19).rstrip("\n") + ending
    with pytest.raises(DataError, match=rf"t\.csv has a quote in row {before + 1} that is never closed"):
        rows_of(tmp_path / "t.csv", text)
    (tmp_path / "t.tsv").write_text(text.replace(",", "\t"), encoding="utf-8", newline="")
    with pytest.raises(DataError, match=rf"row {before + 1} that"):
        list(read_rows(tmp_path / "t.tsv"))


@pytest.mark.parametrize(
    "last", ['10.png,fear,"quoted"\n', '10.png,fear,6" wide\n', '10.png,fear,it ends"\n']
)
def test_each_row_that_an_open_quote_swallowed_is_told(tmp_path, last):
    text = HEADER + '0.png,awe,"never closed\n' + pictures(1, 9) + last + pictures(11, 19)
    found = rows_of(tmp_path / "t.csv", text)
    assert [number for number, _ in found] == list(range(1, 21))
    assert [number for number, cells in found if isinstance(cells, str)] == list(range(1, 12))
    assert [cells["image"] for _, cells in found[11:]] == [f"{i}.png" for i in range(11, 20)]


def test_an_open_quote_in_the_header_is_refused(tmp_path):
    text = 'image,emotion,"caption\n' + pictures(1, 9) + '10.png,fear,"quoted"\n' + pictures(11, 12)
    with pytest.raises(DataError, match="quote in its header"):
        rows_of(tmp_path / "t.csv", text)


@pytest.mark.parametrize(
    "caption",
    [
        "two\nlines",
        "a dog, a cat, a bird\nand, then, some",
        'she says "hi"\n\nand, he, leaves',
        "1.png\n2.png\r\n3.png",
        "one,two,three\nfour,five,six",
    ],
)
def test_captions_with_line_breaks_are_whole(tmp_path, caption):
    cell = '"' + caption.replace('"', '""') + '"'
    text = HEADER + f"0.png,awe,{cell}\n1.png,fear,{cell}"
    assert rows_of(tmp_path / "t.csv", text) == [
        (1, {"image": "0.png", "emotion": "awe", "caption": caption}),
        (2, {"image": "1.png", "emotion": "fear", "caption": caption}),
    ]


def test_quotes_in_the_middle_of_a_cell_are_text(tmp_path):
    text = HEADER + '0.png,awe,a 6" pipe\n1.png,awe,"x"y\n'
    assert [cells["caption"] for _, cells in rows_of(tmp_path / "t.csv", text)] == ['a 6" pipe', "xy"]


def test_a_null_in_a_json_list_is_a_row_and_not_the_end(tmp_path):
    rows = [{"image": "0.png"}, None, {"image": "1.png"}, None]
    (tmp_path / "t.json").write_text(json.dumps(rows), encoding="utf-8")
    wrong = "it is not a JSON object"
    assert list(read_rows(tmp_path / "t.json")) == [(1, rows[0]), (2, wrong), (3, rows[2]), (4, wrong)]
