"""What the tests of damaged and hostile files share."""

import io
import struct

import numpy as np

from pggan.data.sources import open_source
from pggan.data.sources.base import BadImage, DecodedImage
from pggan.data.sources.label_files import with_labels
from pggan.utils.errors import PgganError
from tests.helpers.image_files import encoded, portrait

PICTURES = np.stack([np.asarray(portrait(i, 8)) for i in range(3)])
PNGS = {f"{i}.png": encoded(portrait(i, 8)) for i in range(3)}


def written(write):
    out = io.BytesIO()
    write(out)
    return out.getvalue()


def take(path):
    """Whether there is a source; all of it is read. The test is that nothing else is raised."""
    messages = []
    try:
        source = with_labels(open_source(str(path)), None)
        reader = source.reader(8, 0)
        columns = source.label_columns
        for _, ref in zip(range(20), source.refs()):
            try:
                assert min(reader.size(ref)) >= 0
                picture = reader.read(ref, 3)
            except BadImage as bad:
                messages.append(str(bad))
                continue
            assert isinstance(picture, DecodedImage)
            assert picture.image.dtype == np.uint8
            assert picture.image.ndim == 3
            assert len(picture.labels) == len(columns)
        return True
    except PgganError as error:
        messages.append(str(error))
        return False
    finally:
        assert all(0 < len(line) < 2000 and "\n" not in line for line in messages)


def npy_header(shape, descr="|u1"):
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode()
