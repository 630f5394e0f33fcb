"""An ICC profile of a wide gamut, and by arithmetic what its colours are in sRGB."""

from __future__ import annotations

import struct

import numpy as np

# Linear RGB to XYZ under D50 (ICC's white), as Display P3's and sRGB's published profiles have it.
P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])


def fixed(*values):
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def profile(matrix, gamma=2.2, name=b"a wide gamut"):
    """An ICC profile of version 2: a matrix and a power for each channel."""
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(name) + 1) + name + b"\0" + b"\0" * 79,
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1.0, 0.8249),
        **{key: b"XYZ \0\0\0\0" + fixed(*matrix[:, i]) for i, key in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))},
        **{key: b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) for key in (b"rTRC", b"gTRC", b"bTRC")},
    }
    table, data, at = b"", b"", 128 + 4 + 12 * len(tags)
    for key, value in tags.items():
        value += b"\0" * (-len(value) % 4)
        table += key + struct.pack(">II", at + len(data), len(value))
        data += value
    body = struct.pack(">I", len(tags)) + table + data
    head = struct.pack(">I4sI4s4s4s", 128 + len(body), b"lcms", 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    head = head.ljust(36, b"\0") + b"acsp" + b"\0" * 28 + fixed(0.9642, 1.0, 0.8249)
    return head.ljust(128, b"\0") + body


def expected(colours, gamma=2.2):
    """8-bit sRGB of 8-bit colours under the P3 matrix and a power."""
    linear = (np.asarray(colours) / 255.0) ** gamma @ P3.T @ np.linalg.inv(SRGB).T
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


COLOURS = np.array([[[200, 40, 40], [40, 180, 60], [60, 70, 210], [128, 128, 128]]], np.uint8).repeat(8, 0).repeat(2, 1)
