"""TotalSegmentator's tasks, step by step, with networks that stay loaded."""
