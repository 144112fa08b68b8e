"""Test accuracy on fashion-mnist of the command in docs/guide/data.md: 784-512-256-10, Adam, cosine, warm-up, dropout; bar 0.895."""

import dsgd
from dsgd.data import load

FLAGS = dict(data="fashion-mnist", hidden="512,256", batch_size=128, epochs=20, optimizer="adam", schedule="cosine", warmup_steps=500, dropout=0.2)  # fmt: skip


def main():
    load(FLAGS["data"], seed=0, dtype="float32")  # left out in a moment where the files are missing
    summary = dsgd.run(simulate=2, **FLAGS).summary
    print(f"  test accuracy {summary['test_accuracy']:.4f} after {summary['steps']} steps on 2 ranks")
