"""Programs that tests start in processes of their own, as `python -m support.processes.NAME`."""
