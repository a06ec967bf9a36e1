"""What published weight files hold, and the first weights of a backbone."""
