"""All config keys with their defaults, put together from one file per group.

Types matter: a value from a file or the command line must have the type of its default (lists and
tuples turn into each other). `get_cfg` replaces MODEL.DEVICE by the best device present.
"""

from d2lite.config.cfg_node import CfgNode
from d2lite.config.compat import CURRENT_VERSION
from d2lite.config.defaults_data import add_data_defaults
from d2lite.config.defaults_heads import add_head_defaults
from d2lite.config.defaults_model import add_model_defaults
from d2lite.config.defaults_run import add_run_defaults

__all__ = []

_C = CfgNode()

# Version of the key names. A file of an older version is upgraded when it is merged.
_C.VERSION = CURRENT_VERSION

add_model_defaults(_C)
add_head_defaults(_C)
add_data_defaults(_C)
add_run_defaults(_C)
