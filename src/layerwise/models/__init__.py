"""The models stage: what a user names, as a model with its stacks, targets, roles and parts."""
