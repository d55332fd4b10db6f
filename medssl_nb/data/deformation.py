"""Smooth invertible maps between a generated patient and the template all patients come from.

A patient is the template seen through a map, made in two steps. A **stationary velocity field** says in which
direction each point flows; following it for one unit of time, by scaling and squaring (Arsigny et al., MICCAI 2006),
gives a displacement that does not fold. Then the body is turned, stretched and shifted. The displacement is kept as a
cubic B-spline: it has a continuous derivative, and it can be evaluated and inverted at any point. All patients share
the template, so each point of one has exactly one place in every other.

Points are rows of (N, 3) arrays in RAS mm, float64.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_CHUNK = 20_000  # points evaluated at once: 64 neighbours each, some 50 MB
_SOLVED_MM = 1e-7  # the search for the inverse ends here
_LONGEST_STEP_MM = 15.0
_MOST_STEPS = 100
_SQUARINGS = 6
# A cubic B-spline averages its coefficients: noise of standard deviation 1 keeps this much of it along each axis.
_KEPT_PER_AXIS = math.sqrt(151 / 315)


@dataclass(frozen=True, eq=False)
class SplineField:
    """C smooth numbers at each point: a uniform cubic B-spline over a box, constant beyond the faces of the box.

    Attributes:
        coefficients: (C, I, J, K), one per node. The field runs near them, smoother than they are.
        low_mm: (3,) place of node (0, 0, 0).
        step_mm: (3,) distance between neighbouring nodes along x, y and z.
    """

    coefficients: np.ndarray
    low_mm: np.ndarray
    step_mm: np.ndarray

    def at(self, points_mm: np.ndarray) -> np.ndarray:
        """Values (N, C) at the points (N, 3)."""
        return self._at(points_mm, along=None)

    def derivatives_at(self, points_mm: np.ndarray) -> np.ndarray:
        """Derivatives (N, C, 3) per mm along x, y and z at the points (N, 3)."""
        return np.stack([self._at(points_mm, along=axis) for axis in range(3)], axis=-1)

    def on_axes(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Values (C, len(x), len(y), len(z)) on a grid along the axes: what `at` gives, many times faster."""
        matrices, used = zip(*(self._axis_matrix(axis, places) for axis, places in enumerate((x, y, z))), strict=True)
        values = self.coefficients[(slice(None), *used)]
        values = values @ matrices[2].T  # (C, I, J, K) -> (C, I, J, Z)
        values = matrices[1] @ values  # -> (C, I, Y, Z)
        values = matrices[0] @ values.reshape(*values.shape[:2], -1)  # -> (C, X, Y * Z)
        return values.reshape(-1, len(x), len(y), len(z))

    def _at(self, points_mm: np.ndarray, along: int | None) -> np.ndarray:
        parts = [self._at_few(points_mm[i : i + _CHUNK], along) for i in range(0, len(points_mm), _CHUNK)]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.coefficients)))

    def _at_few(self, points_mm: np.ndarray, along: int | None) -> np.ndarray:
        axes = [self._neighbours(axis, points_mm[:, axis], axis == along) for axis in range(3)]
        (i, wi), (j, wj), (k, wk) = axes  # nodes (N, 4) and their weights (N, 4) along each axis
        around = self.coefficients[:, i[:, :, None, None], j[:, None, :, None], k[:, None, None, :]]  # (C, N, 4, 4, 4)
        around = np.einsum("cnijk,nk->cnij", around, wk)
        return np.einsum("cnij,nj,ni->nc", around, wj, wi)

    def _neighbours(self, axis: int, places_mm: np.ndarray, derivative: bool) -> tuple[np.ndarray, np.ndarray]:
        """The four nodes (N, 4) that shape the field at each place along one axis, and their weights (N, 4)."""
        last = self.coefficients.shape[1 + axis] - 1
        place = (np.asarray(places_mm, np.float64) - self.low_mm[axis]) / self.step_mm[axis]
        within = np.clip(place, 0, last)
        cell = np.minimum(within.astype(np.int64), last - 1)
        nodes = np.clip(cell[:, None] + np.arange(-1, 3), 0, last)
        if not derivative:
            return nodes, _cubic_weights(within - cell)
        beyond = (place < 0) | (place > last)
        return nodes, _cubic_slopes(within - cell) / self.step_mm[axis] * ~beyond[:, None]

    def _axis_matrix(self, axis: int, places_mm: np.ndarray) -> tuple[np.ndarray, slice]:
        """Weights (len(places), M) of the M nodes that matter along one axis, and which nodes those are."""
        nodes, weights = self._neighbours(axis, places_mm, derivative=False)
        used = slice(int(nodes.min()), int(nodes.max()) + 1)
        matrix = np.zeros((len(nodes), used.stop - used.start))
        for column in range(4):  # two of the four nodes can be the same at a face, so they are added one by one
            matrix[np.arange(len(nodes)), nodes[:, column] - used.start] += weights[:, column]
        return matrix, used


def _cubic_weights(f: np.ndarray) -> np.ndarray:
    """Weights (N, 4) of four neighbouring nodes at the share f in [0, 1] of the way from the second to the third."""
    g = 1 - f
    return np.stack([g**3, 3 * f**3 - 6 * f**2 + 4, 3 * g**3 - 6 * g**2 + 4, f**3], axis=1) / 6


def _cubic_slopes(f: np.ndarray) -> np.ndarray:
    """Derivatives (N, 4) of `_cubic_weights` with respect to f."""
    g = 1 - f
    return np.stack([-(g**2), 3 * f**2 - 4 * f, 4 * g - 3 * g**2, f**2], axis=1) / 2


@dataclass(frozen=True)
class NodeGrid:
    """Where the nodes of a displacement lie: `low_mm` to `high_mm` along each axis, `step_mm` apart."""

    low_mm: tuple[float, float, float]
    high_mm: tuple[float, float, float]
    step_mm: float

    def axes(self) -> list[np.ndarray]:
        """Node places along x, y and z, in mm."""
        return [
            low + self.step_mm * np.arange(round((high - low) / self.step_mm) + 1)
            for low, high in zip(self.low_mm, self.high_mm, strict=True)
        ]

    def noise(self, rng: np.random.Generator, nodes: Sequence[int], rms: float) -> np.ndarray:
        """Random smooth vectors (3, I, J, K) at the nodes; `nodes` and `rms` as in `random_field`."""
        return random_field(rng, self.low_mm, self.high_mm, nodes, rms, count=3).on_axes(*self.axes())

    def field(self, values: np.ndarray) -> SplineField:
        """The spline over the box with the coefficients (C, I, J, K), kept in float32.

        Rounding them makes the map half as large, and takes away last digits in which processors differ. What follows
        is float64 again, so the map and its inverse are exact for the rounded coefficients.
        """
        return SplineField(values.astype(np.float32), np.array(self.low_mm, np.float64), np.full(3, self.step_mm))


@dataclass(frozen=True, eq=False)
class Pose:
    """How one body is turned, stretched and shifted as a whole.

    Attributes:
        rotation: (3, 3), patient directions to template directions.
        stretch: (3,) size of the patient relative to the template along x, y and z.
        shift_mm: (3,) place of the template's centre in the patient.
    """

    rotation: np.ndarray
    stretch: np.ndarray
    shift_mm: np.ndarray


@dataclass(frozen=True, eq=False)
class PatientMap:
    """The way between one patient's mm and the template's mm. `to_template` is its definition: it draws the image.

    For a point p of the patient, with q = (p - shift) / stretch:
    to_template(p) = centre + rotation @ (q + displacement(q)).

    Attributes:
        displacement: three components in mm over q.
        pose: turn, stretch and shift.
        centre_mm: (3,) the template point that the field of view looks at.
    """

    displacement: SplineField
    pose: Pose
    centre_mm: np.ndarray

    def to_template(self, points_mm: np.ndarray) -> np.ndarray:
        """Template places (N, 3) of patient points (N, 3), both RAS mm.

        Raises:
            ValueError: points that are not finite rows of three.
        """
        q = (checked_points(points_mm) - self.pose.shift_mm) / self.pose.stretch
        return self.centre_mm + (q + self.displacement.at(q)) @ self.pose.rotation.T

    def to_patient(self, points_mm: np.ndarray) -> np.ndarray:
        """Patient places (N, 3) of template points (N, 3), both RAS mm: the inverse, found by Newton's method.

        Raises:
            ValueError: points that are not finite rows of three.
            ArithmeticError: no inverse found, which no map made by this package shows.
        """
        turned = (checked_points(points_mm) - self.centre_mm) @ self.pose.rotation
        return self._undisplaced(turned) * self.pose.stretch + self.pose.shift_mm

    def on_axes(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Template places (3, len(x), len(y), len(z)) of a grid in the patient: `to_template`, many times faster.

        Args:
            x, y, z: places along each axis of the patient, in RAS mm.
        """
        turn = self.pose.rotation
        qx, qy, qz = ((a - s) / f for a, s, f in zip((x, y, z), self.pose.shift_mm, self.pose.stretch, strict=True))
        field = self.displacement
        turned = np.tensordot(turn, field.coefficients, axes=1)  # turning the few nodes turns the whole field
        places = SplineField(turned, field.low_mm, field.step_mm).on_axes(qx, qy, qz)
        for i in range(3):
            places[i] += (turn[i, 0] * qx + self.centre_mm[i])[:, None, None]
            places[i] += (turn[i, 1] * qy)[:, None] + turn[i, 2] * qz
        return places

    def jacobian(self, points_mm: np.ndarray) -> np.ndarray:
        """Derivative (N, 3, 3) of `to_template` at patient points (N, 3).

        Its determinant is the volume in the template per volume in the patient: above 0 wherever the map is one to one.
        """
        q = (checked_points(points_mm) - self.pose.shift_mm) / self.pose.stretch
        return self.pose.rotation @ (np.eye(3) + self.displacement.derivatives_at(q)) / self.pose.stretch

    def _undisplaced(self, target: np.ndarray) -> np.ndarray:
        """Solve q + displacement(q) = target, (N, 3)."""
        q = target - self.displacement.at(target)
        still = np.arange(len(q))
        for _ in range(_MOST_STEPS):
            error = q[still] + self.displacement.at(q[still]) - target[still]
            far = np.abs(error).max(axis=1) > _SOLVED_MM
            still, error = still[far], error[far]
            if still.size == 0:
                return q
            slope = np.eye(3) + self.displacement.derivatives_at(q[still])
            step = np.linalg.solve(slope, error[..., None])[..., 0]
            length = np.linalg.norm(step, axis=1, keepdims=True)
            q[still] -= step * np.minimum(1, _LONGEST_STEP_MM / length)  # short steps do not jump over a bend
        raise ArithmeticError(
            f"no inverse found for {still.size} of {len(q)} points, the first near {target[still[0]].tolist()} mm: "
            "the displacement folds there."
        )


def checked_points(points_mm) -> np.ndarray:
    """The points as float64 (N, 3); ValueError for another shape or for values that are not finite."""
    points = np.asarray(points_mm, np.float64)
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"points are rows (N, 3), got shape {points.shape}; for one point write [[x, y, z]].")
    if not np.isfinite(points).all():
        raise ValueError(f"points must be finite, got {points[~np.isfinite(points).all(axis=1)][0].tolist()}.")
    return points


def bounded_normal(rng: np.random.Generator, size: int | Sequence[int] = 1, limit: float = 2.5) -> np.ndarray:
    """Normal numbers, cut at ± `limit` standard deviations: nobody is extreme enough to tear."""
    return np.clip(rng.standard_normal(size), -limit, limit)


def random_field(
    rng: np.random.Generator,
    low_mm: Sequence[float],
    high_mm: Sequence[float],
    nodes: Sequence[int],
    rms: float,
    count=1,
) -> SplineField:
    """Smooth random numbers over a box.

    Args:
        rng: source of randomness.
        low_mm, high_mm: (3,) corners of the box.
        nodes: (3,) how many independent numbers lie along each axis; fewer is smoother.
        rms: typical size (root mean square) of the field.
        count: how many numbers the field has at each point.
    """
    coefficients = bounded_normal(rng, (count, *nodes)) * rms / _KEPT_PER_AXIS**3
    step = np.subtract(high_mm, low_mm) / (np.array(nodes) - 1)
    return SplineField(coefficients, np.array(low_mm, np.float64), step)


def random_pose(
    rng: np.random.Generator,
    variation: float,
    *,
    stretch_sd: Sequence[float],
    size_sd: float,
    turn_degrees_sd: float,
    shift_sd_mm: Sequence[float],
) -> Pose:
    """Draw how one body is turned, stretched and shifted; `variation` multiplies all spreads, 0 leaves the template.

    Args:
        rng: source of randomness.
        variation: 0 or more.
        stretch_sd: (3,) spread of the logarithm of the size along each axis.
        size_sd: the same for the size of the whole body.
        turn_degrees_sd: spread of the angle about each axis, in degrees.
        shift_sd_mm: (3,) spread of the place in the scanner.
    """
    from scipy.spatial.transform import Rotation

    stretch = np.exp(variation * (np.array(stretch_sd) * bounded_normal(rng, 3) + size_sd * bounded_normal(rng)))
    turn = Rotation.from_rotvec(variation * turn_degrees_sd * bounded_normal(rng, 3), degrees=True).as_matrix()
    return Pose(turn, stretch, variation * np.array(shift_sd_mm) * bounded_normal(rng, 3))


def flow(velocity: np.ndarray, step_mm: float) -> np.ndarray:
    """Displacement (3, I, J, K) in mm after following the velocity (3, I, J, K) for one unit of time.

    Scaling and squaring: a small part of the velocity is nearly a displacement; doing a displacement twice doubles the
    time. `flow(-velocity)` leads back. At the faces of the grid the nearest velocity counts.
    """
    from scipy.ndimage import map_coordinates

    nodes = np.indices(velocity.shape[1:])
    displacement = velocity / 2**_SQUARINGS
    for _ in range(_SQUARINGS):
        ahead = nodes + displacement / step_mm
        displacement = displacement + np.stack(
            [map_coordinates(component, ahead, order=1, mode="nearest") for component in displacement]
        )
    return displacement
