"""What anyone's config really trains: read, handed to PEFT on the meta device, and judged."""
