"""Tasks of lm-evaluation-harness; on a task of our own where the harness is installed."""

import importlib.util
import json

import pytest

from layerwise.errors import BadInputError, UnknownNameError
from layerwise.measure.harness import harness_quality

INSTALLED = importlib.util.find_spec("lm_eval") is not None
TASK = """
task: toy_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{q}}}}"
doc_to_target: "{{{{label}}}}"
doc_to_choice: "{{{{choices}}}}"
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
"""


@pytest.mark.skipif(INSTALLED, reason="lm_eval is installed")
def test_a_harness_that_is_not_installed_is_named():
    with pytest.raises(BadInputError, match="package that is not installed: 'lm_eval'"):
        harness_quality("hellaswag", batch_size=2, limit=2)


@pytest.mark.slow  # Importing the harness takes most of a minute.
@pytest.mark.skipif(not INSTALLED, reason="lm_eval is not installed")
@pytest.mark.filterwarnings("ignore")  # The harness's own and its libraries'.
def test_a_task_s_figures_are_qualities(tuning, tmp_path):
    from lm_eval.tasks import TaskManager

    lines = ({"q": f"w{i}", "choices": ["w1", "w2"], "label": i % 2} for i in range(6))
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "toy.yaml").write_text(TASK.format(file=tmp_path / "d.jsonl"))
    how = {"batch_size": 2, "limit": 4, "tasks": TaskManager(include_path=str(tmp_path))}
    for name, told in (("toy_choice", "acc"), ("toy_choice/acc_norm", "acc_norm")):
        quality = harness_quality(name, **how)
        assert quality.name == f"harness:toy_choice/{told}"
        assert quality.higher_is_better
        assert quality.measure(tuning.loaded(), tuning.data(1)) in {0.0, 0.25, 0.5, 0.75, 1.0}
    with pytest.raises(UnknownNameError, match="unknown figure of task toy_choice: 'f1'"):
        harness_quality("toy_choice/f1", **how)
    with pytest.raises(UnknownNameError, match="did you mean 'toy_choice'"):
        harness_quality("toy_chioce", **how)
    (tmp_path / "d.jsonl").unlink()
    with pytest.raises(BadInputError, match="task of lm-evaluation-harness that cannot be loaded"):
        harness_quality("toy_choice", **(how | {"tasks": TaskManager(include_path=str(tmp_path))}))
