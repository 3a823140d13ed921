"""Parts that know nothing of GANs."""
