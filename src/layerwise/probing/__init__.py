"""What can be read from each depth, what erasing it does, and how many top blocks must train."""
