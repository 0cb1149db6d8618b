"""Installs d2lite. Pure Python: no compiler is needed."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "d2lite/__init__.py").read_text()).group(1)

EXTRAS = {
    "timm": ["timm>=1.0"],
    "lvis": ["lvis>=0.5.3"],
    "cityscapes": ["cityscapesscripts"],
    "tracking": ["scipy"],
    "onnx": ["onnx", "onnxscript", "onnxruntime"],
}
EXTRAS["all"] = sorted({requirement for extra in EXTRAS.values() for requirement in extra})
# Not in "all": clients of services, and a package that brings OpenCV without windows, in place of
# the one that is there.
EXTRAS |= {"wandb": ["wandb"], "mlflow": ["mlflow-skinny"]}
EXTRAS["albumentations"] = ["albumentations>=2.0"]
EXTRAS["test"] = [
    *EXTRAS["all"],
    *("pytest>=7.3", "pytest-xdist>=3", "ruff"),
    *("nbclient", "ipykernel"),  # run the tutorial
]
# The site that mkdocs.yml describes; MkDocs 2 has another format of settings.
EXTRAS["docs"] = ["mkdocs>=1.6,<2", "mkdocs-material>=9.5", "mkdocstrings[python]>=0.27", "ruff"]

# Projects have folders of their own and are installed as parts of one package.
PROJECTS = {
    f"d2lite.projects.{init.parent.name}": init.parent.relative_to(HERE).as_posix()
    for init in sorted(HERE.glob("projects/*/*/__init__.py"))
}

setup(
    name="d2lite",
    version=VERSION,
    description="detectron2's engine and models, under detectron2's names, in pure Python",
    long_description=(HERE / "README.md").read_text() if (HERE / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=[
        *find_packages(include=["d2lite", "d2lite.*"]),
        "d2lite.model_zoo.configs",
        *PROJECTS,
    ],
    # The configs stand at the top of the repository and are installed inside the package.
    package_dir={"d2lite.model_zoo.configs": "configs", **PROJECTS},
    entry_points={"console_scripts": ["d2lite = d2lite.commands:main"]},
    package_data={
        "d2lite.model_zoo.configs": ["**/*.yaml", "**/*.py", "*.yaml"],
        "d2lite.commands": ["*.html"],
        "d2lite.compat": ["path/detectron2/*.py", "path/*.dist-info/METADATA"],
    },
    # The suite is run on the oldest set (Python 3.10, tests/oldest.txt) and on the newest of each
    # (last: Python 3.13, torch 2.15, torchvision 0.29.2, numpy 2.5, OpenCV 5.0).
    install_requires=[
        "torch>=2.6",  # weights_only=True of earlier releases can be circumvented
        "torchvision>=0.21",
        "cloudpickle",
        "fvcore>=0.1.5",
        "iopath>=0.1.9",
        "pycocotools>=2.0.6",
        "faster-coco-eval>=1.6",
        "tensorboard",
        "opencv-python-headless",  # opencv-python without windows: it needs no system libraries
        "termcolor",
        "tqdm",
        "omegaconf>=2.1",
        "numpy",
        "Pillow",
        "shapely>=2.0",
        "tabulate",
        "matplotlib",
        "pyyaml",
    ],
    extras_require=EXTRAS,
)
