"""Splines, flows and patient maps: by hand where a hand can, then inverse and derivative against the definition."""

import pickle

import numpy as np
import pytest

from medssl_nb.data.deformation import (
    NodeGrid,
    PatientMap,
    Pose,
    SplineField,
    bounded_normal,
    flow,
    random_field,
    random_pose,
)

NODES = NodeGrid((-80, -60, -80), (80, 60, 80), 10.0)
UNTURNED = Pose(np.eye(3), np.ones(3), np.zeros(3))


def cube_of_points(half: float, count: int = 300, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-half, half, (count, 3))


def some_map(seed: int = 0, rms: float = 5.0) -> PatientMap:
    rng = np.random.default_rng(seed)
    pose = random_pose(rng, 1.0, stretch_sd=(0.1, 0.1, 0.1), size_sd=0.1, turn_degrees_sd=8.0, shift_sd_mm=(10, 10, 10))
    return PatientMap(NODES.field(flow(NODES.noise(rng, (5, 4, 5), rms), 10.0)), pose, np.array([1.0, -20, 5]))


def test_spline_of_one_node_has_the_weights_of_the_book():
    coefficients = np.zeros((1, 7, 7, 7))
    coefficients[0, 3, 3, 3] = 1
    field = SplineField(coefficients, np.zeros(3), np.array([2.0, 3.0, 4.0]))
    places = np.array([[6.0, 9, 12], [8, 9, 12], [6, 12, 16], [7, 9, 12], [2, 9, 12]])
    half_way = 23 / 48  # 2/3 at a node, 1/6 at its neighbours, this much between the two
    expected = [(4 / 6) ** 3, 1 / 6 * (4 / 6) ** 2, 4 / 6 * (1 / 6) ** 2, half_way * (4 / 6) ** 2, 0]
    np.testing.assert_allclose(field.at(places)[:, 0], expected, atol=1e-15)


def test_spline_keeps_straight_lines_inside_and_stops_at_its_faces():
    x, y, _ = np.meshgrid(*NODES.axes(), indexing="ij")
    field = SplineField(np.stack([x, 3 * y + 2]), np.array(NODES.low_mm, float), np.full(3, 10.0))
    points = cube_of_points(45)
    np.testing.assert_allclose(field.at(points), np.c_[points[:, 0], 3 * points[:, 1] + 2], atol=1e-12)
    np.testing.assert_allclose(field.derivatives_at(points), np.tile([[1, 0, 0], [0, 3, 0]], (300, 1, 1)), atol=1e-12)
    beyond = np.array([[500.0, 0, 0], [80, 0, 0]])
    assert np.ptp(field.at(beyond), axis=0).max() == 0
    assert (field.derivatives_at(beyond[:1])[..., 0] == 0).all()


def test_spline_on_axes_is_the_spline_at_points():
    field = random_field(np.random.default_rng(1), (-50, -40, -30), (50, 40, 30), (5, 6, 4), rms=3, count=2)
    axes = [np.linspace(-90, 40, 9), np.linspace(-60, 60, 8), np.linspace(-10, 70, 7)]  # beyond the faces too
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    np.testing.assert_allclose(field.on_axes(*axes).reshape(2, -1).T, field.at(points), atol=1e-12)
    assert field.at(np.zeros((0, 3))).shape == (0, 2)


def test_random_field_has_the_size_it_was_asked_for():
    field = random_field(np.random.default_rng(2), (0, 0, 0), (100, 100, 100), (30, 30, 30), rms=7.0)
    values = field.at(np.random.default_rng(3).uniform(10, 90, (5000, 3)))
    assert 6.5 < values.std() < 7.2


def test_flow_of_nothing_of_a_wind_and_of_growth():
    still = np.zeros((3, 9, 8, 7))
    assert (flow(still, 10.0) == 0).all()
    wind = still + np.array([3.0, -2, 1])[:, None, None, None]
    np.testing.assert_allclose(flow(wind, 10.0), wind, atol=1e-12)
    x = NODES.axes()[0]
    growth = np.zeros((3, len(x), 5, 5))
    growth[0] = -0.3 * x[:, None, None]  # dx/dt = -0.3 x ends at exp(-0.3) x
    np.testing.assert_allclose(flow(growth, 10.0)[0, :, 2, 2], x * np.expm1(-0.3), rtol=3e-3)


def test_flow_backwards_undoes_flow():
    velocity = NODES.noise(np.random.default_rng(4), (4, 4, 4), rms=4.0)
    there, back = (PatientMap(NODES.field(flow(v, 10.0)), UNTURNED, np.zeros(3)) for v in (velocity, -velocity))
    points = cube_of_points(40)
    moved = there.to_template(points)
    assert np.abs(moved - points).max() > 4
    assert np.abs(back.to_template(moved) - points).max() < 0.5  # up to what the node spacing smooths away


@pytest.mark.parametrize("seed", range(6))
def test_maps_can_be_inverted_everywhere(seed):
    patient_map = some_map(seed)
    points = cube_of_points(150, seed=seed)  # far beyond the nodes too
    there = patient_map.to_template(points)
    assert np.abs(patient_map.to_patient(there) - points).max() < 1e-5
    assert np.abs(patient_map.to_template(patient_map.to_patient(points)) - points).max() < 1e-5
    assert np.linalg.det(patient_map.jacobian(points)).min() > 0


def test_grid_and_points_see_the_same_map():
    patient_map = some_map(7)
    axes = [np.linspace(-120, 90, 11), np.linspace(-70, 80, 9), np.linspace(-50, 120, 8)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    on_grid = patient_map.on_axes(*axes)
    assert on_grid.shape == (3, 11, 9, 8)
    np.testing.assert_allclose(on_grid.reshape(3, -1).T, patient_map.to_template(points), atol=1e-10)


def test_jacobian_is_the_derivative():
    patient_map, points, small = some_map(8), cube_of_points(60, 100), 1e-4
    numerical = np.stack(
        [
            (patient_map.to_template(points + small * e) - patient_map.to_template(points - small * e)) / (2 * small)
            for e in np.eye(3)
        ],
        axis=-1,
    )
    np.testing.assert_allclose(patient_map.jacobian(points), numerical, atol=1e-7)


def test_no_variation_leaves_the_body_as_it_is():
    pose = random_pose(
        np.random.default_rng(0), 0.0, stretch_sd=(1, 1, 1), size_sd=1, turn_degrees_sd=90, shift_sd_mm=(9, 9, 9)
    )
    assert np.array_equal(pose.rotation, np.eye(3))
    assert (pose.stretch == 1).all() and (pose.shift_mm == 0).all()


def test_maps_are_small_and_travel():
    patient_map = some_map()
    packed = pickle.dumps(patient_map)
    assert len(packed) < 500_000
    points = cube_of_points(50)
    assert np.array_equal(pickle.loads(packed).to_template(points), patient_map.to_template(points))


def test_a_torn_body_is_reported_and_not_inverted():
    torn = NodeGrid((-40, -40, -40), (40, 40, 40), 10.0)
    displacement = torn.field(torn.noise(np.random.default_rng(0), (9, 9, 9), rms=40.0))
    with pytest.raises(ArithmeticError, match=r"no inverse found for \d+ of 300 points"):
        PatientMap(displacement, UNTURNED, np.zeros(3)).to_patient(cube_of_points(35))


@pytest.mark.parametrize("points", [[1.0, 2, 3], np.zeros((4, 2)), [[0.0, np.nan, 1]], [[0, 0, np.inf]]])
def test_points_that_are_none_are_refused(points):
    for way in (some_map().to_template, some_map().to_patient, some_map().jacobian):
        with pytest.raises(ValueError, match="points"):
            way(points)


def test_bounded_normal_has_no_extremes():
    numbers = bounded_normal(np.random.default_rng(0), 20_000)
    assert np.abs(numbers).max() == 2.5
    assert 0.95 < numbers.std() < 1.0
