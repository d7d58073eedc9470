import subprocess
import sys
import textwrap

from layerwise import distributed


def test_alone():
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    assert distributed.all_gather("mine") == ["mine"]


def test_two_processes_hold_what_each_gave(tmp_path):
    program = tmp_path / "gather.py"
    program.write_text(
        textwrap.dedent(f"""
        import sys
        from pathlib import Path
        import torch.distributed as dist
        from layerwise import distributed
        rank = int(sys.argv[1])
        dist.init_process_group(
            "gloo", init_method="file://{tmp_path}/meet", rank=rank, world_size=2
        )
        assert (distributed.rank(), distributed.world_size()) == (rank, 2)
        assert distributed.all_gather({{"rank": rank}}) == [{{"rank": 0}}, {{"rank": 1}}]
        dist.destroy_process_group()
        """)
    )
    workers = [subprocess.Popen([sys.executable, program, str(rank)]) for rank in range(2)]
    assert [worker.wait(timeout=60) for worker in workers] == [0, 0]
