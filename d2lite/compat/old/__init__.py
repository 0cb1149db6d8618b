"""Functions and classes that only code written for detectron2 uses, by room.

Nothing in the rooms calls them; `table.py` says under which path each is found. Their names and
signatures are detectron2's.
"""
