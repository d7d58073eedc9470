"""Array types with named axes, checked at run time under pytest and free elsewhere.

The axis names used throughout: ``n`` examples, ``t`` tokens, ``d`` width, ``l`` blocks,
``m`` adapted modules, ``r`` adapter rank.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int

__all__ = ["Array", "Bool", "Float", "Float64", "Int", "Tensor"]

Array = np.ndarray
Tensor = torch.Tensor
