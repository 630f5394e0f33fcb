"""What watches a run: statistics, time left, health, recovery, evaluation, display."""
