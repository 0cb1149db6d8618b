"""Names of d2lite's own that were changed since, because programs for detectron2 use them too.

Configs may still say the old names; they get a warning. A program that defines an old name itself
has it to itself: its key or registered object is used then, and nothing is renamed.
"""

# Config keys and groups of keys, old name -> new name.
RENAMED_KEYS = {
    "MODEL.TIMM": "MODEL.TIMM_MODEL",
    "SOLVER.OPTIMIZER": "SOLVER.OPTIMIZER_NAME",
}

# Registered objects, old name -> new name.
RENAMED_OBJECTS = {
    "build_retinanet_timm_fpn_backbone": "build_retinanet_timm_model_fpn_backbone",
    "build_timm_backbone": "build_timm_model_backbone",
    "build_timm_fpn_backbone": "build_timm_model_fpn_backbone",
}
