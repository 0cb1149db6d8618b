import pytest
import yaml

from d2lite.config import CfgNode, cfg_node as cfg_node_module, get_cfg


@pytest.fixture
def cfg():
    return get_cfg()


@pytest.fixture
def write(tmp_path):
    def write(text, name="config.yaml"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path)

    return write


# --- merging


def test_file_overwrites_and_keeps_the_type_of_the_default(cfg, write):
    cfg.merge_from_file(write("INPUT: {MIN_SIZE_TRAIN: [600, 800]}\nSOLVER:\n  BASE_LR: 1e-4\n"))
    assert cfg.INPUT.MIN_SIZE_TRAIN == (600, 800)  # a list in yaml, a tuple by default
    assert cfg.SOLVER.BASE_LR == 1e-4  # which yaml itself takes for text
    assert cfg.SOLVER.MAX_ITER == 40000


def test_bases_are_read_first_and_may_be_several(cfg, write):
    write("SOLVER: {MAX_ITER: 1, IMS_PER_BATCH: 1}\nMODEL: {MASK_ON: True}\n", "base/a.yaml")
    write("SOLVER: {MAX_ITER: 2}\n", "base/b.yaml")
    write("_BASE_: [a.yaml, b.yaml]\nSEED: 3\n", "base/both.yaml")
    cfg.merge_from_file(write("_BASE_: base/both.yaml\nSEED: 4\n"))
    solver = cfg.SOLVER
    assert (solver.MAX_ITER, solver.IMS_PER_BATCH, cfg.MODEL.MASK_ON, cfg.SEED) == (2, 1, True, 4)


def test_base_may_be_an_absolute_path_or_start_in_the_home_folder(
    cfg, write, tmp_path, monkeypatch
):
    base = write("SEED: 5\n", "base.yaml")
    cfg.merge_from_file(write(f"_BASE_: {base}\n", "elsewhere/config.yaml"))
    assert cfg.SEED == 5
    monkeypatch.setenv("HOME", str(tmp_path))
    cfg.merge_from_file(write("_BASE_: ~/base.yaml\nMODEL: {MASK_ON: True}\n", "x/config.yaml"))
    assert cfg.SEED == 5 and cfg.MODEL.MASK_ON


def test_empty_file_changes_nothing(cfg, write):
    before = cfg.dump()
    cfg.merge_from_file(write("# nothing\n"))
    assert cfg.dump() == before


def test_overrides_are_python_literals(cfg):
    cfg.merge_from_list(
        ["SOLVER.BASE_LR", "0.01", "DATASETS.TRAIN", "('a',)", "MODEL.WEIGHTS", "x.pth"]
        + ["SOLVER.WEIGHT_DECAY_BIAS", "0.5", "SEED", 7]
    )
    assert (cfg.SOLVER.BASE_LR, cfg.DATASETS.TRAIN, cfg.MODEL.WEIGHTS) == (0.01, ("a",), "x.pth")
    assert (cfg.SOLVER.WEIGHT_DECAY_BIAS, cfg.SEED) == (0.5, 7)


def test_dump_is_plain_yaml_and_comes_back(cfg, write):
    cfg.SOLVER.STEPS = (1, 2)
    text = cfg.dump()
    assert "!!" not in text
    again = get_cfg()
    again.merge_from_file(write(text))
    assert again == cfg


def test_merge_of_another_config(cfg):
    other = CfgNode({"SOLVER": {"MAX_ITER": 5}})
    cfg.merge_from_other_cfg(other)
    assert cfg.SOLVER.MAX_ITER == 5
    with pytest.raises(KeyError, match=r"SOLVER.MAX_ITER"):
        cfg.merge_from_other_cfg(CfgNode({"SOLVER": {"MAX_ITERS": 5}}))


def test_new_keys_where_they_are_allowed(cfg, write):
    cfg.EXTRA = CfgNode(new_allowed=True)
    cfg.merge_from_file(write("EXTRA: {ANY: {THING: 1}}\n"))
    assert cfg.EXTRA.ANY.THING == 1


def test_deprecated_and_renamed_keys(cfg, write):
    cfg.register_deprecated_key("OLD")
    cfg.register_renamed_key("FORMER", "SEED")
    cfg.merge_from_list(["OLD", "1"])
    cfg.merge_from_file(write("OLD: 1\n"))
    with pytest.raises(KeyError, match="renamed to SEED"):
        cfg.merge_from_list(["FORMER", "1"])


def test_frozen_config_refuses_changes(cfg):
    cfg.freeze()
    with pytest.raises(AttributeError):
        cfg.SOLVER.MAX_ITER = 1
    copy = cfg.clone()
    copy.defrost()
    copy.SOLVER.MAX_ITER = 1
    assert cfg.SOLVER.MAX_ITER == 40000


def test_computed_keys_can_be_added_once(cfg):
    cfg.freeze()
    cfg.COMPUTED_SIZE = 3
    with pytest.raises(KeyError):
        cfg.COMPUTED_SIZE = 4


def test_auto_device_is_resolved_at_once(cfg, write, monkeypatch):
    monkeypatch.setattr(cfg_node_module, "best_device", lambda: "best")
    for merge in (
        lambda: cfg.merge_from_file(write("MODEL: {DEVICE: auto}\n")),
        lambda: cfg.merge_from_list(["MODEL.DEVICE", "auto"]),
        lambda: setattr(cfg.MODEL, "DEVICE", "auto"),
    ):
        cfg.MODEL.DEVICE = "cpu"
        merge()
        assert cfg.MODEL.DEVICE == "best"
    cfg.merge_from_list(["MODEL.DEVICE", "cuda:1"])
    assert cfg.MODEL.DEVICE == "cuda:1"


# --- errors: one line each, with the place and the nearest valid name


@pytest.mark.parametrize(
    "key, nearest",
    [
        ("MODEL.WEIGTHS", "Did you mean 'MODEL.WEIGHTS'?"),
        ("MASK_ON", "Did you mean 'MODEL.MASK_ON'?"),
        ("MODEL.ROI_HEAD.NUM_CLASSES", "Did you mean 'MODEL.ROI_HEADS.NUM_CLASSES'?"),
        ("MODEL.WEIGHTS.PATH", "there is no config key 'MODEL.WEIGHTS.PATH'"),
        ("model.mask_on", "Did you mean 'MODEL.MASK_ON'?"),
    ],
)
def test_misspelled_override(cfg, key, nearest):
    with pytest.raises(AssertionError) as error:
        cfg.merge_from_list(["SEED", "1", key, "1"])
    assert nearest in str(error.value) and "\n" not in str(error.value)
    assert cfg.SEED == -1  # nothing was changed


def test_misspelled_key_in_a_file(cfg, write):
    path = write("MODEL:\n  ROI_HEADS:\n    NUM_CLASES: 3\nSEED: 1\n")
    with pytest.raises(KeyError) as error:
        cfg.merge_from_file(path)
    assert str(error.value) == (
        f"{path}: there is no config key 'MODEL.ROI_HEADS.NUM_CLASES'. "
        "Did you mean 'MODEL.ROI_HEADS.NUM_CLASSES'?"
    )
    assert cfg.SEED == -1


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("SOLVER.BASE_LR", "1", r"is 1 \(int\), but must be float.*0\.001; write 1\.0"),
        ("SOLVER.MAX_ITER", "1e3", r"is 1000\.0 \(float\), but must be int.*; write 1000$"),
        ("SOLVER.MAX_ITER", "2.5", r"must be int"),
        ("MODEL.MASK_ON", "yes", r"must be bool.*; write True or False"),
        ("DATASETS.TRAIN", "coco", r"must be tuple.*; write \('coco',\)"),
        ("SOLVER", "3", r"SOLVER is 3, but it is a group of keys: set SOLVER\."),
    ],
)
def test_override_of_another_type(cfg, key, value, message):
    with pytest.raises(ValueError, match=message):
        cfg.merge_from_list([key, value])


def test_wrong_type_in_a_file(cfg, write):
    path = write("SOLVER: {BASE_LR: 1}\n")
    with pytest.raises(ValueError, match=rf"^{path}: SOLVER.BASE_LR is 1 .*write 1\.0$"):
        cfg.merge_from_file(path)
    with pytest.raises(ValueError, match="SEED is a single value"):
        cfg.merge_from_file(write("SEED: {A: 1}\n"))


def test_overrides_must_be_pairs(cfg):
    with pytest.raises(AssertionError, match=r"pairs of KEY VALUE.* MODEL.MASK_ON has no value"):
        cfg.merge_from_list(["SEED", "1", "MODEL.MASK_ON"])
    with pytest.raises(AssertionError, match=r" SEED has no value"):
        cfg.merge_from_list(["SEED", "MODEL.MASK_ON", "True"])
    with pytest.raises(AssertionError, match=r" SEED=1 is one word; write SEED 1$"):
        cfg.merge_from_list(["MODEL.MASK_ON", "True", "SEED=1"])


@pytest.mark.parametrize("words", [["SEED", "1", "--resume"], ["SEED", "1", "--num-gpus", "2"]])
def test_options_behind_the_overrides_are_told(cfg, words):
    with pytest.raises(AssertionError, match=rf"^{words[2]} is among the overrides; options"):
        cfg.merge_from_list(words)


def test_base_key_is_for_files_only(cfg):
    with pytest.raises(AssertionError, match="only be used in files"):
        cfg.merge_from_list(["_BASE_", "x.yaml"])
    with pytest.raises(AssertionError, match="only be used in files"):
        cfg.merge_from_other_cfg(CfgNode({"_BASE_": "x.yaml"}))


def test_missing_file_names_the_nearest(cfg, write, tmp_path):
    write("", "faster_rcnn.yaml")
    with pytest.raises(
        FileNotFoundError, match=r"fastr_rcnn.yaml.*Did you mean 'faster_rcnn.yaml'"
    ):
        cfg.merge_from_file(str(tmp_path / "fastr_rcnn.yaml"))
    with pytest.raises(FileNotFoundError, match="no folder"):
        cfg.merge_from_file(str(tmp_path / "none" / "x.yaml"))


def test_missing_base_names_the_file_that_wants_it(cfg, write):
    path = write("_BASE_: none.yaml\n")
    with pytest.raises(FileNotFoundError, match=rf"{path}: its _BASE_ .*none.yaml does not exist"):
        cfg.merge_from_file(path)


def test_base_that_leads_back_is_refused(cfg, write):
    write("_BASE_: b.yaml\n", "a.yaml")
    with pytest.raises(FileNotFoundError, match="leads back"):
        cfg.merge_from_file(write("_BASE_: a.yaml\n", "b.yaml"))


def test_group_over_a_value_of_the_base_is_refused(cfg, write):
    write("SEED: 1\n", "base.yaml")
    with pytest.raises(ValueError, match="SEED is a group"):
        cfg.merge_from_file(write("_BASE_: base.yaml\nSEED: {A: 1}\n"))


@pytest.mark.parametrize(
    "text, message",
    [
        ("SEED: 1\nX: !!python/object/apply:os.system ['touch hacked']\n", r"line 2.*run code"),
        ("X: !!python/name:os.system\n", r"line 1.*!!python/name:os.system would run code"),
        (
            "X: !!python/object/apply:eval [open('a')]\n",
            r"line 1: cannot eval.*'open' is not allow",
        ),
        ("A: 0\nX: !!python/object/apply:eval ['1/0']\n", r"line 2: .*ZeroDivisionError"),
        ("X: !!python/object/apply:eval [1, 2]\n", r"line 1.*needs one expression"),
        ("X: !!python/object/new:eval ['1']\n", r"line 1.*object/new:eval would run code"),
        ("X: !own 3\n", r"line 1: the yaml tag !own is unknown"),
        ("X: [1, 2\n", r"not valid yaml.*line"),
        ("just text\n", r"contains a str"),
    ],
)
def test_file_of_anything_but_plain_yaml_is_refused(cfg, write, text, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        cfg.merge_from_file(write(text), allow_unsafe=True)
    assert not (tmp_path / "hacked").exists()


def test_anchor_sizes_of_detectron2s_retinanet_are_computed(cfg, write):
    expression = "[[x, x * 2**(1.0/3), x * 2**(2.0/3) ] for x in [32, 64, 128, 256, 512 ]]"
    cfg.merge_from_file(
        write(
            "MODEL:\n  ANCHOR_GENERATOR:\n"
            f'    SIZES: !!python/object/apply:eval ["{expression}"]\n'
            "INPUT:\n"
            '  MIN_SIZE_TRAIN: !!python/object/apply:eval ["[int(x * 51.2) for x in (5, 6, 7)]"]\n'
            "  MIN_SIZE_TEST: !!python/object/apply:builtins.eval {args: ['2 ** 5']}\n"
        )
    )
    sizes = eval(expression)
    assert sizes == cfg.MODEL.ANCHOR_GENERATOR.SIZES
    assert cfg.INPUT.MIN_SIZE_TRAIN == (256, 307, 358)
    assert cfg.INPUT.MIN_SIZE_TEST == 32
    # the dump has the values themselves
    assert yaml.safe_load(cfg.dump())["MODEL"]["ANCHOR_GENERATOR"]["SIZES"] == sizes


def test_plain_types_of_python_can_be_tagged(cfg, write):
    cfg.merge_from_file(
        write(
            "DATASETS: {TRAIN: !!python/tuple [a, b]}\nOUTPUT_DIR: !!python/unicode 'x'\n"
            "SOLVER: {STEPS: !!python/list [1, 2], MAX_ITER: !!python/long 3}\n"
        )
    )
    assert (cfg.DATASETS.TRAIN, cfg.OUTPUT_DIR) == (("a", "b"), "x")
    assert (cfg.SOLVER.STEPS, cfg.SOLVER.MAX_ITER) == ((1, 2), 3)


def test_one_dataset_may_be_assigned_without_its_tuple():
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = "shapes_train"
    cfg.DATASETS.TEST = ["a", "b"]
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (("shapes_train",), ["a", "b"])


def test_a_python_config_in_place_of_yaml_says_which_program_takes_it(tmp_path):
    (tmp_path / "lazy.py").write_text("model = {}")
    with pytest.raises(ValueError, match=r"lazy\.py is a Python config, .*lazyconfig_train_net"):
        get_cfg().merge_from_file(str(tmp_path / "lazy.py"))


def test_no_test_set_may_be_written_as_none():
    cfg = get_cfg()
    cfg.DATASETS.TEST = None
    assert cfg.DATASETS.TEST == ()
    cfg.merge_from_list(["DATASETS.TEST", "None"])
    assert cfg.DATASETS.TEST == ()
