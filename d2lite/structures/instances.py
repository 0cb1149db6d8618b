"""`Instances`: the objects of one image, with one field per property."""

import itertools
from typing import Any

import torch
from torch import Tensor


class Instances:
    """Objects of one image: named fields of equal length, indexed together.

    Fields are set and read as attributes (`instances.gt_boxes = Boxes(...)`). A field is a tensor,
    a list, or an object with a length, indexing and, for `Instances.cat`, a `cat`. Names that start
    with an underscore are ordinary attributes.
    """

    def __init__(self, image_size: tuple[int, int], **kwargs: Any):
        """image_size: (height, width) in pixels. kwargs: fields by name."""
        self._image_size = image_size
        self._fields: dict[str, Any] = {}
        for name, value in kwargs.items():
            self.set(name, value)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the image, in pixels."""
        return self._image_size

    def __setattr__(self, name: str, val: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, val)
        else:
            self.set(name, val)

    def __getattr__(self, name: str) -> Any:
        # Before __init__ has run (copy, pickle), looking up `_fields` must not recurse.
        if name == "_fields" or name not in self._fields:
            names = sorted(self.__dict__.get("_fields", ()))
            present = f"fields present: {', '.join(names)}" if names else "no field is set"
            raise AttributeError(f"Instances have no field {name!r}; {present}")
        return self._fields[name]

    def set(self, name: str, value: Any) -> None:
        """Set the field `name`.

        Raises:
            AssertionError: its length differs from that of the other fields.
        """
        if self._fields:
            assert len(value) == len(self), (
                f"field {name!r} has {len(value)} rows, these Instances have {len(self)}"
            )
        self._fields[name] = value

    def has(self, name: str) -> bool:
        """Return whether there is a field `name`."""
        return name in self._fields

    def remove(self, name: str) -> None:
        """Delete the field `name`; raise a KeyError if it does not exist."""
        del self._fields[name]

    def get(self, name: str) -> Any:
        """Return the field `name`; raise a KeyError if it does not exist."""
        return self._fields[name]

    def get_fields(self) -> dict[str, Any]:
        """Return all fields by name, as the object's own dict, not a copy."""
        return self._fields

    def to(self, *args: Any, **kwargs: Any) -> "Instances":
        """Return a copy; `to(*args, **kwargs)` is applied to all fields that have it."""
        moved = Instances(self._image_size)
        for name, value in self._fields.items():
            moved.set(name, value.to(*args, **kwargs) if hasattr(value, "to") else value)
        return moved

    def __getitem__(self, item: int | slice | Tensor) -> "Instances":
        """Select objects in all fields; an integer gives Instances of length 1.

        Raises:
            IndexError: an integer is out of range.
        """
        if isinstance(item, int):
            if not -len(self) <= item < len(self):
                raise IndexError(f"index {item} is out of range for {len(self)} instances")
            item = slice(item, None, len(self))  # this row only, for any type of field
        selected = Instances(self._image_size)
        for name, value in self._fields.items():
            if isinstance(value, list) and not isinstance(item, slice):
                # Lists may be indexed by index and mask tensors too.
                rows = torch.arange(len(value))[torch.as_tensor(item).cpu()].tolist()
                selected.set(name, [value[row] for row in rows])
            else:
                selected.set(name, value[item])
        return selected

    def __len__(self) -> int:
        """Return the number of objects.

        Raises:
            NotImplementedError: no field is set, so the number is not known.
        """
        for value in self._fields.values():
            return len(value)
        raise NotImplementedError("Instances without fields have no length; set a field first")

    def __iter__(self):
        raise NotImplementedError("Instances cannot be iterated; loop over range(len(instances))")

    @staticmethod
    def cat(instance_lists: list["Instances"]) -> "Instances":
        """Join Instances of one image field by field; all must have the fields of the first.

        Raises:
            AssertionError: the list is empty or the image sizes differ.
            ValueError: a field is of a type that cannot be joined.
        """
        assert instance_lists, "Instances.cat needs at least one Instances"
        assert all(isinstance(one, Instances) for one in instance_lists), "not a list of Instances"
        if len(instance_lists) == 1:
            return instance_lists[0]
        sizes = {tuple(one.image_size) for one in instance_lists}
        assert len(sizes) == 1, f"cannot join Instances of different image sizes: {sorted(sizes)}"
        joined = Instances(instance_lists[0].image_size)
        for name, first in instance_lists[0]._fields.items():
            values = [one.get(name) for one in instance_lists]
            if isinstance(first, Tensor):
                joined.set(name, torch.cat(values, dim=0))
            elif isinstance(first, list):
                joined.set(name, list(itertools.chain.from_iterable(values)))
            elif hasattr(type(first), "cat"):
                joined.set(name, type(first).cat(values))
            else:
                raise ValueError(
                    f"cannot join field {name!r} of type {type(first).__name__}: "
                    "it is neither a tensor nor a list, and its class has no `cat`"
                )
        return joined

    def __str__(self) -> str:
        height, width = self._image_size
        number = len(self) if self._fields else 0
        fields = ", ".join(f"{name}: {value}" for name, value in self._fields.items())
        return (
            f"Instances(num_instances={number}, image_height={height}, image_width={width}, "
            f"fields=[{fields}])"
        )

    __repr__ = __str__
