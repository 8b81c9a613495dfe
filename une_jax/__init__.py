"""One Gaussian space behind image generators and image encoders.

Import path equals file path: ``from une_jax import ddim, probes, zoo``.
"""

__version__ = "0.1.0"
