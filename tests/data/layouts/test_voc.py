"""VOC's XML as people have it."""

import pytest

from d2lite.data.layouts import find_layout, read_folder
from tests.data.layouts.tiny import draw

SIZE = "<size><width>64</width><height>48</height><depth>3</depth></size>"


def box(name="cat", xmin=9, ymin=9, xmax=28, ymax=32):
    return (
        f"<object><name>{name}</name><bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin>"
        f"<xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox></object>"
    )


def put(path, inside, root="<annotation>", encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{root}{inside}</annotation>", encoding=encoding)


@pytest.fixture
def flat(tmp_path):
    """labelImg's folder."""
    for number, name in enumerate(("a", "b c", "d")):
        draw(tmp_path / f"{name}.JPG", number)
        put(tmp_path / f"{name}.xml", SIZE + box(("cat", "dog", "cat")[number]))
    return tmp_path


def test_flat_folder(flat):
    draw(flat / "unlabeled.jpg", 7)
    put(flat / "d.xml", SIZE, root='<annotation verified="yes">')
    data = read_folder(str(flat))
    assert (data.layout, data.class_names) == ("labelimg", ["cat", "dog"])
    assert [len(r["annotations"]) for r in data.splits["all"]] == [1, 1, 0]
    assert data.splits["all"][0]["annotations"][0]["bbox"] == [8, 8, 28, 32]
    assert "left out 1 image without an XML file" in data.notes


def test_folders_of_splits(flat):
    for split in ("train", "valid"):
        (flat / split).mkdir()
    for name, split in (("a", "train"), ("b c", "train"), ("d", "valid")):
        for suffix in ("JPG", "xml"):
            (flat / f"{name}.{suffix}").rename(flat / split / f"{name}.{suffix}")
    assert {s: len(r) for s, r in read_folder(str(flat)).splits.items()} == {"train": 2, "val": 1}


def test_a_box_at_0_means_that_pixels_count_from_0(flat):
    put(flat / "d.xml", SIZE + box("cat", 0, 5, 20, 30))
    data = read_folder(str(flat))
    assert data.splits["all"][0]["annotations"][0]["bbox"] == [9, 9, 28, 32]
    assert data.splits["all"][2]["annotations"][0]["bbox"] == [0, 5, 20, 30]
    assert "pixels count from 0" in data.notes[0]


def test_images_are_found_by_the_name_in_the_file_too(flat):
    (flat / "d.xml").rename(flat / "other.xml")
    put(flat / "other.xml", "<filename>d.jpg</filename>" + SIZE + box())
    assert len(read_folder(str(flat)).records()) == 3


def test_the_size_is_read_from_the_image_where_the_file_has_none(flat):
    put(flat / "d.xml", box())
    assert {(r["height"], r["width"]) for r in read_folder(str(flat)).records()} == {(48, 64)}


def test_voc_folder_without_lists_and_with_masks(flat):
    for name in ("a", "b c", "d"):
        for folder, suffix in (("JPEGImages", "JPG"), ("Annotations", "xml")):
            (flat / folder).mkdir(exist_ok=True)
            (flat / f"{name}.{suffix}").rename(flat / folder / f"{name}.{suffix}")
    draw(flat / "SegmentationClass" / "a.png", 9)
    assert find_layout(str(flat)) == "voc"
    data = read_folder(str(flat))
    assert list(data.splits) == ["all"] and len(data.records()) == 3
    assert data.records()[0]["file_name"].endswith("a.JPG")
    lists = flat / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "trainval.txt").write_text("a\nb c\n")
    (lists / "test.txt").write_text("d\n")
    (lists / "cat_trainval.txt").write_text("a 1\nb c -1\n")
    assert {s: len(r) for s, r in read_folder(str(flat)).splits.items()} == {"train": 2, "test": 1}
    (lists / "test.txt").write_text("secret1\nsecret2\n")
    assert list(read_folder(str(flat)).splits) == ["train"]
    (lists / "test.txt").write_text("d\nsecret2\n")
    with pytest.raises(
        FileNotFoundError, match=r"test.txt: there is no Annotations/secret2.xml \(1 of 2"
    ):
        read_folder(str(flat))


def test_utf_16_files_are_read(flat):
    text = f'<?xml version="1.0" encoding="utf-16"?><annotation>{SIZE}{box("größe")}</annotation>'
    (flat / "d.xml").write_text(text, encoding="utf-16")
    assert read_folder(str(flat)).class_names == ["cat", "dog", "größe"]


@pytest.mark.parametrize(
    "inside, message",
    [
        (SIZE + box(xmin="left"), "d.xml: 'bndbox/xmin' is 'left'; expected a number"),
        (SIZE + box(name=""), "d.xml: an <object> has no 'name'"),
        (SIZE + "<object>", "d.xml: not valid XML"),
        (SIZE.replace("48", "0") + box(), "d.xml: <size> is 64 x 0; expected the image's size"),
        (SIZE + "<object><name>cat</name></object>", "d.xml: an <object> has no 'bndbox/xmin'"),
    ],
)
def test_bad_files_name_the_place(flat, inside, message):
    put(flat / "d.xml", inside)
    with pytest.raises(ValueError, match=message):
        read_folder(str(flat))


def test_no_object_at_all_is_an_error(flat):
    for name in ("a", "b c", "d"):
        put(flat / f"{name}.xml", SIZE)
    with pytest.raises(ValueError, match="no image has an object, so there are no classes"):
        read_folder(str(flat))
