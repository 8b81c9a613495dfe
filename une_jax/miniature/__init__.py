"""The embedded default: cartoon faces with a known latent, and small trained models."""
