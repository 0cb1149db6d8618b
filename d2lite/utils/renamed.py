"""Names of d2lite's own that were renamed because programs for detectron2 use them too.

Configs may still use the old names, with a warning. If a program defines an old name itself, its
own key or registered object is used and nothing is renamed. Names of older config versions are in
`config/compat.py`.
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
