"""What lies here is started by ``make fuzz``; it holds no tests."""

collect_ignore_glob = ["*.py"]
