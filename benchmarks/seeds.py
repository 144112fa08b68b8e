"""Test accuracy of the default configuration over seeds 0 to 9, on 4 ranks."""

import statistics

from dsgd import run


def main():
    accuracies = [run(simulate=4, seed=seed).summary["test_accuracy"] for seed in range(10)]
    print("  seeds 0 to 9: " + " ".join(f"{accuracy:.4f}" for accuracy in accuracies))
    print(f"  median {statistics.median(accuracies):.4f}, worst {min(accuracies):.4f}")
