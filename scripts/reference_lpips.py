"""LPIPS 0.1 in plain torch, with the names that the lpips package gives its tensors.

What ``ports/lpips.py`` is held against, as the package itself needs torchvision. Where
that was at hand, the port and lpips 0.1.4, with its published heads over a random trunk,
agreed to 2e-5 of distances of 5e-5, and to 1e-6 of larger ones.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

# The layers of torchvision's ``features`` in the five slices of lpips.
SLICES = {
    "alex": ((0, 2), (2, 5), (5, 8), (8, 10), (10, 12)),
    "vgg": ((0, 4), (4, 9), (9, 16), (16, 23), (23, 30)),
}
CHANNELS = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}


def alex_layers(c: Sequence[int]) -> list[nn.Module]:
    """torchvision's ``alexnet().features``, with these channels."""
    return [
        nn.Conv2d(3, c[0], 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(c[0], c[1], 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(c[1], c[2], 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(c[2], c[3], 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(c[3], c[4], 3, padding=1),
        nn.ReLU(),
    ]


def vgg_layers(c: Sequence[int]) -> list[nn.Module]:
    """torchvision's ``vgg16().features`` up to the last ReLU, with these channels."""
    layers: list[nn.Module] = []
    n_in = 3
    for n_out, convolutions in zip(c, (2, 2, 3, 3, 3), strict=True):
        layers += [nn.MaxPool2d(2)] if layers else []
        for _ in range(convolutions):
            layers += [nn.Conv2d(n_in, n_out, 3, padding=1), nn.ReLU()]
            n_in = n_out
    return layers


class Lpips(nn.Module):
    """Two batches (b, 3, h, w) from -1 to 1 -> (b,)."""

    def __init__(self, backbone: str = "alex", channels: Sequence[int] = ()):
        super().__init__()
        self.backbone = backbone
        self.channels = tuple(channels) or CHANNELS[backbone]
        make = {"alex": alex_layers, "vgg": vgg_layers}[backbone]
        layers = make(self.channels)
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]))
        self.net = nn.Module()
        for i, (start, end) in enumerate(SLICES[backbone], 1):
            slice_ = nn.Sequential()
            for j in range(start, end):
                slice_.add_module(str(j), layers[j])
            self.net.add_module(f"slice{i}", slice_)
        for i, n in enumerate(self.channels):
            head = nn.Module()
            head.model = nn.Sequential(nn.Dropout(), nn.Conv2d(n, 1, 1, bias=False))
            self.add_module(f"lin{i}", head)

    def spread(self) -> "Lpips":
        """Random weights under which no depth fades and every head counts."""
        for name, p in self.named_parameters():
            if name.startswith("lin"):
                nn.init.uniform_(p)
            elif p.ndim == 4:
                nn.init.kaiming_normal_(p)
        return self

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        total: Any = 0
        pairs = zip(self.stages(a), self.stages(b), strict=True)
        for i, (x, y) in enumerate(pairs):
            x, y = (
                f / (f.square().sum(1, keepdim=True).sqrt() + 1e-10) for f in (x, y)
            )
            head: Any = getattr(self, f"lin{i}")
            total = total + head.model((x - y).square()).mean((1, 2, 3))
        return total

    def stages(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The five slices' features."""
        shift, scale = (self.get_buffer(name) for name in ("shift", "scale"))
        x = (x - shift[:, None, None]) / scale[:, None, None]
        found = []
        for i in range(1, 6):
            x = getattr(self.net, f"slice{i}")(x)
            found.append(x)
        return found

    def tensors(self) -> dict[str, torch.Tensor]:
        """The weights as a converted checkpoint holds them, named after torchvision."""
        return {
            name if name.startswith("lin") else f"features.{name.split('.', 2)[2]}": p
            for name, p in self.named_parameters()
        }
