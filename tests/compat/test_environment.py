"""The alias as an installed package, in a folder that stands for site-packages."""

import importlib.metadata
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from d2lite.compat import ALIAS_FOLDER
from d2lite.compat.environment import AliasError, add_alias, remove_alias, site_packages

ROOT = Path(__file__).parents[2]


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def run(*arguments, cwd, packages):
    path = os.pathsep.join([str(ROOT), str(packages)])
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(autouse=True)
def no_other_packages(monkeypatch):
    """An alias or a detectron2 on this machine is none of the test's business."""
    monkeypatch.setattr(sys, "path", [str(ROOT)])


def test_package_is_as_pip_leaves_one_and_leaves_nothing(tmp_path):
    (tmp_path / "other.py").touch()
    before = files(tmp_path)
    for _ in range(2):  # the second time it replaces itself
        assert add_alias(tmp_path) == tmp_path / "detectron2"
        (found,) = importlib.metadata.distributions(name="detectron2", path=[str(tmp_path)])
        assert found.version == "0.6"
        assert all(file.locate().is_file() for file in found.files)
        assert {str(file) for file in found.files} | before == {
            name for name in files(tmp_path) if (tmp_path / name).is_file()
        }
    (tmp_path / "detectron2" / "__pycache__").mkdir()
    assert remove_alias(tmp_path)
    assert files(tmp_path) == before
    assert not remove_alias(tmp_path)


def test_default_is_the_environment():
    assert Path(sys.prefix) in site_packages().parents
    assert site_packages().name in ("site-packages", "dist-packages")


def test_fresh_interpreter_and_its_spawned_processes_find_it(tmp_path):
    add_alias(tmp_path / "packages")
    program = """
        import importlib.metadata
        import importlib.util
        import multiprocessing

        assert importlib.util.find_spec("detectron2") is not None
        assert importlib.metadata.version("detectron2") == "0.6"

        import detectron2
        from detectron2.utils.registry import Registry
        import d2lite.utils.registry
        assert Registry is d2lite.utils.registry.Registry
        assert detectron2.__version__ == "0.6" and detectron2.utils is d2lite.utils
        assert importlib.util.find_spec("detectron2.utils.comm") is not None
        assert importlib.util.find_spec("detectron2.nothing") is None
        assert not hasattr(detectron2, "nothing")

        def work(queue):
            queue.put((detectron2.__version__, Registry.__module__))

        if __name__ == "__main__":
            context = multiprocessing.get_context("spawn")
            queue = context.Queue()
            child = context.Process(target=work, args=(queue,))
            child.start()
            print(*queue.get(timeout=60))
            child.join()
    """
    (tmp_path / "program.py").write_text(textwrap.dedent(program))
    done = run("program.py", cwd=tmp_path, packages=tmp_path / "packages")
    assert done.stdout == "0.6 d2lite.utils.registry\n", done.stderr


@pytest.mark.parametrize("module", ["detectron2.utils.serialize", "detectron2.utils.develop"])
def test_module_of_the_alias_runs_as_a_program(tmp_path, module):
    add_alias(tmp_path)
    done = run("-m", module, cwd=tmp_path, packages=tmp_path)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_alias_without_d2lite_says_what_it_is(tmp_path):
    add_alias(tmp_path)
    hide = "import sys; sys.modules['d2lite'] = None; import detectron2"
    done = run("-c", hide, cwd=tmp_path, packages=tmp_path)
    assert "is an alias of d2lite, which cannot be imported" in done.stderr


@pytest.mark.parametrize("where", ["target", "path"])
@pytest.mark.parametrize("kind", ["package", "distribution", "module"])
def test_real_detectron2_is_neither_shadowed_nor_removed(tmp_path, monkeypatch, where, kind):
    real, target = tmp_path / "real", tmp_path / "target"
    if where == "target":
        real = target
    monkeypatch.setattr(sys, "path", [str(ROOT), str(real)])
    if kind == "package":
        (real / "detectron2").mkdir(parents=True)
        (real / "detectron2" / "__init__.py").write_text('__version__ = "0.5"\n')
    elif kind == "module":
        real.mkdir()
        (real / "detectron2.py").touch()
    else:  # as an editable install leaves it
        (real / "detectron2-0.5.dist-info").mkdir(parents=True)
        metadata = "Metadata-Version: 2.1\nName: detectron2\nVersion: 0.5\n"
        (real / "detectron2-0.5.dist-info" / "METADATA").write_text(metadata)
    before = files(tmp_path)
    with pytest.raises(AliasError, match=r"detectron2 itself is installed: .*(version 0\.5|\.py)"):
        add_alias(target)
    if where == "target":
        with pytest.raises(AliasError, match="nothing was removed"):
            remove_alias(target)
    assert files(tmp_path) == before


def test_folder_of_that_name_is_left_alone(tmp_path):
    (tmp_path / "detectron2").mkdir()
    (tmp_path / "detectron2" / "notes.txt").touch()
    with pytest.raises(AliasError, match="exists and is not the alias"):
        add_alias(tmp_path)
    assert not remove_alias(tmp_path)
    assert files(tmp_path) == {"detectron2", "detectron2/notes.txt"}


def test_what_somebody_put_into_the_alias_stays(tmp_path):
    add_alias(tmp_path)
    (tmp_path / "detectron2" / "notes.txt").touch()
    assert remove_alias(tmp_path)
    assert files(tmp_path) == {"detectron2", "detectron2/notes.txt"}


def test_half_an_installation_is_completed_or_removed(tmp_path):
    add_alias(tmp_path)
    whole = files(tmp_path)
    for path in (tmp_path / "detectron2-0.6.dist-info").iterdir():
        if path.name != "INSTALLER":
            path.unlink()
    add_alias(tmp_path)
    assert files(tmp_path) == whole
    (tmp_path / "detectron2" / "__init__.py").unlink()
    assert remove_alias(tmp_path)
    assert files(tmp_path) == set()


def test_linked_alias_is_unlinked(tmp_path):
    (tmp_path / "detectron2").symlink_to(ALIAS_FOLDER / "detectron2")
    assert remove_alias(tmp_path)
    assert files(tmp_path) == set()
    assert (ALIAS_FOLDER / "detectron2" / "__init__.py").is_file()


def test_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(AliasError, match=r"file/packages cannot be written \(.+\); use an env"):
        add_alias(tmp_path / "file" / "packages")


def test_command_line(tmp_path):
    target = tmp_path / "packages"
    command = ("-m", "d2lite.compat")
    done = run(*command, "--install", "--target", str(target), cwd=tmp_path, packages="")
    assert "`import detectron2` now finds d2lite" in done.stdout, done.stderr
    assert f"only if {target} is on PYTHONPATH" in done.stdout
    done = run(*command, "--uninstall", "--target", str(target), cwd=tmp_path, packages="")
    assert done.stdout == f"Removed the alias from {target}\n", done.stderr
    assert list(target.iterdir()) == []
    done = run(*command, "--install", "here", cwd=tmp_path, packages="")
    assert done.returncode == 1
    assert done.stderr.startswith("--install: expected --target FOLDER, got here\n")
