import subprocess
import sys
import textwrap
from pathlib import Path

import pytest


def run(*arguments, cwd):
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_every_module_is_the_same_object(tmp_path):
    program = """
        import d2lite.compat.detectron2
        import detectron2, d2lite
        from detectron2.structures import Boxes
        from detectron2.structures.boxes import Boxes as Deep
        import detectron2.utils.comm as comm
        import d2lite.structures, d2lite.utils.comm
        from detectron2 import structures
        assert detectron2.structures is d2lite.structures
        assert detectron2.__version__ == "0.6"
        assert detectron2.__file__ == d2lite.__file__ and detectron2.__path__ == d2lite.__path__
        assert Boxes is Deep is d2lite.structures.Boxes
        assert comm is d2lite.utils.comm
        assert structures is d2lite.structures
        assert d2lite.structures.__spec__.name == "d2lite.structures"
        print("same")
    """
    (tmp_path / "program.py").write_text(textwrap.dedent(program))
    done = run("program.py", cwd=tmp_path)
    assert done.stdout == "same\n", done.stderr


def test_program_runs_unchanged_with_its_arguments_and_its_spawned_processes(tmp_path):
    program = """
        import sys
        from detectron2.engine import launch
        from detectron2.utils import comm
        import neighbor

        def main(word):
            total = sum(comm.all_gather(comm.get_rank() + 1))
            if comm.is_main_process():
                print(word, total, neighbor.VALUE, flush=True)

        if __name__ == "__main__":
            launch(main, 2, args=(sys.argv[1],))
    """
    (tmp_path / "program.py").write_text(textwrap.dedent(program))
    (tmp_path / "neighbor.py").write_text("VALUE = 7\n")
    done = run("-m", "d2lite.compat", "program.py", "hello", cwd=tmp_path)
    assert done.stdout == "hello 3 7\n", done.stderr


def test_module_runs_unchanged_with_its_spawned_processes(tmp_path):
    program = """
        import importlib.metadata, multiprocessing, sys
        from detectron2.utils.registry import Registry
        from .neighbor import VALUE

        def work(queue):
            queue.put((VALUE, Registry.__module__, importlib.metadata.version("detectron2")))

        def main():
            context = multiprocessing.get_context("spawn")
            queue = context.Queue()
            child = context.Process(target=work, args=(queue,))
            child.start()
            print(sys.argv[1:], *queue.get(timeout=60))
            child.join()

        if __name__ == "__main__":
            main()
    """
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__main__.py").write_text("from .train import main\nmain()\n")
    (tmp_path / "pack" / "train.py").write_text(textwrap.dedent(program))
    (tmp_path / "pack" / "neighbor.py").write_text("VALUE = 7\n")
    for module in ("pack", "pack.train"):
        done = run("-m", "d2lite.compat", "-m", module, "hello", cwd=tmp_path)
        assert done.stdout == "['hello'] 7 d2lite.utils.registry 0.6\n", done.stderr


@pytest.mark.parametrize("module", ["gone", "gone.deep", "json.gone"])
def test_missing_module_is_named(tmp_path, module):
    done = run("-m", "d2lite.compat", "-m", module, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"No module named {module}\n")


def test_logger_of_the_old_name_is_ours(tmp_path):
    program = """
        import logging
        early = logging.getLogger("detectron2.early")
        import d2lite.compat.detectron2
        from detectron2.utils.logger import setup_logger
        setup_logger(name="detectron2")
        early.info("heard early")
        logging.getLogger("detectron2.late").info("heard late")
        logging.getLogger("d2lite.engine").info("heard ours")
        logging.getLogger("detectron2").setLevel(logging.ERROR)
        logging.getLogger("d2lite.engine").info("silenced")
        from detectron2.engine import hooks
        for module in ("engine.hooks", "utils.events"):  # also one that others import
            new = logging.getLogger("d2lite." + module)
            assert logging.getLogger("detectron2." + module) is new
    """
    (tmp_path / "program.py").write_text(textwrap.dedent(program))
    done = run("program.py", cwd=tmp_path)
    heard = [line.rpartition("INFO: ")[2] for line in done.stdout.splitlines()]
    assert heard == ["heard early", "heard late", "heard ours"], done.stderr


def test_program_for_detectron2_runs_unchanged(tmp_path):
    program = Path(__file__).with_name("detectron2_program.py")
    done = run("-m", "d2lite.compat", str(program), str(tmp_path / "out"), cwd=tmp_path)
    assert done.stdout.endswith("RESULTS ['bbox', 'segm']\n"), done.stderr
    assert "all done, with version" in done.stdout
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"out.png", "truth.png"} <= written
    metrics = (tmp_path / "out" / "run" / "metrics.json").read_text()
    for name in ("my/proposals", "validation_loss", "total_val_loss", "val_loss_mine", "bbox/AP"):
        assert f'"{name}"' in metrics, metrics


def test_name_that_does_not_exist_is_the_usual_error(tmp_path):
    done = run("-c", "import d2lite.compat.detectron2, detectron2.no_such_module", cwd=tmp_path)
    assert "ModuleNotFoundError: No module named 'detectron2.no_such_module'" in done.stderr


def test_missing_script_is_named(tmp_path):
    done = run("-m", "d2lite.compat", "gone.py", cwd=tmp_path)
    assert done.returncode != 0
    assert "gone.py is not a file" in done.stderr
