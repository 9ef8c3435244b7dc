"""Files as layers and layers as files: where pixels lie, what is up, what things are called."""

from __future__ import annotations

from collections.abc import Callable

import nibabel
import numpy as np
import pytest
from napari.layers import Image, Labels
from napari_digseg._inputs import Target, placed_like
from napari_digseg._labels import classes_of, mask_layer, mask_of
from napari_digseg._layers import raster_layers, volume_layers
from napari_digseg._place import (
    KEY,
    grid_from_dict,
    grid_of_layer,
    grid_to_dict,
    placement,
    shown,
)

from digseg.grid import Grid
from digseg.orientation import Turn, canonical
from digseg.prompts import PromptSet
from digseg.raster import ClassTable, Mask, Raster, Volume
from digseg.types import AnyArray

UTM = Grid.from_transform((40, 60), (10, 0, 500_000, 0, -10, 4_000_000), crs="EPSG:32633")
TURNED = Grid.from_transform((40, 60), (6, 3, 500_000, 3, -6, 4_000_000), crs="EPSG:32633")
CLASSES = ClassTable.of(PromptSet.parse(["water=river", "road"], ["shadow"]))


def world_of(layer: Image | Labels, index: tuple[int, ...]) -> AnyArray:
    return np.asarray(layer.data_to_world(index))


@pytest.mark.parametrize("grid", [UTM, TURNED], ids=["north-up", "rotated"])
def test_every_pixel_of_a_map_lies_where_its_grid_says_and_north_is_up(grid: Grid) -> None:
    layer = Image(np.zeros(grid.shape), **placement(grid).kwargs())
    for index in [(0, 0), (39, 0), (7, 31)]:
        x, y = grid.world(index)
        np.testing.assert_allclose(world_of(layer, index), (-y, x), atol=1e-6)
    assert [str(unit) for unit in layer.units] == ["meter", "meter"]
    assert layer.axis_labels == ("y", "x")


def test_a_south_up_raster_is_shown_with_north_up() -> None:
    grid = Grid.from_transform((4, 5), (1, 0, 0, 0, 1, 0))
    layer = Image(np.zeros(grid.shape), **placement(grid).kwargs())
    assert world_of(layer, (0, 0))[0] > world_of(layer, (3, 0))[0]


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR", "ASL", "LIP"])
def test_every_orientation_of_a_volume_is_shown_as_a_radiologist_looks(
    axes: str, asymmetric: Callable[..., AnyArray]
) -> None:
    data = asymmetric(4, 5, 6)
    affine = nibabel.orientations.inv_ornt_aff(
        nibabel.orientations.axcodes2ornt(axes), data.T.shape
    ) @ np.diag([2, 3, 4, 1])
    grid = Grid.of(data.shape, affine, space="patient", unit="millimetre")
    array, meta, kind = volume_layers(Volume(data, grid))[0]
    layer = Image(np.asarray(array), **{k: v for k, v in meta.items() if k != "rgb"})
    assert kind == "image"
    assert all(step > 0 for step in layer.scale)
    turn = canonical(grid)
    for index in [(0, 0, 0), (1, 3, 2)]:
        right, anterior, superior = turn.grid(grid).world(index)
        np.testing.assert_allclose(world_of(layer, index), (superior, -anterior, -right))
    assert layer.axis_labels == ("z", "y", "x")
    assert str(layer.units[0]) == "millimeter"


def test_an_oblique_volume_keeps_its_exact_affine_in_the_metadata() -> None:
    turned = np.eye(4)
    turned[:2, :2] = [[0.9, -0.4], [0.4, 0.9]]
    grid = Grid.of((3, 4, 5), turned, space="patient", unit="millimetre")
    _, meta, _ = volume_layers(Volume(np.zeros((3, 4, 5), np.int16), grid))[0]
    np.testing.assert_allclose(meta["scale"], shown(grid)[1].spacing)
    assert grid_from_dict(meta["metadata"][KEY]["grid"]) == grid


def test_three_bands_become_a_stretched_picture_with_holes(rng: np.random.Generator) -> None:
    pixels = rng.integers(200, 4000, (4, 40, 60)).astype(np.uint16)
    pixels[:, :5] = 0
    raster = Raster(pixels, UTM, nodata=0, band_names=("blue", "green", "red", "nir"))
    data, meta, _ = raster_layers(raster, name="scene")[0]
    assert data.shape == (40, 60, 4)
    picture = data[...]
    assert picture.dtype == np.uint8
    assert not picture[:5, :, 3].any()
    assert (picture[5:, :, 3] == 255).all()
    # Brighter red in the file is brighter red on screen.
    order = np.argsort(pixels[2, 6])
    assert (np.diff(picture[6, order, 0].astype(int)) >= 0).all()
    np.testing.assert_array_equal(data[10:20, 3, 1], picture[10:20, 3, 1])
    assert meta["rgb"]
    assert not meta["multiscale"]


def test_bands_on_a_slider_keep_their_values(asymmetric: Callable[..., AnyArray]) -> None:
    raster = Raster(asymmetric(5, 40, 60), UTM)
    data, meta, _ = raster_layers(raster, composite=False)[0]
    np.testing.assert_array_equal(np.asarray(data), raster.data)
    assert meta["axis_labels"] == ("band", "y", "x")
    layer = Image(data, **{k: v for k, v in meta.items() if k != "rgb"})
    np.testing.assert_allclose(world_of(layer, (2, 0, 0))[1:], (-3_999_995, 500_005))


def test_overviews_become_levels_over_the_same_ground(asymmetric: Callable[..., AnyArray]) -> None:
    whole = asymmetric(1, 40, 60)
    raster = Raster(whole, UTM, levels=(whole[:, ::2, ::2], whole[:, ::4, ::4]))
    data, meta, _ = raster_layers(raster)[0]
    assert [level.shape for level in data] == [(40, 60), (20, 30), (10, 15)]
    np.testing.assert_array_equal(data[1][...], whole[0, ::2, ::2])
    assert meta["multiscale"]
    layer = Image(data, **meta)
    np.testing.assert_allclose(layer.extent.world[0], layer.translate)


def test_every_lazy_array_is_one_that_napari_takes(asymmetric: Callable[..., AnyArray]) -> None:
    class Bare:
        """What some formats read: no more than the protocol asks."""

        shape, dtype = (4, 5, 6), np.dtype(np.int16)

        def __getitem__(self, key: object) -> AnyArray:
            return asymmetric(4, 5, 6, dtype="int16")[key]  # type: ignore[index]

    grid = Grid.of((4, 5, 6), np.diag([-1, -1, 1, 1]), space="patient", unit="millimetre")
    data, meta, _ = volume_layers(Volume(Bare(), grid, modality="CT"))[0]
    layer = Image(data, **meta)
    np.testing.assert_array_equal(np.asarray(layer.data), asymmetric(4, 5, 6, dtype="int16"))


def test_four_dimensions_get_a_time_slider(asymmetric: Callable[..., AnyArray]) -> None:
    data = asymmetric(3, 4, 5, 6)
    grid = Grid.of((4, 5, 6), np.diag([-1, -1, 1, 1]), space="patient", unit="millimetre")
    opened: list[int] = []

    def at(time: int) -> Volume:
        opened.append(time)
        return Volume(data[time], grid, time_points=3)

    shown_data, meta, _ = volume_layers(at(0), times=at)[0]
    assert shown_data.shape == (3, 4, 5, 6)
    np.testing.assert_array_equal(shown_data[2, 1], data[2, 1])
    assert set(opened) == {0, 2}
    assert meta["axis_labels"] == ("t", "z", "y", "x")


@pytest.mark.parametrize(
    "grid",
    [
        UTM,
        TURNED,
        Grid.of((4, 5, 6), np.diag([1.0, 2.0, -3.0, 1.0]), space="patient", unit="millimetre"),
        Grid.of((7, 9)),
    ],
    ids=["map", "rotated", "patient", "pixels"],
)
def test_labels_come_back_from_a_layer_as_they_were(grid: Grid, rng: np.random.Generator) -> None:
    labels = rng.integers(0, 3, grid.shape).astype(np.uint8)
    data, meta, kind = mask_layer(Mask(labels, grid, CLASSES, nodata=255))
    assert kind == "labels"
    layer = Labels(np.asarray(data), **meta)
    back = mask_of(layer.data, layer.as_layer_data_tuple()[1])
    assert back.grid == grid
    assert back.classes == CLASSES
    assert back.nodata == 255
    assert back.labels.dtype == np.uint8
    np.testing.assert_array_equal(back.labels[...], labels)


def test_names_show_on_hover_and_colours_are_the_prompts() -> None:
    labels = np.array([[0, 1], [2, 0]], np.uint8)
    _, meta, _ = mask_layer(Mask(labels, Grid.of((2, 2)), CLASSES))
    layer = Labels(labels, **meta)
    assert (
        "name: water" in layer.get_status((0, 1))["value"] + layer.get_status((0, 1))["coordinates"]
    )
    np.testing.assert_allclose(
        layer.get_color(1)[:3], np.array(CLASSES.entries[0].color) / 255, atol=1e-6
    )
    assert layer.get_color(255)[3] == 0


def test_a_painted_layer_of_somebody_else_can_be_written() -> None:
    layer = Labels(
        np.array([[0, 5], [7, 0]], np.int64),
        scale=(2, 2),
        translate=(10, 20),
        units=("um", "um"),
        features={"index": [0, 5], "name": ["background", "cell"]},
    )
    mask = mask_of(layer.data, layer.as_layer_data_tuple()[1])
    assert {entry.id: entry.name for entry in mask.classes.entries} == {5: "cell", 7: "class 7"}
    np.testing.assert_array_equal(mask.labels[...], layer.data)
    # The centre of the first pixel stays where it was: the affine speaks of its corner.
    np.testing.assert_allclose(mask.grid.matrix, [[2, 0, 19], [0, 2, 9], [0, 0, 1]])
    again = placement(mask.grid)
    assert (again.scale, again.translate) == ((2, 2), (10, 20))


def test_colours_of_a_painted_layer_are_kept() -> None:
    layer = Labels(np.array([[0, 3]], np.int32), colormap={None: "black", 3: (1.0, 0.5, 0.0, 1.0)})
    classes = classes_of(layer.data, layer.as_layer_data_tuple()[1])
    assert classes.entries[0].color == (255, 128, 0)


def test_colours_are_those_on_screen_whoever_chose_them() -> None:
    layer = Labels(np.array([[0, 5], [7, 0]], np.uint8))  # napari's own, shuffled
    layer.new_colormap(3)
    classes = classes_of(layer.data, layer.as_layer_data_tuple()[1])
    assert [entry.id for entry in classes.entries] == [5, 7]
    for entry in classes.entries:
        shown = layer.get_color(entry.id)[:3]
        np.testing.assert_allclose(np.array(entry.color) / 255, shown, atol=0.002)


def test_what_is_painted_on_our_labels_counts_as_well() -> None:
    """On a copy to paint on, in colours that a person changed, one more label is painted."""
    labels = np.array([[0, 1], [2, 255]], np.uint8)
    _, meta, _ = mask_layer(Mask(labels, Grid.of((2, 2)), CLASSES, nodata=255))
    layer = Labels(labels, **meta)
    layer.colormap = {None: "transparent", 1: "#010203", 9: "#0a0b0c"}
    layer.data[0, 0] = 9
    classes = classes_of(layer.data, layer.as_layer_data_tuple()[1])
    told = [(entry.id, entry.name, entry.color) for entry in classes.entries]
    one, two = CLASSES.entries[:2]
    assert told == [
        (1, one.name, (1, 2, 3)),
        (2, two.name, two.color),  # transparent on screen: the colour that it had
        (9, "class 9", (10, 11, 12)),
    ]


def test_metadata_of_another_shape_is_not_believed() -> None:
    metadata = {KEY: {"grid": grid_to_dict(UTM)}}
    grid = grid_of_layer((10, 10), scale=(3, 3), metadata=metadata)
    assert grid.shape == (10, 10)
    assert grid.crs is None


@pytest.mark.parametrize("lead", [0, 1])
def test_a_coarse_result_covers_what_it_stands_for(lead: int) -> None:
    """Turned, sheared, with an affine, below a time axis: pixel centres are where they were."""
    turned = {
        "scale": [3.0] * lead + [2.0, 0.5],
        "translate": [7.0] * lead + [11.0, -4.0],
        "affine": np.block(
            [[np.eye(lead), np.zeros((lead, 3))],
             [np.zeros((3, lead)), np.array([[1.1, 0.2, 3.0], [0.0, 0.9, 5.0], [0.0, 0.0, 1.0]])]]
        ),
        "units": ["s"] * lead + ["mm", "mm"],
        "axis_labels": ["t"] * lead + ["y", "x"],
    }  # fmt: skip
    turn = np.eye(lead + 2)
    turn[lead:, lead:] = [[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]]
    shear = [0.0] * (2 * lead) + [0.3]
    layer = Image(np.zeros((2,) * lead + (60, 80)), rotate=turn, shear=shear, **turned)
    target = Target("", UTM, Turn(), 0, lead)
    for starts, steps in (((0, 0), None), ((10, 20), None), ((10, 20), (4.0, 5.0))):
        result = Labels(np.zeros((10, 10), np.uint8), **placed_like(layer, target, starts, steps))
        size = np.asarray(steps or (1.0, 1.0))
        for index in ((0, 0), (0, 9), (9, 0), (3, 6)):
            inside = np.asarray(starts) + (np.asarray(index) + 0.5) * size - 0.5
            expected = layer.data_to_world([0.0] * lead + list(inside))[lead:]
            np.testing.assert_allclose(result.data_to_world(index), expected, atol=1e-9)
        assert [str(unit) for unit in result.units] == ["millimeter"] * 2
        assert tuple(result.axis_labels) == ("y", "x")
