r"""Local binary patterns from three orthogonal planes (LBP-TOP): the texture of a clip in time.

A pixel of a clip lies in three planes: the frame itself (XY), and the two that its row and its
column sweep out in time (XT and YT). In each of them P neighbours stand evenly on an ellipse
around it, and say by one bit each whether they are at least as bright:

.. math:: c = \sum_{p=0}^{P-1} [g_p \ge g_c] \, 2^p.

Neighbour p of the plane (a, b) lies at :math:`(R_a \cos(2 \pi p / P), R_b \sin(2 \pi p / P))`; one
between pixels is interpolated bilinearly. The face is divided into blocks, and of every block and
plane the patterns are counted.
"""

from __future__ import annotations

import numpy as np

from mer_prep.checks import check_option, check_range

#: The axes of a clip that span each plane, the first one being that of the cosine: 0 is t, 1 is y
#: and 2 is x.
PLANES = {"xy": (2, 1), "xt": (2, 0), "yt": (1, 0)}

#: Neighbours at most: a histogram without uniform patterns has 2^P bins.
MOST_NEIGHBOURS = 12


def lbp_top(
    frames: np.ndarray,
    *,
    blocks: int = 5,
    radii: tuple[int, int, int] = (1, 1, 4),
    neighbours: int = 8,
    uniform: bool = True,
) -> np.ndarray:
    """Return the LBP-TOP histograms of a clip.

    Parameters
    ----------
    frames : ndarray, shape (T, H, W), uint8
        Grey frames.
    blocks : int
        Rows, and columns, B of blocks that do not overlap.
    radii : tuple of int
        R_x, R_y in px and R_t in frames, each 1 or more.
    neighbours : int
        Neighbours P of a pixel in each plane, 2 to 12.
    uniform : bool
        Whether all patterns that are not uniform are counted together; see `uniform_bins`.

    Returns
    -------
    ndarray, shape (B, B, 3, bins), float32
        By row and column of the block, and by plane XY, XT, YT: the share of every pattern, 0 to
        1, each histogram summing to 1. There are P (P - 1) + 3 bins, or 2^P if not uniform.

    Raises
    ------
    ValueError
        If the clip has too few frames or pixels for the radii and blocks.
    ConfigError
        If a parameter is out of range.

    Notes
    -----
    Counted are the pixels whose neighbours all lie within the clip, the same ones in all planes:
    (T - 2 R_t) (H - 2 R_y) (W - 2 R_x) of them. They are dealt to blocks as evenly as they go.

    References
    ----------
    G. Zhao, M. Pietikäinen, "Dynamic texture recognition using local binary patterns with an
    application to facial expressions", IEEE TPAMI 29(6), 2007. doi:10.1109/TPAMI.2007.1110
    """
    check_range("blocks", blocks, low=1)
    _check_clip(frames)
    room = min(frames.shape[1] - 2 * radii[1], frames.shape[2] - 2 * radii[0])
    if room < blocks:
        raise ValueError(f"{frames.shape[1:]} px are too few for {blocks} x {blocks} blocks")
    bins = uniform_bins(neighbours) if uniform else np.arange(2**neighbours)
    count = int(bins.max()) + 1
    histograms = []
    for plane in PLANES:
        patterns = bins[local_binary_patterns(frames, plane, radii=radii, neighbours=neighbours)]
        rows, columns = (_block_of(size, blocks) for size in patterns.shape[1:])
        cells = (rows[:, None] * blocks + columns) * count + patterns
        found = np.bincount(cells.ravel(), minlength=blocks**2 * count)
        histograms.append(found.reshape(blocks, blocks, count))
    counts = np.stack(histograms, axis=2)
    return (counts / counts.sum(axis=-1, keepdims=True)).astype(np.float32)


def local_binary_patterns(
    frames: np.ndarray, plane: str, *, radii: tuple[int, int, int], neighbours: int
) -> np.ndarray:
    """Return the local binary pattern of every pixel of a clip in one of the planes.

    Parameters
    ----------
    frames : ndarray, shape (T, H, W), uint8
        Grey frames.
    plane : {'xy', 'xt', 'yt'}
        The plane.
    radii : tuple of int
        R_x, R_y in px and R_t in frames.
    neighbours : int
        Neighbours P, 2 to 12.

    Returns
    -------
    ndarray, shape (T - 2 R_t, H - 2 R_y, W - 2 R_x), int64
        Patterns 0 to 2^P - 1 of the pixels that have all neighbours, in any plane.

    Raises
    ------
    ValueError
        If the clip has no such pixel.
    ConfigError
        If a parameter is out of range.

    Notes
    -----
    Not the grey values are interpolated but their differences to the pixel itself, which are whole
    numbers: in an even area they are exactly 0, whatever the weights round to.
    """
    check_option("plane", plane, PLANES)
    check_range("neighbours", neighbours, low=2, high=MOST_NEIGHBOURS)
    for name, radius in zip("xyt", radii, strict=True):
        check_range(f"radius in {name}", radius, low=1)
    _check_clip(frames)
    margins = radii[::-1]
    if any(size < 2 * margin + 1 for size, margin in zip(frames.shape, margins, strict=True)):
        raise ValueError(f"a clip of shape {frames.shape} has no pixel with all its neighbours")
    clip = frames.astype(np.int16)
    centre = _moved(clip, (0, 0, 0), margins)
    patterns = np.zeros(centre.shape, np.int64)
    axes = PLANES[plane]
    for bit, offsets in enumerate(_ellipse(neighbours, *(margins[axis] for axis in axes))):
        difference = np.zeros(centre.shape)
        for steps, weight in _corners(offsets):
            where = [0, 0, 0]
            where[axes[0]], where[axes[1]] = steps
            difference += weight * (_moved(clip, tuple(where), margins) - centre)
        patterns |= (difference >= 0).astype(np.int64) << bit
    return patterns


def uniform_bins(neighbours: int) -> np.ndarray:
    """Return the bin of every pattern if those that are not uniform share one.

    Parameters
    ----------
    neighbours : int
        Neighbours P, 2 to 12.

    Returns
    -------
    ndarray, shape (2^P,), int64
        A pattern is uniform if going round it changes between 0 and 1 twice at most. The
        P (P - 1) + 2 uniform ones have bins of their own, in the order of their numbers; the last
        bin is that of all others.

    References
    ----------
    T. Ojala, M. Pietikäinen, T. Mäenpää, "Multiresolution gray-scale and rotation invariant
    texture classification with local binary patterns", IEEE TPAMI 24(7), 2002.
    doi:10.1109/TPAMI.2002.1017623
    """
    check_range("neighbours", neighbours, low=2, high=MOST_NEIGHBOURS)
    patterns = np.arange(2**neighbours)
    turned = (patterns >> 1) | ((patterns & 1) << (neighbours - 1))
    changes = sum(((patterns ^ turned) >> bit) & 1 for bit in range(neighbours))
    uniform = changes <= 2
    return np.where(uniform, np.cumsum(uniform) - 1, uniform.sum())


def _check_clip(frames: np.ndarray) -> None:
    if frames.ndim != 3 or frames.dtype != np.uint8:
        raise ValueError(f"a grey clip must be uint8 (T, H, W), not {frames.dtype} {frames.shape}")


def _ellipse(neighbours: int, first: int, second: int) -> np.ndarray:
    """Return the offsets of the neighbours along two axes, shape (P, 2)."""
    angles = 2 * np.pi * np.arange(neighbours) / neighbours
    offsets = np.stack([first * np.cos(angles), second * np.sin(angles)], axis=1)
    # The sine of pi is not quite zero: a neighbour on a pixel would be mixed with the next one.
    return np.round(offsets, 9)


def _corners(offsets: np.ndarray) -> list[tuple[tuple[int, int], float]]:
    """Return the pixels around a point and their bilinear weights, those without any left out."""
    low = np.floor(offsets).astype(int)
    part = offsets - low
    return [
        ((int(low[0]) + i, int(low[1]) + j), float(weight))
        for i, along in enumerate((1 - part[0], part[0]))
        for j, across in enumerate((1 - part[1], part[1]))
        if (weight := along * across) > 0
    ]


def _moved(clip: np.ndarray, steps: tuple[int, ...], margins: tuple[int, ...]) -> np.ndarray:
    """Return the clip without its margins, as seen some steps further along every axis."""
    return clip[
        tuple(
            slice(margin + step, size - margin + step)
            for size, margin, step in zip(clip.shape, margins, steps, strict=True)
        )
    ]


def _block_of(size: int, blocks: int) -> np.ndarray:
    """Return the block of every one of `size` rows, whose numbers differ by one at most."""
    return np.arange(size) * blocks // size
