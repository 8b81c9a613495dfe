"""How the shipped miniature models were trained (see scripts/train_miniature.py)."""
