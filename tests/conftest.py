pytest_plugins = ["tests.infra", "tests.browser.chromium", "tests.costs", "tests.nursery"]
