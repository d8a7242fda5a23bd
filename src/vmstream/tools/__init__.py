"""What the verbs do: functions that take a stream and return a report."""
