"""The captures of pcaps/: how they are made (`make pcaps`), and that replay judges them as it should (`make test`)."""
