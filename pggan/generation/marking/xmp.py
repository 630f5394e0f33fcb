"""The synthetic mark as XMP: IPTC's DigitalSourceType says that a trained model made a picture (torch-free).

Search engines, photo programs and social networks read it: IPTC Photo Metadata Standard 2023.2, "Digital Source Type".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pggan.utils.version import __version__

# The keyword of the packet in a PNG (XMP specification, part 3, section 1.1.5).
PNG_KEYWORD = "XML:com.adobe.xmp"
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
_PACKET = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    f'xmp:CreatorTool="pggan {__version__}" '
    f'Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}"/>'
    "</rdf:RDF></x:xmpmeta>"
    '<?xpacket end="r"?>'
)


class _Marking:
    """Whether this process marks what it writes; threads that write pictures look here, too."""

    enabled = True


@contextmanager
def unmarked() -> Iterator[None]:
    """Leaves the mark out of all pictures and videos that this process writes in the block."""
    before, _Marking.enabled = _Marking.enabled, False
    try:
        yield
    finally:
        _Marking.enabled = before


def synthetic_mark() -> str | None:
    """Returns the XMP packet for a generated picture, None within `unmarked`."""
    return _PACKET if _Marking.enabled else None
