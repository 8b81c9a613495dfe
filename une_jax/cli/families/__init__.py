"""Each family of generative models: how its images become latents, and latents images."""
