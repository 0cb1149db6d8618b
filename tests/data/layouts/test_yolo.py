"""YOLO's text files as people have them."""

import pytest
from PIL import Image

from d2lite.data.layouts import find_layout, read_folder, write_folder
from tests.data.layouts.tiny import SQUARE, draw, labeled, thing

BOX = "0 0.5 0.5 0.25 0.5\n"


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(("train/a", "train/b", "val/c")):
        draw(tmp_path / f"images/{name}.jpg", number)
        path = tmp_path / f"labels/{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(BOX)
    put(tmp_path)
    return tmp_path


def put(tmp_path, text="train: images/train\nval: images/val\nnames: [cat, dog]\n"):
    (tmp_path / "data.yaml").write_text(text, encoding="utf-8")


def boxes(data):
    return [a["bbox"] for r in data.records() for a in r["annotations"]]


def test_shares_of_width_and_height(folder):
    data = read_folder(str(folder))
    assert (data.layout, data.class_names) == ("yolo", ["cat", "dog"])
    assert {s: len(r) for s, r in data.splits.items()} == {"train": 2, "val": 1}
    # 64 x 48: center 32, 24; 16 wide, 24 high
    assert boxes(data) == [[24, 12, 40, 36]] * 3


@pytest.mark.parametrize(
    "text",
    [
        "path: ../datasets/elsewhere\n"
        "train: images/train\nval: images/val\nnames:\n  0: cat\n  1: dog\n",
        "train: ../images/train\nval: ../images/val\nnc: 2\nnames: ['cat', 'dog']\n",
        "train: /content/data/images/train\nval: /content/data/images/val\nnames: [cat, dog]\n",
        "\ufefftrain: .\\images\\train\nval: [images/val]\ntest:\nnames: [cat, dog]\n"
        "download: |\n  x = 1\n",
        "train: images/train\nval: images/val\ntest: images/test\nnames: [cat, dog]\n",
    ],
)
def test_paths_as_programs_write_them(folder, text):
    put(folder, text)
    data = read_folder(str(folder))
    assert {s: len(r) for s, r in data.splits.items()} == {"train": 2, "val": 1}
    assert data.class_names == ["cat", "dog"]


def test_lists_of_images(folder):
    (folder / "train.txt").write_text(
        "./images/train/a.jpg\r\n\r\n/old/place/images/train/b.jpg\r\n"
    )
    (folder / "val.txt").write_text("images/val/c.jpg\nimages/val/gone.jpg\n")
    put(folder, "train: train.txt\nval: val.txt\nnames: [cat, dog]\n")
    data = read_folder(str(folder))
    assert {s: len(r) for s, r in data.splits.items()} == {"train": 2, "val": 1}
    (missing,) = data.missing
    assert missing.startswith("images/val/gone.jpg (") and "val.txt, line 2" in missing


def test_roboflow_folders(folder):
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (folder / split).mkdir(exist_ok=True)
            (folder / kind / split).rename(folder / split / kind)
    put(folder, "train: ../train/images\nval: ../val/images\nnames: [cat, dog]\n")
    assert len(boxes(read_folder(str(folder)))) == 3


def test_darknet_folders_without_yaml(folder):
    (folder / "data.yaml").unlink()
    with pytest.raises(ValueError, match=r"without the names of their classes; add a data.yaml"):
        read_folder(str(folder))
    (folder / "classes.txt").write_text("cat\ndog\n")
    data = read_folder(str(folder))
    assert {s: len(r) for s, r in data.splits.items()} == {"train": 2, "val": 1}


def test_labels_beside_images(tmp_path):
    draw(tmp_path / "a.PNG")
    (tmp_path / "a.txt").write_text(BOX)
    (tmp_path / "obj.names").write_text("cat\n")
    assert boxes(read_folder(str(tmp_path))) == [[24, 12, 40, 36]]


def test_images_without_or_with_empty_labels_have_no_objects(folder):
    (folder / "labels/train/a.txt").write_text("\n")
    (folder / "labels/train/b.txt").unlink()
    assert [len(r["annotations"]) for r in read_folder(str(folder)).records()] == [0, 0, 1]


def test_outlines_and_boxes(folder):
    (folder / "labels/val/c.txt").write_text("1 0.25 0.25 0.75 0.25 0.5 0.75\n" + BOX)
    first, second = read_folder(str(folder)).splits["val"][0]["annotations"]
    assert first["segmentation"] == [[16, 12, 48, 12, 32, 36]]
    assert first["bbox"] == [16, 12, 48, 36]
    assert "segmentation" not in second


@pytest.mark.parametrize(
    "shape, row, expected",
    [
        ("[2, 3]", "0 0.5 0.5 0.25 0.5 0.5 0.5 2 0 0 0", [32, 24, 2, 0, 0, 0]),
        ("[2, 2]", "0 0.5 0.5 0.25 0.5 0.5 0.5 0 0", [32, 24, 2, 0, 0, 0]),
    ],
)
def test_keypoints(folder, shape, row, expected):
    put(
        folder,
        "train: images/train\nval: images/val\nnames: [cat]\n"
        f"kpt_shape: {shape}\nflip_idx: [1, 0]\n",
    )
    for name in ("train/a", "train/b", "val/c"):
        (folder / f"labels/{name}.txt").write_text(row + "\n")
    data = read_folder(str(folder))
    assert data.splits["val"][0]["annotations"][0]["keypoints"] == expected
    assert data.keypoints["keypoint_flip_map"] == [("keypoint_0", "keypoint_1")]
    assert data.kinds() == ("boxes", "keypoints")


def test_coordinates_are_of_the_upright_image(folder):
    with Image.open(folder / "images/val/c.jpg") as image:
        exif = image.getexif()
        exif[0x0112] = 6  # stored lying on its side
        image.save(folder / "images/val/c.jpg", exif=exif)
    (record,) = read_folder(str(folder)).splits["val"]
    assert (record["height"], record["width"]) == (64, 48)
    assert record["annotations"][0]["bbox"] == [18, 16, 30, 48]


@pytest.mark.parametrize(
    "row, message",
    [
        ("2 0.5 0.5 0.1 0.1", "line 2: class 2; there are 2, numbered from 0 to 1"),
        ("-1 0.5 0.5 0.1 0.1", "line 2: class -1; there are 2"),
        ("0.5 0.5 0.5 0.1 0.1", "line 2: class 0.5; there are 2"),
        ("0 100 120 30 40", "line 2: .* is not between 0 and 1; .* divide pixels by these"),
        ("0 0.5 0.5 0.1", "line 2: 3 numbers after the class; expected 4"),
        ("0 0.5 0.5 0.1 0.1 0.9", "line 2: 5 numbers after the class; expected 4"),
        ("cat 0.5 0.5 0.1 0.1", "line 2: 'cat 0.5 0.5 0.1 0.1' has something that is not a number"),
        ("0 nan 0.5 0.1 0.1", "line 2: .* is not between 0 and 1"),
    ],
)
def test_bad_rows_name_file_and_line(folder, row, message):
    (folder / "labels/val/c.txt").write_text(f"{BOX}{row}\n")
    with pytest.raises(ValueError, match=f"c.txt, {message}"):
        read_folder(str(folder))


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "train: images/trian\nval: images/val\nnames: [cat]\n",
            "'train' is 'images/trian', but that folder or list does not exist",
        ),
        ("train: images/train\nnames: 3\n", "'names' is 3; expected a list of class names"),
        ("train: images/train\nnames: {1: cat}\n", "'names' is .*; expected a list of class names"),
        ("train: images/train\nnames: [cat]\nkpt_shape: 17\n", "'kpt_shape' is 17; expected"),
        (
            "train: images/train\nnames: [cat]\nkpt_shape: [2, 3]\nflip_idx: [0]\n",
            "'flip_idx' is .0.; expected each of 0 to 1",
        ),
        ("train: [images/train\nnames: [cat]\n", "is not valid yaml"),
    ],
)
def test_bad_yaml(folder, text, message):
    put(folder, text)
    with pytest.raises((ValueError, FileNotFoundError), match=f"data.yaml.*{message}"):
        read_folder(str(folder))


def test_keypoints_count_more_than_outlines(tmp_path):
    points = {"keypoint_names": ["a"], "keypoint_flip_map": []}
    rows = [thing(0, segmentation=[SQUARE], keypoints=[10.0, 10.0, 2])]
    data = labeled(tmp_path, lambda i: rows, names=("cat",), keypoints=points)
    lost = write_folder(data, str(tmp_path / "out"), "yolo")
    assert lost == {"objects without their outlines": 5}
    assert read_folder(str(tmp_path / "out")).kinds() == ("boxes", "keypoints")
    # Without a single keypoint, the outlines stay.
    data = labeled(tmp_path, lambda i: [thing(0, segmentation=[SQUARE])], keypoints=points)
    assert write_folder(data, str(tmp_path / "out2"), "yolo") == {}


def test_keypoints_of_another_number(folder):
    put(folder, "train: images/train\nval: images/val\nnames: [cat]\nkpt_shape: [2, 3]\n")
    (folder / "labels/val/c.txt").write_text("0 0.5 0.5 0.25 0.5 0.5 0.5 2\n")
    with pytest.raises(ValueError, match=r"c.txt, line 1: 7 numbers .* with keypoints, 10"):
        read_folder(str(folder))


def test_labels_without_an_image_are_missing_images(folder):
    (folder / "images/val/c.jpg").unlink()
    draw(folder / "images/val/d.jpg", 8)
    (missing,) = read_folder(str(folder)).missing
    assert missing.endswith("c.txt")


def test_two_yaml_files_are_not_guessed_at(folder):
    (folder / "other.yaml").write_text("names: [x]\n")
    with pytest.raises(ValueError, match=r"data.yaml and other.yaml both name classes"):
        read_folder(str(folder))
    assert read_folder(str(folder / "data.yaml")).class_names == ["cat", "dog"]


def test_other_yaml_and_text_files_are_not_yolo(tmp_path):
    draw(tmp_path / "a.jpg")
    (tmp_path / "config.yaml").write_text("MODEL:\n  names: x\n")
    (tmp_path / "a.txt").write_text("a caption of the image\n")
    with pytest.raises(ValueError, match="no known layout"):
        find_layout(str(tmp_path))
