"""What `notebooks/benchmark.ipynb` measures: time and memory, as ratios to what the same run measures."""
