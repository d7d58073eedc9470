"""Where the runs of a study happen: local processes, a Ray cluster, SLURM."""
