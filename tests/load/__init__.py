"""Many visitors at once over true HTTP, in front of a stub engine that keeps to a schedule."""
