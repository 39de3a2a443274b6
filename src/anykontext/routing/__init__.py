"""Where a request could go, and in which order: pure."""
