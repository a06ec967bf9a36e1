"""Files from strangers, looked through before anything else reads them."""
