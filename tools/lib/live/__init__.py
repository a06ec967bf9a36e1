"""What tools/live.py does: capture, prediction, output."""
