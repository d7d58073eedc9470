import subprocess
import sys
import textwrap

import pytest

from layerwise.cli.launch import is_first, together


def test_alone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert is_first()
    with together("auto") as device:
        assert device == "auto"


def test_only_the_first_speaks(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert not is_first()
    monkeypatch.setenv("RANK", "0")
    assert is_first()


@pytest.mark.slow
def test_launched_processes_are_a_group_until_the_end(tmp_path):
    code = """
    import torch.distributed as dist
    from layerwise.cli.launch import together
    with together("cpu") as device:
        assert (device, dist.get_world_size()) == ("cpu", 2)
    assert not dist.is_initialized()
    """
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(code))
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([sys.executable, "-m", *launch, program], check=True, timeout=120)
