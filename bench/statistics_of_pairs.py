"""Ratios of measurements that were made in pairs, and how sure they are.

Each round measures all variants shortly after one another, so that what slows the machine down in
that moment slows all of them. The ratio of a round is one sample; the result is their geometric
mean, with an interval from a bootstrap over rounds (percentile method, 95 %).
"""

import math
import random

RESAMPLES = 10000
SEED = 1  # the same samples give the same interval


def geometric_mean(values):
    return math.exp(sum(math.log(value) for value in values) / len(values))


def ratio_with_interval(measured, reference):
    """(ratio, low, high) of two equally long lists of positive numbers, pair by pair."""
    if len(measured) != len(reference) or not measured:
        raise ValueError("pairs are needed")
    logs = [math.log(a / b) for a, b in zip(measured, reference)]
    draw = random.Random(SEED)
    means = sorted(
        math.fsum(draw.choices(logs, k=len(logs))) / len(logs) for _ in range(RESAMPLES)
    )
    low, high = means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES) - 1]
    return math.exp(math.fsum(logs) / len(logs)), math.exp(low), math.exp(high)
