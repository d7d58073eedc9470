"""The Python that the README shows, run as it stands."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.long
@pytest.mark.real_model
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_the_readmes_python_runs_as_it_stands(smollm2, minilm, capsys):
    (block,) = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)
    names = {}
    exec(block, names)  # noqa: S102  # It is ours.
    assert str(names["card"]) in capsys.readouterr().out
    assert (len(names["profile"].blocks), names["profile"].probes.inputs) == (30, 40)
    assert names["control"].verdict in {"intrinsic", "artefact"}
    assert set(names["groups"]) == set(names["trained"])
