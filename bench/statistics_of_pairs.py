"""Ratios of measurements that were made in pairs, and how sure they are.

Each round measures all variants shortly after one another, so that what slows the machine down in
that moment slows all of them. The ratio of a round is one sample; the result is their geometric
mean (of differences the median), with an interval from a bootstrap over rounds (percentile method,
95 %).
"""

import math
import random
import statistics

RESAMPLES = 10000
SEED = 1  # the same samples give the same interval


def geometric_mean(values):
    return math.exp(sum(math.log(value) for value in values) / len(values))


def _interval(samples, centre):
    """95 % of the centres of resamples."""
    draw = random.Random(SEED)
    found = sorted(centre(draw.choices(samples, k=len(samples))) for _ in range(RESAMPLES))
    return found[int(0.025 * RESAMPLES)], found[int(0.975 * RESAMPLES) - 1]


def _mean(samples):
    return math.fsum(samples) / len(samples)


def _check(measured, reference):
    if len(measured) != len(reference) or not measured:
        raise ValueError("pairs are needed")


def difference_with_interval(measured, reference):
    """(median of the differences, low, high) of two equally long lists, pair by pair."""
    _check(measured, reference)
    differences = [a - b for a, b in zip(measured, reference)]
    return statistics.median(differences), *_interval(differences, statistics.median)


def ratio_with_interval(measured, reference):
    """(ratio, low, high) of two equally long lists of positive numbers, pair by pair."""
    _check(measured, reference)
    logs = [math.log(a / b) for a, b in zip(measured, reference)]
    low, high = _interval(logs, _mean)
    return math.exp(_mean(logs)), math.exp(low), math.exp(high)


def median_with_interval(samples, confidence=0.95):
    """(median, low, high): the interval of the sign test, as holdfast-bench has it; of few samples
    (below 6) from the least to the greatest, which is less sure."""
    if not samples:
        raise ValueError("samples are needed")
    found = sorted(samples)
    count = len(found)
    outside, place = 0.0, 0
    while place < count // 2:
        outside += 2 * math.comb(count, place) / 2**count
        if outside > 1 - confidence:
            break
        place += 1
    place = max(place, 1)
    return statistics.median(found), found[place - 1], found[count - place]
