"""Procrustes and CKA: speed, accuracy and memory against what else there is.

    python benchmarks/similarity.py time    # Procrustes against scipy at 768, 2048 and 4096 wide
    python benchmarks/similarity.py stream  # 64,000 rows of 768, time and memory, against scipy
    python benchmarks/similarity.py cka     # where the mean is 99.8 % of the energy, beside others

Contestants run in turn (A B A B ...), each for half a second or one call, after one round that is
not counted; ratios are of one round, and their median is given with the range. Nothing else should
run on the machine. `cka` shows `pytorch-cka`, `cka-pytorch` and `torch-cka` where they are found.
They bring much with them, so put them into a folder of their own:

    pip install --no-deps --target FOLDER pytorch-cka==1.1.3 cka-pytorch==1.1.3 torch-cka==0.21 \
        torchmetrics lightning lightning-utilities pytorch-lightning matplotlib seaborn contourpy \
        cycler fonttools kiwisolver pyparsing aiohttp aiosignal aiohappyeyeballs frozenlist \
        multidict propcache yarl
    PYTHONPATH=FOLDER python benchmarks/similarity.py cka
"""

import argparse
import importlib.util
import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.linalg import orthogonal_procrustes

from layerwise.capture.memory import peak_memory_bytes, reset_peak_memory
from layerwise.signals.similarity import CrossMoments, align, cka_of, represent

PROBES = 290
STREAMED, WIDTH, PART = 64_000, 768, 2_000
CPU = torch.device("cpu")


def normalised(x: np.ndarray) -> np.ndarray:
    x = x - x.mean(0)
    return x / np.linalg.norm(x)


def by_scipy(x: np.ndarray, y: np.ndarray) -> float:
    nuclear = orthogonal_procrustes(normalised(x), normalised(y), check_finite=False)[1]
    return float(np.sqrt(max(0.0, 2.0 - 2.0 * nuclear)))


def precise(x: np.ndarray, y: np.ndarray) -> float:
    """||X R - Y|| in extended precision: R's own error enters squared."""
    x, y = (normalised(z.astype(np.longdouble)) for z in (x, y))
    turn = orthogonal_procrustes(x.astype(float), y.astype(float))[0]
    # Two steps make R orthogonal to that precision; the rest of the sum is taken row by row.
    turn = turn.astype(np.longdouble)
    for _ in range(2):
        turn = 1.5 * turn - 0.5 * turn @ (turn.T @ turn)
    return float(np.sqrt(((x @ turn - y) ** 2).sum()))


def pair(n: int, p: int, *, share: float = 0.03) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng([n, p])
    x = generator.standard_normal((n, p))
    return x, x + share * generator.standard_normal((n, p))


def in_turn(contestants: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, run in contestants.items():
            seconds = a_call(run)
            if number:
                found[name].append(seconds)
    return found


def a_call(run: Callable[[], object]) -> float:
    """Seconds a call, the mean over as many as fill half a second.

    The two use different thread pools (scipy's OpenBLAS, torch's OpenMP), and the first call after
    the other's is slow on either side: it waits for threads to wake, and for others to rest.
    """
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < 0.5:
        run()
        calls += 1
    return (time.perf_counter() - start) / calls


def spread(values: list[float], form: str) -> str:
    low, middle, high = (form.format(f(values)) for f in (min, statistics.median, max))
    return f"{middle} ({low} to {high})"


def bench_time(rounds: int) -> None:
    heads = ("probes, width", "scipy, ms", "layerwise, ms", "scipy / layerwise", "relative error")
    table = Table(*heads, title="Procrustes distance of pairs that differ by 3 %")
    for p in (768, 2048, 4096):
        x, y = pair(PROBES, p)
        times = in_turn(
            {
                "scipy": lambda x=x, y=y: by_scipy(x, y),
                "layerwise": lambda x=x, y=y: align(represent(x), represent(y)).distance,
            },
            rounds,
        )
        ratios = [a / b for a, b in zip(times["scipy"], times["layerwise"], strict=True)]
        # Extended precision has no BLAS: beyond this width scipy's own digits are the reference.
        wanted = precise(x, y) if p < 1000 else by_scipy(x, y)
        table.add_row(
            f"{PROBES}, {p}",
            *(spread([1e3 * t for t in times[name]], "{:.1f}") for name in times),
            spread(ratios, "{:.0f}"),
            f"{abs(align(represent(x), represent(y)).distance / wanted - 1):.1e}"
            + ("" if p < 1000 else " (to scipy)"),
        )
    Console(width=140).print(table)


def streamed(x: np.ndarray, y: np.ndarray) -> float:
    moments = CrossMoments.zero(WIDTH, WIDTH)
    for start in range(0, len(x), PART):
        moments = moments.update(x[start : start + PART], y[start : start + PART])
    return moments.result()


def bench_stream(rounds: int) -> None:
    x, y = pair(STREAMED, WIDTH)
    times = in_turn({"scipy": lambda: by_scipy(x, y), "layerwise": lambda: streamed(x, y)}, rounds)
    ratios = [a / b for a, b in zip(times["scipy"], times["layerwise"], strict=True)]
    table = Table("contestant", "seconds", "scipy / contestant", title=f"{STREAMED} x {WIDTH}")
    table.add_row("scipy", spread(times["scipy"], "{:.2f}"), "1")
    table.add_row("layerwise", spread(times["layerwise"], "{:.2f}"), spread(ratios, "{:.2f}"))
    Console(width=120).print(table)
    print(f"relative difference {abs(streamed(x, y) / by_scipy(x, y) - 1):.1e}")
    del x, y
    for rows in (STREAMED // 8, STREAMED):
        print(f"{rows} rows, drawn as they are needed: {growth(rows) / 2**20:.0f} MiB above start")


def growth(rows: int) -> int:
    """Bytes that streaming `rows` adds to the process, with no row kept."""
    generator = np.random.default_rng(0)
    reset_peak_memory(CPU)
    before = peak_memory_bytes(CPU)
    moments = CrossMoments.zero(WIDTH, WIDTH)
    for _ in range(rows // PART):
        x = generator.standard_normal((PART, WIDTH))
        moments = moments.update(x, x + 0.03 * generator.standard_normal((PART, WIDTH)))
    moments.result()
    return peak_memory_bytes(CPU) - before


# -- CKA -----------------------------------------------------------------------------------------


class Fixed(torch.nn.Module):
    """A model whose one layer gives the same features whatever it is shown."""

    def __init__(self, features: torch.Tensor) -> None:
        super().__init__()
        self.layer = torch.nn.Embedding.from_pretrained(features)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """The features of `rows`."""
        return self.layer(rows)


def loader(n: int) -> torch.utils.data.DataLoader:
    """All rows in one batch, in order."""
    rows = torch.utils.data.TensorDataset(torch.arange(n), torch.arange(n))
    return torch.utils.data.DataLoader(rows, batch_size=n)


def by_pytorch_cka(x: torch.Tensor, y: torch.Tensor) -> float:
    from cka import cka_from_features

    return float(cka_from_features(x, y).squeeze())


def by_cka_pytorch(x: torch.Tensor, y: torch.Tensor) -> float:
    from cka_pytorch.cka import CKACalculator

    made = CKACalculator(Fixed(x), Fixed(y), model1_layers=["layer"], verbose=False, device=CPU)
    return float(made.calculate_cka_matrix(loader(len(x)), num_epochs=1).squeeze())


def by_torch_cka(x: torch.Tensor, y: torch.Tensor) -> float:
    from torch_cka import CKA

    made = CKA(Fixed(x), Fixed(y), "before", "after", ["layer"], ["layer"])
    made.compare(loader(len(x)), loader(len(x)))
    return float(made.export()["CKA"].squeeze())


def debiased(x: np.ndarray, y: np.ndarray) -> float:
    """CKA by the unbiased estimate of HSIC (Song et al. 2012), in extended precision."""
    grams = []
    for rows in (x, y):
        wide = rows.astype(np.longdouble)
        centred = wide - wide.mean(0)  # The estimate does not depend on the mean.
        gram = centred @ centred.T
        np.fill_diagonal(gram, 0.0)
        grams.append(gram)
    n = len(x)

    def hsic(k: np.ndarray, m: np.ndarray) -> np.longdouble:
        middle = k.sum() * m.sum() / ((n - 1) * (n - 2))
        return (k * m).sum() + middle - 2 * (k.sum(0) * m.sum(0)).sum() / (n - 2)

    a, b = grams
    return float(hsic(a, b) / np.sqrt(hsic(a, a) * hsic(b, b)))


def biased(x: np.ndarray, y: np.ndarray) -> float:
    """Linear CKA in extended precision."""
    a, b = (z @ z.T for z in (normalised(z.astype(np.longdouble)) for z in (x, y)))
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


OTHERS = {
    "pytorch-cka": ("cka", by_pytorch_cka),
    "cka-pytorch": ("cka_pytorch", by_cka_pytorch),
    "torch-cka": ("torch_cka", by_torch_cka),
}


def bench_cka(_: int) -> None:
    """Each against its own estimator in extended precision: they estimate HSIC without bias."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((PROBES, WIDTH))
    x += np.sqrt(0.998 / 0.002) * generator.standard_normal(WIDTH)
    y = x + 0.03 * generator.standard_normal((PROBES, WIDTH))
    x, y = (z.astype(np.float32) for z in (x, y))
    energy = 1 - ((x - x.mean(0)) ** 2).sum() / (x**2).sum()
    heads = ("contestant", "estimator", "1 - CKA", "1 - CKA, exact", "error")
    table = Table(*heads, title=f"float32 features whose mean is {energy:.1%} of the energy")
    ours, exact = cka_of(represent(x), represent(y)), 1 - biased(x, y)
    table.add_row("layerwise", "CKA", f"{ours:.6f}", f"{exact:.6f}", f"{abs(ours - exact):.1e}")
    exact = 1 - debiased(x, y)
    for name, (module, run) in OTHERS.items():
        if importlib.util.find_spec(module) is None:
            table.add_row(name, "debiased", "not installed", f"{exact:.6f}", "")
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = 1 - run(*map(torch.from_numpy, (x, y)))
        except AssertionError as error:
            table.add_row(name, "debiased", f"refused: {error}", f"{exact:.6f}", "")
            continue
        table.add_row(name, "debiased", f"{found:.6f}", f"{exact:.6f}", f"{abs(found - exact):.1e}")
    Console(width=120).print(table)


BENCHES = {"time": bench_time, "stream": bench_stream, "cka": bench_cka}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bench", choices=BENCHES)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    BENCHES[arguments.bench](arguments.rounds)
