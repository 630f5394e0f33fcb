"""Differentiable augmentation of what the discriminator sees: pure functions of pictures, strength and given noise.

Pictures are (N, C, R, R) in [-1, 1] and stay so in shape; every sample has its own noise. Computed in float32 at least.
"""
