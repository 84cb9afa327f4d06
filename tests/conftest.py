pytest_plugins = ["tests.infra", "tests.browser.chromium", "tests.costs", "tests.compiled", "tests.nursery"]
