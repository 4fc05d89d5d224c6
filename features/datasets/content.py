"""What a file is by its first bytes, whatever its name says: whether it is an image, and what else it can be."""

import re

LOOK = 512  # bytes that are looked at

IMAGE_START = re.compile(
    rb"\xff\xd8\xff|\x89PNG|GIF8|RIFF....WEBP|BM.{4}\0\0\0\0|II\*\0|MM\0\*|II\+\0|MM\0\+|P[1-6]\s([\s#\d]|$)|"
    rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51|.{4}ftyp(avi[fs]|hei[cfmsx]|hev[cmsx]|mif1|msf1)",
    re.DOTALL,
)
_HEIC = re.compile(rb".{4}ftyp(hei[cfmsx]|hev[cmsx]|mif1|msf1)", re.DOTALL)
# The first that fits.
_KINDS = tuple(
    (re.compile(start, re.DOTALL | re.IGNORECASE), kind)
    for start, kind in (
        (rb"$", "it is empty"),
        (rb"\0+$", "it holds nothing but zeros"),
        (rb".{4}ftypavi[fs]", "it is an AVIF file, which this Pillow cannot read: pip install --upgrade pillow"),
        (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "it is a JPEG 2000 file, which this Pillow cannot read"),
        (rb".{4}ftyp", "it is a video (MP4 or QuickTime) and no image"),
        (rb"\x1a\x45\xdf\xa3", "it is a video (Matroska or WebM) and no image"),
        (rb"RIFF....AVI ", "it is a video (AVI) and no image"),
        (rb"\0\0\x01[\xb3\xba]", "it is a video (MPEG) and no image"),
        (rb"%PDF", "it is a PDF document and no image"),
        (rb"%!PS|\xc5\xd0\xd3\xc6", "it is a PostScript document and no image"),
        (rb"(\xef\xbb\xbf)?\s*(<\?xml.*)?(<!--.*)?(<!doctype svg.*)?<svg", "it is a drawing (SVG), not of pixels"),
        (rb"(\xef\xbb\xbf)?\s*(<!doctype html|<html|<head|<body)", "it is a web page (HTML) and no image"),
        (rb"(\xef\xbb\xbf)?\s*<\?xml", "it is XML and no image"),
        (rb"version https://git-lfs", "it is a Git LFS pointer and not yet the image: run `git lfs pull`"),
        (rb"8BPS", "it is a Photoshop document; save it as PNG"),
        (rb"PK\x03\x04", "it is a zip archive and no image"),
        (rb"\x1f\x8b|7z\xbc\xaf|Rar!|BZh|\xfd7zXZ", "it is a packed file and no image; unpack it"),
        (rb"\x93NUMPY", "it is a NumPy array and no image"),
        (rb"\x89HDF", "it is an HDF5 file and no image"),
        (rb".{128}DICM", "it is a DICOM file; save it as PNG"),
        (rb"\0\0\0\x0cJXL |\xff\x0a", "it is a JPEG XL file; save it as JPEG or PNG"),
        (rb"\s*[{\[]\s*[\"{\[\d\]}]", "it is JSON and no image"),
        (rb"[\t\n\r\x20-\x7e]+$", "it is text and no image"),
    )
)


def starts_as_image(start: bytes) -> bool:
    """Whether a file with these first bytes is an image that is read here, if it is sound."""
    return bool(IMAGE_START.match(start))


def kind_of(start: bytes) -> str:
    """What a file with these first `LOOK` bytes is, of which Pillow makes no image: half a sentence for a message."""
    if _HEIC.match(start):
        return "it is a HEIC file, which needs one more package: pip install 'layerprobe[heic]'"
    for pattern, kind in _KINDS:
        if pattern.match(start):
            return kind
    if starts_as_image(start):
        return "it begins as an image and is damaged"
    return "it is no image, or of a format that is not read here"
