"""Differentiable augmentations: pure functions of images, strength and noise.

Images are (N, C, R, R) in [-1, 1] and keep their shape; every sample has its own noise.
"""
