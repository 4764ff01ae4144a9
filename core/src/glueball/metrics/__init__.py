"""Metrics: what a run reports, computed from NumPy arrays with nothing but sums.

A metric adds up over batches (``update``), tells its value at any time (``get``), starts again (``reset``), can be
added to another that saw other batches (``merge``), and goes into a checkpoint (``state_dict``). Its sums
are arrays that add: that one property makes the value independent of how samples were cut into batches or spread over
processes.

The metrics of classifiers are here and not in a plugin, because pictures, texts and whatever else has classes share
them; ``glueball.get_metric("accuracy")`` finds them whatever plugins are installed.
"""

from __future__ import annotations

from glueball.metrics.classification import F1, RMSE, Accuracy, ConfusionMatrix, CrossEntropy, TopKAccuracy
from glueball.metrics.metric import Metric, MetricList, class_labels, ratio

__all__ = [
    "F1",
    "RMSE",
    "Accuracy",
    "ConfusionMatrix",
    "CrossEntropy",
    "Metric",
    "MetricList",
    "TopKAccuracy",
    "class_labels",
    "ratio",
]
