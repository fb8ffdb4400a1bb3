"""EmoArt, ArtEmis, Emotion6 and FindingEmo, each as it was published, on a handful of pictures."""

import csv
import json

import pytest

from coemogen_train.data import TrainingSet, prepare
from coemogen_train.errors import DataError


def put(draw, path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(seed).save(path)


# EmoArt


def work(path, emotion, **third):
    return {
        "request_id": "x",
        "image_path": path,
        "description": {
            "first_section": {"description": "long " * 100},
            "second_section": {
                "visual_attributes": {"brushstroke": "Fine, even lines", "color": "blue " * 100},
                "emotional_impact": "It soothes.",
            },
            "third_section": {
                "emotional_arousal_level": "Low",
                "emotional_valence": "Positive",
                "dominant_emotion": emotion,
                "healing_effects": ["Calming", "Restful"],
                **third,
            },
        },
    }


@pytest.fixture
def emoart(tmp_path, draw):
    root = tmp_path / "EmoArt"
    put(draw, root / "Images" / "Gongbi" / "001.jpg", 1)
    put(draw, root / "Baroque" / "002.jpg", 2)
    (root / "Cubism.tar.gz").write_bytes(b"\x1f\x8b")
    rows = [
        work("Images\\Gongbi\\001.jpg", "Content"),
        work("Images\\Baroque\\002.jpg", "sad "),
        work("Images\\Cubism\\003.jpg", "Happy"),
        work("Images\\Gongbi\\404.jpg", "Happy"),
        work("Images\\..\\..\\005.jpg", "Happy"),
        {"image_path": 3},
        "x",
    ]
    (root / "Annotation.json").write_text(json.dumps(rows), encoding="utf-8")
    return root


def test_emoart_finds_pictures_beside_or_below_images_and_keeps_its_twelve(emoart, tmp_path):
    report = prepare(emoart, tmp_path / "set")
    assert (report.source, report.found, report.usable) == ("emoart", 7, 2)
    assert report.problems == {"packed": 1, "missing": 1, "outside": 1, "bad_row": 2}
    opened = TrainingSet.open(tmp_path / "set")
    assert opened.taxonomy.name == "emoart"
    samples = {s.id: s for s in opened.samples()}
    first = samples["Images/Gongbi/001.jpg"]
    assert (first.emotion, first.caption) == ("contentment", None)
    assert first.attributes == {
        "arousal": "Low",
        "brushstroke": "Fine, even lines",
        "emotional_impact": "It soothes.",
        "healing_effects": "Calming, Restful",
        "style": "Gongbi",
        "valence": "Positive",
    }
    assert samples["Images/Baroque/002.jpg"].emotion == "sad"
    told = [json.loads(line) for line in (tmp_path / "set" / "problems.jsonl").read_text().splitlines()]
    assert {
        "image": "Images/Cubism/003.jpg",
        "problem": "packed",
        "detail": "it is still in Cubism.tar.gz",
    } in told


def test_emoart_as_an_object_and_as_a_file_is_the_same(emoart, read):
    whole = read(emoart)
    rows = json.loads((emoart / "Annotation.json").read_text(encoding="utf-8"))
    by_key = {str(index): row for index, row in enumerate(rows)}
    (emoart / "Annotation.json").write_text(json.dumps(by_key), encoding="utf-8")
    assert read(emoart).records == whole.records
    assert read(emoart / "Annotation.json").records == whole.records


def test_emoart_that_breaks_off_keeps_what_came_before(emoart, read):
    text = (emoart / "Annotation.json").read_text(encoding="utf-8")
    (emoart / "Annotation.json").write_text(text[: len(text) // 3], encoding="utf-8")
    found = read(emoart, "emoart")
    assert found.records[0].name == "Images/Gongbi/001.jpg"
    assert list(found.problems) == ["bad_row", "unlisted"]


@pytest.mark.parametrize("description", [None, "x", [], {"third_section": []}, {"third_section": {}}])
def test_emoart_record_without_its_sections_has_no_emotion(emoart, read, description):
    row = {"image_path": "Images\\Gongbi\\001.jpg", "description": description}
    (emoart / "Annotation.json").write_text(json.dumps([row]), encoding="utf-8")
    record, _ = read(emoart).records  # and a picture that it does not name
    assert (record.emotion, record.problem, record.attributes) == (None, None, {"style": "Gongbi"})


# ArtEmis


def artemis(root, rows, header=("art_style", "painting", "emotion", "utterance", "repetition")):
    root.mkdir(parents=True, exist_ok=True)
    with (root / "artemis_dataset_release_v0.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return root


def test_artemis_counts_votes_per_painting_wherever_its_rows_stand(tmp_path, draw, read):
    for number, name in enumerate(("a", "b", "c", "d", "é")):
        put(draw, tmp_path / "artemis" / "wikiart" / "Cubism" / f"{name}.jpg", number)
    rows = [
        ("Cubism", "a", "fear", "It looms.", 4),
        ("Cubism", "b", "awe", "So high!", 2),
        ("Cubism", "a", "Awe", 'He said "look,\nup there"', 4),
        ("Cubism", "c", "something else", "Odd.", 3),
        ("Cubism", "b", "sadness", "Grey.", 2),
        ("Cubism", "a", "awe", "Tall.", 4),
        ("Cubism", "c", "something else", "Hm.", 3),
        ("Cubism", "c", "fear", "Dark.", 3),
        ("Cubism", "d", "fear", "", 2),
        ("Cubism", "d", "fear", "=cmd()", 2),
        ("Cubism", "e\u0301", "fear", "Composed otherwise.", 1),
        ("Cubism", "gone", "fear", "Not there.", 1),
        ("Cubism", "../../../secret", "fear", "Elsewhere.", 1),
        ("Cubism", "", "fear", "No painting.", 1),
        ("Cubism", "short"),
    ]
    report = prepare(artemis(tmp_path / "artemis", rows), tmp_path / "set")
    assert (report.source, report.found, report.usable) == ("artemis", 9, 3)
    assert report.problems == {"ambiguous": 1, "bad_row": 2, "missing": 1, "outside": 1, "unknown_emotion": 1}
    samples = {s.id: s for s in TrainingSet.open(tmp_path / "set").samples()}
    first = samples["wikiart/Cubism/a.jpg"]
    assert (first.emotion, first.caption) == ("awe", 'He said "look, up there"')
    assert first.attributes == {"art_style": "Cubism", "votes_awe": "2", "votes_fear": "1"}
    assert samples["wikiart/Cubism/d.jpg"].caption == "=cmd()"


def test_artemis_needs_its_columns(tmp_path):
    (tmp_path / "t.csv").write_text("image,emotion\n1.png,awe\n", encoding="utf-8")
    with pytest.raises(DataError, match="art_style, painting, emotion, utterance"):
        prepare(tmp_path / "t.csv", tmp_path / "set", kind="artemis")


# Emotion6


HEADER = "[image_filename]\t[valence]\t[arousal]\t" + "\t".join(
    f"[prob. {name}]" for name in ("anger", "disgust", "fear", "joy", "sadness", "surprise", "neutral")
)


@pytest.mark.parametrize("with_header", [True, False])
def test_emotion6_takes_the_strictly_highest_probability(tmp_path, draw, with_header):
    root = tmp_path / "Emotion6"
    for number in range(1, 4):
        put(draw, root / "images" / "anger" / f"{number}.jpg", number)
    lines = [
        "anger/1.jpg\t3.2\t4.5\t0.1\t0\t0\t0.6\t0\t0.2\t0.1",
        "anger/2.jpg\t3.2\t4.5\t0.4\t0.4\t0\t0\t0\t0.1\t0.1",
        "anger/3.jpg\t3.2\t4.5\t0.1\t0\t0\t0.1\t0\t0.2\t0.6",
        "anger/4.jpg\t3.2\t4.5\t1\t0\t0\t0\t0\t0\t0",
        "anger/5.jpg\t3.2\t4.5\tnan\t0\t0\t0\t0\t0\t0",
        "anger/6.jpg\t3.2\t4.5\t-1\t0\t0\t0\t0\t0\t0",
        "anger/7.jpg\t3.2",
        "../8.jpg\t3.2\t4.5\t1\t0\t0\t0\t0\t0\t0",
        "",
        "anger/9.jpg\t3.2\tx\t1\t0\t0\t0\t0\t0\t0",
    ]
    (root / "ground_truth.txt").write_text(
        "\r\n".join([HEADER] * with_header + lines), encoding="utf-8", newline=""
    )
    report = prepare(root, tmp_path / "set")
    assert (report.source, report.found, report.usable) == ("emotion6", 9, 2)
    assert report.problems == {"ambiguous": 1, "bad_row": 4, "missing": 1, "outside": 1}
    samples = {s.id: s for s in TrainingSet.open(tmp_path / "set").samples()}
    assert {s.id: s.emotion for s in samples.values()} == {"anger/1.jpg": "joy", "anger/3.jpg": "neutral"}
    assert samples["anger/1.jpg"].attributes["valence"] == "3.2"
    assert samples["anger/1.jpg"].attributes["probability_joy"] == "0.6"


def test_emotion6_columns_in_another_order_are_read_by_their_names(tmp_path, draw, read):
    put(draw, tmp_path / "e6" / "images" / "joy" / "1.jpg")
    names = HEADER.split("\t")
    cells = ["joy/1.jpg", "3", "4", "1", "0", "0", "0", "0", "0", "0"]
    lines = ["\t".join([names[0], *names[:0:-1]]), "\t".join([cells[0], *cells[:0:-1]])]
    (tmp_path / "e6" / "ground_truth.txt").write_text("\n".join(lines), encoding="utf-8")
    (record,) = read(tmp_path / "e6").records
    assert (record.emotion, record.attributes["valence"], record.attributes["arousal"]) == ("anger", "3", "4")


# FindingEmo


def test_findingemo_leaves_out_what_its_annotators_rejected(tmp_path, draw):
    root = tmp_path / "FindingEmo"
    for number in range(4):
        put(draw, root / "Run_1" / "Adults x" / f"{number}.jpg", number)
    header = (
        "index,user,image_path,reject,tag,age,valence,arousal,emotion,dec_factors,ambiguity,"
        "fmri_candidate,datetime"
    )
    rows = [
        '0,u,/Run_1/Adults x/0.jpg,Keep,t,"[Adults]",2,4,Joy,"a,b",0,False,2022',
        "1,u,/Run_1/Adults x/1.jpg,Reject: watermark,t,a,2,4,Joy,x,0,False,2022",
        "2,u,/Run_1/Adults x/2.jpg,Keep,t,a,-3,6,Pensive,x,0,False,2022",
        "3,u,/Run_1/Adults x/3.jpg,Keep,t,a,-3,6,Undefined,x,0,False,2022",
        "4,u,/../4.jpg,Keep,t,a,-3,6,Joy,x,0,False,2022",
        "5,u,,Keep,t,a,-3,6,Joy,x,0,False,2022",
        "6,u",
    ]
    (root / "annotations_single.ann").write_text("\n".join([header, *rows]), encoding="utf-8")
    for place in (root, root / "annotations_single.ann"):
        report = prepare(place, tmp_path / "set")
        assert (report.source, report.found, report.usable) == ("findingemo", 7, 2)
        assert report.problems == {"bad_row": 2, "outside": 1, "rejected": 1, "unknown_emotion": 1}
        samples = {s.id: s for s in TrainingSet.open(tmp_path / "set").samples()}
        first = samples["Run_1/Adults x/0.jpg"]
        assert (first.emotion, first.attributes["valence"], first.attributes["arousal"]) == ("joy", "2", "4")
        assert first.attributes["dec_factors"] == "a,b"
        assert samples["Run_1/Adults x/2.jpg"].emotion == "pensiveness"


# All of them


@pytest.mark.parametrize("kind", ["emoart", "artemis", "emotion6", "findingemo"])
def test_pictures_that_no_row_names_are_told(tmp_path, draw, read, kind):
    root, list_name = tmp_path / kind, "list.csv"
    name = {"emoart": "Images/S/1.jpg", "artemis": "wikiart/S/1.jpg", "emotion6": "images/S/1.jpg"}
    listed = name.get(kind, "Run_1/1.jpg")
    put(draw, root / listed, 1)
    put(draw, root / "more" / "2.jpg", 2)
    put(draw, (root / listed).with_name("3.jpg"), 3)
    if kind == "emoart":
        list_name = "Annotation.json"
        (root / list_name).write_text(json.dumps([work("Images\\S\\1.jpg", "Happy")]), encoding="utf-8")
    elif kind == "artemis":
        list_name = "artemis_dataset_release_v0.csv"
        artemis(root, [("S", "1", "awe", "Tall.", 1)])
    elif kind == "emotion6":
        list_name = "ground_truth.txt"
        (root / list_name).write_text("S/1.jpg\t3\t4\t1\t0\t0\t0\t0\t0\t0", encoding="utf-8")
    else:
        rows = "image_path,reject,valence,arousal,emotion\n/Run_1/1.jpg,Keep,1,1,Joy\n"
        (root / list_name).write_text(rows, encoding="utf-8")
    found = read(root)
    assert (found.kind, len(found.usable)) == (kind, 1)
    beside = (root / listed).with_name("3.jpg").relative_to(root).as_posix()
    assert sorted(found.problems["unlisted"]) == sorted(["more/2.jpg", beside])
    assert (list(found.problems), found.tally.notes) == (["unlisted"], {})
    # The list alone says nothing of the folder that it happens to lie in.
    assert read(root / list_name).problems == {}
