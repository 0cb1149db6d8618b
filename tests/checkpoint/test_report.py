from d2lite.checkpoint.report import IncompatibleKeys, group_names, loading_report


def test_modules_of_one_kind_are_one_line():
    kinds = {
        "backbone.conv1.weight": "a",
        "backbone.conv1.bias": "a",
        "backbone.fc.weight": "a",
        "head.fc.weight": "b",
        "head.cls.weight": "a",
        "head.cls.bias": "a",
        "scale": "b",
    }
    assert group_names(kinds) == {
        "a": [("backbone.*", 3), ("head.cls.*", 2)],
        "b": [("head.fc.weight", 1), ("scale", 1)],
    }


def test_name_that_is_also_a_prefix():
    assert group_names({"w": "a", "w.x": "b"}) == {"a": [("w", 1)], "b": [("w.x", 1)]}


def test_all_of_one_kind_are_named_by_their_top_modules():
    assert group_names({"a.x": "k", "a.y": "k", "b": "k"}) == {"k": [("a.*", 2), ("b", 1)]}


def test_no_names():
    assert group_names({}) == {}


def test_report_of_a_fit_is_one_line():
    report = loading_report("R-50.pkl", ["a", "b"], IncompatibleKeys([], [], []))
    assert report == "R-50.pkl: 2 of the model's 2 entries were loaded"


def test_report_lists_each_kind():
    model = ["body.a", "body.b", "head.w", "head.b", "head.x"]
    found = IncompatibleKeys(["head.b", "head.x"], ["fc.w", "fc.b"], [("head.w", (2, 3), (4, 3))])
    lines = loading_report("R-50.pkl", model, found).splitlines()
    assert lines[0] == "R-50.pkl: 2 of the model's 5 entries were loaded"
    assert [" ".join(line.split()) for line in lines[1:6]] == [
        "loaded body.* (2)",
        "missing head.b",
        "missing head.x",
        "wrong shape head.w: (2, 3) in the checkpoint, (4, 3) in the model",
        "unexpected fc.* (2)",
    ]
