"""Batches for training: order, prefetch, caches."""
