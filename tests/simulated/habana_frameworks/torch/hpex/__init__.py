"""Extensions for training."""
