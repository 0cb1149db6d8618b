"""Policies that look at an image, draw random numbers and return a deterministic transform."""

import inspect
import pprint
from collections.abc import Sequence
from typing import Any

import numpy as np
from fvcore.transforms.transform import Transform, TransformList

from d2lite.utils.errors import ArgumentError


class Augmentation:
    """Base class of augmentations: `get_transform` returns a Transform, `__call__` applies it.

    The parameters of `get_transform` are looked up by name in the input: a subclass that defines
    `get_transform(self, image, boxes)` gets `aug_input.image` and `aug_input.boxes`.
    Random numbers come from `np.random` or `random`, which the loader seeds for every sample.
    """

    # Names of the attributes that get_transform takes; None: read from its signature.
    input_args: tuple[str, ...] | None = None

    def _init(self, params: dict[str, Any]) -> None:
        """Store the arguments of __init__ (its `locals()`) as attributes, for __repr__."""
        for name, value in params.items():
            if name != "self" and not name.startswith("_"):
                setattr(self, name, value)

    def get_transform(self, *args: Any) -> Transform:
        """Return the transform to apply, given these attributes of the input."""
        raise NotImplementedError(f"{type(self).__name__} must define get_transform")

    def __call__(self, aug_input: "AugInput") -> Transform:
        """Change `aug_input` in place and return the Transform that did it."""
        assert isinstance(aug_input, AugInput) or hasattr(aug_input, "transform"), (
            f"{type(self).__name__} takes an AugInput, not {type(aug_input).__name__}"
        )
        transform = self.get_transform(*_arguments_for(self, aug_input))
        assert isinstance(transform, Transform), (
            f"{type(self).__name__}.get_transform must return a Transform, not {transform!r}"
        )
        aug_input.transform(transform)
        return transform

    @staticmethod
    def _rand_range(low: float = 1.0, high: float | None = None, size=None):
        """Draw uniform numbers from [low, high), or from [0, low) if only one is given."""
        if high is None:
            low, high = 0, low
        return np.random.uniform(low, high, size or [])

    def __repr__(self) -> str:
        """Return the name and the arguments that differ from their defaults."""
        shown = []
        for name, parameter in inspect.signature(self.__init__).parameters.items():
            is_star = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            if is_star or not hasattr(self, name):
                return object.__repr__(self)
            value = getattr(self, name)
            if value is not parameter.default:
                text = pprint.pformat(value)
                shown.append(f"{name}={text if chr(10) not in text else '...'}")
        return f"{type(self).__name__}({', '.join(shown)})"

    __str__ = __repr__


def _arguments_for(augmentation: Augmentation, aug_input: "AugInput") -> list[Any]:
    """Return the attributes of the input that get_transform asks for, in order."""
    if augmentation.input_args is None:
        parameters = list(inspect.signature(augmentation.get_transform).parameters.values())
        for parameter in parameters if len(parameters) != 1 else ():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise TypeError(
                    f"{type(augmentation).__name__}.get_transform takes {parameter}; it must name "
                    "what it wants of the input, or the class must set `input_args`"
                )
        names = tuple(parameter.name for parameter in parameters)
        # A single argument is the image, whatever it is called: old projects say "img".
        augmentation.input_args = names if len(names) != 1 else ("image",)
    found = []
    for name in augmentation.input_args:
        if not hasattr(aug_input, name):
            raise AttributeError(
                f"{type(augmentation).__name__}.get_transform wants {name!r}, "
                f"which {type(aug_input).__name__} does not have"
            )
        found.append(getattr(aug_input, name))
    return found


class _TransformToAug(Augmentation):
    """Augmentation that always returns the same transform."""

    input_args = ()

    def __init__(self, tfm: Transform):
        self.tfm = tfm

    def get_transform(self, *args: Any) -> Transform:
        return self.tfm

    def __repr__(self) -> str:
        return repr(self.tfm)

    __str__ = __repr__


def _transform_to_aug(tfm_or_aug: Augmentation | Transform) -> Augmentation:
    """Return an augmentation unchanged, and a transform wrapped in an augmentation."""
    if isinstance(tfm_or_aug, Augmentation):
        return tfm_or_aug
    if isinstance(tfm_or_aug, Transform):
        return _TransformToAug(tfm_or_aug)
    raise ArgumentError(f"expected an Augmentation or a Transform, not {tfm_or_aug!r}")


class AugmentationList(Augmentation):
    """Sequence of augmentations, each of which sees the result of the previous ones."""

    def __init__(self, augs: Sequence[Augmentation | Transform]):
        """augs: applied in order; may include plain transforms."""
        super().__init__()
        self.augs = [_transform_to_aug(aug) for aug in augs]

    def __call__(self, aug_input: "AugInput") -> TransformList:
        """Change `aug_input` in place and return all transforms in order."""
        return TransformList([aug(aug_input) for aug in self.augs])

    def __repr__(self) -> str:
        return f"AugmentationList[{', '.join(map(str, self.augs))}]"

    __str__ = __repr__


class AugInput:
    """Input of augmentations: an image with its boxes and label map, which change together.

    Subclasses may have more attributes and extend `transform`; an augmentation gets those it names.
    """

    def __init__(
        self,
        image: np.ndarray,
        *,
        boxes: np.ndarray | None = None,
        sem_seg: np.ndarray | None = None,
    ):
        """
        Args:
            image: (H, W) or (H, W, C), uint8 in [0, 255] or floating point in [0, 255] or [0, 1].
            boxes: (N, 4) XYXY in absolute pixels.
            sem_seg: (H, W) labels.
        """
        _check_image(image)
        self.image = image
        self.boxes = boxes
        self.sem_seg = sem_seg

    def transform(self, tfm: Transform) -> None:
        """Apply `tfm` to the image, boxes and labels, and store the results."""
        self.image = tfm.apply_image(self.image)
        if self.boxes is not None:
            self.boxes = tfm.apply_box(self.boxes)
        if self.sem_seg is not None:
            self.sem_seg = tfm.apply_segmentation(self.sem_seg)

    def apply_augmentations(
        self, augmentations: Sequence[Augmentation | Transform]
    ) -> TransformList:
        """Apply augmentations in order, in place, and return their transforms."""
        return AugmentationList(augmentations)(self)


def _check_image(image: Any) -> None:
    assert isinstance(image, np.ndarray), f"an image is a numpy array, not {type(image).__name__}"
    assert image.dtype == np.uint8 or image.dtype.kind == "f", (
        f"an image is uint8 or floating point, not {image.dtype}"
    )
    assert image.ndim in (2, 3), f"an image has 2 or 3 dimensions, not {image.ndim}"


def apply_augmentations(augmentations: Sequence[Augmentation | Transform], inputs):
    """Apply augmentations in order to an AugInput, or to a bare image.

    Returns:
        (changed input, TransformList); the first is an array when an array was given.
    """
    if isinstance(inputs, np.ndarray):
        aug_input = AugInput(inputs)
        transforms = aug_input.apply_augmentations(augmentations)
        return aug_input.image, transforms
    return inputs, inputs.apply_augmentations(augmentations)


# Names of earlier versions of detectron2, which projects still use.
TransformGen = Augmentation
StandardAugInput = AugInput
apply_transform_gens = apply_augmentations
