"""SimCSE: two dropout views of a text are nearer to each other than to other texts.

Unsupervised SimCSE (arXiv 2104.08821, equation 4). With c(i, j) the cosine of text i's first and
text j's second view over the temperature,

    loss of row i     = -log( exp c(i, i) / sum_j exp c(i, j) )      (first view among the seconds)
    loss of row n + i = -log( exp c(i, i) / sum_j exp c(j, i) )      (second view among the firsts)

so the mean over the 2n rows is the symmetric loss; SimCSE's own is the mean over the first n.
"""

import torch
from torch.nn.functional import cross_entropy, normalize

from layerwise.objectives.views import comparison
from layerwise.shapes import Tensor

TEMPERATURE = 0.05


def contrast(first: Tensor, second: Tensor) -> Tensor:
    """The loss of each of 2n rows, as in the module's text, from their vectors, (n, d) each."""
    with torch.autocast(first.device.type, enabled=False):
        similarity = normalize(first, dim=1) @ normalize(second, dim=1).T / TEMPERATURE
        same = torch.arange(len(similarity), device=similarity.device)
        return torch.cat(
            [cross_entropy(s, same, reduction="none") for s in (similarity, similarity.T)]
        )


SIMCSE = comparison("simcse", contrast, least=2)
