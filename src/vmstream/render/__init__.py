"""Reports to screens: the only place that knows what a terminal looks like."""
