"""Latents that people keep: files of them, projection of pictures, directions, tuning and blending."""
