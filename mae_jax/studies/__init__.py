"""Many runs as one: settings, a work folder each, measures, a table."""
