import gc

# Nothing that is imported becomes garbage: to look for some costs a sixth of the start. The service turns it on again.
gc.disable()

from services.sync.main import main  # noqa: E402 - after the line above

main()
