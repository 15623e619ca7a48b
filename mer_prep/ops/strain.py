"""Optical strain: how much a flow stretches, squeezes and shears the skin."""

from __future__ import annotations

import numpy as np


def strain_tensor(flow: np.ndarray) -> np.ndarray:
    """Return the infinitesimal strain tensor of an optical flow.

    Parameters
    ----------
    flow : ndarray, shape (2, H, W), float
        Channels u and v in px: pixel (x, y) moves to (x + u, y + v). H and W are 2 or more.

    Returns
    -------
    ndarray, shape (3, H, W), float32
        Unitless: normal strain ``e_xx = du/dx``, normal strain ``e_yy = dv/dy``, and shear
        ``e_xy = e_yx = (du/dy + dv/dx) / 2``. Positive normal strain stretches; x points right
        and y down.

    Raises
    ------
    ValueError
        For another shape.

    Notes
    -----
    Derivatives are central differences over two pixels, ``(f(x + 1) - f(x - 1)) / 2``, and at
    the borders one-sided differences over one. A rotation by the angle w, which strains nothing,
    gives ``e_xx = e_yy = cos w - 1``: the tensor is that of small motion.

    References
    ----------
    M. Shreve, S. Godavarthy, V. Manohar, D. Goldgof, S. Sarkar, "Towards macro- and
    micro-expression spotting in video using strain patterns", WACV 2009.
    doi:10.1109/WACV.2009.5403044
    """
    if flow.ndim != 3 or len(flow) != 2 or min(flow.shape[1:]) < 2:
        raise ValueError(
            f"a flow must have shape (2, H, W) with H and W of 2 or more, not {flow.shape}"
        )
    u, v = np.asarray(flow, np.float32)
    du_dy, du_dx = np.gradient(u)
    dv_dy, dv_dx = np.gradient(v)
    return np.stack([du_dx, dv_dy, (du_dy + dv_dx) / 2]).astype(np.float32, copy=False)


def strain_magnitude(tensor: np.ndarray) -> np.ndarray:
    """Return the optical strain magnitude.

    Parameters
    ----------
    tensor : ndarray, shape (3, H, W), float
        As `strain_tensor` gives it: e_xx, e_yy, e_xy.

    Returns
    -------
    ndarray, shape (H, W), float32
        ``sqrt(e_xx^2 + e_yy^2 + 2 e_xy^2)``, the Frobenius norm of the symmetric tensor; unitless,
        never negative, and the same in any rotated frame of reference.

    Notes
    -----
    The shear counts twice because the tensor holds it twice, as e_xy and as e_yx. In terms of
    the derivatives that is ``(du/dx)^2 + (dv/dy)^2 + (du/dy + dv/dx)^2 / 2`` under the root; code
    that weighs the last term by 1/4, or by 1, computes something else.

    References
    ----------
    M. Shreve, S. Godavarthy, D. Goldgof, S. Sarkar, "Macro- and micro-expression spotting in long
    videos using spatio-temporal strain", FG 2011. doi:10.1109/FG.2011.5771451

    S.-T. Liong, J. See, R. C.-W. Phan, A. C. Le Ngo, Y.-H. Oh, K. Wong, "Subtle expression
    recognition using optical strain weighted features", ACCV 2014 Workshops.
    doi:10.1007/978-3-319-16631-5_47
    """
    if tensor.ndim != 3 or len(tensor) != 3:
        raise ValueError(f"a strain tensor must have shape (3, H, W), not {tensor.shape}")
    normal_x, normal_y, shear = np.asarray(tensor, np.float32)
    return np.sqrt(normal_x**2 + normal_y**2 + 2 * shear**2)
