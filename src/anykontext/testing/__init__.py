"""What the author of an adapter tests with. It needs the packages of the extra `dev`, and loads them on first use."""
