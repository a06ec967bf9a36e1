"""What several test files share: launchers, small models, small datasets, encoded videos."""
