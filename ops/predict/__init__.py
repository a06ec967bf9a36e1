"""From a video to an answer: class names and probabilities. ::

    from ops.predict import Predictor

    predictor = Predictor("best.pth")
    result = predictor("dance.mp4")
    print(result.top(5))

A prediction has the scores that the test scripts write for the same video under the same protocol,
bit for bit, because it takes the same way: list record, ``TestDataset``, loader, network.
"""

from ops.predict.prediction import Prediction, average_views
from ops.predict.predictor import WINDOW_BATCH, Predictor
from ops.predict.windows import WindowFeatures, WindowScores

__all__ = [
    "WINDOW_BATCH",
    "Prediction",
    "Predictor",
    "WindowFeatures",
    "WindowScores",
    "average_views",
]
