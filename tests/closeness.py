"""How far two arrays are apart."""

import numpy as np


def rel(a, b) -> float:
    """max |a - b| / max |b|; infinite where a shape differs or a value is not finite."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or not np.isfinite(a).all():
        return float("inf")
    return float(np.abs(a - b).max() / np.abs(b).max())
