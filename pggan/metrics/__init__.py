"""Figures over 8-bit images, whoever made them. Their table is config/metrics.py."""
