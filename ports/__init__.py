"""PyTorch checkpoints in Flax: one file per model family, one strict loader."""
