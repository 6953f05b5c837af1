"""The labelers, steerers, detectors, metrics and judges that come with harness; they enter through entry points, as anybody's do."""
