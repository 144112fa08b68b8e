"""Measurements, not tests: medians and ratios of interleaved repetitions.  python -m benchmarks [NAME ...]"""
