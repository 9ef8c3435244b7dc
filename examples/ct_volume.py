"""Organs of a CT by text: a NIfTI mask with names, and volumes in millilitres.

    python examples/ct_volume.py [CT.nii.gz] [FOLDER]

Without arguments it takes the abdomen CT that ships with the package. A DICOM folder works too.
"""

import sys
from pathlib import Path

import digseg
from digseg import samples


def main(volume: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    organs = ["liver", "spleen", "left kidney", "right kidney"]
    with digseg.segment(volume, organs, window="soft-tissue", largest=True) as result:
        result.save(folder / "organs.nii.gz", overwrite=True)
        for row in result.stats():
            print(f"{row['name']}: {row['volume_ml']:.0f} ml")


if __name__ == "__main__":
    given = [Path(word) for word in sys.argv[1:]]
    main(
        given[0] if given else samples.volume(),
        given[1] if len(given) > 1 else Path("example-output"),
    )
