"""Checkpoints and pipeline configurations of the published implementation."""
