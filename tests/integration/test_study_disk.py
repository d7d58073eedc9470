"""A disk that fills up stops a study in one line; with room again it goes on where it was."""

import pytest
import yaml

from layerwise.study.ledger import open_ledger
from support.launch import forked


@pytest.mark.parametrize("kib", [4, pytest.param(24, marks=pytest.mark.sweep)])
def test_a_full_disk_stops_the_study_and_nothing_is_lost(
    run, study_kit, disk, tmp_path, forking, kib
):
    folder, leave = disk
    files = study_kit.files(tmp_path, "llama")
    study = study_kit.plain(files, seeds=[0, 1, 2])
    file, ledger = tmp_path / "study.yaml", folder / "ledger"
    _, (cell,) = study_kit.opened(ledger, study | {"seeds": [0]})
    assert forked("study", ledger, cell.id).codes == [0]
    file.write_text(yaml.safe_dump(study))
    leave(kib)
    said = run("study", "run", file, "--out", ledger)
    assert said.code == 2
    assert "disk" in said.err.splitlines()[-1]
    assert open_ledger(ledger).result(cell.id)["run"] == cell.id
    (folder / "filler").unlink()
    said = run("study", "run", file, "--out", ledger)
    assert said.code == 0
    assert said.out.endswith("\n3 of 3 runs done.\n")
    assert {open_ledger(ledger).state(i) for i in open_ledger(ledger).begun()} == {"done"}
