"""MetaImage and NRRD headers as text, read before ITK sees the file.

ITK allocates what a header claims and opens whatever data file it names; so sizes are compared
with the bytes that are there, and data files outside the header's folder are refused, first.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from digseg.errors import CorruptInputError, UnsupportedInputError
from digseg.types import AnyArray
from digseg.wording import format_size

_HEADER = 1 << 20

#: Deflate and bzip2 can't pack tighter than these.
_LIMITS = {"raw": 1, "gzip": 1032, "bzip2": 1_250_000, "text": 1}

#: Sizes and ratios from which a packed file is taken for a bomb; the second is bzip2's alone.
_BOMBS = ((1 << 30, 250), (1 << 28, 2000))

_META_BYTES = {
    "MET_CHAR": 1,
    "MET_UCHAR": 1,
    "MET_SHORT": 2,
    "MET_USHORT": 2,
    "MET_INT": 4,
    "MET_UINT": 4,
    "MET_LONG": 4,
    "MET_ULONG": 4,
    "MET_LONG_LONG": 8,
    "MET_ULONG_LONG": 8,
    "MET_FLOAT": 4,
    "MET_DOUBLE": 8,
}

_NRRD_BYTES = {
    1: ("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"),
    2: (
        *("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
        *("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    ),
    4: (
        "int",
        "signed int",
        "int32",
        "int32_t",
        "uint",
        "unsigned int",
        "uint32",
        "uint32_t",
        "float",
    ),
    8: (
        *("longlong", "long long", "long long int", "signed long long", "signed long long int"),
        *("int64", "int64_t", "ulonglong", "unsigned long long", "unsigned long long int"),
        *("uint64", "uint64_t", "double"),
    ),
}

#: NRRD spaces and the signs that lead to RAS+.
_SPACES = {
    "right-anterior-superior": (1.0, 1.0, 1.0),
    "ras": (1.0, 1.0, 1.0),
    "left-anterior-superior": (-1.0, 1.0, 1.0),
    "las": (-1.0, 1.0, 1.0),
    "left-posterior-superior": (-1.0, -1.0, 1.0),
    "lps": (-1.0, -1.0, 1.0),
}

#: What NRRD may leave out before the voxels.
_SKIPS = ("byte", "line")

_VECTOR = re.compile(r"\(([^()]*)\)|none")


@dataclass(frozen=True)
class ItkHeader:
    """What the text says.

    Parameters
    ----------
    format
        ``"MetaImage"`` or ``"NRRD"``.
    shape
        As in the file, fastest axis first.
    encoding
        ``"raw"``, ``"gzip"``, ``"bzip2"`` or ``"text"``.
    data
        The file with the voxels (the header's own, for most).
    affine
        Index to RAS+ exactly as written; `None` where the format's library has to say.
    stated
        Whether an orientation is stated at all.
    item
        Bytes of a voxel.
    big
        Whether its bytes are in big-endian order.
    offset
        Bytes of ``data`` before the voxels, or before their packed stream; `None` where the
        format's library has to say.
    """

    format: str
    shape: tuple[int, ...]
    encoding: str
    data: Path
    fields: dict[str, str]
    affine: AnyArray | None
    stated: bool
    item: int
    big: bool = False
    offset: int | None = None

    @property
    def volume_shape(self) -> tuple[int, int, int]:
        x, y, z = (*self.shape[:3], 1, 1)[:3]
        return z, y, x

    @property
    def time_points(self) -> int:
        return self.shape[3] if len(self.shape) > 3 else 1


def parse(path: Path) -> ItkHeader:
    """Read and check the header of a ``.mha``, ``.mhd``, ``.nrrd`` or ``.nhdr`` file.

    Raises
    ------
    CorruptInputError, UnsupportedInputError
        See the module.
    """
    with path.open("rb") as file:
        head = file.read(_HEADER)
    return _nrrd(path, head) if head.startswith(b"NRRD") else _meta(path, head)


def _meta(path: Path, head: bytes) -> ItkHeader:
    fields, end = {}, 0
    for line in head.split(b"\n"):
        key, equals, value = line.decode("utf-8", "replace").partition("=")
        end += len(line) + 1
        if not equals:
            break
        fields[key.strip()] = value.strip()
        if key.strip() == "ElementDataFile":
            break
    if "ElementDataFile" not in fields or "DimSize" not in fields:
        raise CorruptInputError(f"The MetaImage header of {path.name} is not complete.")
    shape = _shape(fields["DimSize"], path)
    kind = fields.get("ElementType", "")
    if kind not in _META_BYTES:
        raise UnsupportedInputError(f"{path.name} has voxels of type {kind or 'unknown'}.")
    if fields.get("ElementNumberOfChannels", "1") != "1":
        raise UnsupportedInputError(f"{path.name} has vector or colour voxels: give one channel.")
    packed = fields.get("CompressedData", "False").lower() in ("true", "1")
    encoding = "gzip" if packed else "raw"
    if fields.get("BinaryData", "True").lower() not in ("true", "1"):
        encoding = "text"
    data = _data_file(path, fields["ElementDataFile"])
    _check_size(path, data, shape, _META_BYTES[kind], encoding)
    packed_size = fields.get("CompressedDataSize", "")
    if packed and packed_size.isdigit() and int(packed_size) > data.stat().st_size:
        raise CorruptInputError(
            f"{path.name} is cut short: {packed_size} compressed bytes are promised, "
            f"{data.name} has only {data.stat().st_size} bytes."
        )
    stated = any(name in fields for name in ("TransformMatrix", "Rotation", "Orientation"))
    order = fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False"))
    big, skips = order.lower() in ("true", "1"), fields.get("HeaderSize", "0") != "0"
    offset = None if skips or encoding == "text" else end if data == path else 0
    item = _META_BYTES[kind]
    return ItkHeader("MetaImage", shape, encoding, data, fields, None, stated, item, big, offset)


def _nrrd(path: Path, head: bytes) -> ItkHeader:
    fields = {}
    first, *lines = head.split(b"\n")
    end = len(first) + 1
    for raw in lines:
        line = raw.decode("utf-8", "replace").rstrip("\r")
        end += len(raw) + 1
        if not line:
            break
        if line.startswith("#"):
            continue
        key, colon, value = line.partition(":=") if ":=" in line else line.partition(":")
        if not colon:
            raise CorruptInputError(f"The NRRD header of {path.name} is damaged.")
        fields[key.strip() if ":=" in line else key.strip().lower()] = value.strip()
    missing = [key for key in ("type", "dimension", "sizes", "encoding") if key not in fields]
    if missing:
        raise CorruptInputError(f"The NRRD header of {path.name} lacks the field {missing[0]!r}.")
    shape = _shape(fields["sizes"], path)
    if str(len(shape)) != fields["dimension"]:
        raise CorruptInputError(f"The NRRD header of {path.name} contradicts itself on its axes.")
    size = next((n for n, words in _NRRD_BYTES.items() if fields["type"].lower() in words), 0)
    if not size:
        raise UnsupportedInputError(f"{path.name} has voxels of type {fields['type']}.")
    words = {"gz": "gzip", "bz2": "bzip2", "txt": "text", "ascii": "text"}
    encoding = words.get(fields["encoding"].lower(), fields["encoding"].lower())
    if encoding not in _LIMITS:
        raise UnsupportedInputError(f"{path.name} is NRRD in the encoding {encoding!r}.")
    kinds = fields.get("kinds", "").split()
    space_kinds = {"domain", "space", "time", "???", "none"}
    if any(kind not in space_kinds for kind in kinds):
        raise UnsupportedInputError(f"{path.name} has vector or colour voxels: give one channel.")
    if "time" in kinds[:3]:
        raise UnsupportedInputError(
            f"{path.name} has time among its first three axes: bring them in the order x, y, z, "
            "time first."
        )
    data = _data_file(path, fields.get("data file", fields.get("datafile", "LOCAL")))
    _check_size(path, data, shape, size, encoding)
    affine = _nrrd_affine(fields)
    skips = any(fields.get(f"{unit}{gap}skip", "0") != "0" for unit in _SKIPS for gap in ("", " "))
    offset = None if skips or encoding == "text" else end if data == path else 0
    big, stated = fields.get("endian", "little").lower() == "big", affine is not None
    return ItkHeader("NRRD", shape, encoding, data, fields, affine, stated, size, big, offset)


def _nrrd_affine(fields: dict[str, str]) -> AnyArray | None:
    """The affine as written, where the space is one of the patient's."""
    signs = _SPACES.get(fields.get("space", "").lower())
    vectors = [match[1] for match in _VECTOR.finditer(fields.get("space directions", ""))]
    origin = _VECTOR.match(fields.get("space origin", ""))
    if signs is None or len(vectors) < 3 or None in vectors[:3] or origin is None:
        return None
    try:
        columns = [[float(part) for part in str(text).split(",")] for text in vectors[:3]]
        columns.append([float(part) for part in origin[1].split(",")])
        matrix = np.eye(4)
        matrix[:3] = np.array(columns).T
    except ValueError:
        return None
    # Row by row: with a matrix product, an endless number of a damaged header warns.
    affine: AnyArray = matrix * np.array([*signs, 1.0])[:, None] + 0.0
    return affine


def _shape(text: str, path: Path) -> tuple[int, ...]:
    try:
        shape = tuple(int(part) for part in text.split())
    except ValueError:
        shape = ()
    if not shape or any(side < 1 for side in shape):
        raise CorruptInputError(f"{path.name} has an axis without voxels: its header is damaged.")
    if not 2 <= len(shape) <= 4:
        raise UnsupportedInputError(
            f"{path.name} has {len(shape)} axes: give a volume of three axes, or four with time."
        )
    return shape


def _data_file(path: Path, name: str) -> Path:
    if name in ("LOCAL", "Local", "local"):
        return path
    if name.startswith("LIST") or "%" in name:
        raise UnsupportedInputError(
            f"{path.name} spreads its voxels over a list of files: convert it to one file first."
        )
    data = path.parent / name
    try:
        inside, there = data.resolve().is_relative_to(path.parent.resolve()), data.is_file()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a zero byte, a ring of links
        raise CorruptInputError(
            f"{path.name} names a data file that can't exist: its header is damaged."
        ) from error
    if not inside:
        raise UnsupportedInputError(
            f"{path.name} points to a data file outside its own folder ({name}): that is not read."
        )
    if not there:
        raise CorruptInputError(f"{path.name} needs {name} beside it: copy both files.")
    return data


def _check_size(path: Path, data: Path, shape: tuple[int, ...], size: int, encoding: str) -> None:
    there = data.stat().st_size
    voxels = math.prod(shape)
    claimed = voxels * (1 if encoding == "text" else size)
    if claimed > _LIMITS[encoding] * there:
        sides = " x ".join(str(side) for side in shape)
        raise CorruptInputError(
            f"{path.name} is cut short: its header promises {sides} voxels, "
            f"{data.name} has only {format_size(there)}."
        )
    if any(claimed > size and claimed > ratio * there for size, ratio in _BOMBS):
        raise CorruptInputError(
            f"{path.name} would expand {claimed // there}-fold to {format_size(claimed)}, like a "
            "zip bomb: unpack it yourself if you trust it."
        )
