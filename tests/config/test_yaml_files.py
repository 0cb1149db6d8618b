"""Yaml files that would take time and memory without end are refused in one line."""

import time

import pytest

from d2lite.config import LazyConfig, get_cfg
from d2lite.config.errors import ConfigFileError, ConfigYamlError
from d2lite.projects import add_projects

TEN_KEYS = ", ".join(f"k{i}: 1" for i in range(10))
LISTS = "".join(f"- &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9))
MERGES = "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}\n" for i in range(1, 9))
HOSTILE = {
    "nested references": f"X:\n- &a0 [x]\n{LISTS}OUTPUT_DIR: *a8\n",
    "nested merges": f"a0: &a0 {{{TEN_KEYS}}}\n{MERGES}",
    "long text, many times": f"A: &a '{'x' * 50_000}'\nB: [{'*a, ' * 9000}]",
    "many values": f"A: [{'1, ' * 60_000}]",
    "nested lists": "A: " + "[" * 5000,
    "nested groups": "{A: " * 3000,
    "reference to itself": "A: &a [*a]",
    "decimal digits": "A: " + "1" * 100_000,
    "hexadecimal digits": "A: 0x" + "f" * 100_000,
    "sexagesimal digits": "A: " + "1:" * 50_000 + "1",
    "large file": "A: " + "x" * 1_000_000,
    "no date": "A: 2020-99-99",
    "no timestamp": "A: !!timestamp x",
    "no number": "A: !!float x",
    "date": "OUTPUT_DIR: 2020-01-01",
    "base that is a number": "_BASE_: 5",
    "base that is a group": "_BASE_: {a: 1}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_refused_in_one_line(tmp_path, name):
    path = tmp_path / "a.yaml"
    path.write_text(HOSTILE[name])
    start = time.process_time()
    with pytest.raises(ConfigYamlError, match=r"a\.yaml") as caught:
        get_cfg().merge_from_file(str(path))
    assert time.process_time() - start < 5  # a tenth, on a quiet machine
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_bases_of_bases_without_end(tmp_path):
    for i in range(20):
        (tmp_path / f"{i}.yaml").write_text(f"_BASE_: [{i + 1}.yaml, {i + 1}.yaml]")
    with pytest.raises(ConfigYamlError, match=r"0\.yaml: it has more than \d+ _BASE_ files"):
        get_cfg().merge_from_file(str(tmp_path / "0.yaml"))


def test_base_of_a_remote_file_is_beside_it(monkeypatch):
    import io

    from d2lite.config.yaml_files import load_with_bases

    files = {"https://a.org/x/y.yaml": "_BASE_: ../z.yaml\nA: 1", "https://a.org/z.yaml": "B: 2"}
    loaded = load_with_bases("https://a.org/x/y.yaml", lambda name: io.StringIO(files[name]))
    assert loaded == {"A": 1, "B": 2}


def test_device_is_not_read(tmp_path):
    (tmp_path / "a.yaml").symlink_to("/dev/zero")
    with pytest.raises(ConfigFileError, match="pipe, device or socket"):
        get_cfg().merge_from_file(str(tmp_path / "a.yaml"))


def test_a_config_does_not_choose_what_is_imported(tmp_path):
    (tmp_path / "a.yaml").write_text("PROJECTS: [antigravity]")
    with pytest.raises(ImportError, match=r"a\.yaml: PROJECTS names 'antigravity', which is not"):
        add_projects(get_cfg(), str(tmp_path / "a.yaml"))
    # Named on the command line, or imported by the program itself.
    add_projects(get_cfg(), str(tmp_path / "a.yaml"), ["PROJECTS", "colorsys"])
    (tmp_path / "a.yaml").write_text("PROJECTS: json")
    add_projects(get_cfg(), str(tmp_path / "a.yaml"))


@pytest.mark.parametrize("name", ["https://a.org/x.py", "http://a.org/x.yaml", "detectron2://x.py"])
def test_lazy_configs_are_not_loaded_from_elsewhere(name):
    with pytest.raises(ValueError, match="not a local file"):
        LazyConfig.load(name)
