"""Augmentations of colors; boxes and labels do not change."""

import numpy as np
from fvcore.transforms.transform import BlendTransform, Transform

from d2lite.data.transforms.augmentation import Augmentation


class RandomContrast(Augmentation):
    """Random blend of the image with its mean: below 1 reduces contrast, above 1 raises it."""

    def __init__(self, intensity_min, intensity_max):
        """intensity_min, intensity_max: the factor is drawn between them; 1 changes nothing."""
        super().__init__()
        self._init(locals())

    def get_transform(self, image) -> Transform:
        """Return the blend for this image."""
        factor = np.random.uniform(self.intensity_min, self.intensity_max)
        return BlendTransform(src_image=image.mean(), src_weight=1 - factor, dst_weight=factor)


class RandomBrightness(Augmentation):
    """Random multiplication of the image: factors below 1 darken, above 1 brighten."""

    def __init__(self, intensity_min, intensity_max):
        """intensity_min, intensity_max: the factor is drawn between them; 1 changes nothing."""
        super().__init__()
        self._init(locals())

    def get_transform(self, image) -> Transform:
        """Return the blend for this image."""
        factor = np.random.uniform(self.intensity_min, self.intensity_max)
        return BlendTransform(src_image=0, src_weight=1 - factor, dst_weight=factor)


class RandomSaturation(Augmentation):
    """Random blend of an RGB image with its gray version: 0 is gray, above 1 is more colorful."""

    def __init__(self, intensity_min, intensity_max):
        """intensity_min, intensity_max: the factor is drawn between them; 1 changes nothing."""
        super().__init__()
        self._init(locals())

    def get_transform(self, image) -> Transform:
        """Return the blend for this (H, W, 3) image in RGB order."""
        assert image.shape[-1] == 3, f"RandomSaturation needs RGB, not {image.shape[-1]} channels"
        factor = np.random.uniform(self.intensity_min, self.intensity_max)
        gray = image.dot([0.299, 0.587, 0.114])[:, :, None]
        return BlendTransform(src_image=gray, src_weight=1 - factor, dst_weight=factor)


class RandomLighting(Augmentation):
    """Random color shift along the principal axes of ImageNet's RGB values (AlexNet, sec. 4.1)."""

    # Columns are the axes; values are for images in [0, 1].
    eigen_vecs = np.array(
        [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
    )
    eigen_vals = np.array([0.2175, 0.0188, 0.0045])

    def __init__(self, scale):
        """scale: standard deviation of the weights of the axes."""
        super().__init__()
        self._init(locals())

    def get_transform(self, image) -> Transform:
        """Return the blend for this (H, W, 3) image in RGB order."""
        assert image.shape[-1] == 3, f"RandomLighting needs RGB, not {image.shape[-1]} channels"
        weights = np.random.normal(scale=self.scale, size=3)
        color = self.eigen_vecs @ (weights * self.eigen_vals)
        return BlendTransform(src_image=color, src_weight=1.0, dst_weight=1.0)
