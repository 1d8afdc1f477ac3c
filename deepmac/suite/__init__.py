"""Regenerates the published tables and figures: rows, notebooks, results, report."""
