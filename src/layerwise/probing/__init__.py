"""What can be read from each depth, what erasing it does, and interventions by depth."""
