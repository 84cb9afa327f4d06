from services.admin_api.main import main

main()
