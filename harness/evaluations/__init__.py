"""The kinds of evaluation: steering, detection, dictionary."""
