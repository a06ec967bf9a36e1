"""What the commands in tools/ share. A command is a file directly in tools/ and answers --help."""
