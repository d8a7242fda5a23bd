"""What ``edit`` consists of: records of edits, the draft that they change, and its bytes."""
