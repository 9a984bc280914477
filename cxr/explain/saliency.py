"""Maps of the film's pixels: the gradient of a detection's score with respect to the input.

grad-cam has neither of the two: of gradients at the input it has guided backpropagation alone.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from cxr.detect.candidates import Candidate
from cxr.explain.cam import Cam
from cxr.explain.reading import FilmReading


class Saliency(Cam):
    """Size of the gradient of the finding's log-odds at each pixel (Simonyan 2014), largest over the channels."""

    def evidence(self, film: FilmReading, candidates: Sequence[Candidate]) -> Tensor:
        """Return one gradient a candidate."""
        return torch.stack([pixel_gradient(film, candidate, film.batch) for candidate in candidates])


class SmoothGrad(Cam):
    """Saliency averaged over films with added noise (Smilkov 2017), which leaves what does not hang on single pixels.

    Args:
        samples: noisy films.
        noise: standard deviation in shares of the film's own range; 0.1 to 0.2 in the paper.
        seed: of the noise.
    """

    def __init__(self, samples: int = 16, noise: float = 0.15, seed: int = 0) -> None:
        self.samples = samples
        self.noise = noise
        self.seed = seed

    def evidence(self, film: FilmReading, candidates: Sequence[Candidate]) -> Tensor:
        """Return the mean of ``samples`` gradients a candidate."""
        generator = torch.Generator().manual_seed(self.seed)
        spread = self.noise * (film.batch.max() - film.batch.min())
        sums = torch.zeros(len(candidates), *film.size)
        for _ in range(self.samples):
            noise = torch.randn(film.batch.shape, generator=generator).to(film.batch.device)
            for row, candidate in enumerate(candidates):
                sums[row] += pixel_gradient(film, candidate, film.batch + spread * noise).cpu()
        return sums / self.samples


def pixel_gradient(film: FilmReading, candidate: Candidate, batch: Tensor) -> Tensor:
    """Return |d log-odds / d pixel| [h, w], the largest over ``batch`` [1, C, H, W]'s channels, padding cropped."""
    height, width = film.size
    with torch.enable_grad():
        pixels = batch.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(film.log_odds_of(candidate, pixels).sum(), pixels)
    return gradient[0, :, :height, :width].abs().amax(0)
