"""FID's InceptionV3 in plain torch, with the tensor names of its public weights.

What ``ports/inception.py`` is held against, as pytorch-fid needs torchvision. Where that
was at hand, this and pytorch-fid's InceptionV3 gave the same bits on random weights, at
all four depths; the port was within 1e-6 of both's features, 8e-6 of the maps.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class BasicConv(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, n_in: int, n_out: int, **options: Any):
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, bias=False, **options)
        self.bn = nn.BatchNorm2d(n_out, eps=1e-3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv(x)))


def mean_pool(x: torch.Tensor) -> torch.Tensor:
    """TensorFlow's: padding does not count."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def max_pool(x: torch.Tensor) -> torch.Tensor:
    """Keeps the size."""
    return F.max_pool2d(x, 3, stride=1, padding=1)


class Block(nn.Module):
    """Adds layers by name; ``divisor`` divides all numbers of channels."""

    def __init__(self, n_in: int, divisor: int):
        super().__init__()
        self.n_in, self.divisor = n_in, divisor

    def add(
        self, name: str, n_in: int, n_out: int, k: Any = 1, stride: int = 1
    ) -> None:
        """``n_in`` and ``n_out`` as published; 0 is the block's own input."""
        k = (k, k) if isinstance(k, int) else k
        padding = (k[0] // 2, k[1] // 2) if stride == 1 else 0
        n_in = n_in // self.divisor or self.n_in
        options = {"kernel_size": k, "stride": stride, "padding": padding}
        self.add_module(name, BasicConv(n_in, n_out // self.divisor, **options))

    def run(self, x: torch.Tensor, *names: str) -> torch.Tensor:
        """A chain of layers."""
        for name in names:
            x = getattr(self, name)(x)
        return x


class A(Block):
    """35x35."""

    def __init__(self, n_in: int, divisor: int, pool: int):
        super().__init__(n_in, divisor)
        self.add("branch1x1", 0, 64)
        self.add("branch5x5_1", 0, 48)
        self.add("branch5x5_2", 48, 64, 5)
        self.add("branch3x3dbl_1", 0, 64)
        self.add("branch3x3dbl_2", 64, 96, 3)
        self.add("branch3x3dbl_3", 96, 96, 3)
        self.add("branch_pool", 0, pool)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        five = self.run(x, "branch5x5_1", "branch5x5_2")
        names = ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")
        pool = self.run(mean_pool(x), "branch_pool")
        return torch.cat([self.run(x, "branch1x1"), five, self.run(x, *names), pool], 1)


class B(Block):
    """35x35 to 17x17."""

    def __init__(self, n_in: int, divisor: int):
        super().__init__(n_in, divisor)
        self.add("branch3x3", 0, 384, 3, 2)
        self.add("branch3x3dbl_1", 0, 64)
        self.add("branch3x3dbl_2", 64, 96, 3)
        self.add("branch3x3dbl_3", 96, 96, 3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        names = ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")
        pool = F.max_pool2d(x, 3, stride=2)
        return torch.cat([self.run(x, "branch3x3"), self.run(x, *names), pool], 1)


class C(Block):
    """17x17."""

    def __init__(self, n_in: int, divisor: int, n: int):
        super().__init__(n_in, divisor)
        self.add("branch1x1", 0, 192)
        self.add("branch7x7_1", 0, n)
        self.add("branch7x7_2", n, n, (1, 7))
        self.add("branch7x7_3", n, 192, (7, 1))
        self.add("branch7x7dbl_1", 0, n)
        self.add("branch7x7dbl_2", n, n, (7, 1))
        self.add("branch7x7dbl_3", n, n, (1, 7))
        self.add("branch7x7dbl_4", n, n, (7, 1))
        self.add("branch7x7dbl_5", n, 192, (1, 7))
        self.add("branch_pool", 0, 192)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        once = self.run(x, *(f"branch7x7_{i}" for i in range(1, 4)))
        twice = self.run(x, *(f"branch7x7dbl_{i}" for i in range(1, 6)))
        pool = self.run(mean_pool(x), "branch_pool")
        return torch.cat([self.run(x, "branch1x1"), once, twice, pool], 1)


class D(Block):
    """17x17 to 8x8."""

    def __init__(self, n_in: int, divisor: int):
        super().__init__(n_in, divisor)
        self.add("branch3x3_1", 0, 192)
        self.add("branch3x3_2", 192, 320, 3, 2)
        self.add("branch7x7x3_1", 0, 192)
        self.add("branch7x7x3_2", 192, 192, (1, 7))
        self.add("branch7x7x3_3", 192, 192, (7, 1))
        self.add("branch7x7x3_4", 192, 192, 3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        three = self.run(x, "branch3x3_1", "branch3x3_2")
        seven = self.run(x, *(f"branch7x7x3_{i}" for i in range(1, 5)))
        return torch.cat([three, seven, F.max_pool2d(x, 3, stride=2)], 1)


class E(Block):
    """8x8; the pool differs between the two."""

    def __init__(self, n_in: int, divisor: int, pool: Any):
        super().__init__(n_in, divisor)
        self.pool = pool
        self.add("branch1x1", 0, 320)
        self.add("branch3x3_1", 0, 384)
        self.add("branch3x3_2a", 384, 384, (1, 3))
        self.add("branch3x3_2b", 384, 384, (3, 1))
        self.add("branch3x3dbl_1", 0, 448)
        self.add("branch3x3dbl_2", 448, 384, 3)
        self.add("branch3x3dbl_3a", 384, 384, (1, 3))
        self.add("branch3x3dbl_3b", 384, 384, (3, 1))
        self.add("branch_pool", 0, 192)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        once = self.run(x, "branch3x3_1")
        twice = self.run(x, "branch3x3dbl_1", "branch3x3dbl_2")
        forks = [self.run(once, f"branch3x3_2{side}") for side in "ab"]
        forks += [self.run(twice, f"branch3x3dbl_3{side}") for side in "ab"]
        pool = self.run(self.pool(x), "branch_pool")
        return torch.cat([self.run(x, "branch1x1"), *forks, pool], 1)


class Inception(nn.Module):
    """Images (b, 3, h, w) from 0 to 1 -> features (b, 2048)."""

    def __init__(self, divisor: int = 1):
        super().__init__()
        self.divisor = d = divisor

        def stem(n_in: int, n_out: int, k: int, **options: Any) -> BasicConv:
            return BasicConv(n_in, n_out // d, kernel_size=k, **options)

        self.Conv2d_1a_3x3 = stem(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = stem(32 // d, 32, 3)
        self.Conv2d_2b_3x3 = stem(32 // d, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = stem(64 // d, 80, 1)
        self.Conv2d_4a_3x3 = stem(80 // d, 192, 3)
        blocks = (
            ("5b", 192, A, (32,)),
            ("5c", 256, A, (64,)),
            ("5d", 288, A, (64,)),
            ("6a", 288, B, ()),
            ("6b", 768, C, (128,)),
            ("6c", 768, C, (160,)),
            ("6d", 768, C, (160,)),
            ("6e", 768, C, (192,)),
            ("7a", 768, D, ()),
            ("7b", 1280, E, (mean_pool,)),
            ("7c", 2048, E, (max_pool,)),
        )
        self.mixed: Sequence[str] = [f"Mixed_{name}" for name, *_ in blocks]
        for name, n_in, kind, rest in blocks:
            make: Any = kind
            self.add_module(f"Mixed_{name}", make(n_in // d, d, *rest))

    def spread(self, seed: int = 0) -> "Inception":
        """Random statistics, under which no depth fades or explodes."""
        generator = torch.Generator().manual_seed(seed)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                weight = module.weight
                scale = (2 / weight[0].numel()) ** 0.5
                weight.data = scale * torch.randn(weight.shape, generator=generator)
            elif isinstance(module, nn.BatchNorm2d):
                for p, low, high in (
                    (module.weight, 0.7, 1.3),
                    (module.bias, -0.2, 0.3),
                    (module.running_mean, -0.2, 0.2),
                    (module.running_var, 0.6, 1.2),
                ):
                    assert p is not None
                    u = torch.rand(p.shape, generator=generator)
                    p.data = low + (high - low) * u
        return self.eval()

    def config(self) -> dict[str, Any]:
        """The port's config.json."""
        return {"_class_name": "FIDInceptionV3", "divisor": self.divisor}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.maps(x)[-1].mean((2, 3))

    def maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """After the two pools, 6e and 7c."""
        if x.shape[2:] != (299, 299):
            x = F.interpolate(x, (299, 299), mode="bilinear", align_corners=False)
        x = 2 * x - 1
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        found = [F.max_pool2d(x, 3, stride=2)]
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(found[0]))
        x = F.max_pool2d(x, 3, stride=2)
        found.append(x)
        for name in self.mixed:
            x = getattr(self, name)(x)
            if name in ("Mixed_6e", "Mixed_7c"):
                found.append(x)
        return found
