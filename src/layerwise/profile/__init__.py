"""The profile stage: the change of a model by depth, its cause, and the audit of adapters."""
