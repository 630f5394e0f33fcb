"""The training step: losses, gradients, optimizers, and how they are computed."""
