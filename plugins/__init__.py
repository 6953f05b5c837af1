"""The labelers, steerers, detectors and judges that come with harness; they enter through entry points, as anybody's do."""
