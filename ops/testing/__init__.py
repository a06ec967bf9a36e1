"""What both test scripts do; resumable runs."""
