"""Run by tests in a process of its own: a study on a Ray cluster of two nodes, one of them killed.

Two nodes work, beside a head that has no cores. As soon as a run on the second has a checkpoint,
that node is killed. Prints, as JSON, what the ledger says at the end.
"""

import json
import os
import sys
import threading
from pathlib import Path

from ray.cluster_utils import Cluster

from layerwise.study.engines.ray import RayEngine
from layerwise.study.expand import study_from
from layerwise.study.ledger import create
from layerwise.study.runner import run
from layerwise.study.worker import execute
from support import studies
from support.processes.jobs import wait_for_ever

RUNS = 4

#: The head gives up a node that has been silent for two seconds, not for half a minute.
WATCHFUL = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 2000,
    "health_check_failure_threshold": 4,
}


def parent(pid):
    """The process that started `pid`; None where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def on_node(ledger, node, run_id):
    """Whether `node` does the run, and the run has a checkpoint."""
    folder = ledger.folder(run_id)
    leases = list(folder.glob("lease.*.json"))
    if not leases or not list(folder.glob("checkpoints/*/layerwise.json")):
        return False
    raylets = {process.process.pid for process in node.all_processes["raylet"]}
    return parent(json.loads(leases[0].read_text()).get("pid", 0)) in raylets


def kill(cluster, node, ledger, cells, killed, ended):
    """Kill `node` in the middle of a run, and remember which."""
    while not ended.wait(0.005):
        found = [cell.id for cell in cells if on_node(ledger, node, cell.id)]
        if found:
            killed.append(found[0])
            cluster.remove_node(node, allow_graceful=False)
            return


def interrupted(cluster, folder, study):
    """The kind of failure of a run whose engine is closed."""
    ledger, cell = create(folder / "interrupted", study), study.cells[0]
    run_folder = ledger.prepare(cell)
    engine = RayEngine(ledger.root, execute=wait_for_ever, address=cluster.address)
    engine.submit(cell.id)
    begun = threading.Event()
    while not (run_folder / "lease.1.json").exists():
        begun.wait(0.01)
    engine.close()
    return ledger.failure(cell.id).kind


def main(folder):
    studies.files(folder, "llama")
    plain = studies.plain(folder, seeds=list(range(RUNS)), defaults={"steps": 60, "save_every": 10})
    study = study_from(plain)
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": WATCHFUL}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    _, second = (cluster.add_node(num_cpus=1) for _ in range(2))
    kind = interrupted(cluster, folder, study)
    ledger = create(folder / "ledger", study)
    engine = RayEngine(ledger.root, execute=execute, address=cluster.address)
    slots, killed, ended = engine.slots, [], threading.Event()
    options = (cluster, second, ledger, study.cells, killed, ended)
    killer = threading.Thread(target=kill, args=options)
    killer.start()
    try:
        status = run(study, ledger, engine)
    finally:
        ended.set()
        killer.join()
        nodes = len(cluster.worker_nodes)
        cluster.shutdown()
    alone = create(folder / "alone", study)
    cell = next(c for c in study.cells if c.id in [*killed, study.cells[0].id])
    alone.prepare(cell)
    execute(alone.root, cell.id)
    told = {
        "interrupted": kind,
        "slots": slots,
        "nodes": nodes,
        "done": status.done,
        "failed": dict(status.failed),
        "killed": killed,
        "generations": [len(range(_generation(ledger, run_id))) for run_id in killed],
        "equal": studies.result(alone, cell) == studies.result(ledger, cell),
        "results": [len(list(ledger.folder(c.id).glob("result.json"))) for c in study.cells],
    }
    sys.stdout.write(json.dumps(told) + "\n")


def _generation(ledger, run_id):
    return max(int(p.name.split(".")[1]) for p in ledger.folder(run_id).glob("lease.*.json"))


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    main(Path(sys.argv[1]))
