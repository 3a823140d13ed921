"""Metrics: what two sets of features say of each other. One file each; numpy in fp64, no networks, no files."""
