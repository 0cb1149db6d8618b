"""Open Images' tables as people have them."""

import pytest

from d2lite.data.layouts import read_folder
from tests.data.layouts.tiny import draw

HEADER = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,"
    "IsDepiction,IsInside\n"
)


def row(image, label="/m/01", box="0.25,0.5,0.25,0.75", group=0):
    return f"{image},xclick,{label},1,{box},0,0,{group},0,0\n"


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(("train/0a.jpg", "train/0b.jpg", "validation/0c.jpg")):
        draw(tmp_path / name, number)
    (tmp_path / "class-descriptions-boxable.csv").write_text("/m/01,Cat\n/m/02,Dog\n/m/03,Cow\n")
    (tmp_path / "oidv6-train-annotations-bbox.csv").write_text(
        HEADER + row("0a") + row("0b", "/m/02", group=1) + row("ffff")
    )
    (tmp_path / "validation-annotations-bbox.csv").write_text(HEADER + row("0c"))
    return tmp_path


def test_shares_become_pixels_and_groups_crowds(folder):
    data = read_folder(str(folder))
    assert data.layout == "open_images"
    assert data.class_names == ["Cat", "Dog"]  # those that occur, of the list of 601
    assert {s: len(r) for s, r in data.splits.items()} == {"train": 2, "val": 1}
    one, other = (r["annotations"][0] for r in data.splits["train"])
    assert one["bbox"] == [16, 12, 32, 36] and "iscrowd" not in one
    assert other["iscrowd"] == 1
    assert any("left out 1 box of images that are not here" in note for note in data.notes)


def test_images_without_boxes_are_those_of_the_list(folder):
    draw(folder / "train" / "0d.jpg", 8)
    assert len(read_folder(str(folder)).splits["train"]) == 2
    (folder / "train-images-boxable.csv").write_text("ImageID,OriginalURL\n0d,x\n0e,y\n0a,z\n")
    assert sorted(len(r["annotations"]) for r in read_folder(str(folder)).splits["train"]) == [
        0,
        1,
        1,
    ]


def test_labels_without_a_description_keep_their_name(folder):
    (folder / "class-descriptions-boxable.csv").unlink()
    assert read_folder(str(folder)).class_names == ["/m/01", "/m/02"]


def test_tables_of_other_things_are_not_read(folder):
    (folder / "train-annotations-human-imagelabels.csv").write_text(
        "ImageID,Source,LabelName,Confidence\n0a,x,/m/01,1\n"
    )
    (folder / "train-annotations-object-segmentation.csv").write_text(
        "MaskPath,ImageID,LabelName,BoxID,BoxXMin,BoxXMax,BoxYMin,BoxYMax\nx,0a,/m/01,b,0,1,0,1\n"
    )
    assert len(read_folder(str(folder)).splits["train"]) == 2


@pytest.mark.parametrize(
    "text, message",
    [
        (
            row("0c", box="16,32,12,36"),
            "line 3: XMin, XMax, YMin, YMax are 16, 32, 12, 36; expected shares",
        ),
        (row("0c", box="a,0.5,0.2,0.4"), "line 3: .* are a, 0.5, 0.2, 0.4; expected shares"),
        ("0c,xclick,/m/01\n", "line 3: 3 cells, but the header has 13; the file seems"),
        (row("0c", box="0.5,0.25,0.2,0.4"), "box number 1 of validation/0c has bbox .*x0 <= x1"),
    ],
)
def test_bad_rows_name_file_and_line(folder, text, message):
    path = folder / "validation-annotations-bbox.csv"
    path.write_text(HEADER + row("0c") + text)
    with pytest.raises(ValueError, match=message) as error:
        read_folder(str(folder))
    assert str(path) in str(error.value)


def test_no_image_of_the_table(folder):
    for name in ("0a", "0b"):
        (folder / "train" / f"{name}.jpg").rename(folder / "train" / f"x{name}.jpg")
    (missing,) = read_folder(str(folder)).missing
    assert missing.startswith("0a (") and "nor is any other" in missing
