"""ADM's and improved DDPM's UNet in plain torch, with guided-diffusion's names and without
its code.

What ``scripts/convert_adm.py`` is held against: Nichol and Dhariwal (arXiv 2102.09672),
Dhariwal and Nichol (arXiv 2105.05233), Appendix; written after openai/guided-diffusion's
layout of modules, which it has not been run beside.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Shape(NamedTuple):
    """The choices that guided-diffusion's scripts have, by their names."""

    num_channels: int = 32
    channel_mult: tuple[int, ...] = (1, 2)
    num_res_blocks: int = 1
    attention_levels: tuple[int, ...] = (1,)
    head_channels: int = 16
    use_scale_shift_norm: bool = True
    resblock_updown: bool = True
    learn_sigma: bool = True
    classes: int | None = None
    new_attention_order: bool = False


class ResBlock(nn.Module):
    def __init__(
        self, n_in: int, n_out: int, d: int, shape: Shape, resize: str | None = None
    ):
        super().__init__()
        self.scaled, self.resize = shape.use_scale_shift_norm, resize
        self.in_layers = nn.Sequential(
            nn.GroupNorm(32, n_in), nn.SiLU(), nn.Conv2d(n_in, n_out, 3, padding=1)
        )
        wide = 2 * n_out if self.scaled else n_out
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(d, wide))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(32, n_out),
            nn.SiLU(),
            nn.Dropout(0.0),
            nn.Conv2d(n_out, n_out, 3, padding=1),
        )
        same = n_in == n_out
        self.skip_connection = nn.Identity() if same else nn.Conv2d(n_in, n_out, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        norm, act, conv = self.in_layers
        y = act(norm(x))
        if self.resize == "down":
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        if self.resize == "up":
            x, y = (F.interpolate(v, scale_factor=2) for v in (x, y))
        y, time = conv(y), self.emb_layers(time)[:, :, None, None]
        norm, *rest = self.out_layers
        if self.scaled:
            scale, shift = time.chunk(2, dim=1)
            y = norm(y) * (1 + scale) + shift
        else:
            y = norm(y + time)
        return self.skip_connection(x) + nn.Sequential(*rest)(y)


class Attention(nn.Module):
    def __init__(self, n: int, shape: Shape):
        super().__init__()
        self.norm = nn.GroupNorm(32, n)
        self.qkv, self.proj_out = nn.Conv1d(n, 3 * n, 1), nn.Conv1d(n, n, 1)
        self.d, self.new = shape.head_channels, shape.new_attention_order

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        flat, heads = x.reshape(b, c, h * w), c // self.d
        qkv = self.qkv(self.norm(flat))
        if self.new:  # all queries first
            q, k, v = qkv.reshape(b, 3, heads, self.d, h * w).unbind(1)
        else:  # head by head
            q, k, v = qkv.reshape(b, heads, 3, self.d, h * w).unbind(2)
        weight = torch.einsum("bhdi,bhdj->bhij", q, k) / math.sqrt(self.d)
        y = torch.einsum("bhij,bhdj->bhdi", weight.softmax(-1), v).reshape(b, c, -1)
        return (flat + self.proj_out(y)).reshape(x.shape)


class Downsample(nn.Module):
    def __init__(self, n: int):
        super().__init__()
        self.op = nn.Conv2d(n, n, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    def __init__(self, n: int):
        super().__init__()
        self.conv = nn.Conv2d(n, n, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2))


class UNet(nn.Module):
    """``model(x, t[, labels])`` on (b, 3, h, w): the noise, and the variance beside it."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape, n = shape, shape.num_channels
        d, last = 4 * n, len(shape.channel_mult) - 1
        self.time_embed = nn.Sequential(nn.Linear(n, d), nn.SiLU(), nn.Linear(d, d))
        if shape.classes is not None:
            self.label_emb = nn.Embedding(shape.classes, d)

        def layer(n_in: int, n_out: int, level: int) -> list[nn.Module]:
            attends = level in shape.attention_levels
            resnet, attention = ResBlock(n_in, n_out, d, shape), Attention(n_out, shape)
            return [resnet, attention] if attends else [resnet]

        def resampler(width: int, resize: str, plain: nn.Module) -> nn.Module:
            updown = shape.resblock_updown
            return ResBlock(width, width, d, shape, resize) if updown else plain

        down: list[list[nn.Module]] = [[nn.Conv2d(3, n, 3, padding=1)]]
        skips, now = [n], n
        for level, times in enumerate(shape.channel_mult):
            for _ in range(shape.num_res_blocks):
                down.append(layer(now, times * n, level))
                now = times * n
                skips.append(now)
            if level < last:
                down.append([resampler(now, "down", Downsample(now))])
                skips.append(now)
        up = []
        self.middle_block = nn.ModuleList(
            [
                ResBlock(now, now, d, shape),
                Attention(now, shape),
                ResBlock(now, now, d, shape),
            ]
        )
        for level, times in reversed(list(enumerate(shape.channel_mult))):
            for i in range(shape.num_res_blocks + 1):
                block = layer(now + skips.pop(), times * n, level)
                now = times * n
                if level and i == shape.num_res_blocks:
                    block.append(resampler(now, "up", Upsample(now)))
                up.append(block)
        self.input_blocks = nn.ModuleList([nn.ModuleList(block) for block in down])
        self.output_blocks = nn.ModuleList([nn.ModuleList(block) for block in up])
        channels = 6 if shape.learn_sigma else 3
        self.out = nn.Sequential(
            nn.GroupNorm(32, now), nn.SiLU(), nn.Conv2d(now, channels, 3, padding=1)
        )

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        half = self.shape.num_channels // 2
        steps = torch.arange(half, dtype=torch.float32) / half
        angle = t.float()[:, None] * torch.exp(-math.log(10000) * steps)
        time = self.time_embed(torch.cat([angle.cos(), angle.sin()], dim=1))
        if labels is not None:
            time = time + self.label_emb(labels)

        def through(block, x):
            for part in block:
                x = part(x, time) if isinstance(part, ResBlock) else part(x)
            return x

        skips = []
        for block in self.input_blocks:
            x = through(block, x)
            skips.append(x)
        x = through(self.middle_block, x)
        for block in self.output_blocks:
            x = through(block, torch.cat([x, skips.pop()], dim=1))
        return self.out(x)
