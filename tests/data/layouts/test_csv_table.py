"""CSV tables as people have them."""

import pytest

from d2lite.data.layouts import read_folder
from tests.data.layouts.tiny import draw

HEADER = "filename,width,height,class,xmin,ymin,xmax,ymax\n"
EXPECTED = [("cat", [8, 8, 28, 32]), ("dog", [1, 2, 10, 20])]


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(("a.jpg", "b.jpg")):
        draw(tmp_path / "images" / name, number)
    return tmp_path


def put(folder, text, name="boxes.csv", encoding="utf-8"):
    (folder / name).write_text(text, encoding=encoding)
    return read_folder(str(folder))


def objects(data):
    return [
        (data.class_names[a["category_id"]], a["bbox"])
        for r in data.records()
        for a in r["annotations"]
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize(
    "text",
    [
        HEADER + "a.jpg,64,48,cat,8,8,28,32\nb.jpg,64,48,dog,1,2,10,20\n",
        "Image Name;Label;X_Min;Y_Min;X_Max;Y_Max\r\n"
        "a.jpg;cat;8;8;28;32\r\n\r\nb.jpg;dog;1;2;10;20\r\n",
        "path\tx1\ty1\tx2\ty2\tclass_name\nC:\\d\\a.jpg\t8\t8\t28\t32\tcat\nimages/b.jpg\t1\t2\t10\t20\tdog\n",
        'image_id,bbox,label\na,"[8.0, 8.0, 20.0, 24.0]",cat\nb,"[1, 2, 9, 18]",dog\n',
        "image_id,x,y,w,h,label\na,8,8,20,24,cat\nb,1,2,9,18,dog\n",
        "image,x,y,width,height,class\na.jpg,8,8,20,24,cat\nb.jpg,1,2,9,18,dog\n",
        "image,x_center,y_center,width,height,class\na.jpg,18,20,20,24,cat\nb.jpg,5.5,11,9,18,dog\n",
        "images/a.jpg,8,8,28,32,cat\nimages/b.jpg,1,2,10,20,dog\n",  # keras-retinanet
        HEADER + "a.jpg,64,48,cat,0.125,0.1666666667,0.4375,0.6666666667\n"
        "b.jpg,64,48,dog,0.015625,0.0416666667,0.15625,0.4166666667\n",
    ],
)
def test_styles(folder, text, encoding):
    found = objects(put(folder, text, encoding=encoding))
    assert [name for name, _ in found] == ["cat", "dog"]
    for (_, box), (_, expected) in zip(found, EXPECTED, strict=True):
        assert box == pytest.approx(expected, abs=1e-6)


def test_images_without_objects_have_a_row_without_a_box(folder):
    for text in (
        HEADER + "a.jpg,,,cat,8,8,28,32\nb.jpg,64,48,,,,,\n",
        "a.jpg,8,8,28,32,cat\nb.jpg,,,,,\n",
    ):
        data = put(folder, text)
        assert [len(r["annotations"]) for r in data.records()] == [1, 0]


def test_no_class_column(folder):
    data = put(folder, 'image_id,width,height,bbox,source\na,64,48,"[8, 8, 20, 24]",usask\n')
    assert data.class_names == ["object"]
    assert "no column for the class" in data.notes[0]
    assert "left out 1 image that no row names" in data.notes


def test_files_and_columns_of_splits(folder):
    put(folder, HEADER + "a.jpg,64,48,cat,8,8,28,32\n", "train_labels.csv")
    data = put(folder, HEADER + "b.jpg,64,48,dog,8,8,28,32\n", "test_labels.csv")
    assert {s: len(r) for s, r in data.splits.items()} == {"train": 1, "test": 1}
    for name in ("train_labels.csv", "test_labels.csv"):
        (folder / name).unlink()
    text = "filename,class,xmin,ymin,xmax,ymax,split\n"
    text += "a.jpg,cat,8,8,28,32,train\nb.jpg,dog,1,2,10,20,valid\n"
    assert list(put(folder, text).splits) == ["train", "val"]
    with pytest.raises(
        ValueError, match=r"line 4: image 'b.jpg' is in 'train' here and in 'val' before"
    ):
        put(folder, text + "b.jpg,dog,1,2,10,20,train\n")


def test_class_list_sets_the_order(folder):
    (folder / "classes.csv").write_text("dog,0\ncat,1\n")
    assert put(folder, "images/a.jpg,8,8,28,32,cat\n").class_names == ["dog", "cat"]
    (folder / "classes.csv").write_text("dog,0\ncats,1\n")
    with pytest.raises(
        ValueError, match=r"class 'cat' of an object is not among .* Did you mean 'cats'"
    ):
        read_folder(str(folder))


@pytest.mark.parametrize(
    "row, message",
    [
        ("a.jpg,64,48,cat,8,8,28,x", "line 3: the box is '8, 8, 28, x'; expected four numbers"),
        ("a.jpg,64,48,cat,8,8,28", "line 3: the box is '8, 8, 28, '; expected four numbers"),
        ("a.jpg,64,48,,8,8,28,32", "line 3: a box without a class"),
        (",64,48,cat,8,8,28,32", "line 3: the image has no name"),
        (
            "a.jpg,64,48,cat,28,8,8,32",
            r"line 3 has bbox \[28.0, 8.0, 8.0, 32.0\]; expected .* x0 <= x1",
        ),
        ("a.jpg,64,48,cat,nan,8,8,32", "line 3 has bbox .*finite"),
    ],
)
def test_bad_rows_name_file_and_line(folder, row, message):
    with pytest.raises(ValueError, match=f"boxes.csv.*{message}"):
        put(folder, f"{HEADER}a.jpg,64,48,dog,8,8,28,32\n{row}\n")


def test_missing_images_name_the_line(folder):
    data = put(folder, HEADER + "a.jpg,64,48,cat,8,8,28,32\ngone.jpg,64,48,cat,8,8,28,32\n")
    (missing,) = data.missing
    assert missing.startswith("gone.jpg (") and missing.endswith("boxes.csv, line 3)")


def test_a_table_without_the_columns_says_which_are_wanted(folder):
    (folder / "boxes.csv").write_text("picture,l,t,r,b\na.jpg,1,2,3,4\n")
    with pytest.raises(ValueError, match="no known layout"):
        read_folder(str(folder))
    with pytest.raises(
        ValueError,
        match=r"boxes.csv, line 1: the columns are picture, l, t, r, b; expected an image",
    ):
        read_folder(str(folder), "csv")


def test_two_tables_are_not_guessed_at(folder):
    put(folder, HEADER + "a.jpg,64,48,cat,8,8,28,32\n", "one.csv")
    with pytest.raises(ValueError, match=r"one.csv and two.csv are both tables of boxes"):
        put(folder, HEADER + "b.jpg,64,48,cat,8,8,28,32\n", "two.csv")
