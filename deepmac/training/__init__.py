"""What surrounds Model Garden's training loop: devices, resuming, monitoring, messages."""
