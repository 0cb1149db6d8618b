"""Run programs that were written for detectron2.

    python -m d2lite.compat train.py --num-gpus 1     # the program stays as it is
    import d2lite.compat.detectron2                   # or: one line at its top

After either, `import detectron2.anything` finds the same module object as `d2lite.anything`.
"""

__all__: list[str] = []
