"""Latents as networks take them (channels last) and as a zoo stores them (NCHW)."""

import numpy as np


def nchw(x: np.ndarray, dtype: str) -> np.ndarray:
    """(b, h, w, c) -> (b, c, h, w), and (b, n, h, w, c) -> (b, n c, h, w)."""
    x = np.moveaxis(x, -1, -3)
    return np.ascontiguousarray(x.reshape(len(x), -1, *x.shape[-2:])).astype(dtype)


def nhwc(x: np.ndarray, n: int = 1) -> np.ndarray:
    """Undoes ``nchw``, as float32; with ``n`` above 1, to (b, n, h, w, c)."""
    b, _, h, w = x.shape
    x = np.moveaxis(np.asarray(x, np.float32).reshape(b, n, -1, h, w), 2, -1)
    return x if n > 1 else x[:, 0]
