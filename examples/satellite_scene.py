"""Land cover of a satellite scene by text: mask, areas and polygons, all in their place.

    python examples/satellite_scene.py [SCENE.tif] [FOLDER]

Without arguments it takes the Sentinel-2 scene that ships with the package.
"""

import sys
from pathlib import Path

import digseg
from digseg import samples


def main(scene: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    prompts = {"water": ["river", "lake"], "trees": ["forest"], "crops": ["fields"]}
    with digseg.segment(scene, prompts, negatives=["cloud"], threshold=0.5) as result:
        result.save(folder / "land_cover.tif", overwrite=True)
        for row in result.stats():
            print(f"{row['name']}: {row['area_ha']:.1f} ha")


if __name__ == "__main__":
    given = [Path(word) for word in sys.argv[1:]]
    main(
        given[0] if given else samples.scene(),
        given[1] if len(given) > 1 else Path("example-output"),
    )
