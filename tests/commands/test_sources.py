"""Words of the command line as images, videos and cameras."""

from d2lite.commands.sources import distinct_names, find_sources


def test_sources_of_every_kind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/x.png", "b/x.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True)
        (tmp_path / "in" / name).write_bytes(b"")
    (tmp_path / "in/list.txt").write_text("# photos\na/x.png\n\nin/b/x.png\n")
    (tmp_path / "in/.hidden").mkdir()
    (tmp_path / "in/.hidden/y.png").write_bytes(b"")
    (tmp_path / "in/film.mp4").write_bytes(b"")

    def paths(*words):
        return [(s.kind, s.path.replace("\\", "/")) for s in find_sources(words)]

    two = [("image", "in/a/x.png"), ("image", "in/b/x.png")]
    assert paths("in") == [two[0], two[1], ("video", "in/film.mp4")]
    assert paths("in/*/x.png", "in/a/x.png") == two
    assert paths("in/list.txt") == two
    assert paths("0", "rtsp://camera/1") == [("camera", "0"), ("video", "rtsp://camera/1")]
    assert paths("http://host/a.jpg?x=1", "shapes://val/3") == [
        ("image", "http://host/a.jpg?x=1"),
        ("image", "shapes://val/3"),
    ]


def test_names_are_distinct_without_their_endings():
    names = distinct_names(["a/x.jpg", "a/x.png", "b/X.jpg", "c/d.jpg"])
    assert names == ["x", "a_x", "b_X", "d"]
