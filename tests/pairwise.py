"""Few rows that contain every pair of values of any two factors."""

import random
from itertools import combinations


def pairwise(factors, seed=0):
    """[{factor: value}]: a seeded choice in which every two values of two factors meet in some row.

    Greedy: each row begins with a pair that is still missing, and takes for every other factor the value that adds most.

    Args:
        factors: {name: [value]}.
    """
    chance, names = random.Random(seed), list(factors)
    missing = {
        ((a, i), (b, j))
        for a, b in combinations(names, 2)
        for i in range(len(factors[a]))
        for j in range(len(factors[b]))
    }
    rows = []
    while missing:
        row = dict(chance.choice(sorted(missing)))
        for name in chance.sample(names, len(names)):
            if name not in row:
                numbers = chance.sample(range(len(factors[name])), len(factors[name]))
                row[name] = max(numbers, key=lambda i: len(pairs(row | {name: i}, names) & missing))
        missing -= pairs(row, names)
        rows.append({name: factors[name][row[name]] for name in names})
    return rows


def pairs(row, names):
    """The pairs ((factor, number of its value), (factor, number)) that a row contains."""
    return {((a, row[a]), (b, row[b])) for a, b in combinations([name for name in names if name in row], 2)}
