"""ROIAlign."""

from torch import Tensor, nn
from torchvision.ops import roi_align


def multilevel_roi_align(features, rois, levels, scales, output_size, sampling_ratio, aligned):
    out = features[0].new_zeros(len(rois), features[0].shape[1], *output_size)
    for i, (f, s) in enumerate(zip(features, scales, strict=True)):
        k = (levels == i).nonzero()[:, 0]
        out = out.index_put((k,), roi_align(f, rois[k].to(f.dtype), output_size, s, sampling_ratio, aligned))
    return out


class ROIAlign(nn.Module):
    def __init__(self, output_size, spatial_scale, sampling_ratio, aligned=True):
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        return roi_align(input, rois.to(input.dtype), self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned)
