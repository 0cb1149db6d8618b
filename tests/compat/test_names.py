"""Every name of detectron2 that public code imports, and the table that has the old ones."""

import importlib
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import d2lite.utils.comm
from d2lite.compat import names, table

IN_USE = json.loads((Path(__file__).parents[1] / "reference" / "names_in_use.json").read_text())[
    "names"
]

C_EXTENSION = "the C++ extension"
TORCHSCRIPT = "TorchScript"
# Each name that is not here, and what it needs.
NOT_HERE = {
    "_C": C_EXTENSION,
    "_C.COCOevalAccumulate": C_EXTENSION,
    "_C.COCOevalEvaluateImages": C_EXTENSION,
    "_C.InstanceAnnotation": C_EXTENSION,
    "_C.__file__": C_EXTENSION,
    "_C.deform_conv_backward_filter": C_EXTENSION,
    "_C.deform_conv_backward_input": C_EXTENSION,
    "_C.deform_conv_forward": C_EXTENSION,
    "_C.get_compiler_version": C_EXTENSION,
    "_C.get_cuda_version": C_EXTENSION,
    "_C.modulated_deform_conv_backward": C_EXTENSION,
    "_C.modulated_deform_conv_forward": C_EXTENSION,
    "export.dump_torchscript_IR": TORCHSCRIPT,
    "export.scripting_with_instances": TORCHSCRIPT,
    "export.torchscript.patch_instances": TORCHSCRIPT,
    "export.torchscript_patch.freeze_training_mode": TORCHSCRIPT,
    "export.torchscript_patch.patch_builtin_len": TORCHSCRIPT,
    "export.torchscript_patch.patch_instances": TORCHSCRIPT,
    "utils.testing._pytorch1111_symbolic_opset9_repeat_interleave": TORCHSCRIPT,
    "utils.testing._pytorch1111_symbolic_opset9_to": TORCHSCRIPT,
    "utils.testing.convert_scripted_instances": TORCHSCRIPT,
    "utils.testing.register_custom_op_onnx_export": TORCHSCRIPT,
    "utils.testing.reload_script_model": TORCHSCRIPT,
    "utils.testing.unregister_custom_op_onnx_export": TORCHSCRIPT,
}


def import_name(path):
    """Return the object that `from d2lite.a.b import c` imports for the path "a.b.c"."""
    module, _, name = f"d2lite.{path}".rpartition(".")
    scope = {}
    exec(f"from {module} import {name}", scope)
    return scope[name]


def test_every_name_in_use_is_here():
    missing = {}
    for full in IN_USE:
        path = full.removeprefix("detectron2.")
        try:
            import_name(path)
        except ImportError as error:
            missing[path] = str(error)
    assert set(missing) == set(NOT_HERE), sorted(set(missing) ^ set(NOT_HERE))
    for path, message in missing.items():
        assert NOT_HERE[path].split()[-1] in message, message
        assert "use d2lite.export.export_program" in message or "are in d2lite.layers" in message


def test_reference_is_read_in_full():
    assert len(IN_USE) > 500
    assert "detectron2.modeling.poolers.cat" in IN_USE


def test_every_entry_of_the_table_leads_to_something():
    wrong = []
    for module in {*table.MOVED, *table.IMPORTED}:
        found = importlib.import_module(f"d2lite.{module}")
        for name in [*table.MOVED.get(module, {}), *table.IMPORTED.get(module, "").split()]:
            try:
                getattr(found, name)
                # A room that has the name itself hides the table's entry, which must work too.
                target = table.target(module, name)
                target is None or names._load(target)
            except ModuleNotFoundError as error:
                if error.name.split(".")[0] != "timm":  # an extra
                    wrong.append(f"{module}.{name}: {error!r}")
            except (AttributeError, ImportError, StopIteration) as error:
                wrong.append(f"{module}.{name}: {error!r}")
    assert not wrong, "\n".join(wrong)


def test_moved_names_are_not_in_their_rooms_already():
    stale = [
        f"{module}.{name}"
        for module, entries in table.MOVED.items()
        for name in entries
        if name in vars(importlib.import_module(f"d2lite.{module}"))
    ]
    assert not stale, "these stand in the room itself: " + ", ".join(stale)


def test_every_home_is_needed():
    needed = {name for names_ in table.IMPORTED.values() for name in names_.split()}
    listed = [name for names_ in table.HOMES.values() for name in names_.split()]
    assert set(listed) == needed - set(table.MODULES)
    assert len(listed) == len(set(listed)), "a name has one home"


def test_modules_and_names_that_are_gone_say_what_to_use():
    for path in table.GONE:
        with pytest.raises(ImportError, match=r"is not here.*use|is not here.*are in"):
            import_name(path)
    with pytest.raises(ImportError, match=r"no C\+\+ extension"):
        importlib.import_module("d2lite._C")


def test_a_name_that_detectron2_does_not_have_either():
    with pytest.raises(AttributeError, match=r"module 'd2lite\.utils\.comm' has no attribute 'x'"):
        d2lite.utils.comm.x  # noqa: B018
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("d2lite.no_such_room")
    assert not hasattr(d2lite.utils.comm, "__path__")


def test_old_names_do_not_show_and_source_is_still_found():
    import inspect

    import d2lite.modeling.poolers as poolers

    assert poolers.cat is d2lite.layers.cat
    assert "cat" not in vars(poolers)
    assert "class ROIPooler" in inspect.getsource(poolers)


def test_the_table_is_read_only_when_asked_and_works_through_the_alias(tmp_path):
    program = """
        import sys
        import d2lite.structures
        import d2lite.solver.lr_scheduler
        assert "d2lite.compat.table" not in sys.modules
        import d2lite.compat.detectron2
        from detectron2.solver.lr_scheduler import _get_warmup_factor_at_iter as old
        from d2lite.solver.lr_scheduler import _get_warmup_factor_at_iter as new
        assert old is new
        try:
            from detectron2 import _C
        except ImportError as error:
            print(type(error).__name__)
    """
    (tmp_path / "program.py").write_text(textwrap.dedent(program))
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "ImportError\n", done.stderr


def test_modules_that_moved_are_one_object_under_both_names():
    for old in table.MOVED_MODULES:
        module = importlib.import_module(f"d2lite.{old}")
        assert module is importlib.import_module(table.new_module(old))
        assert module.__spec__.name == module.__name__ == table.new_module(old)
        assert import_name(old) is module


def test_patching_a_module_under_its_old_name_patches_the_module(monkeypatch):
    from d2lite.visualization import visualizer

    monkeypatch.setattr("d2lite.utils.visualizer._KEYPOINT_THRESHOLD", 0.9)
    assert visualizer.Visualizer(np.zeros((9, 9, 3), np.uint8)).keypoint_threshold == 0.9
