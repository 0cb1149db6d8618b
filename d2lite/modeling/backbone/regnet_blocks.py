"""Stems, blocks and stages that RegNets are made of."""

from collections.abc import Callable, Iterable

from torch import Tensor, nn

from d2lite.layers import CNNBlockBase, get_norm

Norm = str | Callable[[int], nn.Module]
Activation = Callable[[], nn.Module]


def conv2d(
    w_in: int, w_out: int, k: int, *, stride: int = 1, groups: int = 1, bias: bool = False
) -> nn.Conv2d:
    """Return a k x k convolution that keeps the size at stride 1; k is odd."""
    _check_odd(k)
    return nn.Conv2d(w_in, w_out, k, stride=stride, padding=k // 2, groups=groups, bias=bias)


def pool2d(k: int, *, stride: int = 1) -> nn.MaxPool2d:
    """Return a k x k max pooling that keeps the size at stride 1; k is odd."""
    _check_odd(k)
    return nn.MaxPool2d(k, stride=stride, padding=k // 2)


def gap2d() -> nn.AdaptiveAvgPool2d:
    """Return global average pooling, (N, C, H, W) -> (N, C, 1, 1)."""
    return nn.AdaptiveAvgPool2d((1, 1))


def init_weights(m: nn.Module) -> None:
    """Initialize one layer as the paper does: He for convolutions, the identity for norms."""
    if isinstance(m, nn.Conv2d):
        # The fan-out ignores groups, as in the authors' code.
        fan_out = m.out_channels * m.kernel_size[0] * m.kernel_size[1]
        nn.init.normal_(m.weight, std=(2.0 / fan_out) ** 0.5)
    elif isinstance(m, nn.BatchNorm2d):
        nn.init.ones_(m.weight)
        nn.init.zeros_(m.bias)
    elif isinstance(m, nn.Linear):
        nn.init.normal_(m.weight, std=0.01)
        nn.init.zeros_(m.bias)


class ResStem(CNNBlockBase):
    """The stem of ResNet: a 7 x 7 convolution and max pooling, stride 4."""

    def __init__(self, w_in: int, w_out: int, norm: Norm, activation_class: Activation):
        super().__init__(w_in, w_out, 4)
        self.conv = conv2d(w_in, w_out, 7, stride=2)
        self.bn = get_norm(norm, w_out)
        self.af = activation_class()
        self.pool = pool2d(3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, w_in, H, W) -> (N, w_out, H / 4, W / 4)."""
        return self.pool(self.af(self.bn(self.conv(x))))


class SimpleStem(CNNBlockBase):
    """The stem of RegNet: a 3 x 3 convolution, stride 2."""

    def __init__(self, w_in: int, w_out: int, norm: Norm, activation_class: Activation):
        super().__init__(w_in, w_out, 2)
        self.conv = conv2d(w_in, w_out, 3, stride=2)
        self.bn = get_norm(norm, w_out)
        self.af = activation_class()

    def forward(self, x: Tensor) -> Tensor:
        """(N, w_in, H, W) -> (N, w_out, H / 2, W / 2)."""
        return self.af(self.bn(self.conv(x)))


class SE(nn.Module):
    """Squeeze and excitation (Hu et al. 2018): weights for the channels from their means."""

    def __init__(self, w_in: int, w_se: int, activation_class: Activation):
        """w_se: channels of the hidden layer."""
        super().__init__()
        self.avg_pool = gap2d()
        self.f_ex = nn.Sequential(
            conv2d(w_in, w_se, 1, bias=True),
            activation_class(),
            conv2d(w_se, w_in, 1, bias=True),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, w_in, H, W) -> the same shape."""
        return x * self.f_ex(self.avg_pool(x))


class BasicTransform(nn.Module):
    """Two 3 x 3 convolutions, to be added to a shortcut."""

    def __init__(
        self,
        w_in: int,
        w_out: int,
        stride: int,
        norm: Norm,
        activation_class: Activation,
        _params: dict,
    ):
        super().__init__()
        self.a = conv2d(w_in, w_out, 3, stride=stride)
        self.a_bn = get_norm(norm, w_out)
        self.a_af = activation_class()
        self.b = conv2d(w_out, w_out, 3)
        self.b_bn = get_norm(norm, w_out)

    def forward(self, x: Tensor) -> Tensor:
        """(N, w_in, H, W) -> (N, w_out, H / stride, W / stride)."""
        return _in_turn(self.children(), x)


class BottleneckTransform(nn.Module):
    """1 x 1, grouped 3 x 3 and 1 x 1 convolutions with optional SE, to be added to a shortcut."""

    def __init__(
        self,
        w_in: int,
        w_out: int,
        stride: int,
        norm: Norm,
        activation_class: Activation,
        params: dict,
    ):
        """params: "bot_mul" and "se_r", ratios to the block's output and input, and "group_w"."""
        super().__init__()
        width = round(w_out * params["bot_mul"])
        self.a = conv2d(w_in, width, 1)
        self.a_bn = get_norm(norm, width)
        self.a_af = activation_class()
        self.b = conv2d(width, width, 3, stride=stride, groups=width // params["group_w"])
        self.b_bn = get_norm(norm, width)
        self.b_af = activation_class()
        squeezed = round(w_in * params["se_r"])
        if squeezed:
            self.se = SE(width, squeezed, activation_class)
        self.c = conv2d(width, w_out, 1)
        self.c_bn = get_norm(norm, w_out)

    def forward(self, x: Tensor) -> Tensor:
        """(N, w_in, H, W) -> (N, w_out, H / stride, W / stride)."""
        return _in_turn(self.children(), x)


class _ResBlock(CNNBlockBase):
    """A transform `f` with a shortcut, which is a projection where the shape changes."""

    transform: type[nn.Module]

    def __init__(
        self,
        w_in: int,
        w_out: int,
        stride: int,
        norm: Norm,
        activation_class: Activation,
        params: dict,
    ):
        super().__init__(w_in, w_out, stride)
        self.proj, self.bn = None, None
        if w_in != w_out or stride != 1:
            self.proj = conv2d(w_in, w_out, 1, stride=stride)
            self.bn = get_norm(norm, w_out)
        self.f = self.transform(w_in, w_out, stride, norm, activation_class, params)
        self.af = activation_class()

    def forward(self, x: Tensor) -> Tensor:
        """(N, w_in, H, W) -> (N, w_out, H / stride, W / stride)."""
        shortcut = x if self.proj is None else self.bn(self.proj(x))
        return self.af(shortcut + self.f(x))


class ResBasicBlock(_ResBlock):
    """A `BasicTransform` with a shortcut."""

    transform = BasicTransform


class ResBottleneckBlock(_ResBlock):
    """A `BottleneckTransform` with a shortcut: the block of RegNetX, and with SE of RegNetY."""

    transform = BottleneckTransform


class AnyStage(nn.Module):
    """Blocks "b1", "b2" and so on; the first changes width and resolution."""

    def __init__(
        self,
        w_in: int,
        w_out: int,
        stride: int,
        d: int,
        block_class: type[CNNBlockBase],
        norm: Norm,
        activation_class: Activation,
        params: dict,
    ):
        """d: number of blocks; params: the last argument of every block."""
        super().__init__()
        for i in range(d):
            block = block_class(w_in, w_out, stride, norm, activation_class, params)
            self.add_module(f"b{i + 1}", block)
            w_in, stride = w_out, 1

    def forward(self, x: Tensor) -> Tensor:
        """(N, w_in, H, W) -> (N, w_out, H / stride, W / stride)."""
        return _in_turn(self.children(), x)


def _in_turn(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x


def _check_odd(k: int) -> None:
    if k % 2 == 0:
        raise ValueError(f"the kernel size is {k}; it must be odd, so that positions stay in place")
