"""The toy world goes through the same door as anybody's table."""

from coemogen_train.data import TrainingSet, prepare_toy


def test_toy_set_is_captioned_split_and_moves_whole(tmp_path):
    report = prepare_toy(tmp_path / "set", seed=3, train_per_emotion=4, test_per_emotion=2)
    assert (report.found, report.usable, report.captions, report.problems) == (48, 48, 48, {})
    (tmp_path / "set").rename(tmp_path / "moved")
    opened = TrainingSet.open(tmp_path / "moved")
    assert len(opened.samples("train")) == 32
    assert len(opened.samples("test")) == 16
    for sample in opened.samples():
        assert sample.image.is_file()
        assert sample.caption and sample.scene and sample.objects
    assert opened.info.origin == "toy world, seed 3"


def test_same_seed_is_the_same_set(tmp_path, snapshot):
    for name in ("one", "two"):
        prepare_toy(tmp_path / name, seed=1, train_per_emotion=2, test_per_emotion=1)
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "two")
