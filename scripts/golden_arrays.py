"""Arrays that goldens are made of: random inputs, and images in both layouts."""

from typing import Any

import numpy as np
import torch

Golden = dict[str, Any]  # of arrays


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Standard normal float32."""
    return rng.standard_normal(shape, np.float32)


def nchw(x: np.ndarray) -> torch.Tensor:
    """Our layout to torch's."""
    return torch.from_numpy(x).permute(0, 3, 1, 2)


def nhwc(x: torch.Tensor) -> np.ndarray:
    """torch's layout to ours."""
    return x.permute(0, 2, 3, 1).contiguous().numpy()
