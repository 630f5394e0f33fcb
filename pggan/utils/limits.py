"""How much a file of someone else's may cost: the one table of limits, in bytes, pixels and counts.

A member, row, record or tensor is compared with its limit before it is read, decoded, expanded or converted.
The table for people is in `pggan/data/README.md`; `tests/test_documents.py` compares the two.
"""

from __future__ import annotations

# Pixels of one picture: larger ones are mistakes or attacks, and take gigabytes to decode.
MAX_PIXELS = 1 << 27
# Bytes of a picture that is a file of its own on disk.
MAX_FILE_BYTES = 1 << 30
# Bytes of a picture that an archive, a table or a database carries, before and after expansion.
MAX_CARRIED_BYTES = 256 << 20
# Bytes of pictures on their way between the reader and the workers, at any time; one item may exceed it.
MAX_BYTES_UNDER_WAY = 256 << 20
# Bytes of a list: CSV, JSON, landmarks.
MAX_LIST_BYTES = 1 << 28
# Values in a list: each takes some tens of bytes of memory.
MAX_LIST_VALUES = 1 << 25
# Bytes of the headers of one member of a tar.
MAX_HEADER_BYTES = 1 << 20
# A compressed archive or TFRecord file may expand to this many times its size, and to these bytes in any case.
MAX_EXPANSION, MAX_EXPANDED_BYTES = 1000, 1 << 30
# Scans of one JPEG: encoders write up to some twenty; thousands decode for minutes.
MAX_JPEG_SCANS = 100
# Pages of one TIFF: each is an image.
MAX_TIFF_PAGES = 10_000
# Pictures of one video.
MAX_VIDEO_IMAGES = 1 << 20
# Bytes of the manifest of a store: sources, options, names of classes.
MAX_MANIFEST_BYTES = 16 << 20
# Largest size of a stored record: this ratio to its pixels, plus extra bytes. The worst noise takes twice its pixels.
MAX_RECORD_RATIO, MAX_RECORD_EXTRA = 4, 1 << 16
# Bytes of a model's or checkpoint's header with its metadata, and of a run's options.json.
MAX_METADATA_BYTES = 16 << 20
# Latents: bytes and rows of a file, the largest value of a row, characters of the note on how one came about.
MAX_LATENTS_BYTES, MAX_LATENTS = 256 << 20, 1 << 16
MAX_LATENT_VALUE, MAX_ORIGIN_CHARACTERS = 10_000, 4000
