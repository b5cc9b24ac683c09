"""Weights that others released: NVIDIA's snapshots of EDM and EDM2 become checkpoints. Nothing in them runs."""
