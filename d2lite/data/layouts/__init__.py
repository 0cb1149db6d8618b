"""Reading, writing, detecting and registering the common layouts of images with objects.

`LAYOUTS` has a reader and a writer for each. All of them read into `LabeledImages`: dataset dicts
by split, class names, and one folder. `docs/own_data.md` describes the layouts.
"""

from d2lite.data.layouts.labeled import LabeledImages
from d2lite.data.layouts.register import RegisteredFolder, register_folder, with_validation
from d2lite.data.layouts.splits import split_records
from d2lite.data.layouts.table import LAYOUTS, Layout, find_layout, read_folder, write_folder

__all__ = [
    "LAYOUTS",
    "LabeledImages",
    "Layout",
    "RegisteredFolder",
    "find_layout",
    "read_folder",
    "register_folder",
    "split_records",
    "with_validation",
    "write_folder",
]
