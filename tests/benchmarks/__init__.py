"""What is timed: us and what people would use instead, alternating, beside the limit of the machine. Never a test."""
