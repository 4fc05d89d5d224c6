"""Archives that unpack to far more than they are: refused by what they say of themselves, before they are unpacked."""

import zipfile
from pathlib import Path

from features.errors import UserError

# Images pack to a tenth or, where they are mostly empty, to a hundredth of their size; zeros to a thousandth.
_MOST_TIMES = 200
_HARMLESS = 1_000_000_000


def refuse_bomb(path: Path, packed: int, unpacked: int) -> None:
    """UserError where `packed` bytes of a file would become `unpacked` ones that no images come to."""
    if unpacked > max(_HARMLESS, _MOST_TIMES * packed):
        raise UserError(
            f"{path} would unpack from {packed:,} to {unpacked:,} bytes, which real data does not do, and is refused; "
            "get it anew from where it is known to be sound"
        )


def refuse_zip_bomb(path: Path, archive: zipfile.ZipFile) -> None:
    """The same for all members of an archive together: members may share their packed bytes."""
    refuse_bomb(path, path.stat().st_size, sum(member.file_size for member in archive.infolist()))
